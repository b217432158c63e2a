//! Draws charts of horizontal bars.

use super::{BarChart, BarSeries, Size, Value};
use crate::plot::axis::{Ends, Scale};
use crate::plot::frame::{Frame, most_ticks};
use crate::plot::legend::{self, Entry, Key};
use crate::plot::svg::{Canvas, Head, Stroke, TextStyle};
use crate::plot::text::{text_width, wrap};
use crate::plot::theme::Ink;

/// The largest part of the width that the names of categories take.
const NAMES: f64 = 0.4;

impl BarChart {
    /// Draws the chart as SVG for a phone.
    pub fn narrow_svg(&self) -> String {
        Self { size: Size::Narrow, ..self.clone() }.svg()
    }

    /// Draws the chart as SVG.
    pub fn svg(&self) -> String {
        let mut canvas = Canvas::new(self.size.font());
        let (frame, bottom) = self.draw(&mut canvas);
        let data = frame.data("bar");
        let (title, description) = (&self.title, &self.description);
        canvas.finish(&Head { width: self.size.width(), height: bottom.ceil(), title, description, data: &data })
    }

    fn draw(&self, canvas: &mut Canvas) -> (Frame, f64) {
        let size = self.size;
        // A single series needs no legend.
        let named = self.series.iter().enumerate().filter(|_| self.series.len() > 1);
        let entries: Vec<Entry> =
            named.map(|(index, series)| Entry { key: Key::Area(Ink::Series(index), 1.0), name: series.name.clone() }).collect();
        let top = 0.4 * size.font();
        legend::draw(canvas, size, &entries, top);
        let top = top + legend::height(size, &entries);
        let rows = Rows::new(self);
        let frame = self.frame(top + 0.3 * size.font(), &rows);
        let lines = frame.x.ticks.iter().map(|(value, _)| [(frame.x(*value), frame.top), (frame.x(*value), frame.bottom)]);
        canvas.segments(&lines.collect::<Vec<_>>(), Stroke::solid(Ink::Grid, 1.0));
        let bottom = frame.draw_x_axis(canvas, size, &self.value.label);
        for index in 0..self.categories.len() {
            rows.draw_name(canvas, size, &frame, index);
            self.draw_bars(canvas, &frame, &rows, index);
        }
        let base = frame.x(baseline(&frame));
        canvas.path(&[(base, frame.top), (base, frame.bottom)], Stroke::solid(Ink::Axis, 1.0));
        if !self.values().any(|value| value.value.is_finite()) {
            frame.draw_no_data(canvas, size);
        }
        (frame, bottom)
    }

    fn values(&self) -> impl Iterator<Item = Value> {
        self.series.iter().flat_map(|series| series.values.iter().take(self.categories.len()).copied())
    }

    /// Computes the axis, and the position of the plot below `top`.
    fn frame(&self, top: f64, rows: &Rows) -> Frame {
        let font = self.size.font();
        let widest = rows.names.iter().flatten().map(|line| text_width(line, font)).fold(0.0, f64::max);
        let left = self.size.side() + widest + 0.5 * font;
        // Values are written right of their bars.
        let widest = self.values().map(|value| text_width(&self.value.unit.text(value.value), font)).fold(0.0, f64::max);
        let right = self.size.width() - self.size.side() - widest - 0.4 * font;
        // Bars start at 0, so the axis includes it.
        let zero = Some(0.0).filter(|_| self.value.scale == Scale::Linear);
        let ends = || {
            let shown = self.values().filter(|value| value.value.is_finite());
            shown.flat_map(|v| [v.value, v.low, v.high]).chain(zero)
        };
        let x = most_ticks(|most| self.value.ruler(ends(), Ends::Ticks, most), right - left, font);
        let y = super::Axis { range: Some((0.0, rows.names.len().max(1) as f64)), ..super::Axis::default() };
        let y = y.ruler([].into_iter(), Ends::Data, 2);
        let mut frame = Frame { left, right, top, bottom: top + rows.group * rows.names.len().max(1) as f64, x, y };
        if !self.values().any(|value| value.value.is_finite()) {
            frame.clear_ticks();
        }
        frame
    }

    /// Draws the bars of a category, with error bars and values.
    fn draw_bars(&self, canvas: &mut Canvas, frame: &Frame, rows: &Rows, category: usize) {
        let size = self.size;
        let first = rows.middle(frame, category) - rows.bar * self.series.len() as f64 / 2.0;
        for (index, series) in self.series.iter().enumerate() {
            let Some(value) = series.values.get(category) else { continue };
            let (top, bottom) = (first + rows.bar * index as f64, first + rows.bar * (index + 1) as f64 - 1.5);
            let (start, end) = (frame.x(baseline(frame)), frame.x(value.value));
            let text = self.value.unit.text(value.value);
            let mut text_from = start;
            if end.is_finite() {
                canvas.bar((start.min(end), top), (start.max(end), bottom), Ink::Series(index), &self.tooltip(category, series, value));
                text_from = start.max(end);
            }
            if end.is_finite() && value.low.is_finite() && value.high.is_finite() {
                let middle = (top + bottom) / 2.0;
                let (low, high) = (frame.x(value.low), frame.x(value.high));
                if low.is_finite() && high.is_finite() {
                    canvas.path(&[(low, middle), (high, middle)], Stroke::solid(Ink::Text, 1.5 * size.line_scale()));
                    text_from = text_from.max(high);
                }
            }
            let style = size.text(if end.is_finite() { Ink::Label(index) } else { Ink::Muted });
            canvas.text((text_from + 0.4 * size.font(), (top + bottom) / 2.0 + 0.36 * size.font()), style, &text);
        }
    }

    fn tooltip(&self, category: usize, series: &BarSeries, value: &Value) -> String {
        let text = |value: f64| self.value.unit.text(value);
        let interval = if value.low.is_finite() && value.high.is_finite() {
            format!(" [{}, {}]", text(value.low), text(value.high))
        } else {
            String::new()
        };
        let name = if series.name.is_empty() { String::new() } else { format!(", {}", series.name) };
        format!("{}{name}: {}{interval}", self.categories[category], text(value.value))
    }
}

/// Where bars start: at 0, or at the start of a log axis.
fn baseline(frame: &Frame) -> f64 {
    match frame.x.scale {
        Scale::Linear => 0.0_f64.clamp(frame.x.low, frame.x.high),
        Scale::Log => frame.x.low,
    }
}

/// The heights of bars and groups.
struct Rows {
    /// The lines of each category's name.
    names: Vec<Vec<String>>,
    /// The distance of two bars.
    bar: f64,
    /// The distance of two groups.
    group: f64,
}

impl Rows {
    fn new(chart: &BarChart) -> Self {
        let size = chart.size;
        let names: Vec<Vec<String>> = chart.categories.iter().map(|name| wrap(name, size.font(), NAMES * size.width(), 2)).collect();
        let lines = names.iter().map(Vec::len).max().unwrap_or(1);
        let bar = 1.15 * size.font();
        let bars = bar * chart.series.len().max(1) as f64;
        let group = bars.max(lines as f64 * size.line_height()) + 0.5 * size.font();
        Self { names, bar, group }
    }

    /// Draws the name of a category left of its bars.
    fn draw_name(&self, canvas: &mut Canvas, size: Size, frame: &Frame, category: usize) {
        let lines = &self.names[category];
        let first = self.middle(frame, category) - (lines.len() as f64 - 1.0) / 2.0 * size.line_height() + 0.36 * size.font();
        for (index, line) in lines.iter().enumerate() {
            let style = TextStyle { anchor: "end", ..size.text(Ink::Text) };
            canvas.text((frame.left - 0.5 * size.font(), first + index as f64 * size.line_height()), style, line);
        }
    }

    fn middle(&self, frame: &Frame, category: usize) -> f64 {
        frame.top + (category as f64 + 0.5) * self.group
    }
}
