//! Exact rational arithmetic with a limit on the size of every number.

use num_bigint::BigInt;
use num_integer::Integer;
use num_rational::BigRational;
use num_traits::{One, Pow, Signed, ToPrimitive, Zero};

use crate::verify::tree::{Constant, Function, Function2, Literal};
use crate::verify::value::evaluate::Arithmetic;

/// Maximum size of a number in bits. Larger numbers are left to the other stages.
const MAX_BITS: u64 = 6_000;

/// Factorials of larger numbers are left to the other stages.
const MAX_FACTORIAL: u64 = 450;

/// Arithmetic on rational numbers.
pub struct Exact;

impl Arithmetic for Exact {
    type Value = BigRational;

    fn number(&mut self, literal: &Literal) -> Option<BigRational> {
        Some(literal.value.clone())
    }

    fn constant(&mut self, _: Constant) -> Option<BigRational> {
        None
    }

    fn symbol(&mut self, _: u32) -> Option<BigRational> {
        None
    }

    fn negate(&mut self, a: &BigRational) -> Option<BigRational> {
        Some(-a)
    }

    fn add(&mut self, a: &BigRational, b: &BigRational) -> Option<BigRational> {
        fits(a, b)?;
        Some(a + b)
    }

    fn multiply(&mut self, a: &BigRational, b: &BigRational) -> Option<BigRational> {
        fits(a, b)?;
        Some(a * b)
    }

    fn divide(&mut self, a: &BigRational, b: &BigRational) -> Option<BigRational> {
        fits(a, b)?;
        if b.is_zero() { None } else { Some(a / b) }
    }

    fn power(&mut self, a: &BigRational, b: &BigRational) -> Option<BigRational> {
        if let Some(exponent) = b.is_integer().then(|| b.numer().to_i64()).flatten() {
            return integer_power(a, exponent);
        }
        // Rational powers of perfect powers: 8^(2/3).
        let index = b.denom().to_u32().filter(|&index| index <= 64)?;
        let root = root(a, index)?;
        integer_power(&root, b.numer().to_i64()?)
    }

    fn call(&mut self, function: Function, a: &BigRational) -> Option<BigRational> {
        match function {
            Function::Sqrt => root(a, 2),
            Function::Abs => Some(a.abs()),
            Function::Floor => Some(a.floor()),
            Function::Ceil => Some(a.ceil()),
            Function::Factorial => {
                let n = a.is_integer().then(|| a.numer().to_u64()).flatten().filter(|&n| n <= MAX_FACTORIAL)?;
                let product = (2..=n).fold(BigInt::one(), |product, k| product * k);
                small(BigRational::from_integer(product))
            }
            _ => None,
        }
    }

    fn call2(&mut self, function: Function2, a: &BigRational, b: &BigRational) -> Option<BigRational> {
        match function {
            Function2::Root => root(b, a.is_integer().then(|| a.numer().to_u32()).flatten()?),
            Function2::LogBase => None,
            Function2::Modulo => {
                if b.is_zero() {
                    return None;
                }
                fits(a, b)?;
                small(a - b * (a / b).floor())
            }
            Function2::Max => Some(a.max(b).clone()),
            Function2::Min => Some(a.min(b).clone()),
            // Also defined for fractions, over a common denominator.
            Function2::Gcd => Some(BigRational::new((a.numer() * b.denom()).gcd(&(b.numer() * a.denom())), a.denom() * b.denom())),
            Function2::Lcm if a.is_integer() && b.is_integer() => Some(BigRational::from_integer(a.numer().lcm(b.numer()))),
            Function2::Lcm => None,
            Function2::Binomial => binomial(a, b),
        }
    }

    fn opaque(&mut self, _: u32, _: &[BigRational]) -> Option<BigRational> {
        None
    }

    fn cost(&self, result: Option<&BigRational>) -> u64 {
        // Reducing a fraction takes time quadratic in its size.
        let bits = result.map_or(0, |value| value.numer().bits() + value.denom().bits());
        4 + bits / 16 + bits * bits / 1500
    }
}

/// Returns `None` for operands whose result would be too large, before it is computed.
fn fits(a: &BigRational, b: &BigRational) -> Option<()> {
    let bits = |x: &BigRational| x.numer().bits() + x.denom().bits();
    (bits(a) + bits(b) <= MAX_BITS).then_some(())
}

fn small(value: BigRational) -> Option<BigRational> {
    (value.numer().bits() + value.denom().bits() <= MAX_BITS).then_some(value)
}

fn integer_power(a: &BigRational, exponent: i64) -> Option<BigRational> {
    if a.is_zero() {
        return (exponent > 0).then(BigRational::zero);
    }
    let size = a.numer().bits().max(a.denom().bits());
    let magnitude = u32::try_from(exponent.unsigned_abs()).ok();
    // Powers of ±1 are small for any exponent.
    if size == 1 {
        let odd = exponent % 2 != 0;
        return Some(if odd { a.clone() } else { BigRational::one() });
    }
    let magnitude = magnitude.filter(|&magnitude| size.saturating_mul(u64::from(magnitude)) <= MAX_BITS)?;
    let power = BigRational::new_raw(Pow::pow(a.numer(), magnitude), Pow::pow(a.denom(), magnitude));
    Some(if exponent < 0 { power.recip() } else { power })
}

/// Returns the root if it is a rational number.
fn root(a: &BigRational, index: u32) -> Option<BigRational> {
    if index == 0 || index > 1000 || (a.is_negative() && index.is_multiple_of(2)) || a.numer().bits() + a.denom().bits() > 4000 {
        return None;
    }
    let (numerator, denominator) = (a.numer().nth_root(index), a.denom().nth_root(index));
    let fits = Pow::pow(&numerator, index) == *a.numer() && Pow::pow(&denominator, index) == *a.denom();
    fits.then(|| BigRational::new(numerator, denominator))
}

fn binomial(n: &BigRational, k: &BigRational) -> Option<BigRational> {
    let natural = |x: &BigRational| x.is_integer().then(|| x.numer().to_u64()).flatten();
    let (n, k) = (natural(n)?, natural(k)?);
    if k > n {
        return Some(BigRational::zero());
    }
    let k = k.min(n - k);
    if n > 1_000_000 || k > 200 {
        return None;
    }
    let value = (1..=k).fold(BigInt::one(), |value, i| value * (n - k + i) / i);
    small(BigRational::from_integer(value))
}
