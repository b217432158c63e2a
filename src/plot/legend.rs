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

/// Returns the height of a legend.
pub(super) fn height(size: Size, entries: &[Entry]) -> f64 {
    rows(size, entries).last().map_or(0.0, |entry| entry.row as f64 + 1.0) * size.line_height()
}

/// Draws the legend with its upper edge at `top`.
pub(super) fn draw(canvas: &mut Canvas, size: Size, entries: &[Entry], top: f64) {
    for (entry, Placed { x, row, name }) in entries.iter().zip(rows(size, entries)) {
        let y = top + (row as f64 + 0.5) * size.line_height();
        draw_key(canvas, size, entry.key, (x, x + KEY * size.font()), y);
        canvas.text((x + (KEY + KEY_GAP) * size.font(), y + 0.36 * size.font()), size.text(Ink::Text), &name);
    }
}

/// The width of keys and their distance to the name, in font sizes.
const KEY: f64 = 1.4;
const KEY_GAP: f64 = 0.4;
/// The distance of two entries, in font sizes.
const GAP: f64 = 1.1;

/// Where an entry is.
struct Placed {
    x: f64,
    row: usize,
    name: String,
}

/// Puts as many entries in each row as fit. Cuts names that are wider than a row.
fn rows(size: Size, entries: &[Entry]) -> Vec<Placed> {
    let font = size.font();
    let (left, right) = (size.side(), size.width() - size.side());
    let key = (KEY + KEY_GAP) * font;
    let (mut x, mut row) = (left, 0);
    let mut placed = Vec::new();
    for entry in entries {
        let name = shorten(&entry.name, font, right - left - key);
        let width = key + text_width(&name, font);
        if x > left && x + width > right {
            (x, row) = (left, row + 1);
        }
        placed.push(Placed { x, row, name });
        x += width + GAP * font;
    }
    placed
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
