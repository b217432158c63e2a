//! The learning curve of a run as an SVG picture: accuracy on the training example, accuracy on held-out problems, and the step at which
//! the training accuracy saturates.
//!
//! Does not use plotters, because its backends round to whole pixels, which turns smooth curves into stairs even in vector pictures. It
//! also lacks end-of-line labels that avoid each other, gaps at NaN values, and captions.

use super::frame::Frame;
pub use super::series::Point;
use super::series::{EndLabel, Mark, Series, draw_labels, segments};
use super::svg::{Canvas, Stroke, TextStyle};
use super::text::{text_width, wrap};

/// The content of the picture. Values that are not finite are gaps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curve {
    /// The title.
    pub title: String,
    /// Model, algorithm and data, which a reader needs to interpret the numbers.
    pub subtitle: String,
    /// One sentence that summarizes the picture.
    pub caption: String,
    /// `(step, accuracy on the training example)`, in order of steps.
    pub train: Vec<(u32, f32)>,
    /// Held-out accuracy of greedy responses, in order of steps.
    pub greedy: Vec<Point>,
    /// Held-out accuracy of sampled responses, in order of steps.
    pub sampled: Vec<Point>,
    /// The step at which the training accuracy saturates, if it does.
    pub saturation_step: Option<u32>,
    /// Number of steps to average the training accuracy over.
    pub window: usize,
}

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 520.0;
const SIDE: f64 = 24.0;
/// Height of the strip above the plot that names its regions.
const STRIP: f64 = 22.0;

const INK: &str = "#1f2630";
const MUTED: &str = "#5d6672";
const SHADE: &str = "#f6f3e8";
const BASE_LINE: Stroke = Mark::Level.stroke();
const PLAIN: TextStyle = TextStyle { size: 13.0, color: INK, anchor: "start", weight: 400 };

/// Draws the picture as SVG, 900 x 520 pixels.
pub fn svg(curve: &Curve) -> String {
    let mut canvas = Canvas::new(WIDTH, HEIGHT, &curve.title, &curve.caption);
    let top = draw_heading(&mut canvas, curve);
    let bottom = draw_caption(&mut canvas, curve);
    let frame = Frame { left: 78.0, right: WIDTH - 190.0, top: top + 34.0, bottom: bottom - 52.0, last_step: last_step(curve) };
    let smoothed = smoothed(&curve.train, curve.window.max(1));
    // Later series cover earlier ones; greedy accuracy, the headline, is on top.
    let series = [
        Series::train(&smoothed, &frame),
        Series::held_out(Mark::Diamond, &curve.sampled, &frame),
        Series::held_out(Mark::Dot, &curve.greedy, &frame),
    ];

    shade_after_saturation(&mut canvas, curve, &frame);
    frame.draw(&mut canvas, "training step", "accuracy");
    draw_notes(&mut canvas, curve, &frame);
    let base = draw_base(&mut canvas, curve, &frame);
    for series in &series {
        series.draw_band(&mut canvas);
    }
    draw_raw_train(&mut canvas, curve, &frame);
    mark_saturation(&mut canvas, curve, &frame);
    for series in &series {
        series.draw_line(&mut canvas);
    }
    let labels: Vec<EndLabel> = series.iter().filter_map(Series::label).chain(base).collect();
    draw_labels(&mut canvas, &frame, &labels);
    canvas.finish()
}

/// Returns the last step with any value; at least 1, so that the plot has a width.
fn last_step(curve: &Curve) -> u32 {
    let train = curve.train.iter().map(|&(step, _)| step);
    let held_out = curve.greedy.iter().chain(&curve.sampled).map(|point| point.step);
    let steps = train.chain(held_out).chain(curve.saturation_step);
    steps.max().unwrap_or(0).max(1)
}

/// Averages the finite values among the last `steps` accuracies (fewer at the start), over as many steps as the check for saturation. Gaps
/// remain gaps.
fn smoothed(train: &[(u32, f32)], steps: usize) -> Vec<(u32, f64)> {
    let mean_until = |index: usize| {
        let (step, accuracy) = train[index];
        let recent = &train[(index + 1).saturating_sub(steps)..=index];
        let finite = || recent.iter().map(|&(_, accuracy)| f64::from(accuracy)).filter(|a| a.is_finite());
        let mean = finite().sum::<f64>() / finite().count() as f64;
        (step, if accuracy.is_finite() { mean } else { f64::NAN })
    };
    (0..train.len()).map(mean_until).collect()
}

/// Shades the region after saturation, including the strip with its label. Drawn below the grid.
fn shade_after_saturation(canvas: &mut Canvas, curve: &Curve, frame: &Frame) {
    if let Some(step) = curve.saturation_step {
        let (x, top) = (frame.x(step), frame.top - STRIP);
        let corners = [(x, top), (frame.right, top), (frame.right, frame.bottom), (x, frame.bottom)];
        canvas.area(&corners, SHADE, 1.0);
    }
}

/// Draws the line at saturation and its label, on the side that has room for it.
fn mark_saturation(canvas: &mut Canvas, curve: &Curve, frame: &Frame) {
    let Some(step) = curve.saturation_step else {
        return;
    };
    let (x, top) = (frame.x(step), frame.top - STRIP);
    let line = Stroke { dashes: "5 4", ..Stroke::solid(INK, 1.2) };
    canvas.path(&[(x, top), (x, frame.bottom)], line);
    let label = format!("train accuracy saturates at step {step}");
    let needed = text_width(&label, PLAIN.size) + 10.0;
    let to_right = x + needed <= frame.right;
    let style = TextStyle { weight: 700, anchor: if to_right { "start" } else { "end" }, ..PLAIN };
    let side = if to_right { 7.0 } else { -7.0 };
    canvas.text((x + side, top + 15.0), style, &label);
}

/// Draws the base model's greedy accuracy as a horizontal line, and returns its label. `None` if the base was not evaluated, or nothing
/// else was.
fn draw_base(canvas: &mut Canvas, curve: &Curve, frame: &Frame) -> Option<EndLabel> {
    let base = curve.greedy.first().filter(|base| base.step == 0 && base.value.is_finite())?;
    if curve.greedy.len() < 2 {
        return None;
    }
    let y = frame.y(base.value);
    canvas.path(&[(frame.x(0), y), (frame.right, y)], BASE_LINE);
    Some(EndLabel::new("base, greedy", base.value, Mark::Level, (frame.right, y)))
}

/// Draws the training accuracy of each step as a faint line behind the mean.
fn draw_raw_train(canvas: &mut Canvas, curve: &Curve, frame: &Frame) {
    let position = |&(step, accuracy): &(u32, f32)| (frame.x(step), frame.y(f64::from(accuracy)));
    let points: Vec<_> = curve.train.iter().map(position).collect();
    let stroke = Stroke { opacity: 0.35, ..Stroke::solid(Mark::Line.color(), 1.0) };
    for segment in segments(&points) {
        canvas.path(segment, stroke);
    }
}

/// Draws the title and the subtitle. Returns the y of their lower edge.
fn draw_heading(canvas: &mut Canvas, curve: &Curve) -> f64 {
    let title = TextStyle { size: 19.0, weight: 700, ..PLAIN };
    let subtitle = TextStyle { color: MUTED, ..PLAIN };
    let mut y = 14.0;
    for (style, text, lines) in [(title, &curve.title, 2), (subtitle, &curve.subtitle, 2)] {
        for line in wrap(text, style.size, WIDTH - 2.0 * SIDE, lines) {
            y += style.size + 4.0;
            canvas.text((SIDE, y), style, &line);
        }
        y += 3.0;
    }
    y
}

/// Draws the caption at the bottom. Returns the y of its upper edge.
fn draw_caption(canvas: &mut Canvas, curve: &Curve) -> f64 {
    let lines = wrap(&curve.caption, PLAIN.size, WIDTH - 2.0 * SIDE, 3);
    let top = HEIGHT - 12.0 - lines.len() as f64 * 18.0;
    for (index, line) in lines.iter().enumerate() {
        canvas.text((SIDE, top + 14.0 + index as f64 * 18.0), PLAIN, line);
    }
    top
}

/// Draws the legend for thin lines, bands and shading in small print at the lower right, and a note if there is no data.
fn draw_notes(canvas: &mut Canvas, curve: &Curve, frame: &Frame) {
    let has_train = curve.train.iter().any(|(_, accuracy)| accuracy.is_finite());
    let mut points = curve.greedy.iter().chain(&curve.sampled);
    let has_held_out = points.any(|point| point.value.is_finite());
    let note = TextStyle { size: 11.0, color: MUTED, anchor: "end", weight: 400 };
    let steps = format!("thin: every step, thick: mean of {}", curve.window.max(1));
    let parts: Vec<&str> = [
        (has_train, steps.as_str()),
        (has_held_out, "bands: 95% intervals"),
        (curve.saturation_step.is_some(), "shaded: after saturation"),
    ]
    .iter()
    .filter_map(|&(is_shown, part)| is_shown.then_some(part))
    .collect();
    canvas.text((WIDTH - SIDE, frame.bottom + 39.0), note, &parts.join(" · "));
    if !has_train && !has_held_out {
        let middle = ((frame.left + frame.right) / 2.0, (frame.top + frame.bottom) / 2.0);
        let style = TextStyle { color: MUTED, anchor: "middle", ..PLAIN };
        canvas.text(middle, style, "no accuracy was recorded");
    }
}

#[cfg(test)]
mod tests;
