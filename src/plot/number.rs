//! Writes numbers for people: short, with a unit, and with as many digits as they need.

/// What the numbers of an axis measure, which determines how they are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    /// Shares, 0 to 1, written in percent.
    Percent,
    /// Plain numbers; `k`, `M`, `G` and `T` abbreviate large ones.
    #[default]
    Number,
    /// Differences of shares in percentage points, written with their sign and one digit after the point.
    Points,
    /// Seconds, written as milliseconds, seconds, minutes, hours or days.
    Seconds,
}

/// The number of a unit, its name, and the smallest number written with it.
type Step = (f64, &'static str, f64);

const NUMBERS: [Step; 5] = [(1.0, "", 0.0), (1e3, "k", 1e5), (1e6, "M", 1e6), (1e9, "G", 1e9), (1e12, "T", 1e12)];
const SECONDS: [Step; 5] =
    [(1e-3, " ms", 0.0), (1.0, " s", 1.0), (60.0, " min", 120.0), (3600.0, " h", 7200.0), (86400.0, " d", 172_800.0)];

impl Unit {
    /// Writes a number on its own: `88.9%`, `1,234`, `4.2 min`. A number that is not finite becomes a dash.
    pub fn text(self, value: f64) -> String {
        if !value.is_finite() {
            return "–".to_owned();
        }
        if self == Self::Points {
            let text = format!("{value:+.1}");
            return if text == "-0.0" { "+0.0".to_owned() } else { with_minus(&text) };
        }
        let (divisor, name) = self.divisor(value.abs());
        let number = value / divisor;
        if self == Self::Percent && (number == 0.0 || number.abs() >= 0.05) && number.abs() < 1e5 {
            let text = format!("{number:.1}");
            return format!(
                "{}%",
                with_minus(text.strip_suffix(".0").filter(|whole| matches!(*whole, "0" | "100" | "-100")).unwrap_or(&text))
            );
        }
        format!("{}{name}", significant(number))
    }

    /// Returns the number that ticks up to `largest` are divided by, and the name to write after the quotient.
    pub(super) fn divisor(self, largest: f64) -> (f64, &'static str) {
        let steps = match self {
            Self::Percent => return (0.01, "%"),
            Self::Number | Self::Points => &NUMBERS,
            Self::Seconds if largest == 0.0 => return (1.0, " s"),
            Self::Seconds => &SECONDS,
        };
        let found = steps.iter().rev().find(|(_, _, smallest)| largest >= *smallest);
        found.map_or((1.0, ""), |&(divisor, name, _)| (divisor, name))
    }
}

/// Writes a number with three significant digits, but all digits of whole numbers below 100,000. Very large and very small numbers get an
/// exponent.
fn significant(number: f64) -> String {
    let size = number.abs();
    if size == 0.0 {
        return "0".to_owned();
    }
    if !(1e-4..1e6).contains(&size) {
        let text = format!("{number:.2e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{}e{exponent}", with_minus(trimmed(digits)));
    }
    if number.fract() == 0.0 {
        return grouped(&format!("{number:.0}"));
    }
    let before_point = size.log10().floor() as i32 + 1;
    let decimals = (3 - before_point).max(0) as usize;
    grouped(trimmed(&format!("{number:.decimals$}")))
}

/// Writes a tick's number with `decimals` digits after the point; small numbers get an exponent.
pub(super) fn tick(number: f64, decimals: usize) -> String {
    if number == 0.0 {
        return "0".to_owned();
    }
    if decimals > 4 || number.abs() >= 1e15 {
        let text = format!("{number:.3e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{}e{exponent}", with_minus(trimmed(digits)));
    }
    grouped(&format!("{number:.decimals$}"))
}

/// Writes a number for programs, in a short form that reads back as the same number.
pub(super) fn exact(number: f64) -> String {
    if number != 0.0 && !(1e-6..1e15).contains(&number.abs()) {
        return format!("{number:e}");
    }
    // Adding 0 turns -0 into 0.
    (number + 0.0).to_string()
}

/// Writes the measure of a shape with at most two digits after the point.
pub(super) fn short(number: f64) -> String {
    // Adding 0 turns -0 into 0.
    trimmed(&format!("{:.2}", (number * 100.0).round() / 100.0 + 0.0)).to_owned()
}

/// Removes zeros at the end of a decimal fraction.
fn trimmed(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

/// Replaces the hyphen before a negative number by a minus sign.
fn with_minus(digits: &str) -> String {
    digits.strip_prefix('-').map_or_else(|| digits.to_owned(), |unsigned| format!("−{unsigned}"))
}

/// Puts commas between groups of three digits before the decimal point.
fn grouped(digits: &str) -> String {
    let (sign, unsigned) = digits.strip_prefix('-').map_or(("", digits), |unsigned| ("−", unsigned));
    let (whole, fraction) = unsigned.find('.').map_or((unsigned, ""), |at| unsigned.split_at(at));
    let mut text = sign.to_owned();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text + fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(unit: Unit, value: f64, expected: &str) {
        assert_eq!(unit.text(value), expected, "{unit:?} {value}");
    }

    #[test]
    fn text_writes_percents() {
        check(Unit::Percent, 0.0, "0%");
        check(Unit::Percent, 1.0, "100%");
        check(Unit::Percent, 0.889, "88.9%");
        check(Unit::Percent, 0.5, "50.0%");
        check(Unit::Percent, -0.102, "−10.2%");
        check(Unit::Percent, -1.0, "−100%");
        check(Unit::Percent, 0.0001, "0.01%");
        check(Unit::Percent, 0.000_123_4, "0.0123%");
        check(Unit::Percent, f64::NAN, "–");
    }

    #[test]
    fn text_writes_numbers_of_any_size() {
        for (value, expected) in [
            (0.0, "0"),
            (3.0, "3"),
            (1234.0, "1,234"),
            (99_999.0, "99,999"),
            (123_456.0, "123k"),
            (1.2e6, "1.2M"),
            (-2.0e9, "−2G"),
            (1e18, "1e6T"),
            (1e300, "1e288T"),
            (std::f64::consts::PI, "3.14"),
            (0.0123, "0.0123"),
            (1e-6, "1e-6"),
            (-1.234e-7, "−1.23e-7"),
            (f64::INFINITY, "–"),
        ] {
            check(Unit::Number, value, expected);
        }
    }

    #[test]
    fn text_writes_durations() {
        check(Unit::Seconds, 0.0, "0 s");
        check(Unit::Seconds, 0.25, "250 ms");
        check(Unit::Seconds, 12.34, "12.3 s");
        check(Unit::Seconds, 252.0, "4.2 min");
        check(Unit::Seconds, 9000.0, "2.5 h");
        check(Unit::Seconds, 432_000.0, "5 d");
    }

    #[test]
    fn text_writes_points_with_their_sign() {
        for (value, expected) in [(97.84, "+97.8"), (-0.919, "−0.9"), (-0.01, "+0.0"), (0.0, "+0.0")] {
            check(Unit::Points, value, expected);
        }
    }

    #[test]
    fn exact_reads_back_as_the_same_number() {
        for (number, expected) in [(-0.0, "0"), (300.0, "300"), (0.1, "0.1"), (1e-300, "1e-300"), (-1.5e15, "-1.5e15")] {
            assert_eq!(exact(number), expected);
            assert_eq!(expected.parse(), Ok(number + 0.0));
        }
    }

    #[test]
    fn short_has_no_digits_of_rounding_errors() {
        assert_eq!([1.7999999999999998, 0.8999999999999999, 12.0, -0.001, 1.05, 0.5].map(short), ["1.8", "0.9", "12", "0", "1.05", "0.5"]);
    }

    #[test]
    fn tick_has_the_given_decimals() {
        assert_eq!(tick(1000.0, 0), "1,000");
        assert_eq!(tick(0.5, 2), "0.50");
        assert_eq!(tick(2e-12, 12), "2e-12");
        assert_eq!([tick(0.0015, 4), tick(0.0001, 5), tick(0.00015, 5)], ["0.0015", "1e-4", "1.5e-4"]);
    }
}
