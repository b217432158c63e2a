//! Draws one line of a chart with its band and its markers. Long lines are reduced to what a picture can show.

use super::{Line, LineChart, LineStyle, Sample};
use crate::plot::frame::Frame;
use crate::plot::reduce::{buckets, extremes};
use crate::plot::svg::{Canvas, Shape, Stroke};
use crate::plot::theme::Ink;

/// The opacity of bands.
const BAND: f64 = 0.18;
/// Points of all lines and bands in a picture together, so that its size stays bounded.
const POINTS: usize = 1400;
/// Points of one line.
const POINTS_OF_LINE: usize = 300;
/// Markers of all lines in a picture together.
const MARKERS: usize = 90;
/// A band with fewer points is drawn as error bars, because an area would suggest values where there are none.
const BAND_POINTS: usize = 4;

impl LineStyle {
    /// Returns the index of the color.
    pub(super) fn index(self) -> usize {
        match self {
            Self::Plain(index) | Self::Faint(index) | Self::Markers(index) => index,
        }
    }

    /// Returns the shape of markers, if the line has them.
    pub(super) fn shape(self) -> Option<Shape> {
        let shapes = [Shape::Dot, Shape::Square, Shape::Diamond, Shape::Triangle];
        matches!(self, Self::Markers(_)).then(|| shapes[self.index() % shapes.len()])
    }
}

impl Sample {
    /// Whether the point has a value with a band around it.
    pub(super) fn has_band(&self) -> bool {
        self.y.is_finite() && self.low.is_finite() && self.high.is_finite()
    }
}

/// Returns the style of a line. The second half of the colors, which are more similar to each other, has dashes too.
pub(super) fn stroke_of(style: LineStyle, scale: f64) -> Stroke {
    let dashes = if style.index() % 8 >= 4 { "7 4" } else { "" };
    match style {
        LineStyle::Faint(index) => Stroke { opacity: 0.5, ..Stroke::solid(Ink::Series(index), 1.2 * scale) },
        LineStyle::Plain(index) | LineStyle::Markers(index) => Stroke { dashes, ..Stroke::solid(Ink::Series(index), 2.4 * scale) },
    }
}

/// A line in pixels.
pub(super) struct Drawn<'a> {
    chart: &'a LineChart,
    line: &'a Line,
    /// The points; a y that is not finite is a gap.
    points: Vec<(f64, f64)>,
    /// `(x, y of the lower end, y of the upper end)` of the band, with gaps.
    band: Vec<(f64, f64, f64)>,
    /// The position and the tooltip of each marker; empty without markers or without room.
    markers: Vec<((f64, f64), String)>,
}

impl<'a> Drawn<'a> {
    /// Computes what to draw for each line of a chart.
    pub fn all(chart: &'a LineChart, frame: &Frame) -> Vec<Self> {
        let parts = |line: &Line| if line.points.iter().any(Sample::has_band) { 3 } else { 1 };
        let most = POINTS / chart.lines.iter().map(parts).sum::<usize>().max(1);
        let markers = chart.lines.iter().filter(|line| line.style.shape().is_some()).map(|line| line.points.len()).sum::<usize>();
        let draw = |line| Self::new(chart, line, frame, most.clamp(20, POINTS_OF_LINE), markers <= MARKERS);
        chart.lines.iter().map(draw).collect()
    }

    fn new(chart: &'a LineChart, line: &'a Line, frame: &Frame, most: usize, with_markers: bool) -> Self {
        let samples: Vec<&Sample> = line.points.iter().filter(|point| frame.x(point.x).is_finite()).collect();
        let values: Vec<f64> = samples.iter().map(|point| frame.y(point.y)).collect();
        let points: Vec<_> = extremes(&values, most).into_iter().map(|index| (frame.x(samples[index].x), values[index])).collect();
        let band = band(&samples, frame, most);
        let has_room = match (points.first(), points.last()) {
            (Some(first), Some(last)) => last.0 - first.0 >= 11.0 * chart.size.line_scale() * samples.len().saturating_sub(1) as f64,
            _ => false,
        };
        let markers = if with_markers && has_room && line.style.shape().is_some() {
            let shown = samples.iter().filter(|point| frame.y(point.y).is_finite());
            shown.map(|point| ((frame.x(point.x), frame.y(point.y)), tooltip(chart, line, point))).collect()
        } else {
            Vec::new()
        };
        Self { chart, line, points, band, markers }
    }

    /// Whether the line has markers.
    pub fn has_markers(&self) -> bool {
        !self.markers.is_empty()
    }

    /// Whether the line is a pale one, which is behind the others.
    pub fn is_faint(&self) -> bool {
        matches!(self.line.style, LineStyle::Faint(_))
    }

    /// Whether there is nothing to draw.
    pub fn is_empty(&self) -> bool {
        self.segments().next().is_none()
    }

    /// Draws the band of each segment without gaps: an area, or error bars if there are few points.
    pub fn draw_bands(&self, canvas: &mut Canvas) {
        let ink = Ink::Series(self.line.style.index());
        let is_gap = |&(_, low, high): &(f64, f64, f64)| !(low.is_finite() && high.is_finite());
        let mut areas = Vec::new();
        for segment in self.band.split(is_gap).filter(|segment| !segment.is_empty()) {
            if segment.len() < BAND_POINTS {
                let bar = Stroke { opacity: 0.45, ..Stroke::solid(ink, 5.0 * self.chart.size.line_scale()) };
                let bars: Vec<[(f64, f64); 2]> = segment.iter().map(|&(x, low, high)| [(x, low), (x, high)]).collect();
                canvas.segments(&bars, bar);
                continue;
            }
            let upper = segment.iter().map(|&(x, _, high)| (x, high));
            let lower = segment.iter().map(|&(x, low, _)| (x, low));
            areas.push(upper.chain(lower.rev()).collect());
        }
        canvas.areas(&areas, ink, BAND, None);
    }

    /// Draws the line and its markers.
    pub fn draw_line(&self, canvas: &mut Canvas) {
        let stroke = stroke_of(self.line.style, self.chart.size.line_scale());
        canvas.paths(&self.segments().collect::<Vec<_>>(), stroke, Some(&self.line.name));
        if let Some(shape) = self.line.style.shape().filter(|_| !self.markers.is_empty()) {
            canvas.markers(shape, 4.5 * self.chart.size.line_scale(), stroke.ink, &self.markers);
        }
    }

    /// Returns the pieces of the line and the ends of its band, which text must not touch.
    pub fn outlines(&self) -> Vec<Vec<(f64, f64)>> {
        let low: Vec<_> = self.band.iter().map(|&(x, low, _)| (x, low)).collect();
        let high: Vec<_> = self.band.iter().map(|&(x, _, high)| (x, high)).collect();
        vec![self.points.clone(), low, high]
    }

    /// Returns the pieces of the line, without gaps.
    fn segments(&self) -> impl Iterator<Item = &[(f64, f64)]> {
        self.points.split(|(_, y)| !y.is_finite()).filter(|segment| !segment.is_empty())
    }
}

/// Returns the ends of the band in pixels, at about `most` points: for a longer band the lowest and the highest end in each bucket.
fn band(samples: &[&Sample], frame: &Frame, most: usize) -> Vec<(f64, f64, f64)> {
    let end = |point: &Sample, value: f64| if point.has_band() { frame.y(value) } else { f64::NAN };
    let ends = |point: &&Sample| (frame.x(point.x), end(point, point.low), end(point, point.high));
    if samples.len() <= most {
        return samples.iter().map(ends).collect();
    }
    let widest = |bucket: &[&Sample]| {
        let middle = frame.x(bucket[bucket.len() / 2].x);
        let ends = bucket.iter().map(ends);
        // f64::max ignores NaN, so a gap remains only if the whole bucket is one.
        ends.fold((middle, f64::NAN, f64::NAN), |(x, low, high), (_, other_low, other_high)| (x, low.max(other_low), high.min(other_high)))
    };
    buckets(samples.len(), most).map(|bucket| widest(&samples[bucket])).collect()
}

fn tooltip(chart: &LineChart, line: &Line, point: &Sample) -> String {
    let (x, y) = (chart.x.unit, chart.y.unit);
    let interval = if point.has_band() { format!(" [{}, {}]", y.text(point.low), y.text(point.high)) } else { String::new() };
    format!("{} at {} {}: {}{interval}", line.name, chart.x.label, x.text(point.x), y.text(point.y))
}
