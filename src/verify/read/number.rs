//! Converts number tokens to nodes, including single digits as TeX arguments and mixed numbers.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Pow, Zero};

use crate::verify::read::Parser;
use crate::verify::read::operator::Operator;
use crate::verify::read::token::{Digits, Kind};
use crate::verify::tree::{Id, Literal, Node};

/// Flag in the state of a fraction that directly follows a number and may be part of a mixed number.
pub const MIXED: u8 = 4;

/// Adds the node of a number. With `single`, reads one digit as TeX does (`\frac12`) and puts the others back.
pub fn take(parser: &mut Parser, digits: Digits, single: bool) -> Option<Id> {
    let mut digits = digits;
    let text = parser.tokens.digits.get(digits.start as usize..digits.end as usize)?;
    if single && text.len() > 1 && text.bytes().all(|b| b.is_ascii_digit()) {
        // `\frac919` can only mean 9/19, so the remaining digits belong together.
        let rest = Digits { start: digits.start + 1, grouped: true, ..digits };
        digits = Digits { end: digits.start + 1, exponent: 0, ..digits };
        parser.at -= 1;
        let token = parser.tokens.list.get_mut(parser.at)?;
        (token.kind, token.spaced) = (Kind::Number(rest), false);
    }
    let literal = literal(&parser.tokens.digits, digits)?;
    parser.tree.literal(literal)
}

/// Reads the rest of a mixed number such as `2 1/2`; `digits` is its numerator, which was just read.
pub fn mixed(parser: &mut Parser, digits: Digits) -> Option<()> {
    let slash = parser.peek()?.kind == Kind::Slash;
    let Kind::Number(denominator) = parser.tokens.list.get(parser.at + 1)?.kind else { return None };
    if !slash {
        return None;
    }
    let numerator = literal(&parser.tokens.digits, digits)?;
    let denominator = literal(&parser.tokens.digits, denominator)?;
    let whole = parser.values.pop()?;
    let value = combine(parser, whole, &numerator, &denominator)?;
    parser.at += 2;
    parser.values.push(value);
    Some(())
}

/// Combines a number and the fraction after it into a mixed number, as in `2\frac{1}{2}`. Returns `Some(None)` if they are a product.
pub fn mixed_fraction(parser: &mut Parser, arguments: [Id; 2]) -> Option<Option<Id>> {
    let part = |id| parser.tree.plain_integer(id).map(|n| BigRational::from_integer(n.clone()));
    let (Some(numerator), Some(denominator)) = (part(arguments[0]), part(arguments[1])) else { return Some(None) };
    let integer = |value| Literal { value, decimals: None, significant: 0 };
    let last = *parser.values.last()?;
    // A minus sign before the whole part is already applied to it, but belongs to the mixed number.
    let (whole, negative) = match parser.tree.node(last) {
        Node::Negate(whole) => (whole, true),
        _ => (last, false),
    };
    if parser.own_operator() != Some(Operator::Juxtapose) {
        return Some(None);
    }
    let Some(value) = combine(parser, whole, &integer(numerator), &integer(denominator)) else { return Some(None) };
    parser.operators.pop();
    parser.values.pop();
    let value = if negative { parser.tree.push(Node::Negate(value))? } else { value };
    Some(Some(value))
}

fn combine(parser: &mut Parser, whole: Id, numerator: &Literal, denominator: &Literal) -> Option<Id> {
    let whole = BigRational::from_integer(parser.tree.plain_integer(whole)?.clone());
    let proper = numerator.decimals.is_none() && denominator.decimals.is_none() && numerator.value < denominator.value;
    if !proper || numerator.value.is_zero() {
        return None;
    }
    parser.tree.rational(whole + &numerator.value / &denominator.value)
}

/// Returns the number of a token; `buffer` has the digits of all tokens.
fn literal(buffer: &str, digits: Digits) -> Option<Literal> {
    let text = buffer.get(digits.start as usize..digits.end as usize)?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction_digits = i32::try_from(fraction.len()).ok()?;
    let is_decimal = text.contains('.') || digits.exponent != 0;
    if !is_decimal && text.len() <= 18 {
        let value = BigRational::from_integer(text.parse::<u64>().ok()?.into());
        return Some(Literal { value, decimals: None, significant: 0 });
    }
    let all: BigInt = format!("{whole}{fraction}").parse().ok()?;
    let ten = BigInt::from(10);
    let scale = digits.exponent - fraction_digits;
    let mut value = if scale >= 0 {
        BigRational::from_integer(&all * Pow::pow(&ten, scale.unsigned_abs()))
    } else {
        BigRational::new(all.clone(), Pow::pow(&ten, scale.unsigned_abs()))
    };
    if digits.repeating > 0 {
        // 0.1(6): the repeating digits are a fraction over 99...9, shifted behind the other digits.
        let period: BigInt = text.get(text.len() - digits.repeating as usize..)?.parse().ok()?;
        let nines = Pow::pow(&ten, digits.repeating) - BigInt::one();
        let shift = Pow::pow(&ten, fraction_digits.unsigned_abs());
        value += BigRational::new(period, nines * shift);
        return Some(Literal { value, decimals: None, significant: 0 });
    }
    let significant = text.trim_start_matches(['0', '.']).bytes().filter(u8::is_ascii_digit).count();
    Some(Literal { value, decimals: is_decimal.then_some(-scale), significant: u32::try_from(significant).ok()? })
}
