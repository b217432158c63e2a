//! Draws vertical lines across a plot, with their labels above it.

use super::Mark;
use crate::plot::frame::{Frame, Size};
use crate::plot::svg::{Canvas, Stroke, TextStyle};
use crate::plot::text::{bold_width, shorten};
use crate::plot::theme::Ink;

/// Rows of labels above the plot; labels that do not fit are left out.
const ROWS: usize = 3;

/// A mark whose label has a place.
pub(super) struct Placed {
    /// The x of the line.
    pub x: f64,
    /// The row of the label, from the plot upward.
    pub row: usize,
    label: String,
    /// The x of the label and the part of it that is there.
    at: (f64, &'static str),
}

/// Finds a place for each label: right of its line, left of it, or as near as the picture's edges allow, and in the lowest row with room.
/// Starts with the last mark, because the line of a later one would cross a label in the same or a higher row.
pub(super) fn place(marks: &[Mark], frame: &Frame, size: Size) -> Vec<Placed> {
    let (edges, gap) = ((size.side(), size.width() - size.side()), 0.4 * size.font());
    let mut taken: Vec<Vec<(f64, f64)>> = vec![Vec::new(); ROWS];
    let mut placed: Vec<Placed> = Vec::new();
    let mut shown: Vec<&Mark> = marks.iter().filter(|mark| frame.x(mark.x).is_finite()).collect();
    shown.sort_by(|one, other| other.x.total_cmp(&one.x));
    for mark in shown {
        let x = frame.x(mark.x);
        let mut label = shorten(&mark.label, 1.1 * size.font(), edges.1 - edges.0);
        let width = bold_width(&label, size.font());
        let (from, anchor) = if x + gap + width <= edges.1 {
            (x + gap, "start")
        } else if x - gap - width >= edges.0 {
            (x - gap - width, "end")
        } else {
            (edges.1 - width, "start")
        };
        let is_free = |row: &Vec<(f64, f64)>| row.iter().all(|&(left, right)| from + width + gap < left || right + gap < from);
        let row = taken.iter().position(is_free);
        match row {
            Some(row) => taken[row].push((from, from + width)),
            None => label.clear(),
        }
        let at = if anchor == "end" { from + width } else { from };
        placed.push(Placed { x, row: row.unwrap_or(0), label, at: (at, anchor) });
    }
    placed
}

/// Draws the lines and their labels. A line reaches up to its label.
pub(super) fn draw(canvas: &mut Canvas, size: Size, frame: &Frame, placed: &[Placed]) {
    let line = Stroke { dashes: "5 4", ..Stroke::solid(Ink::Text, 1.4 * size.line_scale()) };
    for mark in placed {
        let beside = (mark.at.0 - mark.x).abs() < size.font();
        let baseline = frame.top - 0.6 * size.font() - mark.row as f64 * size.line_height();
        let top = if mark.label.is_empty() || !beside { frame.top } else { baseline - 0.8 * size.font() };
        canvas.path(&[(mark.x, top), (mark.x, frame.bottom)], line);
        if !mark.label.is_empty() {
            let style = TextStyle { anchor: mark.at.1, bold: true, ..size.text(Ink::Text) };
            canvas.text((mark.at.0, baseline), style, &mark.label);
        }
    }
}
