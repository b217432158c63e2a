//! The plot area of a picture: training steps on the x axis, accuracy on the y axis, and the grid.

use super::svg::{Canvas, Stroke, TextStyle};

/// The position of the plot in pixels, and the steps that it spans. Accuracy runs from 0 at the bottom to 1 at the top.
pub(super) struct Frame {
    /// The x of step 0.
    pub left: f64,
    /// The x of the last step.
    pub right: f64,
    /// The y of accuracy 1.
    pub top: f64,
    /// The y of accuracy 0.
    pub bottom: f64,
    /// The step at the right edge.
    pub last_step: u32,
}

const GRID: &str = "#dfe3e8";
const AXIS: &str = "#6b7480";
const TICK: TextStyle = TextStyle { size: 12.0, color: "#4b535d", anchor: "middle", weight: 400 };

impl Frame {
    /// Returns the x of a step, in pixels.
    pub fn x(&self, step: u32) -> f64 {
        let share = f64::from(step) / f64::from(self.last_step.max(1));
        self.left + share.min(1.0) * (self.right - self.left)
    }

    /// Returns the y of an accuracy, in pixels. Values outside 0 to 1 are clamped; values that are not finite become NaN, which is a gap.
    pub fn y(&self, accuracy: f64) -> f64 {
        if !accuracy.is_finite() {
            return f64::NAN;
        }
        self.bottom - accuracy.clamp(0.0, 1.0) * (self.bottom - self.top)
    }

    /// Draws the grid, the ticks and the axis labels.
    pub fn draw(&self, canvas: &mut Canvas, x_name: &str, y_name: &str) {
        for percent in (0..=100).step_by(20) {
            let y = self.y(f64::from(percent) / 100.0);
            let line = [(self.left, y), (self.right, y)];
            canvas.path(&line, Stroke::solid(if percent == 0 { AXIS } else { GRID }, 1.0));
            let end = TextStyle { anchor: "end", ..TICK };
            canvas.text((self.left - 9.0, y + 4.0), end, &format!("{percent}%"));
        }
        for step in step_ticks(self.last_step) {
            let x = self.x(step);
            let line = [(x, self.bottom), (x, self.bottom + 5.0)];
            canvas.path(&line, Stroke::solid(AXIS, 1.0));
            canvas.text((x, self.bottom + 19.0), TICK, &step.to_string());
        }
        let middle = (self.left + self.right) / 2.0;
        canvas.text((middle, self.bottom + 39.0), TICK, x_name);
        let side = (self.left - 47.0, (self.top + self.bottom) / 2.0);
        canvas.spans(side, TICK, &[(400, y_name)], -90.0);
    }
}

/// Returns the steps of at most nine ticks, spaced by 1, 2 or 5 times a power of ten.
fn step_ticks(last_step: u32) -> impl Iterator<Item = u32> {
    let spacing = (0..10)
        .flat_map(|power| [1, 2, 5].map(|digit| digit * 10_u64.pow(power)))
        .find(|spacing| u64::from(last_step) / spacing <= 8)
        .and_then(|spacing| u32::try_from(spacing).ok())
        .unwrap_or(u32::MAX);
    (0..=last_step).step_by(spacing as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_ticks_are_few_and_round() {
        let check = |last, expected: &[u32]| {
            assert_eq!(step_ticks(last).collect::<Vec<_>>(), expected, "{last}");
        };
        check(1, &[0, 1]);
        check(2, &[0, 1, 2]);
        check(13, &[0, 2, 4, 6, 8, 10, 12]);
        check(300, &[0, 50, 100, 150, 200, 250, 300]);
        check(2000, &[0, 500, 1000, 1500, 2000]);
        for last in [0, 1, 9, 17, 99, 1234, 1_000_000, u32::MAX] {
            assert!((1..=9).contains(&step_ticks(last).count()), "{last}");
        }
    }

    #[test]
    fn frame_clamps_values_to_its_edges() {
        let frame = Frame { left: 10.0, right: 110.0, top: 20.0, bottom: 220.0, last_step: 0 };
        assert_eq!((frame.x(0), frame.x(1), frame.x(9)), (10.0, 110.0, 110.0));
        assert_eq!((frame.y(0.0), frame.y(1.0)), (220.0, 20.0));
        assert_eq!((frame.y(-1.0), frame.y(1.2)), (220.0, 20.0));
        assert!(frame.y(f64::INFINITY).is_nan());
    }
}
