//! Writes the few SVG elements that a picture needs. Writes styles as attributes, for programs without CSS support, with classes for dark
//! mode, and no ids, so that several pictures can share a page.

use std::fmt::Write;

use super::number::short;
use super::path::path_data;
use super::theme::{Ink, style_sheet};

/// The typeface of the reader's system.
const FONT: &str = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif";

/// A picture being drawn. Later elements cover earlier ones.
pub(super) struct Canvas {
    text: String,
    /// The size of most texts, which is an attribute of the whole picture.
    font_size: f64,
}

/// What the first element of a picture says about it.
pub(super) struct Head<'a> {
    /// Width in pixels.
    pub width: f64,
    /// Height in pixels.
    pub height: f64,
    /// The title that screen readers read out.
    pub title: &'a str,
    /// The description that screen readers read out.
    pub description: &'a str,
    /// `data-` attributes for scripts: names without that prefix, and values.
    pub data: &'a [(&'static str, String)],
}

/// The style of a line.
#[derive(Clone, Copy)]
pub(super) struct Stroke {
    /// The color.
    pub ink: Ink,
    /// Line width in pixels.
    pub width: f64,
    /// From 0 (invisible) to 1 (opaque).
    pub opacity: f64,
    /// The `stroke-dasharray` attribute; empty for a solid line.
    pub dashes: &'static str,
}

/// The style of text.
#[derive(Clone, Copy)]
pub(super) struct TextStyle {
    /// Font size in pixels.
    pub size: f64,
    /// The color.
    pub ink: Ink,
    /// The part of the text that is at its position: `start`, `middle` or `end`.
    pub anchor: &'static str,
    /// Whether the text is bold.
    pub bold: bool,
}

/// The shape of a marker. Shapes distinguish series without colors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A circle.
    Dot,
    /// A square on its corner.
    Diamond,
    /// A square.
    Square,
    /// A triangle that points up.
    Triangle,
    /// A triangle that points left.
    Pointer,
}

impl Stroke {
    /// A solid, opaque line.
    pub const fn solid(ink: Ink, width: f64) -> Self {
        Self { ink, width, opacity: 1.0, dashes: "" }
    }
}

impl Canvas {
    /// Makes an empty picture. Most texts have this size in pixels.
    pub fn new(font_size: f64) -> Self {
        Self { text: String::new(), font_size }
    }

    /// Returns the finished SVG file.
    pub fn finish(self, head: &Head) -> String {
        let Head { width, height, .. } = head;
        let data: String = head.data.iter().map(|(name, value)| format!(r#" data-{name}="{}""#, escape(value))).collect();
        let (title, description, style) = (escape(head.title), escape(head.description), style_sheet());
        let paper = Ink::Paper;
        let (class, color) = (paper.fill_class(), paper.light());
        let font_size = short(self.font_size);
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" font-family="{FONT}" font-size="{font_size}" stroke-linejoin="round" stroke-linecap="round"{data}>
<title>{title}</title>
<desc>{description}</desc>
<style>{style}</style>
<rect width="{width}" height="{height}" class="{class}" fill="{color}"/>
{}</svg>
"#,
            self.text
        )
    }

    /// Draws a line of text; `position` is on its baseline.
    pub fn text(&mut self, position: (f64, f64), style: TextStyle, content: &str) {
        let attributes = self.text_attributes(style);
        self.text_element(position, &attributes, content);
    }

    /// Draws several texts of the same style.
    pub fn texts<'a>(&mut self, style: TextStyle, texts: impl Iterator<Item = ((f64, f64), &'a str)>) {
        let mut texts = texts.peekable();
        if texts.peek().is_none() {
            return;
        }
        let attributes = self.text_attributes(style);
        self.line(format_args!("<g{attributes}>"));
        texts.for_each(|(position, content)| self.text_element(position, "", content));
        self.line(format_args!("</g>"));
    }

    fn text_attributes(&self, style: TextStyle) -> String {
        let TextStyle { size, ink, anchor, bold } = style;
        let size = if size == self.font_size { String::new() } else { format!(r#" font-size="{}""#, short(size)) };
        let weight = if bold { r#" font-weight="700""# } else { "" };
        let anchor = if anchor == "start" { String::new() } else { format!(r#" text-anchor="{anchor}""#) };
        format!("{size}{weight}{anchor}{}", fill(ink))
    }

    fn text_element(&mut self, (x, y): (f64, f64), attributes: &str, content: &str) {
        let (x, y, content) = (tenths(x), tenths(y), escape(content));
        self.line(format_args!(r#"<text x="{x}" y="{y}"{attributes}>{content}</text>"#));
    }

    /// Draws a line through points. A single point becomes a dot, since a path of zero length is invisible.
    pub fn path(&mut self, points: &[(f64, f64)], stroke: Stroke) {
        self.paths(&[points], stroke, None);
    }

    /// Draws straight lines that belong together as one element.
    pub fn segments(&mut self, lines: &[[(f64, f64); 2]], stroke: Stroke) {
        self.paths(&lines.iter().map(|line| line.as_slice()).collect::<Vec<_>>(), stroke, None);
    }

    /// Draws the pieces of one line as one element, with its name for scripts. An empty name is left out.
    pub fn paths(&mut self, pieces: &[&[(f64, f64)]], stroke: Stroke, name: Option<&str>) {
        let Stroke { ink, width, opacity, dashes } = stroke;
        let name = name.filter(|name| !name.is_empty()).map_or_else(String::new, |name| format!(r#" data-name="{}""#, escape(name)));
        let mut extra = String::new();
        // A width of 1 is what SVG assumes.
        if short(width) != "1" {
            let _ = write!(extra, r#" stroke-width="{}""#, short(width));
        }
        if opacity < 1.0 {
            let _ = write!(extra, r#" stroke-opacity="{}""#, short(opacity));
        }
        if !dashes.is_empty() {
            let _ = write!(extra, r#" stroke-dasharray="{dashes}""#);
        }
        let d: String = pieces.iter().filter(|piece| piece.len() > 1).map(|piece| path_data(piece)).collect();
        if !d.is_empty() {
            let (class, color) = (ink.stroke_class(), ink.light());
            self.line(format_args!(r#"<path d="{d}"{name} fill="none" class="{class}" stroke="{color}"{extra}/>"#));
        }
        for piece in pieces {
            if let [(x, y)] = piece {
                let (paint, x, y, radius) = (fill(ink), tenths(*x), tenths(*y), short(width.max(2.0)));
                self.line(format_args!(r#"<circle cx="{x}" cy="{y}" r="{radius}"{name}{paint}/>"#));
            }
        }
    }

    /// Draws filled polygons as one element, with a name for scripts and as a tooltip.
    pub fn areas(&mut self, outlines: &[Vec<(f64, f64)>], ink: Ink, opacity: f64, name: Option<&str>) {
        let d: String = outlines.iter().map(|outline| path_data(outline) + "Z").collect();
        if d.is_empty() {
            return;
        }
        let paint = fill(ink);
        let opacity = if opacity < 1.0 { format!(r#" fill-opacity="{}""#, short(opacity)) } else { String::new() };
        match name.map(escape) {
            Some(name) => {
                self.line(format_args!(r#"<path d="{d}" data-name="{name}"{paint}{opacity}><title>{name}</title></path>"#));
            }
            None => self.line(format_args!(r#"<path d="{d}"{paint}{opacity}/>"#)),
        }
    }

    /// Draws a rectangle between two corners, with a tooltip.
    pub fn bar(&mut self, (left, top): (f64, f64), (right, bottom): (f64, f64), ink: Ink, tooltip: &str) {
        let (paint, [x, y, width, height]) = (fill(ink), [left, top, right - left, bottom - top].map(tenths));
        let tooltip = escape(tooltip);
        self.line(format_args!(r#"<rect x="{x}" y="{y}" width="{width}" height="{height}"{paint}><title>{tooltip}</title></rect>"#));
    }

    /// Draws markers of one color at `(position, tooltip)`, with a rim in the color of the paper. An empty tooltip is left out.
    pub fn markers(&mut self, shape: Shape, radius: f64, ink: Ink, positions: &[((f64, f64), String)]) {
        let class = format!("{} {}", ink.fill_class(), Ink::Paper.stroke_class());
        self.line(format_args!(r#"<g class="{class}" fill="{}" stroke="{}" stroke-width="1.2">"#, ink.light(), Ink::Paper.light()));
        for &((x, y), ref tooltip) in positions {
            let title = if tooltip.is_empty() { String::new() } else { format!("<title>{}</title>", escape(tooltip)) };
            match corners(shape) {
                [] => {
                    let (x, y, radius) = (tenths(x), tenths(y), short(radius));
                    self.line(format_args!(r#"<circle cx="{x}" cy="{y}" r="{radius}">{title}</circle>"#));
                }
                corners => {
                    let points: Vec<_> = corners.iter().map(|(dx, dy)| (x + dx * radius, y + dy * radius)).collect();
                    self.line(format_args!(r#"<path d="{}Z">{title}</path>"#, path_data(&points)));
                }
            }
        }
        self.line(format_args!("</g>"));
    }

    fn line(&mut self, element: std::fmt::Arguments) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{element}");
    }
}

/// Returns the corners of a shape around its center for radius 1, scaled to look as large as a circle; none for a circle.
fn corners(shape: Shape) -> &'static [(f64, f64)] {
    match shape {
        Shape::Dot => &[],
        Shape::Diamond => &[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)],
        Shape::Square => &[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
        Shape::Triangle => &[(0.0, -1.3), (1.2, 0.9), (-1.2, 0.9)],
        Shape::Pointer => &[(-1.3, 0.0), (0.9, -1.2), (0.9, 1.2)],
    }
}

/// Returns the attributes that fill an element with a color.
fn fill(ink: Ink) -> String {
    format!(r#" class="{}" fill="{}""#, ink.fill_class(), ink.light())
}

/// Writes a position or a length in pixels, rounded to a tenth.
fn tenths(pixels: f64) -> String {
    short((pixels * 10.0).round() / 10.0)
}

/// Escapes text for XML, and drops characters that XML forbids.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\n' | '\t' | '\r' => safe.push(' '),
            '\0'..'\u{20}' | '\u{7f}'..'\u{a0}' | '\u{fffe}' | '\u{ffff}' => {}
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_makes_text_safe_in_xml() {
        assert_eq!(escape("a<b & \"c\"\u{1b}[0m\n"), "a&lt;b &amp; &quot;c&quot;[0m ");
    }

    #[test]
    fn path_draws_one_point_as_a_dot() {
        let mut canvas = Canvas::new(12.0);
        canvas.path(&[(1.0, 2.0)], Stroke::solid(Ink::Text, 2.0));
        canvas.path(&[(1.0, 2.0), (3.0, 4.0)], Stroke::solid(Ink::Text, 2.4 * 0.75));
        let text = canvas.finish(&Head { width: 10.0, height: 10.0, title: "t", description: "d", data: &[("x0", "<1>".to_owned())] });
        assert!(text.contains("<circle cx=\"1\" cy=\"2\""));
        assert!(text.contains("d=\"M1,2l2 2\"") && text.contains(" stroke-width=\"1.8\""), "{text}");
        assert!(text.contains(" data-x0=\"&lt;1&gt;\""));
    }
}
