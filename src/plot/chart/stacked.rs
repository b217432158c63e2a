//! Draws charts of stacked areas.

use super::{Axis, Scale, StackedChart};
use crate::plot::axis::Ends;
use crate::plot::frame::{Frame, Size, most_ticks};
use crate::plot::legend::{self, Entry, Key};
use crate::plot::reduce::buckets;
use crate::plot::svg::{Canvas, Head};
use crate::plot::text::text_width;
use crate::plot::theme::Ink;

/// Points of all layers in a picture together.
const POINTS: usize = 720;
/// Points of one layer.
const POINTS_OF_LAYER: usize = 200;

impl StackedChart {
    /// Draws the chart as SVG for a phone.
    pub fn narrow_svg(&self) -> String {
        Self { size: Size::Narrow, ..self.clone() }.svg()
    }

    /// Draws the chart as SVG.
    pub fn svg(&self) -> String {
        let mut canvas = Canvas::new(self.size.font());
        let (frame, bottom) = self.draw(&mut canvas);
        let data = frame.data("stacked");
        let (title, description) = (&self.title, &self.description);
        canvas.finish(&Head { width: self.size.width(), height: bottom.ceil(), title, description, data: &data })
    }

    fn draw(&self, canvas: &mut Canvas) -> (Frame, f64) {
        let size = self.size;
        let top = legend::draw_heading(canvas, size, &self.y.label, 0.4 * size.font());
        let entry = |(index, (name, _)): (usize, &(String, Vec<f64>))| Entry {
            key: Key::Area(Ink::Series(index), opacity(index)),
            name: name.clone(),
        };
        let entries: Vec<Entry> = self.layers.iter().enumerate().map(entry).collect();
        legend::draw(canvas, size, &entries, top);
        let top = top + legend::height(size, &entries);
        let (xs, sums) = self.sums();
        let frame = self.frame(top, &xs, &sums);
        let bottom = frame.draw(canvas, size, &self.x.label);
        let edge = |sum: &[f64]| xs.iter().zip(sum).map(|(x, sum)| (frame.x(*x), frame.y(*sum))).collect::<Vec<_>>();
        for (index, (name, _)) in self.layers.iter().enumerate() {
            let (lower, upper) = (edge(&sums[index]), edge(&sums[index + 1]));
            let outline = match (lower.as_slice(), upper.as_slice()) {
                // A single x becomes a bar.
                (&[(x, low)], &[(_, high)]) => vec![(x - 20.0, high), (x + 20.0, high), (x + 20.0, low), (x - 20.0, low)],
                _ => upper.iter().chain(lower.iter().rev()).copied().collect(),
            };
            canvas.areas(&[outline], Ink::Series(index), opacity(index), Some(name));
        }
        if xs.is_empty() || self.layers.is_empty() {
            frame.draw_no_data(canvas, size);
        }
        (frame, bottom)
    }

    fn frame(&self, top: f64, xs: &[f64], sums: &[Vec<f64>]) -> Frame {
        let size = self.size;
        let y = Axis { scale: Scale::Linear, ..self.y.clone() };
        let most = if size.plot_height() < 200.0 { 5 } else { 6 };
        let highest = sums.last().into_iter().flatten().copied();
        let y = y.ruler(highest.chain([0.0]), Ends::Ticks, most);
        let widest = y.ticks.iter().map(|(_, text)| text_width(text, size.font())).fold(0.0, f64::max);
        let (left, right) = (size.side() + widest + 6.0, size.width() - 1.5 * size.font());
        let x = most_ticks(|most| self.x.ruler(xs.iter().copied(), Ends::Data, most), right - left, size.font());
        let top = top + 0.6 * size.font();
        let mut frame = Frame { left, right, top, bottom: top + size.plot_height(), x, y };
        if xs.is_empty() || self.layers.is_empty() {
            frame.clear_ticks();
        }
        frame
    }

    /// Returns the x to draw, and the sum of the layers below each layer and of all layers, at each x. Long series are averaged in buckets,
    /// which keeps the share of each layer.
    fn sums(&self) -> (Vec<f64>, Vec<Vec<f64>>) {
        let most = (POINTS / self.layers.len().max(1)).clamp(20, POINTS_OF_LAYER);
        let shown: Vec<usize> = (0..self.xs.len()).filter(|index| self.xs[*index].is_finite()).collect();
        let buckets: Vec<&[usize]> = buckets(shown.len(), most).map(|bucket| &shown[bucket]).filter(|bucket| !bucket.is_empty()).collect();
        let mean =
            |bucket: &[usize], value: &dyn Fn(usize) -> f64| bucket.iter().map(|index| value(*index)).sum::<f64>() / bucket.len() as f64;
        let mut xs: Vec<f64> = buckets.iter().map(|bucket| mean(bucket, &|index| self.xs[index])).collect();
        // The areas span all of the data.
        if let ([first, .., last], [from, .., to]) = (xs.as_mut_slice(), shown.as_slice()) {
            (*first, *last) = (self.xs[*from], self.xs[*to]);
        }
        let mut sums = vec![vec![0.0; buckets.len()]];
        for (_, values) in &self.layers {
            let value = |index: usize| values.get(index).copied().filter(|value| value.is_finite()).unwrap_or(0.0).max(0.0);
            let below = &sums[sums.len() - 1];
            sums.push(buckets.iter().zip(below).map(|(bucket, below)| below + mean(bucket, &value)).collect());
        }
        (xs, sums)
    }
}

/// Returns the opacity of a layer, lower once the colors repeat.
fn opacity(index: usize) -> f64 {
    if index < 8 { 0.85 } else { 0.5 }
}
