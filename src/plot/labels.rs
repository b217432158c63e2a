//! Draws labels right of a plot, as close to the ends of their lines as possible without overlap.

use super::frame::{Frame, Size};
use super::svg::{Canvas, Stroke, TextStyle};
use super::theme::Ink;

/// The value at the end of a line.
pub(super) struct EndLabel {
    /// The value.
    pub text: String,
    /// The color of the text.
    pub ink: Ink,
    /// The end of the line, in pixels.
    pub end: (f64, f64),
}

/// Draws the labels in a column. A thin line connects a label that had to move to the end of its line, unless the line ends far from the
/// column. Draws nothing if there are more labels than rows.
pub(super) fn draw(canvas: &mut Canvas, size: Size, frame: &Frame, labels: &[EndLabel]) {
    let (font, gap) = (size.font(), 1.08 * size.font());
    if labels.len() as f64 * gap > frame.bottom - frame.top + 2.0 * gap {
        return;
    }
    let wanted: Vec<f64> = labels.iter().map(|label| label.end.1).collect();
    let x = frame.right + 0.7 * font;
    for (label, y) in labels.iter().zip(spread(&wanted, gap, frame.top, frame.bottom)) {
        let (end_x, end_y) = label.end;
        if (y - end_y).abs() > 2.0 && frame.right - end_x < 3.0 * font {
            let lead = Stroke { opacity: 0.7, ..Stroke::solid(label.ink.of_line(), 1.0) };
            canvas.path(&[(end_x + 0.3 * font, end_y), (x - 2.0, y)], lead);
        }
        let style = TextStyle { bold: true, ..size.text(label.ink) };
        canvas.text((x, y + 0.36 * font), style, &label.text);
    }
}

/// Moves the `wanted` positions at least `gap` apart within `low..=high`, with the smallest sum of squared moves. Keeps their order. If the
/// range is too small, they start at `low` and exceed `high`.
///
/// With sorted y, `z_i = y_i - i gap` must not decrease. This is isotonic regression, solved by merging neighbors that violate it into
/// their mean (pool adjacent violators). Clamping z to the range preserves the order.
fn spread(wanted: &[f64], gap: f64, low: f64, high: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|&a, &b| wanted[a].total_cmp(&wanted[b]));

    // Blocks of (sum of z, count) with increasing means.
    let mut blocks: Vec<(f64, usize)> = Vec::new();
    for (rank, &index) in order.iter().enumerate() {
        let mut block = (wanted[index] - rank as f64 * gap, 1);
        while let Some(&(sum, count)) = blocks.last() {
            if sum / count as f64 <= block.0 / block.1 as f64 {
                break;
            }
            block = (block.0 + sum, block.1 + count);
            blocks.pop();
        }
        blocks.push(block);
    }

    let highest = (high - gap * wanted.len().saturating_sub(1) as f64).max(low);
    let means = blocks.iter().flat_map(|&(sum, count)| std::iter::repeat_n(sum / count as f64, count));
    let mut placed = vec![0.0; wanted.len()];
    for (rank, (&index, z)) in order.iter().zip(means).enumerate() {
        placed[index] = z.clamp(low, highest) + rank as f64 * gap;
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wanted: &[f64], expected: &[f64]) {
        let found = spread(wanted, 10.0, 0.0, 100.0);
        assert_eq!(found, expected, "{wanted:?}");
    }

    #[test]
    fn spread_keeps_labels_apart() {
        check(&[], &[]);
        check(&[50.0], &[50.0]);
        check(&[20.0, 50.0], &[20.0, 50.0]);
        check(&[50.0, 50.0], &[45.0, 55.0]);
        check(&[50.0, 52.0, 51.0], &[41.0, 61.0, 51.0]);
        check(&[20.0, 80.0, 84.0], &[20.0, 77.0, 87.0]);
    }

    #[test]
    fn spread_keeps_labels_inside() {
        check(&[0.0, 1.0], &[0.0, 10.0]);
        check(&[100.0, 99.0, 98.0], &[100.0, 90.0, 80.0]);
        check(&[-5.0], &[0.0]);
        // The range is too small: labels start at the top, in order.
        assert_eq!(spread(&[3.0, 1.0, 2.0], 10.0, 0.0, 5.0), [20.0, 0.0, 10.0]);
    }
}
