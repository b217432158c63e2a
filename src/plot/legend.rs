//! The legend above a plot: a key and a name for each series, in as many rows as they need.

use super::frame::Size;
use super::svg::{Canvas, Shape, Stroke};
use super::text::{shorten, text_width};
use super::theme::Ink;

/// A short drawing that shows how a series looks.
#[derive(Clone, Copy)]
pub(super) enum Key {
    /// A piece of a line, with a marker if the line has them.
    Line(Stroke, Option<Shape>),
    /// A filled rectangle of this opacity.
    Area(Ink, f64),
    /// A marker.
    Marker(Ink, Shape),
}

/// A series in the legend.
pub(super) struct Entry {
    /// How it looks.
    pub key: Key,
    /// What it is.
    pub name: String,
}

/// Draws the label of the y axis above the legend, with its upper edge at `top`. Returns the y of its lower edge.
pub(super) fn draw_heading(canvas: &mut Canvas, size: Size, label: &str, top: f64) -> f64 {
    if label.is_empty() {
        return top;
    }
    let short = shorten(label, size.font(), size.width() - 2.0 * size.side());
    canvas.text((size.side(), top + size.font()), size.text(Ink::Muted), &short);
    top + size.line_height()
}

/// Draws the legend with its upper edge at `top`. Returns the y of its lower edge.
pub(super) fn draw(canvas: &mut Canvas, size: Size, entries: &[Entry], top: f64) -> f64 {
    let (font, row) = (size.font(), size.line_height());
    let (left, right) = (size.side(), size.width() - size.side());
    let key_width = 1.4 * font;
    let (mut x, mut y) = (left, top);
    for entry in entries {
        let name = shorten(&entry.name, font, right - left - key_width - 0.4 * font);
        let needed = key_width + 0.4 * font + text_width(&name, font);
        if x > left && x + needed > right {
            (x, y) = (left, y + row);
        }
        draw_key(canvas, size, entry.key, (x, x + key_width), y + 0.5 * row);
        canvas.text((x + key_width + 0.4 * font, y + 0.5 * row + 0.36 * font), size.text(Ink::Text), &name);
        x += needed + 1.1 * font;
    }
    if entries.is_empty() { top } else { y + row }
}

fn draw_key(canvas: &mut Canvas, size: Size, key: Key, (left, right): (f64, f64), y: f64) {
    let middle = ((left + right) / 2.0, y);
    let radius = 4.5 * size.line_scale();
    match key {
        Key::Line(stroke, shape) => {
            canvas.path(&[(left, y), (right, y)], stroke);
            if let Some(shape) = shape {
                canvas.markers(shape, radius, stroke.ink, &[(middle, String::new())]);
            }
        }
        Key::Area(ink, opacity) => {
            let half = 0.35 * size.font();
            canvas.areas(&[vec![(left, y - half), (right, y - half), (right, y + half), (left, y + half)]], ink, opacity, None);
        }
        Key::Marker(ink, shape) => canvas.markers(shape, radius, ink, &[(middle, String::new())]),
    }
}
