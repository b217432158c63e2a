//! Writes the outlines of lines and areas for SVG in few characters: in tenths of a pixel, relative to the previous point, without points
//! that lie on a straight line between their neighbors.

use std::fmt::Write;

/// A position in tenths of a pixel.
type Tenths = (i64, i64);

/// Formats a path through points: `M` and the first one, `l` and the differences between the others. Rounding errors do not add up.
pub(super) fn path_data(points: &[(f64, f64)]) -> String {
    let round = |&(x, y): &(f64, f64)| ((x * 10.0).round() as i64, (y * 10.0).round() as i64);
    let corners = corners(points.iter().map(round));
    let Some(&(x, y)) = corners.first() else { return String::new() };
    let mut d = format!("M{},{}", pixels(x), pixels(y));
    for (index, pair) in corners.windows(2).enumerate() {
        let [from, to] = [pair[0], pair[1]];
        d.push_str(if index == 0 { "l" } else { "" });
        for (part, difference) in [to.0 - from.0, to.1 - from.1].into_iter().enumerate() {
            let is_first = index == 0 && part == 0;
            // A minus sign separates numbers, too.
            let separator = if is_first || difference < 0 { "" } else { " " };
            let _ = write!(d, "{separator}{}", pixels(difference));
        }
    }
    d
}

/// Leaves out points on the straight way from the previous point to the next one. Keeps both ends.
fn corners(points: impl Iterator<Item = Tenths>) -> Vec<Tenths> {
    let mut kept: Vec<Tenths> = Vec::new();
    for point in points {
        if let [.., before, between] = kept[..]
            && is_on_the_way(before, between, point)
        {
            kept.pop();
        }
        kept.push(point);
    }
    kept
}

fn is_on_the_way(from: Tenths, between: Tenths, to: Tenths) -> bool {
    let (first, second) = ((between.0 - from.0, between.1 - from.1), (to.0 - between.0, to.1 - between.1));
    first.0 * second.1 == first.1 * second.0 && first.0 * second.0 + first.1 * second.1 >= 0
}

/// Writes tenths of a pixel in pixels: `12`, `-.3`, `1.5`.
fn pixels(tenths: i64) -> String {
    let (sign, whole, tenth) = (if tenths < 0 { "-" } else { "" }, tenths.abs() / 10, tenths.abs() % 10);
    match (whole, tenth) {
        (whole, 0) => format!("{sign}{whole}"),
        (0, tenth) => format!("{sign}.{tenth}"),
        (whole, tenth) => format!("{sign}{whole}.{tenth}"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Returns the corners of the pieces of a path, in pixels.
    pub fn corners_of(d: &str) -> Vec<Vec<(f64, f64)>> {
        let piece = |piece: &str| {
            let spaced = piece.replace(['l', ','], " ").replace('-', " -");
            let numbers: Vec<f64> = spaced.split_whitespace().map(|number| number.parse().unwrap()).collect();
            let mut at = (0.0, 0.0);
            let step = |pair: &[f64]| {
                at = (at.0 + pair[0], at.1 + pair[1]);
                at
            };
            numbers.chunks(2).map(step).collect()
        };
        d.trim_end_matches('Z').split('M').skip(1).map(piece).collect()
    }

    fn check(points: &[(f64, f64)], expected: &str) {
        assert_eq!(path_data(points), expected, "{points:?}");
    }

    #[test]
    fn path_data_is_short() {
        check(&[], "");
        check(&[(1.0, 2.0)], "M1,2");
        check(&[(1.04, -2.06), (0.96, 3.0), (4.5, 2.5)], "M1,-2.1l0 5.1 3.5-.5");
        check(&[(0.0, 0.0), (-0.3, 0.0), (-0.3, 12.0)], "M0,0l-.3 0 0 12");
    }

    #[test]
    fn path_data_leaves_out_points_on_straight_lines() {
        check(&[(0.0, 5.0), (1.0, 5.0), (2.0, 5.0), (3.0, 6.0), (4.0, 7.0)], "M0,5l2 0 2 2");
        // A line that turns back, and one without length, keep their ends.
        check(&[(0.0, 0.0), (5.0, 0.0), (2.0, 0.0)], "M0,0l5 0-3 0");
        check(&[(1.0, 1.0), (1.0, 1.0), (1.0, 1.0)], "M1,1l0 0");
    }

    #[test]
    fn path_data_does_not_add_up_rounding_errors() {
        let points: Vec<(f64, f64)> = (0..1000).map(|index| (f64::from(index) / 7.0, f64::from(index * index % 97) / 3.0)).collect();
        let corners = corners_of(&path_data(&points)).remove(0);
        let (last, found) = (points[999], corners[corners.len() - 1]);
        assert!((last.0 - found.0).abs() < 0.051 && (last.1 - found.1).abs() < 0.051, "{last:?} {found:?}");
    }
}
