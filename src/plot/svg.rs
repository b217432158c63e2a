//! Writes the few SVG elements that a picture needs. Writes styles as attributes, for programs without CSS support, and no ids, so that
//! several pictures can share a page.

use std::fmt::Write;

/// Helvetica, as in papers, or the system's substitute.
const FONT: &str = "Helvetica, Arial, 'Liberation Sans', sans-serif";

/// A picture being drawn. Later elements cover earlier ones.
pub(super) struct Canvas {
    text: String,
}

/// The style of a line.
#[derive(Clone, Copy)]
pub(super) struct Stroke {
    /// A CSS color.
    pub color: &'static str,
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
    /// A CSS color.
    pub color: &'static str,
    /// The part of the text that is at its position: `start`, `middle` or `end`.
    pub anchor: &'static str,
    /// The CSS font weight: 400 is normal, 700 bold.
    pub weight: u32,
}

impl Stroke {
    /// A solid, opaque line.
    pub fn solid(color: &'static str, width: f64) -> Self {
        Self { color, width, opacity: 1.0, dashes: "" }
    }
}

impl Canvas {
    /// Starts a white picture of this size. Screen readers read out the title and the description.
    pub fn new(width: f64, height: f64, title: &str, description: &str) -> Self {
        let (title, description) = (escape(title), escape(description));
        let text = format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" font-family="{FONT}">
<title>{title}</title>
<desc>{description}</desc>
<rect width="{width}" height="{height}" fill="#ffffff"/>
"##
        );
        Self { text }
    }

    /// Returns the finished SVG file.
    pub fn finish(mut self) -> String {
        self.text.push_str("</svg>\n");
        self.text
    }

    /// Draws a line of text; `position` is on its baseline.
    pub fn text(&mut self, position: (f64, f64), style: TextStyle, content: &str) {
        self.spans(position, style, &[(style.weight, content)], 0.0);
    }

    /// Draws a line of text as `(font weight, text)` spans, rotated by `degrees` around its position.
    pub fn spans(&mut self, (x, y): (f64, f64), style: TextStyle, spans: &[(u32, &str)], degrees: f64) {
        let TextStyle { size, color, anchor, .. } = style;
        let turn = if degrees == 0.0 { String::new() } else { format!(r#" transform="rotate({degrees} {x:.1} {y:.1})""#) };
        let inner: String =
            spans.iter().map(|(weight, content)| format!(r#"<tspan font-weight="{weight}">{}</tspan>"#, escape(content))).collect();
        self.line(format_args!(
            r#"<text x="{x:.1}" y="{y:.1}" font-size="{size}" fill="{color}" text-anchor="{anchor}"{turn}>{inner}</text>"#
        ));
    }

    /// Draws a line through points. A single point becomes a dot, since a path of zero length is invisible.
    pub fn path(&mut self, points: &[(f64, f64)], stroke: Stroke) {
        if let [point] = points {
            self.dot(*point, stroke.width.max(2.0), stroke.color, stroke.color);
            return;
        }
        let Stroke { color, width, opacity, dashes } = stroke;
        let mut extra = String::new();
        if opacity < 1.0 {
            let _ = write!(extra, r#" stroke-opacity="{opacity}""#);
        }
        if !dashes.is_empty() {
            let _ = write!(extra, r#" stroke-dasharray="{dashes}""#);
        }
        let d = path_data(points);
        self.line(format_args!(
            r#"<path d="{d}" fill="none" stroke="{color}" stroke-width="{width}" stroke-linejoin="round" stroke-linecap="round"{extra}/>"#
        ));
    }

    /// Draws a filled polygon.
    pub fn area(&mut self, points: &[(f64, f64)], color: &str, opacity: f64) {
        let d = path_data(points);
        self.line(format_args!(r#"<path d="{d}Z" fill="{color}" fill-opacity="{opacity}"/>"#));
    }

    /// Draws a circle with a rim.
    pub fn dot(&mut self, (x, y): (f64, f64), radius: f64, fill: &str, rim: &str) {
        self.line(format_args!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="{radius}" fill="{fill}" stroke="{rim}" stroke-width="1.3"/>"#));
    }

    /// Draws a square rotated by 45 degrees, about as large as a dot of this radius.
    pub fn diamond(&mut self, (x, y): (f64, f64), radius: f64, fill: &str, rim: &str) {
        let r = radius * 1.3;
        let d = path_data(&[(x, y - r), (x + r, y), (x, y + r), (x - r, y)]);
        self.line(format_args!(r#"<path d="{d}Z" fill="{fill}" stroke="{rim}" stroke-width="1.3"/>"#));
    }

    fn line(&mut self, element: std::fmt::Arguments) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{element}");
    }
}

/// Formats a path as `M x,y L x,y ...`, rounded to a tenth of a pixel.
fn path_data(points: &[(f64, f64)]) -> String {
    let mut d = String::with_capacity(points.len() * 12);
    for (index, (x, y)) in points.iter().enumerate() {
        let _ = write!(d, "{}{x:.1},{y:.1}", if index == 0 { "M" } else { "L" });
    }
    d
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
            '\0'..'\u{20}' | '\u{fffe}' | '\u{ffff}' => {}
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
        let mut canvas = Canvas::new(10.0, 10.0, "t", "d");
        canvas.path(&[(1.0, 2.0)], Stroke::solid("#000000", 2.0));
        canvas.path(&[(1.0, 2.0), (3.0, 4.0)], Stroke::solid("#000000", 2.0));
        let text = canvas.finish();
        assert!(text.contains("<circle cx=\"1.0\" cy=\"2.0\""));
        assert!(text.contains("d=\"M1.0,2.0L3.0,4.0\""));
    }
}
