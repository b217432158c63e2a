//! A figure of the page: a picture that is legible without script, its caption, and its numbers as CSV, which the page's script shows on
//! hover and offers for download.

use maud::{Markup, PreEscaped, html};

use super::packed::DataBlock;
use crate::plot::inline::without_style;

/// A picture with its caption and numbers.
#[derive(Clone, Debug)]
pub struct Figure {
    /// The `id` of its element: letters, digits and hyphens.
    pub id: String,
    /// The title above the picture.
    pub title: String,
    /// What the picture shows, in one or two sentences.
    pub caption: Markup,
    /// The picture as SVG. Its own style is left out: the page's style has the classes of charts, and its security policy forbids others.
    pub svg: String,
    /// The numbers as CSV with a header.
    pub csv: String,
}

impl Figure {
    /// Returns the element.
    pub fn markup(&self) -> Markup {
        let (title, caption) = (format!("{}-figure-title", self.id), format!("{}-caption", self.id));
        html! {
            figure.chart id=(self.id) data-csv=(self.data_id()) aria-labelledby=(title) aria-describedby=(caption) {
                div.figure-head {
                    h3 id=(title) { (self.title) }
                    button.csv type="button" hidden aria-label={ "Download the numbers of “" (self.title) "” as CSV" } { "CSV" }
                }
                div.picture { (PreEscaped(without_style(&self.svg))) }
                p.readout aria-live="polite" hidden {}
                figcaption id=(caption) { (self.caption) }
            }
        }
    }

    /// Returns the numbers, compressed.
    pub fn data(&self) -> DataBlock {
        DataBlock::new(self.data_id(), self.csv.as_bytes())
    }

    fn data_id(&self) -> String {
        format!("{}-data", self.id)
    }
}

/// Returns small figures side by side, as many in a row as fit.
pub fn grid(figures: &[Figure]) -> Markup {
    html! { div.small-multiples { @for figure in figures { (figure.markup()) } } }
}

/// Returns the numbers of figures, for [`super::Section::data`].
pub fn data_of(figures: &[Figure]) -> Vec<DataBlock> {
    figures.iter().map(Figure::data).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figure_markup_names_its_data_and_escapes_text() {
        let figure = Figure {
            id: "entropy".to_owned(),
            title: "a < b".to_owned(),
            caption: html! { "c & d" },
            svg: "<svg></svg>".to_owned(),
            csv: "step,entropy\n1,0.5\n".to_owned(),
        };
        let markup = figure.markup().into_string();
        for part in ["data-csv=\"entropy-data\"", "a &lt; b", "c &amp; d", "<svg></svg>", "id=\"entropy-caption\""] {
            assert!(markup.contains(part), "{part}: {markup}");
        }
        assert_eq!((figure.data().id.as_str(), data_of(std::slice::from_ref(&figure))), ("entropy-data", vec![figure.data()]));
    }
}
