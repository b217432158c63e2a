//! Decimals as rounded numbers. A decimal matches every value that rounds to it or, with at least four digits, truncates to it, unless a
//! decimal of that length could express the value exactly: 12.75 is not 12.8, and 2.0001 is not 2.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{Pow, ToPrimitive, Zero};

use crate::verify::tree::{Id, Node, Tree};
use crate::verify::value::evaluate::Reading;

/// A number written with a decimal point.
#[derive(Clone, Debug)]
pub struct Decimal {
    /// Its exact value.
    pub value: BigRational,
    /// Digits after the point, minus the exponent of scientific notation.
    pub decimals: i32,
    /// Number of significant digits.
    pub significant: u32,
}

/// Minimum number of digits for a decimal answer to count as a rounded exact value.
const ANSWER_DIGITS: u32 = 4;
/// Decimals with at least this many digits come from a computer, and the last digits may be noise.
const NOISE_DIGITS: u32 = 13;
/// Relative difference that counts as noise.
const NOISE: f64 = 1e-11;

/// Reads an expression as a decimal, with its sign, percent sign and power of ten. `None` if it is anything else.
pub fn decimal(tree: &Tree, root: Id, reading: Reading) -> Option<Decimal> {
    let (mut id, mut negative, mut shift) = (root, false, 0i32);
    // Each iteration moves to a child, and children have smaller indices.
    loop {
        match tree.node(id) {
            Node::Number(index) => {
                let literal = tree.number(index)?;
                let decimals = literal.decimals?;
                let scale = BigRational::from_integer(Pow::pow(BigInt::from(10), shift.unsigned_abs()));
                let value = if shift >= 0 { &literal.value * scale } else { &literal.value / scale };
                let value = if negative { -value } else { value };
                return Some(Decimal { value, decimals: decimals - shift, significant: literal.significant });
            }
            Node::Negate(a) => {
                negative = !negative;
                id = a;
            }
            Node::Percent(a) => {
                shift -= if reading.percent_is_share { 2 } else { 0 };
                id = a;
            }
            Node::Degree(a) if !reading.degree_is_angle => id = a,
            Node::Multiply(a, b) => {
                shift += power_of_ten(tree, b)?;
                id = a;
            }
            _ => return None,
        }
    }
}

/// Returns k if the expression is `10^k`.
fn power_of_ten(tree: &Tree, id: Id) -> Option<i32> {
    let Node::Power(base, exponent) = tree.node(id) else { return None };
    let (negative, exponent) = match tree.node(exponent) {
        Node::Negate(a) => (true, a),
        _ => (false, exponent),
    };
    let k = tree.plain_integer(exponent)?.to_i32().filter(|k| *k < 1000)?;
    (*tree.plain_integer(base)? == BigInt::from(10)).then_some(if negative { -k } else { k })
}

/// True if a decimal gold answer can be the rounded form of `value`, the value of the answer. `exact` is its exact value, if known, and
/// `answer` the answer as a decimal, if it is one.
pub fn gold_is_rounded(gold: &Decimal, value: f64, exact: Option<&BigRational>, answer: Option<&Decimal>) -> bool {
    if is_noise(gold, value) || answer.is_some_and(|answer| gold.value.to_f64().is_some_and(|gold| is_noise(answer, gold))) {
        return true;
    }
    if exact.is_some_and(|exact| terminates(exact, gold.decimals)) {
        return false;
    }
    // A short decimal must be right to three digits: 0.29 matches 0.2902..., but not 0.2949...
    let missing = 3u32.saturating_sub(gold.significant);
    if gold.significant <= 3 && is_short(exact, gold.decimals + 3) {
        return false;
    }
    agrees(gold, value, missing)
}

/// True if a decimal answer is the rounded form of an exact gold answer: `value` and, if known, `exact`.
pub fn answer_is_rounded(answer: &Decimal, value: f64, exact: Option<&BigRational>) -> bool {
    is_noise(answer, value)
        || answer.significant >= ANSWER_DIGITS && !exact.is_some_and(|exact| terminates(exact, answer.decimals)) && agrees(answer, value, 0)
}

/// True if `value` rounds to the decimal or, with at least four digits, is truncated to it. `stricter_digits` reduces the accepted rounding
/// error by that power of ten.
fn agrees(decimal: &Decimal, value: f64, stricter_digits: u32) -> bool {
    let Some(written) = decimal.value.to_f64() else { return false };
    let unit = 10f64.powi(-decimal.decimals.clamp(-300, 300));
    let slack = 1e-9 * unit + 4.0 * f64::EPSILON * value.abs();
    let rounded = (value - written).abs() <= 0.5 * unit * 0.1f64.powi(stricter_digits as i32) + slack;
    let excess = value.abs() - written.abs();
    let truncated = decimal.significant >= 4 && (value < 0.0) == (written < 0.0) && excess >= 0.0 && excess < unit;
    rounded || truncated
}

fn is_noise(decimal: &Decimal, value: f64) -> bool {
    decimal.significant >= NOISE_DIGITS
        && decimal.value.to_f64().is_some_and(|written| (written - value).abs() <= NOISE * value.abs().max(written.abs()))
}

/// True if `value` has at most `decimals` digits after the point, so that a decimal of that length could express it exactly.
fn terminates(value: &BigRational, decimals: i32) -> bool {
    let scale = Pow::pow(BigInt::from(10), decimals.clamp(0, 300).unsigned_abs());
    (value.numer() * scale % value.denom()).is_zero()
}

/// True if `value` is known and has at most `decimals` digits after the point.
fn is_short(value: Option<&BigRational>, decimals: i32) -> bool {
    value.is_some_and(|value| terminates(value, decimals))
}

/// True if the expression contains a decimal with at least four significant digits.
pub fn has_rounded_part(tree: &Tree, root: Id) -> bool {
    tree.reachable(root).into_iter().any(|id| match tree.node(id) {
        Node::Number(index) => tree.number(index).is_some_and(|n| n.decimals.is_some_and(|d| d > 0) && n.significant >= ANSWER_DIGITS),
        _ => false,
    })
}
