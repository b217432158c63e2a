//! Axes: which range of values they show, where a value lies on them, and their ticks.

use super::number::{Unit, tick};

/// An axis of a chart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Axis {
    /// What it measures, with the unit.
    pub label: String,
    /// How its numbers are written.
    pub unit: Unit,
    /// How values are spaced.
    pub scale: Scale,
    /// The lowest and the highest value shown. `None`, or a range that is empty or not finite, fits the range to the data.
    pub range: Option<(f64, f64)>,
}

/// How values are spaced on an axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// Equal distances are equal differences.
    #[default]
    Linear,
    /// Equal distances are equal ratios. Values up to 0 are gaps.
    Log,
}

/// Where an automatic range of a linear axis ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// At the smallest and the largest value.
    Data,
    /// At ticks, and at 0 if the values are near.
    Ticks,
}

/// Larger values and differences would overflow.
const LARGEST: f64 = 1e300;
/// Smaller values and differences would underflow.
const SMALLEST: f64 = 1e-290;

/// An axis with a range and ticks.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ruler {
    /// How its numbers are written.
    pub unit: Unit,
    /// How values are spaced.
    pub scale: Scale,
    /// The value at the start.
    pub low: f64,
    /// The value at the end.
    pub high: f64,
    /// The ticks with their texts, from the lowest.
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    /// Makes an axis with a linear scale that fits the data.
    pub fn new(label: &str, unit: Unit) -> Self {
        Self { label: label.to_owned(), unit, ..Self::default() }
    }

    /// Returns the range and at most `most` ticks (at least 2) for these values.
    pub(super) fn ruler(&self, values: impl Iterator<Item = f64>, ends: Ends, most: usize) -> Ruler {
        let visible = |value: &f64| value.is_finite() && (self.scale == Scale::Linear || *value > 0.0);
        let values: Vec<f64> = values.filter(visible).map(|value| value.clamp(-LARGEST, LARGEST)).collect();
        let given = self.range.filter(|(low, high)| visible(low) && visible(high) && low < high);
        let (low, high) = given.unwrap_or_else(|| {
            let range = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(*v), high.max(*v)));
            match self.scale {
                Scale::Linear => linear_range(range, ends),
                Scale::Log => log_range(range),
            }
        });
        let (low, high) = (low.clamp(-LARGEST, LARGEST), high.clamp(-LARGEST, LARGEST));
        let mut ruler = Ruler { unit: self.unit, scale: self.scale, low, high, ticks: Vec::new() };
        match self.scale {
            Scale::Linear => {
                let is_whole = self.unit == Unit::Number && values.iter().all(|value| value.fract() == 0.0);
                ruler.add_linear_ticks(if given.is_some() { Ends::Data } else { ends }, most.max(2), is_whole);
            }
            Scale::Log => ruler.add_log_ticks(most.max(2)),
        }
        ruler
    }
}

impl Ruler {
    /// Returns where a value lies: 0 at the start of the axis, 1 at its end. Values outside are moved to the nearest end. Values that the
    /// axis cannot show become NaN.
    pub fn share(&self, value: f64) -> f64 {
        if !value.is_finite() {
            return f64::NAN;
        }
        let share = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log if value <= 0.0 => return f64::NAN,
            Scale::Log => (value.log10() - self.low.log10()) / (self.high.log10() - self.low.log10()),
        };
        share.clamp(0.0, 1.0)
    }

    /// Whether a value lies in the range.
    pub fn contains(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// Adds ticks at equal distances, which are whole numbers if `is_whole`.
    fn add_linear_ticks(&mut self, ends: Ends, most: usize, is_whole: bool) {
        let (divisor, name) = self.unit.divisor(self.low.abs().max(self.high.abs()));
        let (low, high) = (self.low / divisor, self.high / divisor);
        let (mut step, mut exponent) = tick_step(high - low, most);
        if is_whole && step * divisor < 1.0 {
            (step, exponent) = (1.0 / divisor, 0);
        }
        // A tiny tolerance, because 0.3 / 0.1 is below 3.
        let (first, last) = match ends {
            Ends::Data => ((low / step - 1e-9).ceil(), (high / step + 1e-9).floor()),
            Ends::Ticks => ((low / step + 1e-9).floor(), (high / step - 1e-9).ceil()),
        };
        if ends == Ends::Ticks {
            (self.low, self.high) = (first * step * divisor, last * step * divisor);
        }
        let decimals = (-exponent).max(0) as usize;
        let numbers = (0..=(last - first) as usize).map(|index| (first + index as f64) * step);
        // Adding 0 turns -0 into 0.
        let text = |number: f64| match self.unit {
            Unit::Number if number == 0.0 => "0".to_owned(),
            _ => format!("{}{name}", tick(number, decimals)),
        };
        self.ticks = numbers.map(|number| (number * divisor + 0.0, text(number + 0.0))).collect();
    }

    /// Adds ticks at powers of ten, at every second or third power if there are many, or at 1, 2 and 5 times a power if there are few.
    fn add_log_ticks(&mut self, most: usize) {
        let (low, high) = (self.low.log10(), self.high.log10());
        let powers: Vec<i32> = ((low - 1e-9).floor() as i32..=(high + 1e-9).floor() as i32).collect();
        let digits: &[f64] = if powers.len() * 3 <= most + 3 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let every = powers.len().div_ceil(most).max(1) as i32;
        let (lowest, highest) = (self.low * (1.0 - 1e-9), self.high * (1.0 + 1e-9));
        let values =
            powers.iter().filter(|power| *power % every == 0).flat_map(|power| digits.iter().map(move |d| d * 10_f64.powi(*power)));
        let text = |value: f64| self.unit.text(value).replace(".0%", "%");
        self.ticks = values.filter(|value| (lowest..=highest).contains(value)).map(|value| (value, text(value))).collect();
    }
}

/// Extends a range of data so that it is not empty. If it ends at ticks, also extends it to 0 if 0 is near or the data is constant.
fn linear_range((low, high): (f64, f64), ends: Ends) -> (f64, f64) {
    if low > high {
        return (0.0, 1.0);
    }
    let is_constant = high - low <= (1e-12 * low.abs().max(high.abs())).max(SMALLEST);
    if is_constant && ends == Ends::Data {
        let room = (1e-3 * low.abs()).max(1.0);
        return (low - room, low + room);
    }
    let near = if ends == Ends::Ticks { 0.5 } else { 0.0 };
    let (mut low, mut high) = (low, high);
    if low > 0.0 && (is_constant || low <= near * high) {
        low = 0.0;
    } else if high < 0.0 && (is_constant || high >= near * low) {
        high = 0.0;
    }
    if high - low <= SMALLEST { (0.0, 1.0) } else { (low, high) }
}

/// Extends a range of positive data to the neighboring powers of ten if it is narrow.
fn log_range((low, high): (f64, f64)) -> (f64, f64) {
    if low > high {
        return (1.0, 10.0);
    }
    let (low, high) = (low.clamp(SMALLEST, LARGEST / 100.0), high.clamp(SMALLEST, LARGEST));
    if high / low >= 10.0 {
        return (low, high);
    }
    let (below, above) = (10_f64.powf(low.log10().floor()), 10_f64.powf(high.log10().ceil()));
    if above > below { (below, above) } else { (below, above * 10.0) }
}

/// Returns a distance of ticks, 1, 2 or 5 times a power of ten, that gives at most `most` ticks, and the power's exponent.
fn tick_step(span: f64, most: usize) -> (f64, i32) {
    let least = span / (most - 1) as f64;
    let exponent = least.log10().floor() as i32;
    let steps = (exponent..).flat_map(|exponent| [1, 2, 5].map(|digit| (f64::from(digit) * power_of_ten(exponent), exponent)));
    steps.into_iter().find(|(step, _)| *step >= least * (1.0 - 1e-9)).unwrap_or((least, exponent))
}

/// Returns a power of ten, rounded correctly: `powi` computes 1e-3 with an error.
fn power_of_ten(exponent: i32) -> f64 {
    if exponent < 0 { 1.0 / 10_f64.powi(-exponent) } else { 10_f64.powi(exponent) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(axis: &Axis, values: &[f64], ends: Ends, expected: &[&str]) {
        let ruler = axis.ruler(values.iter().copied(), ends, 6);
        let texts: Vec<&str> = ruler.ticks.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, expected, "{axis:?} {values:?}");
    }

    fn axis(unit: Unit, scale: Scale) -> Axis {
        Axis { unit, scale, ..Axis::default() }
    }

    #[test]
    fn ruler_has_few_round_ticks() {
        let number = axis(Unit::Number, Scale::Linear);
        check(&number, &[0.0, 300.0], Ends::Data, &["0", "100", "200", "300"]);
        check(&number, &[1.0, 2000.0], Ends::Data, &["500", "1,000", "1,500", "2,000"]);
        check(&number, &[0.0, 2.0], Ends::Data, &["0", "1", "2"]);
        check(&number, &[3.0], Ends::Data, &["2", "3", "4"]);
        check(&number, &[0.013, 0.04], Ends::Ticks, &["0", "0.01", "0.02", "0.03", "0.04"]);
        check(&number, &[1e-7, 3e-7], Ends::Ticks, &["0", "1e-7", "2e-7", "3e-7"]);
        check(&number, &[-3.0, 7.0], Ends::Ticks, &["−4", "−2", "0", "2", "4", "6", "8"]);
        check(&number, &[2.1e6, 9.7e6], Ends::Ticks, &["0", "2M", "4M", "6M", "8M", "10M"]);
        check(&axis(Unit::Percent, Scale::Linear), &[0.003, 0.997], Ends::Ticks, &["0%", "20%", "40%", "60%", "80%", "100%"]);
        check(&axis(Unit::Seconds, Scale::Linear), &[10.0, 700.0], Ends::Ticks, &["0 min", "5 min", "10 min", "15 min"]);
    }

    #[test]
    fn ruler_has_ticks_at_powers_on_a_log_scale() {
        let number = axis(Unit::Number, Scale::Log);
        check(&number, &[0.001, 50.0, 0.0, -3.0], Ends::Ticks, &["0.001", "0.01", "0.1", "1", "10"]);
        check(&number, &[3.0], Ends::Ticks, &["1", "2", "5", "10"]);
        check(&number, &[1.0], Ends::Ticks, &["1", "2", "5", "10"]);
        check(&number, &[], Ends::Ticks, &["1", "2", "5", "10"]);
        check(&number, &[1e-30, 1e30], Ends::Ticks, &["1e-22", "1e-11", "1", "100G", "1e10T"]);
    }

    #[test]
    fn ruler_copes_with_any_values() {
        let extremes = [f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324, -5e-324, 0.0, 1.0, -1.0, 1e9, 1e9 + 1.0, f64::NAN, f64::INFINITY];
        for unit in [Unit::Number, Unit::Percent, Unit::Seconds] {
            for scale in [Scale::Linear, Scale::Log] {
                for (one, other) in extremes.iter().flat_map(|one| extremes.iter().map(move |other| (*one, *other))) {
                    for ends in [Ends::Data, Ends::Ticks] {
                        let ruler = axis(unit, scale).ruler([one, other].into_iter(), ends, 6);
                        assert!(ruler.low < ruler.high && ruler.low.is_finite() && ruler.high.is_finite(), "{one} {other} {ruler:?}");
                        assert!(ruler.ticks.len() <= 8, "{one} {other} {ruler:?}");
                        let share = ruler.share(one);
                        assert!(share.is_nan() || (0.0..=1.0).contains(&share), "{one} {other} {ruler:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn share_clamps_values_and_leaves_gaps() {
        let ruler = Axis { range: Some((0.0, 1.0)), ..axis(Unit::Percent, Scale::Linear) }.ruler([].into_iter(), Ends::Ticks, 6);
        assert_eq!([ruler.share(0.25), ruler.share(-1.0), ruler.share(1.2)], [0.25, 0.0, 1.0]);
        assert!(ruler.share(f64::INFINITY).is_nan());
        let log = Axis { range: Some((1.0, 100.0)), ..axis(Unit::Number, Scale::Log) }.ruler([].into_iter(), Ends::Ticks, 6);
        assert_eq!(log.share(10.0), 0.5);
        assert!(log.share(0.0).is_nan() && log.share(-1.0).is_nan());
    }
}
