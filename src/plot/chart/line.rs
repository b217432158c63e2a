//! Draws charts of lines: computes the layout, then draws from the back to the front.

use super::marks::{self, Placed};
use super::series::{Drawn, stroke_of};
use super::{Line, LineChart, LineStyle, Sample};
use crate::plot::axis::{Ends, Ruler};
use crate::plot::frame::{Frame, Size, most_ticks};
use crate::plot::labels::{self, EndLabel};
use crate::plot::legend::{self, Entry, Key};
use crate::plot::note::{Note, draw_note};
use crate::plot::svg::{Canvas, Head, Shape, Stroke};
use crate::plot::text::{bold_width, text_width};
use crate::plot::theme::Ink;

/// What the picture of a run has in addition to a chart.
#[derive(Default)]
pub(in crate::plot) struct Extras<'a> {
    /// Shade the plot from this x.
    pub shade_from: Option<f64>,
    /// The legend's name for bands.
    pub band_name: Option<&'a str>,
    /// Values to mark at the right edge, with their names for the legend.
    pub edge_levels: &'a [(String, f64)],
    /// A text in an empty part of the plot.
    pub note: Option<Note>,
}

/// The style of levels.
const LEVEL: Stroke = Stroke { ink: Ink::Level, width: 1.5, opacity: 1.0, dashes: "1.5 4" };

impl LineChart {
    /// Draws the chart as SVG for a phone.
    pub fn narrow_svg(&self) -> String {
        Self { size: Size::Narrow, ..self.clone() }.svg()
    }

    /// Draws the chart as SVG.
    pub fn svg(&self) -> String {
        let mut canvas = Canvas::new(self.size.font());
        let (frame, bottom) = draw(&mut canvas, self, &Extras::default(), 0.4 * self.size.font());
        let (title, description) = (&self.title, &self.description);
        canvas.finish(&Head { width: self.size.width(), height: bottom.ceil(), title, description, data: &frame.data("line") })
    }
}

/// Draws a chart with its upper edge at `top`. Returns its frame, and the y of its lower edge.
pub(in crate::plot) fn draw(canvas: &mut Canvas, chart: &LineChart, extras: &Extras, top: f64) -> (Frame, f64) {
    let size = chart.size;
    let top = legend::draw_heading(canvas, size, &chart.y.label, top);
    let height = legend::height(size, &entries(chart, extras, |_| false));
    let (frame, placed) = layout(chart, extras, top + height);
    let series = Drawn::all(chart, &frame);
    legend::draw(canvas, size, &entries(chart, extras, |index| series[index].has_markers()), top);

    if let Some(x) = extras.shade_from.map(|x| frame.x(x)).filter(|x| x.is_finite()) {
        canvas.areas(&[frame.slice(x, frame.right)], Ink::Shade, 1.0, None);
    }
    let bottom = frame.draw(canvas, size, &chart.x.label);
    for level in chart.levels.iter().filter(|level| frame.y.contains(level.y)) {
        let y = frame.y(level.y);
        canvas.paths(&[&[(frame.left, y), (frame.right, y)]], LEVEL, Some(&level.label));
    }
    for drawn in &series {
        drawn.draw_bands(canvas);
    }
    marks::draw(canvas, size, &frame, &placed);
    for is_faint in [true, false] {
        series.iter().filter(|drawn| drawn.is_faint() == is_faint).for_each(|drawn| drawn.draw_line(canvas));
    }
    draw_edge_levels(canvas, chart, extras, &frame);
    labels::draw(canvas, size, &frame, &end_labels(chart, extras, &frame));
    if series.iter().all(Drawn::is_empty) {
        frame.draw_no_data(canvas, size);
    } else if let Some(note) = &extras.note {
        let levels = chart.levels.iter().map(|level| frame.y(level.y));
        let lines: Vec<_> = series.iter().flat_map(Drawn::outlines).collect();
        draw_note(canvas, size, &frame, note, &lines, &levels.collect::<Vec<_>>());
    }
    (frame, bottom)
}

/// Returns the entries of the legend; none for a single line, which the label of the y axis describes, or that has the same name.
fn entries(chart: &LineChart, extras: &Extras, has_markers: impl Fn(usize) -> bool) -> Vec<Entry> {
    let key = |(index, line): (usize, &Line)| {
        Key::Line(stroke_of(line.style, chart.size.line_scale()), line.style.shape().filter(|_| has_markers(index)))
    };
    let is_alone = chart.lines.len() == 1 && (chart.lines[0].name == chart.y.label || chart.lines[0].name.is_empty());
    let named = chart.lines.iter().enumerate().filter(|(_, line)| !is_alone && !line.name.is_empty());
    let mut entries: Vec<Entry> = named.map(|(index, line)| Entry { key: key((index, line)), name: line.name.clone() }).collect();
    let has_band = chart.lines.iter().any(|line| line.points.iter().any(Sample::has_band));
    entries.extend(extras.band_name.filter(|_| has_band).map(|name| Entry { key: Key::Area(Ink::Level, 0.4), name: name.to_owned() }));
    entries.extend(chart.levels.iter().map(|level| Entry { key: Key::Line(LEVEL, None), name: level.label.clone() }));
    entries.extend(extras.edge_levels.iter().map(|(name, _)| Entry { key: Key::Marker(Ink::Muted, Shape::Pointer), name: name.clone() }));
    entries
}

/// Computes the axes and the position of the plot below `top`, and the labels of marks above it.
fn layout(chart: &LineChart, extras: &Extras, top: f64) -> (Frame, Vec<Placed>) {
    let size = chart.size;
    let font = size.font();
    let y = y_ruler(chart, extras, if size.plot_height() < 200.0 { 5 } else { 6 });
    let widest = y.ticks.iter().map(|(_, text)| text_width(text, font)).fold(0.0, f64::max);
    let left = size.side() + widest + 6.0;
    let values = chart.lines.iter().filter_map(|line| last_value(&line.points)).map(|last| last.y);
    let values = values.chain(chart.levels.iter().map(|level| level.y)).chain(extras.edge_levels.iter().map(|(_, value)| *value));
    let widest = values.map(|value| bold_width(&chart.y.unit.text(value), font)).fold(0.0, f64::max);
    let right = size.width() - widest - 0.9 * font;

    let xs = || {
        let points = chart.lines.iter().flat_map(|line| &line.points);
        points.filter(|point| point.y.is_finite()).map(|point| point.x).chain(chart.marks.iter().map(|mark| mark.x))
    };
    let x = most_ticks(|most| chart.x.ruler(xs(), Ends::Data, most), right - left, font);
    let mut frame = Frame { left, right, top, bottom: top, x, y };
    if xs().next().is_none() {
        frame.clear_ticks();
    }
    let placed = marks::place(&chart.marks, &frame, size);
    let rows = placed.iter().map(|mark| mark.row + 1).max().unwrap_or(0);
    frame.top = top + rows as f64 * size.line_height() + 0.6 * font;
    frame.bottom = frame.top + size.plot_height();
    (frame, placed)
}

fn y_ruler(chart: &LineChart, extras: &Extras, most: usize) -> Ruler {
    let points = chart.lines.iter().flat_map(|line| &line.points).filter(|point| point.x.is_finite());
    let bands = points.flat_map(|point| if point.has_band() { [point.y, point.low, point.high] } else { [point.y; 3] });
    let levels = chart.levels.iter().map(|level| level.y).chain(extras.edge_levels.iter().map(|(_, value)| *value));
    chart.y.ruler(bands.chain(levels), Ends::Ticks, most)
}

/// Returns the last point with a value.
fn last_value(points: &[Sample]) -> Option<&Sample> {
    points.iter().rev().find(|point| point.x.is_finite() && point.y.is_finite())
}

/// Returns the labels right of the plot: the last value of each line, and the values of levels.
fn end_labels(chart: &LineChart, extras: &Extras, frame: &Frame) -> Vec<EndLabel> {
    let text = |value: f64| chart.y.unit.text(value);
    let lines = chart.lines.iter().filter(|line| !matches!(line.style, LineStyle::Faint(_)));
    let ends = lines.filter_map(|line| Some((line.style.index(), last_value(&line.points)?)));
    let ends = ends.map(|(index, last)| EndLabel { text: text(last.y), ink: Ink::Label(index), end: (frame.x(last.x), frame.y(last.y)) });
    let levels = chart.levels.iter().map(|level| level.y).chain(extras.edge_levels.iter().map(|(_, value)| *value));
    let levels = levels.filter(|value| frame.y.contains(*value));
    let levels = levels.map(|value| EndLabel { text: text(value), ink: Ink::Muted, end: (frame.right, frame.y(value)) });
    ends.chain(levels).filter(|label| label.end.0.is_finite() && label.end.1.is_finite()).collect()
}

/// Draws a short line and a pointer at the right edge for each level.
fn draw_edge_levels(canvas: &mut Canvas, chart: &LineChart, extras: &Extras, frame: &Frame) {
    let scale = chart.size.line_scale();
    for (_, value) in extras.edge_levels.iter().filter(|(_, value)| frame.y.contains(*value)) {
        let y = frame.y(*value);
        canvas.path(&[(frame.right - 26.0 * scale, y), (frame.right, y)], Stroke { width: 2.0, ..LEVEL });
        canvas.markers(Shape::Pointer, 5.0 * scale, Ink::Muted, &[((frame.right, y), String::new())]);
    }
}
