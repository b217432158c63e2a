//! A figure of the page: a picture that is legible without script, its caption, and its numbers as CSV, which the page's script shows on
//! hover and offers for download.

use maud::{Markup, PreEscaped, html};

use super::packed::DataBlock;
use crate::plot::inline::without_style;

/// A picture with its caption and numbers.
#[derive(Clone, Debug, Default)]
pub struct Figure {
    /// The `id` of its element: letters, digits and hyphens.
    pub id: String,
    /// The title above the picture.
    pub title: String,
    /// What the picture shows, in one or two sentences.
    pub caption: Markup,
    /// The picture as SVG. Its own style is left out: the page's style has the classes of charts, and its security policy forbids others.
    pub svg: String,
    /// The same picture for narrow screens, where the text of a wide one would be small.
    pub narrow: Option<String>,
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
                div.picture {
                    @match &self.narrow {
                        Some(narrow) => {
                            div.wide { (PreEscaped(without_style(&self.svg))) }
                            div.narrow { (PreEscaped(without_style(narrow))) }
                        },
                        None => (PreEscaped(without_style(&self.svg))),
                    }
                }
                p.readout aria-live="polite" hidden {}
                figcaption id=(caption) { (self.caption) }
            }
        }
    }

    /// Returns the numbers, compressed. The page's script completes the steps that `without_even_steps` leaves out.
    pub fn data(&self) -> DataBlock {
        DataBlock::new(self.data_id(), without_even_steps(&self.csv).as_bytes())
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

/// Replaces the first cell of each row by a tab if it continues the distance between the two whole numbers above it. A column of steps would
/// otherwise be half of a compressed file.
fn without_even_steps(csv: &str) -> String {
    let (header, body) = csv.split_at(csv.find('\n').map_or(csv.len(), |end| end + 1));
    if body.contains('"') {
        return csv.to_owned();
    }
    let mut short = header.to_owned();
    let mut above: [Option<i64>; 2] = [None, None];
    for row in body.split_inclusive('\n') {
        let cell = row.split([',', '\n']).next().unwrap_or_default();
        let step = cell.parse().ok().filter(|step: &i64| step.to_string() == cell);
        let expected = above[1].zip(above[0]).and_then(|(last, before)| last.checked_add(last.checked_sub(before)?));
        if step.is_some() && step == expected {
            short.push('\t');
            short.push_str(&row[cell.len()..]);
        } else {
            short.push_str(row);
        }
        above = [above[1], step];
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_even_steps_leaves_out_what_follows() {
        let check = |csv: &str, expected: &str| assert_eq!(without_even_steps(csv), expected);
        check("step,a\n0,1\n15,2\n30,3\n45,\n50,5\n", "step,a\n0,1\n15,2\n\t,3\n\t,\n50,5\n");
        check("\"a, b\",c\n1,1\n2,2\n3,3", "\"a, b\",c\n1,1\n2,2\n\t,3");
        for unchanged in ["", "step", "x,a\n0.1,1\n0.2,1\n0.3,1\n", "x,a\n01,1\n02,1\n03,1\n", "x,a\n1,1\n2,2\n3,\"\n4,\"\n"] {
            check(unchanged, unchanged);
        }
    }

    #[test]
    fn figure_markup_names_its_data_and_escapes_text() {
        let figure = Figure {
            id: "entropy".to_owned(),
            title: "a < b".to_owned(),
            caption: html! { "c & d" },
            svg: "<svg></svg>".to_owned(),
            narrow: None,
            csv: "step,entropy\n1,0.5\n".to_owned(),
        };
        let narrow = Figure { narrow: Some("<svg>narrow</svg>".to_owned()), ..figure.clone() }.markup().into_string();
        assert!(narrow.contains("<div class=\"wide\"><svg></svg></div><div class=\"narrow\"><svg>narrow</svg></div>"), "{narrow}");
        let markup = figure.markup().into_string();
        for part in ["data-csv=\"entropy-data\"", "a &lt; b", "c &amp; d", "<svg></svg>", "id=\"entropy-caption\""] {
            assert!(markup.contains(part), "{part}: {markup}");
        }
        assert_eq!((figure.data().id.as_str(), data_of(std::slice::from_ref(&figure))), ("entropy-data", vec![figure.data()]));
    }
}
