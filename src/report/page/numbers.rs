//! How the page writes numbers: shares in percent, differences in percentage points, both with their 95% intervals.

use crate::eval::statistics::Estimate;

pub use crate::metrics::percent;

/// Writes a share with its interval, in percent: `81.7% [79.9, 83.3]`.
pub fn percent_with_interval(estimate: &Estimate) -> String {
    format!("{} {}", percent(estimate.mean), interval(estimate))
}

/// Writes the interval of a share in percent: `[79.9, 83.3]`.
pub fn interval(estimate: &Estimate) -> String {
    format!("[{}, {}]", tenths(estimate.low), tenths(estimate.high))
}

/// Writes a difference of shares in percentage points: `+10.2 points`.
pub fn points(difference: f64) -> String {
    format!("{} points", signed(difference))
}

/// Writes a difference of shares with its interval, in percentage points: `+10.2 points [+8.8, +11.6]`.
pub fn points_with_interval(difference: &Estimate) -> String {
    format!("{} [{}, {}]", points(difference.mean), signed(difference.low), signed(difference.high))
}

/// Writes a whole number with separators: `12,345`.
pub fn count(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap_or_default()).collect();
    groups.join(",")
}

/// Writes a duration: `0.31 s`, `48 s`, `12 min`, `3.4 h`, `2.1 days`.
pub fn duration(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 10.0 => format!("{seconds:.2} s"),
        seconds if seconds < 100.0 => format!("{seconds:.0} s"),
        seconds if seconds < 6_000.0 => format!("{:.0} min", seconds / 60.0),
        seconds if seconds < 172_800.0 => format!("{:.1} h", seconds / 3600.0),
        seconds => format!("{:.1} days", seconds / 86_400.0),
    }
}

/// Rounds to six significant digits, which is what tables and CSV files show of measured numbers.
pub fn six_digits(number: f64) -> f64 {
    if number.is_finite() { format!("{number:.5e}").parse().unwrap_or(number) } else { number }
}

/// Rounds like [`percent`]. A rounded zero has no sign.
fn tenths(share: f64) -> String {
    with_minus_sign(&format!("{:.1}", share * 100.0), "0.0")
}

/// Rounds like [`percent`]. A rounded zero counts as positive.
fn signed(share: f64) -> String {
    with_minus_sign(&format!("{:+.1}", share * 100.0), "+0.0")
}

/// Replaces the hyphen before a negative number, and a negative zero.
fn with_minus_sign(number: &str, zero: &str) -> String {
    if number == "-0.0" { zero.to_owned() } else { number.replace('-', "−") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_with_units() {
        let estimate = Estimate { mean: 0.102, low: -0.0001, high: 1.0 };
        assert_eq!(percent_with_interval(&estimate), "10.2% [0.0, 100.0]");
        assert_eq!(points_with_interval(&estimate), "+10.2 points [+0.0, +100.0]");
        assert_eq!(interval(&Estimate { mean: 0.0, low: -0.031, high: 0.8125 }), "[−3.1, 81.2]");
        assert_eq!(percent(0.8125), "81.2%", "the interval and the terminal round in the same way");
        assert_eq!((points(-0.0456), percent(0.00049)), ("−4.6 points".to_owned(), "0.0%".to_owned()));
        assert_eq!([0, 999, 1000, 1234567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.312, 48.2, 720.0, 12_240.0, 200_000.0].map(duration), ["0.31 s", "48 s", "12 min", "3.4 h", "2.3 days"]);
        assert_eq!((six_digits(1.0 / 3.0), six_digits(0.0), six_digits(123_456_789.0)), (0.333333, 0.0, 123_457_000.0));
        assert!(six_digits(f64::NAN).is_nan());
    }
}
