//! The numbers of charts as CSV: every number as given, in the shortest form that reads back as the same number. A number that is not
//! finite is an empty cell.

use std::collections::BTreeMap;

use super::{BarChart, Line, LineChart, StackedChart};
use crate::plot::number::exact;

impl LineChart {
    /// Returns the points of all lines as CSV, one row for each x: x, then each line's value, and the ends of its band if it has one.
    pub fn csv(&self) -> String {
        let mut header = vec![self.x.label.clone()];
        // The rows by x. Several points of a line with the same x need several rows.
        let mut rows: BTreeMap<(Ordered, usize), Vec<String>> = BTreeMap::new();
        for line in &self.lines {
            let has_band = has_band(line);
            let width = header.len();
            header.extend(columns(&line.name, has_band));
            let mut seen: BTreeMap<Ordered, usize> = BTreeMap::new();
            for point in line.points.iter().filter(|point| point.x.is_finite()) {
                let repeated = seen.entry(Ordered(point.x)).or_insert(0);
                let row = rows.entry((Ordered(point.x), *repeated)).or_default();
                *repeated += 1;
                row.resize(width - 1, String::new());
                row.push(number(point.y));
                if has_band {
                    row.extend([number(point.low), number(point.high)]);
                }
            }
        }
        let cells = header.len() - 1;
        let rows = rows.into_iter().map(|((x, _), mut row)| {
            row.resize(cells, String::new());
            std::iter::once(number(x.0)).chain(row).collect()
        });
        table(&header, rows)
    }
}

impl BarChart {
    /// Returns the bars as CSV, one row for each category: its name, then each series' value, and the ends of its error bar if it has one.
    pub fn csv(&self) -> String {
        let mut header = vec!["category".to_owned()];
        let with_errors: Vec<bool> =
            self.series.iter().map(|series| series.values.iter().any(|v| v.low.is_finite() || v.high.is_finite())).collect();
        for (series, has_errors) in self.series.iter().zip(&with_errors) {
            header.extend(columns(&series.name, *has_errors));
        }
        let rows = self.categories.iter().enumerate().map(|(index, category)| {
            let mut row = vec![category.clone()];
            for (series, has_errors) in self.series.iter().zip(&with_errors) {
                let ends = series.values.get(index).map_or([f64::NAN; 3], |v| [v.value, v.low, v.high]);
                row.extend(ends.into_iter().take(if *has_errors { 3 } else { 1 }).map(number));
            }
            row
        });
        table(&header, rows)
    }
}

impl StackedChart {
    /// Returns the layers as CSV, one row for each x.
    pub fn csv(&self) -> String {
        let header: Vec<String> = std::iter::once(&self.x.label).chain(self.layers.iter().map(|(name, _)| name)).cloned().collect();
        let rows = self.xs.iter().enumerate().map(|(index, x)| {
            let values = self.layers.iter().map(|(_, values)| values.get(index).copied().unwrap_or(f64::NAN));
            std::iter::once(*x).chain(values).map(number).collect()
        });
        table(&header, rows)
    }
}

/// A finite number as a key.
#[derive(Clone, Copy, PartialEq)]
struct Ordered(f64);

impl Eq for Ordered {}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // Adding 0 makes -0 equal to 0.
        (self.0 + 0.0).total_cmp(&(other.0 + 0.0))
    }
}

fn has_band(line: &Line) -> bool {
    line.points.iter().any(|point| point.low.is_finite() || point.high.is_finite())
}

fn columns(name: &str, with_ends: bool) -> Vec<String> {
    let mut columns = vec![name.to_owned()];
    if with_ends {
        columns.extend([format!("{name} low"), format!("{name} high")]);
    }
    columns
}

fn number(value: f64) -> String {
    if value.is_finite() { exact(value) } else { String::new() }
}

fn table(header: &[String], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut text = String::new();
    for row in std::iter::once(header.to_vec()).chain(rows) {
        let cells: Vec<String> = row.into_iter().map(|cell| quoted(&cell)).collect();
        text.push_str(&cells.join(","));
        text.push('\n');
    }
    text
}

/// Quotes a cell with a comma, quotes or a line break.
fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::{Axis, BarSeries, LineStyle, Sample, Unit, Value};
    use super::*;

    fn line(name: &str, points: Vec<Sample>) -> Line {
        Line { name: name.into(), points, style: LineStyle::Plain(0) }
    }

    #[test]
    fn csv_of_lines_merges_their_points() {
        let band = Sample { x: 2.0, y: 0.5, low: 0.4, high: 0.6 };
        let lines =
            vec![line("a", vec![Sample::new(1.0, 0.1), Sample::new(3.0, f64::NAN)]), line("b, \"c\"", vec![Sample::new(1.0, 1e-9), band])];
        let chart = LineChart { x: Axis::new("step", Unit::Number), lines, ..LineChart::default() };
        assert_eq!(
            chart.csv(),
            "step,a,\"b, \"\"c\"\"\",\"b, \"\"c\"\" low\",\"b, \"\"c\"\" high\"\n1,0.1,1e-9,,\n2,,0.5,0.4,0.6\n3,,,,\n"
        );
    }

    #[test]
    fn csv_of_lines_keeps_points_with_the_same_x() {
        let points = vec![Sample::new(0.0, 1.0), Sample::new(-0.0, 2.0)];
        let chart = LineChart { x: Axis::new("x", Unit::Number), lines: vec![line("a", points)], ..LineChart::default() };
        assert_eq!(chart.csv(), "x,a\n0,1\n0,2\n");
    }

    #[test]
    fn csv_of_bars_has_a_row_for_each_category() {
        let series = vec![
            BarSeries { name: "base".into(), values: vec![Value { value: 0.1, low: 0.05, high: 0.2 }] },
            BarSeries { name: "end".into(), values: vec![Value::new(0.5), Value::new(f64::NAN)] },
        ];
        let chart = BarChart { categories: vec!["algebra".into(), "geometry".into()], series, ..BarChart::default() };
        assert_eq!(chart.csv(), "category,base,base low,base high,end\nalgebra,0.1,0.05,0.2,0.5\ngeometry,,,,\n");
    }

    #[test]
    fn csv_of_layers_has_a_row_for_each_x() {
        let chart = StackedChart {
            x: Axis::new("step", Unit::Number),
            layers: vec![("rollouts".into(), vec![1.5, 2.0]), ("update".into(), vec![0.25])],
            xs: vec![1.0, 2.0],
            ..StackedChart::default()
        };
        assert_eq!(chart.csv(), "step,rollouts,update\n1,1.5,0.25\n2,2,\n");
    }
}
