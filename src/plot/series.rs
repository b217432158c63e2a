//! Draws the lines of the picture, with gaps where values are missing, and the labels at their ends, which replace a legend.

use super::frame::Frame;
use super::labels::spread;
use super::svg::{Canvas, Stroke, TextStyle};
use crate::eval::statistics::Estimate;

/// The accuracy at one evaluation, with its 95% interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// The training step evaluated; 0 is the base model.
    pub step: u32,
    /// Accuracy, 0 to 1.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Point {
    /// Makes the point of an estimate at a step.
    pub fn new(step: u32, estimate: Estimate) -> Self {
        let Estimate { mean, low, high } = estimate;
        Self { step, value: mean, low, high }
    }
}

/// The kind of a line, which determines its style. The colors are vermilion, blue and bluish green from the Okabe-Ito palette, which people
/// with any common color vision can distinguish. Without colors, the markers still differ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mark {
    /// The training example: a line without markers, with a value at every step.
    Line,
    /// Held-out problems, greedy.
    Dot,
    /// Held-out problems, sampled.
    Diamond,
    /// A horizontal line for comparison.
    Level,
}

impl Mark {
    /// The color of the line.
    pub const fn color(self) -> &'static str {
        match self {
            Self::Line => "#d55e00",
            Self::Dot => "#0072b2",
            Self::Diamond => "#009e73",
            Self::Level => "#7a8490",
        }
    }

    /// A darker shade of the color, for text on white.
    const fn text_color(self) -> &'static str {
        match self {
            Self::Line => "#b04a00",
            Self::Dot => "#005a8e",
            Self::Diamond => "#00734f",
            Self::Level => "#5d6672",
        }
    }

    /// The style of the line.
    pub const fn stroke(self) -> Stroke {
        let (width, dashes) = match self {
            Self::Line => (2.0, ""),
            Self::Dot | Self::Diamond => (2.4, ""),
            Self::Level => (1.3, "1.5 4"),
        };
        Stroke { color: self.color(), width, opacity: 1.0, dashes }
    }

    fn draw_at(self, canvas: &mut Canvas, center: (f64, f64), radius: f64, rim: &str) {
        match self {
            Self::Dot => canvas.dot(center, radius, self.color(), rim),
            Self::Diamond => canvas.diamond(center, radius, self.color(), rim),
            Self::Line | Self::Level => {}
        }
    }
}

/// One line with its band, in pixels. A y value that is not finite is a gap.
pub(super) struct Series {
    mark: Mark,
    points: Vec<(f64, f64)>,
    /// `(x, y of the lower end, y of the upper end)`.
    band: Vec<(f64, f64, f64)>,
    label: Option<EndLabel>,
}

impl Series {
    /// Makes the series of accuracy on the training example.
    pub fn train(accuracy: &[(u32, f64)], frame: &Frame) -> Self {
        let values = accuracy.iter().copied();
        Self::new("training example", Mark::Line, values, frame)
    }

    /// Makes the series of accuracy on held-out problems, with its band.
    pub fn held_out(mark: Mark, evaluations: &[Point], frame: &Frame) -> Self {
        let name = if mark == Mark::Dot { "held-out, greedy" } else { "held-out, sampled" };
        let values = evaluations.iter().map(|point| (point.step, point.value));
        let mut series = Self::new(name, mark, values, frame);
        series.band = evaluations
            .iter()
            .map(|point| {
                // Without a value there is no interval, even if its ends are finite.
                let low = if point.value.is_finite() { point.low } else { f64::NAN };
                (frame.x(point.step), frame.y(low), frame.y(point.high))
            })
            .collect();
        series
    }

    fn new(name: &'static str, mark: Mark, values: impl Iterator<Item = (u32, f64)> + Clone, frame: &Frame) -> Self {
        let position = |(step, value): (u32, f64)| (frame.x(step), frame.y(value));
        let last = values.clone().filter(|(_, value)| value.is_finite()).last();
        Self {
            mark,
            points: values.map(position).collect(),
            band: Vec::new(),
            label: last.map(|last| EndLabel::new(name, last.1, mark, position(last))),
        }
    }

    /// Returns the label at the end of the line; `None` without any finite value.
    pub fn label(&self) -> Option<EndLabel> {
        self.label
    }

    /// Draws the 95% band of each segment without gaps. A single evaluation gets an error bar.
    pub fn draw_band(&self, canvas: &mut Canvas) {
        let not_empty = |segment: &&[(f64, f64, f64)]| !segment.is_empty();
        let is_gap = |&(_, low, high): &(f64, f64, f64)| !(low.is_finite() && high.is_finite());
        for segment in self.band.split(is_gap).filter(not_empty) {
            let upper = segment.iter().map(|&(x, _, high)| (x, high));
            let lower = segment.iter().map(|&(x, low, _)| (x, low));
            let outline: Vec<_> = upper.chain(lower.rev()).collect();
            if segment.len() == 1 {
                let bar = Stroke { opacity: 0.4, ..Stroke::solid(self.mark.color(), 4.0) };
                canvas.path(&outline, bar);
            } else {
                canvas.area(&outline, self.mark.color(), 0.16);
            }
        }
    }

    /// Draws the line, with a marker at each evaluation unless the markers would touch.
    pub fn draw_line(&self, canvas: &mut Canvas) {
        for segment in segments(&self.points) {
            canvas.path(segment, self.mark.stroke());
        }
        let span = match (self.points.first(), self.points.last()) {
            (Some(first), Some(last)) => last.0 - first.0,
            _ => return,
        };
        if span >= 11.0 * self.points.len().saturating_sub(1) as f64 {
            for &point in self.points.iter().filter(|(_, y)| y.is_finite()) {
                self.mark.draw_at(canvas, point, 4.0, "#ffffff");
            }
        }
    }
}

/// Splits points at gaps.
pub(super) fn segments(points: &[(f64, f64)]) -> impl Iterator<Item = &[(f64, f64)]> {
    points.split(|(_, y)| !y.is_finite()).filter(|segment| !segment.is_empty())
}

/// A label right of the plot, with a line's last value and name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct EndLabel {
    name: &'static str,
    value: f64,
    mark: Mark,
    /// The end of the line.
    end: (f64, f64),
}

impl EndLabel {
    /// Makes the label of a line that ends at `end`.
    pub fn new(name: &'static str, value: f64, mark: Mark, end: (f64, f64)) -> Self {
        Self { name, value, mark, end }
    }
}

/// Draws the labels in a column, each as close to the end of its line as the others allow. A thin leader connects a moved label to its
/// line, unless the line ends far from the column. A short piece of the line before the text identifies it.
pub(super) fn draw_labels(canvas: &mut Canvas, frame: &Frame, labels: &[EndLabel]) {
    let wanted: Vec<f64> = labels.iter().map(|label| label.end.1).collect();
    let placed = spread(&wanted, 19.0, frame.top, frame.bottom - 2.0);
    for (label, y) in labels.iter().zip(placed) {
        let color = label.mark.color();
        let key = frame.right + 17.0;
        let (end_x, end_y) = label.end;
        if (y - end_y).abs() > 1.5 && frame.right - end_x < 60.0 {
            let lead = Stroke { opacity: 0.6, ..Stroke::solid(color, 0.9) };
            let lead_from = (end_x + 6.0, end_y);
            canvas.path(&[lead_from, (key - 4.0, y)], lead);
        }
        canvas.path(&[(key, y), (key + 14.0, y)], label.mark.stroke());
        label.mark.draw_at(canvas, (key + 7.0, y), 3.0, color);
        let style = TextStyle { size: 12.5, color: label.mark.text_color(), anchor: "start", weight: 400 };
        let value = short_percent(label.value);
        let name = format!(" {}", label.name);
        let spans = [(700, value.as_str()), (400, name.as_str())];
        canvas.spans((key + 19.0, y + 4.3), style, &spans, 0.0);
    }
}

/// Formats a share as `88.9%`, but 0% and 100% without decimals, to keep labels short.
fn short_percent(share: f64) -> String {
    let text = format!("{:.1}", 100.0 * share);
    format!("{}%", text.strip_suffix(".0").filter(|t| *t == "0" || *t == "100").unwrap_or(&text))
}
