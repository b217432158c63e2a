//! The plot area of a chart: its position, the rulers of its axes, and the grid.

use super::axis::{Ruler, Scale};
use super::number::exact;
use super::svg::{Canvas, Stroke, TextStyle};
use super::text::text_width;
use super::theme::Ink;

/// How large a chart is. Text is large enough to remain legible if a page scales the chart down to 9/16 of its size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Size {
    /// One chart per row, 640 pixels wide.
    #[default]
    Full,
    /// One of several charts per row, 320 pixels wide.
    Small,
    /// One chart per row on a phone, 360 pixels wide.
    Narrow,
}

impl Size {
    /// The width of the picture in pixels.
    pub(super) fn width(self) -> f64 {
        match self {
            Self::Full => 640.0,
            Self::Small => 320.0,
            Self::Narrow => 360.0,
        }
    }

    /// The font size in pixels.
    pub(super) fn font(self) -> f64 {
        match self {
            Self::Full => 16.0,
            Self::Small => 12.0,
            Self::Narrow => 13.0,
        }
    }

    /// The height of the plot area in pixels.
    pub(super) fn plot_height(self) -> f64 {
        match self {
            Self::Full => 270.0,
            Self::Small => 130.0,
            Self::Narrow => 190.0,
        }
    }

    /// The width of lines and the like, relative to the full size.
    pub(super) fn line_scale(self) -> f64 {
        self.font() / Self::Full.font()
    }

    /// The style of ordinary text.
    pub(super) fn text(self, ink: Ink) -> TextStyle {
        TextStyle { size: self.font(), ink, anchor: "start", bold: false }
    }

    /// The distance of two lines of text.
    pub(super) fn line_height(self) -> f64 {
        (self.font() * 1.35).round()
    }

    /// The distance of the picture's content from its left and right edge.
    pub(super) fn side(self) -> f64 {
        self.font() / 2.0
    }
}

/// The position of the plot in pixels, and what its axes show.
pub(super) struct Frame {
    /// The x of the start of the x axis.
    pub left: f64,
    /// The x of its end.
    pub right: f64,
    /// The y of the highest value.
    pub top: f64,
    /// The y of the lowest value.
    pub bottom: f64,
    /// The x axis.
    pub x: Ruler,
    /// The y axis.
    pub y: Ruler,
}

impl Frame {
    /// Returns the x of a value, in pixels; NaN if it cannot be shown.
    pub fn x(&self, value: f64) -> f64 {
        self.left + self.x.share(value) * (self.right - self.left)
    }

    /// Returns the y of a value, in pixels; NaN, which is a gap, if it cannot be shown.
    pub fn y(&self, value: f64) -> f64 {
        self.bottom - self.y.share(value) * (self.bottom - self.top)
    }

    /// Returns the corners of the part of the plot from `left` to `right`.
    pub fn slice(&self, left: f64, right: f64) -> Vec<(f64, f64)> {
        vec![(left, self.top), (right, self.top), (right, self.bottom), (left, self.bottom)]
    }

    /// Removes the ticks, whose numbers mean nothing without data.
    pub fn clear_ticks(&mut self) {
        self.x.ticks.clear();
        self.y.ticks.clear();
    }

    /// Says that there is no data.
    pub fn draw_no_data(&self, canvas: &mut Canvas, size: Size) {
        let middle = ((self.left + self.right) / 2.0, (self.top + self.bottom) / 2.0 + 0.36 * size.font());
        canvas.text(middle, TextStyle { anchor: "middle", ..size.text(Ink::Muted) }, "no data");
    }

    /// Draws horizontal grid lines with their texts, and the x axis with its label. Returns the y of the lower edge.
    pub fn draw(&self, canvas: &mut Canvas, size: Size, x_label: &str) -> f64 {
        let tick = size.text(Ink::Muted);
        let lines: Vec<_> = self.y.ticks.iter().map(|(value, _)| [(self.left, self.y(*value)), (self.right, self.y(*value))]).collect();
        canvas.segments(&lines, Stroke::solid(Ink::Grid, 1.0));
        let texts = self.y.ticks.iter().map(|(value, text)| ((self.left - 6.0, self.y(*value) + 0.36 * tick.size), text.as_str()));
        canvas.texts(TextStyle { anchor: "end", ..tick }, texts);
        canvas.path(&[(self.left, self.bottom), (self.right, self.bottom)], Stroke::solid(Ink::Axis, 1.0));
        self.draw_x_axis(canvas, size, x_label)
    }

    /// Draws the ticks, their texts and the label of the x axis. Returns the y of the lower edge.
    pub fn draw_x_axis(&self, canvas: &mut Canvas, size: Size, label: &str) -> f64 {
        let tick = size.text(Ink::Muted);
        let lines = self.x.ticks.iter().map(|(value, _)| [(self.x(*value), self.bottom), (self.x(*value), self.bottom + 5.0)]);
        canvas.segments(&lines.collect::<Vec<_>>(), Stroke::solid(Ink::Axis, 1.0));
        let y = self.bottom + 5.0 + tick.size;
        // The text of the last tick must not leave the picture.
        let middle = |value: f64, text: &str| self.x(value).min(size.width() - 2.0 - text_width(text, tick.size) / 2.0);
        let ticks = self.x.ticks.iter().map(|(value, text)| ((middle(*value, text), y), text.as_str()));
        let below = y + size.line_height();
        let label = Some((((self.left + self.right) / 2.0, below), label)).filter(|(_, label)| !label.is_empty());
        canvas.texts(TextStyle { anchor: "middle", ..tick }, ticks.chain(label));
        label.map_or(y, |_| below) + 0.5 * tick.size
    }

    /// Returns the attributes from which a script computes positions: `chart` names the kind of chart.
    pub fn data(&self, chart: &str) -> Vec<(&'static str, String)> {
        let scale = |scale| if scale == Scale::Log { "log" } else { "linear" }.to_owned();
        // The ends of axes are multiples of ticks, with the rounding errors of the multiplication.
        let end = |value: f64| exact(format!("{value:.11e}").parse().unwrap_or(value));
        let pixels = |position: f64| format!("{position:.1}");
        vec![
            ("chart", chart.to_owned()),
            ("x0", end(self.x.low)),
            ("x1", end(self.x.high)),
            ("y0", end(self.y.low)),
            ("y1", end(self.y.high)),
            ("left", pixels(self.left)),
            ("right", pixels(self.right)),
            ("top", pixels(self.top)),
            ("bottom", pixels(self.bottom)),
            ("xscale", scale(self.x.scale)),
            ("yscale", scale(self.y.scale)),
        ]
    }
}

/// Returns the ruler with the most ticks, at most 8, whose texts fit side by side. `ruler` makes one with at most that many ticks.
pub(super) fn most_ticks(ruler: impl Fn(usize) -> Ruler, width: f64, font: f64) -> Ruler {
    let fits = |ruler: &Ruler| {
        let widest = ruler.ticks.iter().map(|(_, text)| text_width(text, font)).fold(0.0, f64::max);
        ruler.ticks.len().saturating_sub(1) as f64 * (widest + 1.2 * font) <= width
    };
    (3..=8).rev().map(&ruler).find(fits).unwrap_or_else(|| ruler(2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::axis::{Axis, Ends};
    use crate::plot::number::Unit;

    #[test]
    fn frame_clamps_values_to_its_edges() {
        let ruler = |range| Axis { range: Some(range), ..Axis::default() }.ruler([].into_iter(), Ends::Data, 6);
        let frame = Frame { left: 10.0, right: 110.0, top: 20.0, bottom: 220.0, x: ruler((0.0, 1.0)), y: ruler((0.0, 1.0)) };
        assert_eq!((frame.x(0.0), frame.x(1.0), frame.x(9.0)), (10.0, 110.0, 110.0));
        assert_eq!((frame.y(0.0), frame.y(1.0)), (220.0, 20.0));
        assert_eq!((frame.y(-1.0), frame.y(1.2)), (220.0, 20.0));
        assert!(frame.y(f64::INFINITY).is_nan());
    }

    #[test]
    fn most_ticks_leaves_room_between_texts() {
        let axis = Axis::new("step", Unit::Number);
        for (last, width) in [(300.0, 250.0), (2000.0, 250.0), (90_000.0, 250.0), (90_000.0, 80.0), (1.0, 10.0)] {
            let ruler = most_ticks(|most| axis.ruler([0.0, last].into_iter(), Ends::Data, most), width, 12.0);
            let texts: f64 = ruler.ticks.iter().map(|(_, text)| text_width(text, 12.0)).sum();
            assert!(ruler.ticks.len() == 2 || texts < width, "{last} {width} {ruler:?}");
        }
    }
}
