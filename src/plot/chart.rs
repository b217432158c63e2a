//! Charts of numbers for pages: lines, bars and stacked areas. Each returns an SVG picture and the same numbers as CSV.
//!
//! A picture has the theme's light and dark colors, and the attributes that a script needs to show values: the `svg` element has
//! `data-chart`, the position of the plot (`data-left`, `data-right`, `data-top`, `data-bottom`) and the ranges of the axes (`data-x0` to
//! `data-y1`, with `data-xscale` and `data-yscale`); lines and areas have `data-name`. Bars and markers have their value as a tooltip.

mod bar;
mod csv;
pub(super) mod line;
mod marks;
mod series;
mod stacked;

pub use super::axis::{Axis, Scale};
pub use super::frame::Size;
pub use super::number::Unit;
pub use super::theme::style_sheet;

/// A chart of lines over a numeric x axis, usually the training step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LineChart {
    /// The title, for screen readers.
    pub title: String,
    /// What the chart shows, for screen readers.
    pub description: String,
    /// The x axis.
    pub x: Axis,
    /// The y axis.
    pub y: Axis,
    /// The lines. Later ones cover earlier ones.
    pub lines: Vec<Line>,
    /// Vertical lines, such as the step of saturation.
    pub marks: Vec<Mark>,
    /// Horizontal lines for comparison, such as the base model or a published value.
    pub levels: Vec<Level>,
    /// The size of the picture.
    pub size: Size,
}

/// A line of a [`LineChart`].
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// The name in the legend.
    pub name: String,
    /// The points in order of x.
    pub points: Vec<Sample>,
    /// How it is drawn.
    pub style: LineStyle,
}

/// A point of a [`Line`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Where on the x axis. A point with an x that is not finite is left out.
    pub x: f64,
    /// The value. A value that is not finite is a gap.
    pub y: f64,
    /// The lower end of the band around the value; NaN for no band.
    pub low: f64,
    /// The upper end of the band.
    pub high: f64,
}

impl Sample {
    /// Makes a point without a band.
    pub fn new(x: f64, y: f64) -> Self {
        Self { x, y, low: f64::NAN, high: f64::NAN }
    }
}

/// How a line is drawn. The number is the index of a color; lines for the same thing have the same color in all charts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineStyle {
    /// A line.
    Plain(usize),
    /// A thin, pale line, for the values behind a mean.
    Faint(usize),
    /// A line with a marker at each point, if there is room.
    Markers(usize),
}

/// A vertical line across a [`LineChart`].
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// Where on the x axis.
    pub x: f64,
    /// What happens there.
    pub label: String,
}

/// A horizontal line across a [`LineChart`].
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    /// Where on the y axis.
    pub y: f64,
    /// What it is. The chart writes its value beside it.
    pub label: String,
}

/// Horizontal bars in groups, one group per category.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BarChart {
    /// The title, for screen readers.
    pub title: String,
    /// What the chart shows, for screen readers.
    pub description: String,
    /// The axis of the values.
    pub value: Axis,
    /// The names of the groups, from the top.
    pub categories: Vec<String>,
    /// The bars of each group, from the top.
    pub series: Vec<BarSeries>,
    /// The size of the picture, which is as high as the bars need.
    pub size: Size,
}

/// The bars with the same color, one in each category.
#[derive(Clone, Debug, PartialEq)]
pub struct BarSeries {
    /// The name in the legend.
    pub name: String,
    /// One value for each category. Missing values, and those that are not finite, have no bar.
    pub values: Vec<Value>,
}

/// The value of a bar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Value {
    /// The length of the bar.
    pub value: f64,
    /// The lower end of the error bar; NaN for none.
    pub low: f64,
    /// The upper end of the error bar.
    pub high: f64,
}

impl Value {
    /// Makes a value without an error bar.
    pub fn new(value: f64) -> Self {
        Self { value, low: f64::NAN, high: f64::NAN }
    }
}

/// Areas on top of each other, for parts of a sum, such as the time of each phase.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StackedChart {
    /// The title, for screen readers.
    pub title: String,
    /// What the chart shows, for screen readers.
    pub description: String,
    /// The x axis.
    pub x: Axis,
    /// The axis of the sum. Its scale is linear, because areas add up only there.
    pub y: Axis,
    /// Each part's name and values, from the bottom: one value for each of `xs`, at least 0. Other values count as 0.
    pub layers: Vec<(String, Vec<f64>)>,
    /// The positions on the x axis, in order.
    pub xs: Vec<f64>,
    /// The size of the picture.
    pub size: Size,
}

#[cfg(test)]
mod tests;
