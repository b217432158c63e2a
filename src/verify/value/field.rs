//! Arithmetic in a prime field. Two polynomials or rational functions are identical if they agree at random points, except with probability
//! degree / 2^61. This replaces expansion: (x+y)^1000 costs a dozen multiplications. Random elements replace numbers outside the field (π,
//! roots, sines). Equality then still proves an identity, but inequality proves nothing.

use num_bigint::BigInt;
use num_integer::Integer;
use num_traits::{One, ToPrimitive, Zero};

use crate::verify::tree::{Constant, Function, Function2, Literal};
use crate::verify::value::evaluate::Arithmetic;

/// The prime 2^61 - 31, modulo which -1 has a square root.
const PRIME: u64 = 2_305_843_009_213_693_921;
/// The lower 61 bits.
const FOLD: u64 = (1 << 61) - 1;
const SQRT_MINUS_ONE: u64 = 583_529_827_753_931_384;

/// The field at one random point.
pub struct Field {
    /// Selects the point.
    seed: u64,
    /// True if a random element replaced a number outside the field.
    pub opaque: bool,
}

/// An element, and the integer that it represents, if known, because exponents are integers and not residues.
#[derive(Clone, Debug, PartialEq)]
pub struct Element {
    /// The element, from 0 to `PRIME - 1`.
    pub residue: u64,
    integer: Option<BigInt>,
}

impl Field {
    /// Creates the field at the point selected by `seed`.
    pub fn new(seed: u64) -> Self {
        Field { seed, opaque: false }
    }

    fn random_element(&mut self, kind: u64, parts: &[u64]) -> Option<Element> {
        self.opaque = true;
        Some(element(parts.iter().fold(mix(self.seed ^ mix(kind)), |hash, &part| mix(hash ^ part)) % PRIME))
    }
}

impl Arithmetic for Field {
    type Value = Element;

    fn number(&mut self, literal: &Literal) -> Option<Element> {
        let numerator = residue(literal.value.numer())?;
        if literal.value.is_integer() {
            return Some(Element { residue: numerator, integer: Some(literal.value.numer().clone()) });
        }
        let denominator = residue(literal.value.denom())?;
        Some(element(multiply(numerator, inverse(denominator)?)))
    }

    fn constant(&mut self, constant: Constant) -> Option<Element> {
        match constant {
            Constant::I => Some(element(SQRT_MINUS_ONE)),
            Constant::Pi => self.random_element(1, &[]),
            Constant::E => self.random_element(2, &[]),
            Constant::Infinity => None,
        }
    }

    fn symbol(&mut self, name: u32) -> Option<Element> {
        Some(element(mix(self.seed ^ mix(1000 + u64::from(name))) % PRIME))
    }

    fn negate(&mut self, a: &Element) -> Option<Element> {
        Some(Element { residue: (PRIME - a.residue) % PRIME, integer: a.integer.as_ref().map(|n| -n) })
    }

    fn add(&mut self, a: &Element, b: &Element) -> Option<Element> {
        let integer = a.integer.as_ref().zip(b.integer.as_ref()).map(|(a, b)| a + b);
        Some(Element { residue: (a.residue + b.residue) % PRIME, integer: small(integer) })
    }

    fn multiply(&mut self, a: &Element, b: &Element) -> Option<Element> {
        let integer = a.integer.as_ref().zip(b.integer.as_ref()).map(|(a, b)| a * b);
        Some(Element { residue: multiply(a.residue, b.residue), integer: small(integer) })
    }

    fn divide(&mut self, a: &Element, b: &Element) -> Option<Element> {
        let integer = a.integer.as_ref().zip(b.integer.as_ref()).and_then(|(a, b)| {
            let exact = !b.is_zero() && a.is_multiple_of(b);
            exact.then(|| a / b)
        });
        Some(Element { residue: multiply(a.residue, inverse(b.residue)?), integer })
    }

    fn power(&mut self, a: &Element, b: &Element) -> Option<Element> {
        let Some(exponent) = &b.integer else {
            return self.random_element(3, &[a.residue, b.residue]);
        };
        if a.residue == 0 {
            return (*exponent > BigInt::zero()).then(|| element(0));
        }
        // By Fermat's little theorem, exponents can be reduced modulo PRIME - 1.
        let reduced = exponent.mod_floor(&BigInt::from(PRIME - 1)).to_u64()?;
        let integer = exponent.to_u32().filter(|&e| e <= 64).and_then(|e| a.integer.as_ref().map(|n| num_traits::Pow::pow(n, e)));
        Some(Element { residue: power(a.residue, reduced), integer: small(integer) })
    }

    fn call(&mut self, function: Function, a: &Element) -> Option<Element> {
        // Odd functions of a negated argument, and roots of squares, are left to the numeric stages.
        self.random_element(100 + function as u64, &[a.residue])
    }

    fn call2(&mut self, function: Function2, a: &Element, b: &Element) -> Option<Element> {
        self.random_element(200 + function as u64, &[a.residue, b.residue])
    }

    fn opaque(&mut self, name: u32, arguments: &[Element]) -> Option<Element> {
        let parts: Vec<u64> = arguments.iter().map(|a| a.residue).collect();
        self.random_element(10_000 + u64::from(name), &parts)
    }

    fn cost(&self, _: Option<&Element>) -> u64 {
        10
    }
}

fn element(residue: u64) -> Element {
    Element { residue, integer: None }
}

fn small(integer: Option<BigInt>) -> Option<BigInt> {
    integer.filter(|n| n.bits() <= 512)
}

fn residue(n: &BigInt) -> Option<u64> {
    n.mod_floor(&BigInt::from(PRIME)).to_u64()
}

fn multiply(a: u64, b: u64) -> u64 {
    // 2^61 is 31 modulo the prime, so fold the upper half of the product onto the lower half twice, without a division.
    let product = u128::from(a) * u128::from(b);
    let fold = |x: u128| (x & u128::from(FOLD)) + 31 * (x >> 61);
    let folded = fold(fold(product)) as u64;
    if folded >= PRIME { folded - PRIME } else { folded }
}

fn power(base: u64, mut exponent: u64) -> u64 {
    let (mut result, mut square) = (u64::one(), base);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = multiply(result, square);
        }
        square = multiply(square, square);
        exponent >>= 1;
    }
    result
}

fn inverse(a: u64) -> Option<u64> {
    (a != 0).then(|| power(a, PRIME - 2))
}

/// Mixes 64 bits (the finalizer of splitmix64), to derive random values from seeds and names.
pub fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
