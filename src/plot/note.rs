//! Places a short text in an empty part of a plot.

use super::frame::{Frame, Size};
use super::svg::{Canvas, TextStyle};
use super::text::{bold_width, text_width};
use super::theme::Ink;

/// A text of two lines about the part of the plot right of an x.
pub(super) struct Note {
    /// Where that part starts on the x axis.
    pub from: f64,
    /// Pairs of a line in bold and the line below it. The first pair that fits is drawn.
    pub texts: Vec<[String; 2]>,
    /// The color.
    pub ink: Ink,
}

/// Draws a note as far as possible from all lines and levels. Leaves it out if each of its texts would touch one.
pub(super) fn draw_note(canvas: &mut Canvas, size: Size, frame: &Frame, note: &Note, lines: &[Vec<(f64, f64)>], levels: &[f64]) {
    let style = size.text(note.ink);
    let left = frame.x(note.from) + 0.5 * style.size;
    let room = frame.right - 0.5 * style.size - left;
    if !left.is_finite() {
        return;
    }
    for [headline, detail] in &note.texts {
        let width = bold_width(headline, style.size).max(text_width(detail, style.size));
        let x = left + (room - width) / 2.0;
        let Some(y) = place(size, frame, (x, x + width), lines, levels).filter(|_| width <= room) else { continue };
        let style = TextStyle { anchor: "middle", ..style };
        canvas.text((x + width / 2.0, y - 0.25 * style.size), TextStyle { bold: true, ..style }, headline);
        canvas.text((x + width / 2.0, y - 0.25 * style.size + size.line_height()), style, detail);
        return;
    }
}

/// Returns the middle of a text of two lines between two x; `None` without room.
fn place(size: Size, frame: &Frame, (left, right): (f64, f64), lines: &[Vec<(f64, f64)>], levels: &[f64]) -> Option<f64> {
    let mut occupied: Vec<f64> = levels.to_vec();
    occupied.extend([frame.top, frame.bottom]);
    occupied.extend(lines.iter().flat_map(|line| heights(line, left, right)));
    emptiest(&occupied, frame.top, frame.bottom, size.line_height() + 0.1 * size.font())
}

/// Returns the middle of the largest gap between `occupied` heights, if it is at least twice `half` high. Prefers lower gaps of equal size.
fn emptiest(occupied: &[f64], top: f64, bottom: f64, half: f64) -> Option<f64> {
    let mut sorted: Vec<f64> = occupied.iter().copied().filter(|y| (top..=bottom).contains(y)).collect();
    sorted.sort_by(f64::total_cmp);
    let gaps = sorted.windows(2).map(|pair| (pair[1] - pair[0], (pair[0] + pair[1]) / 2.0));
    gaps.max_by(|one, other| one.0.total_cmp(&other.0)).filter(|(gap, _)| *gap >= 2.0 * half).map(|(_, middle)| middle)
}

/// Returns the y of a line wherever it passes between two x: at its points there, and where its pieces enter and leave.
fn heights(line: &[(f64, f64)], left: f64, right: f64) -> Vec<f64> {
    let inside = |&(x, _): &(f64, f64)| (left..=right).contains(&x);
    let mut heights: Vec<f64> = line.iter().filter(|point| inside(point)).map(|(_, y)| *y).collect();
    for pair in line.windows(2) {
        let [(x0, y0), (x1, y1)] = [pair[0], pair[1]];
        for edge in [left, right] {
            if x0 < edge && edge < x1 {
                heights.push(y0 + (edge - x0) / (x1 - x0) * (y1 - y0));
            }
        }
    }
    heights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emptiest_finds_the_middle_of_the_largest_gap() {
        assert_eq!(emptiest(&[0.0, 10.0, 100.0], 0.0, 100.0, 20.0), Some(55.0));
        assert_eq!(emptiest(&[0.0, 50.0, 100.0], 0.0, 100.0, 20.0), Some(75.0));
        assert_eq!(emptiest(&[0.0, 30.0, 60.0, 100.0], 0.0, 100.0, 25.0), None);
    }

    #[test]
    fn heights_includes_where_a_line_enters() {
        assert_eq!(heights(&[(0.0, 0.0), (10.0, 10.0), (20.0, 0.0)], 5.0, 12.0), [10.0, 5.0, 8.0]);
        assert!(heights(&[(0.0, 1.0), (2.0, 1.0)], 5.0, 12.0).is_empty());
    }
}
