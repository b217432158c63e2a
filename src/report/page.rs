//! The HTML document: one file without any request. Its content security policy forbids everything except its own style and script.

pub mod charts;
pub mod figure;
pub mod numbers;
pub mod packed;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use crate::plot::inline::page_style;
use packed::DataBlock;

/// A part of the page with a heading, listed in the page's navigation.
#[derive(Clone, Debug)]
pub struct Section {
    /// The `id` of its element: letters, digits and hyphens.
    pub id: String,
    /// The heading.
    pub title: String,
    /// The content below the heading.
    pub body: Markup,
    /// The data that the content's pictures and lists use.
    pub data: Vec<DataBlock>,
}

/// A whole page.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The title of the document, also its first heading.
    pub title: String,
    /// A line below the title that says what the page is about; empty for none.
    pub subtitle: String,
    /// The sections in order.
    pub sections: Vec<Section>,
    /// The address that a served page asks for changes; `None` for a file, which makes no request.
    pub watch: Option<String>,
}

const STYLE: &str = concat!(include_str!("assets/page.css"), include_str!("assets/responses.css"));
const SCRIPT: &str = concat!(
    include_str!("assets/page.js"),
    include_str!("assets/charts.js"),
    include_str!("assets/response_parts.js"),
    include_str!("assets/response_source.js"),
    include_str!("assets/response_diff.js"),
    include_str!("assets/held_out_list.js"),
    include_str!("assets/held_out_problem.js"),
    include_str!("assets/held_out.js"),
    include_str!("assets/rollouts.js"),
    include_str!("assets/responses.js"),
);

/// The script of a served page, which runs before the others.
const WATCH_SCRIPT: &str = include_str!("assets/watch.js");

impl Page {
    /// Returns the scripts in the order in which they run.
    fn scripts(&self) -> Vec<&'static str> {
        self.watch.is_some().then_some(WATCH_SCRIPT).into_iter().chain([SCRIPT]).collect()
    }

    /// Returns the HTML text.
    pub fn html(&self) -> String {
        let connect = if self.watch.is_some() { "'self'" } else { "'none'" };
        let scripts: Vec<String> = self.scripts().into_iter().map(|script| format!("'{}'", hash(script))).collect();
        let style = format!("{STYLE}\n{}", page_style());
        let policy = format!(
            "default-src 'none'; style-src '{}'; script-src {}; img-src data:; connect-src {connect}; base-uri 'none'; form-action 'none'",
            hash(&style),
            scripts.join(" ")
        );
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta http-equiv="Content-Security-Policy" content=(policy);
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    meta name="generator" content={ "rlvr " (env!("CARGO_PKG_VERSION")) };
                    title { (self.title) }
                    style { (PreEscaped(&style)) }
                }
                body data-watch=[self.watch.as_deref()] {
                    a.skip href="#content" { "Skip to the content" }
                    (self.header())
                    (self.navigation())
                    main #content tabindex="-1" { @for section in &self.sections { (section.markup()) } }
                    footer { p { "Written by rlvr " (env!("CARGO_PKG_VERSION")) ". " (self.origin()) } }
                    @for block in self.sections.iter().flat_map(|section| &section.data) { (block.markup()) }
                    @for script in self.scripts() { script { (PreEscaped(script)) } }
                }
            }
        };
        page.into_string()
    }

    /// Says where the content of the page comes from.
    fn origin(&self) -> &'static str {
        match self.watch {
            Some(_) => {
                "This page asks only the program on this machine that serves it; rlvr report without --watch writes a page that is complete."
            }
            None => "This page is complete: it loads nothing from elsewhere.",
        }
    }

    fn header(&self) -> Markup {
        html! {
            header {
                div.title {
                    h1 { (self.title) }
                    button #theme type="button" hidden aria-pressed="false" { "Dark" }
                }
                @if !self.subtitle.is_empty() { p.subtitle { (self.subtitle) } }
                noscript {
                    p.note { "Scripts are off: pictures and tables are complete, but values on hover, CSV files, filters and the browser for responses need a script." }
                }
            }
        }
    }

    fn navigation(&self) -> Markup {
        html! {
            nav aria-label="Sections" {
                ul { @for section in &self.sections { li { a href={ "#" (section.id) } { (section.title) } } } }
            }
        }
    }
}

impl Section {
    fn markup(&self) -> Markup {
        let title = format!("{}-title", self.id);
        html! {
            section id=(self.id) aria-labelledby=(title) {
                h2 id=(title) { (self.title) }
                (self.body)
            }
        }
    }
}

/// Returns the hash of an inline style or script for a content security policy.
fn hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}
