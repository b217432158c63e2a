//! The learning curve of a run as an SVG picture: accuracy on the training example, accuracy on held-out problems, and the step at which
//! the training accuracy saturates.

use super::chart::{Axis, Level, Line, LineChart, LineStyle, Mark, Sample, Scale, Size, Unit, line};
use super::frame::Frame;
use super::note::Note;
use super::svg::{Canvas, Head, TextStyle};
use super::text::wrap;
use super::theme::Ink;
use crate::eval::statistics::Estimate;

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
    /// The gain in sampled accuracy after saturation.
    pub gain: Option<Estimate>,
    /// Number of steps to average the training accuracy over.
    pub window: usize,
    /// Accuracies to compare with, such as published ones, marked at the right edge: `(text for the legend, accuracy)`.
    pub levels: Vec<(String, f64)>,
}

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

// The colors of the three lines.
const GREEDY: usize = 0;
const TRAIN: usize = 1;
const SAMPLED: usize = 2;

/// The number of steps after saturation from which they are shaded. Fewer are not a phase of a run.
const SHADED: usize = 5;

const SIZE: Size = Size::Full;

/// Draws the picture as SVG, 640 pixels wide and as high as its texts need.
pub fn svg(curve: &Curve) -> String {
    let mut canvas = Canvas::new(SIZE.font());
    let top = draw_heading(&mut canvas, curve);
    let (frame, bottom) = line::draw(&mut canvas, &chart(curve, SIZE), &extras(curve), top);
    let height = draw_caption(&mut canvas, curve, bottom);
    finish(canvas, curve, &frame, (SIZE.width(), height))
}

/// Draws the picture as SVG without heading and caption, for a page that has its own.
pub fn panel(curve: &Curve, size: Size) -> String {
    let mut canvas = Canvas::new(size.font());
    let (frame, bottom) = line::draw(&mut canvas, &chart(curve, size), &extras(curve), 0.4 * size.font());
    finish(canvas, curve, &frame, (size.width(), bottom.ceil()))
}

/// Returns the points of all lines as CSV.
pub fn csv(curve: &Curve) -> String {
    chart(curve, SIZE).csv()
}

fn finish(canvas: Canvas, curve: &Curve, frame: &Frame, (width, height): (f64, f64)) -> String {
    canvas.finish(&Head { width, height, title: &curve.title, description: &curve.caption, data: &frame.data("line") })
}

/// Returns what the picture has in addition to the chart.
fn extras(curve: &Curve) -> line::Extras<'_> {
    line::Extras {
        shade_from: curve.saturation_step.filter(|step| steps_after(curve, *step) >= SHADED).map(f64::from),
        band_name: Some("95% interval"),
        edge_levels: &curve.levels,
        note: note(curve),
    }
}

/// Returns the lines, without heading and caption.
fn chart(curve: &Curve, size: Size) -> LineChart {
    let window = curve.window.clamp(1, curve.train.len().max(1));
    let raw = curve.train.iter().map(|&(step, accuracy)| (step, f64::from(accuracy)));
    let mean = smoothed(&curve.train, window);
    let plain = |values: &mut dyn Iterator<Item = (u32, f64)>| values.map(|(step, y)| Sample::new(f64::from(step), y)).collect::<Vec<_>>();
    let held_out =
        |points: &[Point]| points.iter().map(|p| Sample { x: f64::from(p.step), y: p.value, low: p.low, high: p.high }).collect();
    let name = if window > 1 { format!("training example (mean of {window})") } else { "training example".to_owned() };
    // Later lines cover earlier ones; greedy accuracy, the headline, is on top.
    let mut lines = vec![Line { name, points: plain(&mut mean.into_iter()), style: LineStyle::Plain(TRAIN) }];
    if window > 1 {
        lines.push(Line { name: "each step".to_owned(), points: plain(&mut raw.into_iter()), style: LineStyle::Faint(TRAIN) });
    }
    for (name, points, color) in [("held-out, sampled", &curve.sampled, SAMPLED), ("held-out, greedy", &curve.greedy, GREEDY)] {
        lines.push(Line { name: name.to_owned(), points: held_out(points), style: LineStyle::Markers(color) });
    }
    lines.retain(|line| line.points.iter().any(|point| point.y.is_finite()));
    let saturation = |step: u32| Mark { x: f64::from(step), label: format!("train accuracy saturates at step {step}") };
    LineChart {
        x: Axis { range: Some((0.0, f64::from(last_step(curve)))), ..Axis::new("training step", Unit::Number) },
        y: Axis { label: String::new(), unit: Unit::Percent, scale: Scale::Linear, range: Some((0.0, 1.0)) },
        lines,
        marks: curve.saturation_step.map(saturation).into_iter().collect(),
        levels: base(curve).into_iter().collect(),
        size,
        ..LineChart::default()
    }
}

/// Returns the base model's greedy accuracy, or its sampled accuracy if there is no greedy one. `None` if the base was not evaluated, or
/// nothing else was.
fn base(curve: &Curve) -> Option<Level> {
    let (name, points) = if curve.greedy.is_empty() { ("sampled", &curve.sampled) } else { ("greedy", &curve.greedy) };
    let base = points.first().filter(|base| base.step == 0 && base.value.is_finite() && points.len() > 1)?;
    Some(Level { y: base.value, label: format!("base, {name}") })
}

/// Returns the text for the region after saturation.
fn note(curve: &Curve) -> Option<Note> {
    let (step, gain) = (curve.saturation_step?, curve.gain?);
    let points = |share: f64| Unit::Points.text(100.0 * share);
    let (mean, interval) = (points(gain.mean), format!("[{}, {}]", points(gain.low), points(gain.high)));
    Some(Note {
        from: f64::from(step),
        texts: vec![[format!("{mean} points {interval}"), "sampled, after saturation".to_owned()], [format!("{mean} points"), interval]],
        ink: Ink::Label(SAMPLED),
    })
}

/// Returns the number of training steps after a step.
fn steps_after(curve: &Curve, step: u32) -> usize {
    curve.train.iter().filter(|(trained, _)| *trained > step).count()
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

/// Draws the title and the subtitle. Returns the y of their lower edge.
fn draw_heading(canvas: &mut Canvas, curve: &Curve) -> f64 {
    let title = TextStyle { size: 20.0, bold: true, ..SIZE.text(Ink::Text) };
    let subtitle = SIZE.text(Ink::Muted);
    let mut y = 8.0;
    // Bold text is wider.
    for (style, text, widening, lines) in [(title, &curve.title, 1.1, 3), (subtitle, &curve.subtitle, 1.0, 2)] {
        for line in wrap(text, style.size * widening, SIZE.width() - 2.0 * SIZE.side(), lines) {
            y += style.size + 4.0;
            canvas.text((SIZE.side(), y), style, &line);
        }
        y += 4.0;
    }
    y + 6.0
}

/// Draws the caption below `top`. Returns the y of its lower edge.
fn draw_caption(canvas: &mut Canvas, curve: &Curve, top: f64) -> f64 {
    let mut y = top;
    for line in wrap(&curve.caption, SIZE.font(), SIZE.width() - 2.0 * SIZE.side(), 6) {
        y += SIZE.line_height();
        canvas.text((SIZE.side(), y), SIZE.text(Ink::Text), &line);
    }
    (y + 0.7 * SIZE.font()).ceil()
}

#[cfg(test)]
mod tests;
