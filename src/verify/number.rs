//! Plain numbers: integers, decimals, fractions, read straight from the text. It owns the quick path that most answers take, and gives `None`
//! for everything that needs the reader.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{Pow, Zero};

/// Longer numbers are left to comparison as text: reading digits costs time quadratic in their number.
const MAX_DIGITS: usize = 2000;

/// The value of a normalised plain number: `-12`, `3.50`, `1,234`, `3/4`, `\frac{3}{4}`.
pub fn rational(text: &str) -> Option<BigRational> {
    if text.len() > 2 * MAX_DIGITS {
        return None;
    }
    let (negative, body) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (numerator, denominator) = match body.strip_prefix("\\frac{") {
        Some(rest) => rest.strip_suffix('}')?.split_once("}{")?,
        None => body.split_once('/').unwrap_or((body, "1")),
    };
    let (numerator, denominator) = (decimal(numerator)?, decimal(denominator)?);
    if denominator.is_zero() {
        return None;
    }
    let value = numerator / denominator;
    Some(if negative { -value } else { value })
}

/// The value of an unsigned decimal, with or without commas between groups of three digits.
fn decimal(text: &str) -> Option<BigRational> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole = ungroup(whole)?;
    if whole.len() + fraction.len() == 0 || whole.len() + fraction.len() > MAX_DIGITS || !is_digits(&whole) || !is_digits(fraction) {
        return None;
    }
    let digits: BigInt = format!("0{whole}{fraction}").parse().ok()?;
    Some(BigRational::new(digits, Pow::pow(BigInt::from(10), fraction.len())))
}

/// `whole` without thousands separators; `None` where its commas do not stand for them.
fn ungroup(whole: &str) -> Option<String> {
    if !whole.contains(',') {
        return Some(whole.to_owned());
    }
    let mut groups = whole.split(',');
    let first = groups.next()?;
    let good = (1..=3).contains(&first.len()) && groups.all(|group| group.len() == 3);
    good.then(|| whole.replace(',', ""))
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(a: &str, b: &str, expected: bool) {
        let (a, b) = (rational(a), rational(b));
        assert_eq!(a.is_some() && a == b, expected, "{a:?} {b:?}");
    }

    #[test]
    fn plain_numbers() {
        check("12.8", "64/5", true);
        check("12.80", r"\frac{64}{5}", true);
        check("1,234", "1234", true);
        check("1,23", "123", false);
        check("1,2,3", "123", false);
        check("-.5", "-1/2", true);
        check("1/0", "1/0", false);
        check("x", "x", false);
        check("", "", false);
    }
}
