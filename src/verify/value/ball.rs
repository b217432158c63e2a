//! Real numbers with hundreds of bits, as balls: a midpoint and a radius that bounds the distance from the true value (as in Arb). Two
//! constants with disjoint intervals are different. They count as equal if the intervals still overlap at the highest precision, unless
//! some part is too small, compared with the rest, to affect these bits: then the overlap proves nothing.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed, Zero};

use crate::verify::value::evaluate::Arithmetic;
use crate::verify::value::series;

/// The interval (mid ± rad) · 2^exp, which contains the true value.
#[derive(Clone, Debug)]
pub struct Ball {
    /// Midpoint.
    pub mid: BigInt,
    /// Radius, not negative.
    pub rad: BigInt,
    /// Binary exponent of both.
    pub exp: i64,
}

/// Ball arithmetic at a working precision. Every operation returns `None` if the result is undefined, too large or unknown.
pub struct Balls {
    /// The working precision in bits.
    pub precision: u32,
    /// True if too few digits depend on some operand, because it is small or near a point where a function is flat, as in `1 + e^{-1000}`.
    pub lost: bool,
}

/// Number of bits that must depend on every part of a value for agreement to count.
const EVIDENCE: i64 = 80;
/// Exponents beyond this count as overflow.
const MAX_EXPONENT: i64 = 20_000;

impl Ball {
    /// True if the two intervals have a point in common.
    pub fn overlaps(&self, other: &Ball) -> bool {
        let Some((a, b)) = aligned(self, other) else { return false };
        (a.mid - b.mid).abs() <= a.rad + b.rad
    }

    /// True if the value is known to `bits` bits, relative or absolute, so that an overlap is meaningful.
    pub fn is_sharp(&self, bits: u64) -> bool {
        self.rad.is_zero() || self.mid.bits() > self.rad.bits() + bits || (self.rad.bits() as i64) + self.exp < -(bits as i64)
    }

    /// True if the whole interval is above zero.
    pub fn is_certainly_positive(&self) -> bool {
        self.mid > self.rad
    }

    /// True if the interval contains zero.
    pub fn contains_zero(&self) -> bool {
        self.mid.abs() <= self.rad
    }

    /// Returns the binary exponent of the magnitude. `None` if the number may be zero.
    pub fn magnitude(&self) -> Option<i64> {
        (!self.contains_zero()).then(|| self.mid.bits() as i64 + self.exp)
    }
}

/// Shifts both numbers to the smaller exponent. `None` if that would take too many bits.
pub fn aligned(a: &Ball, b: &Ball) -> Option<(Ball, Ball)> {
    let exp = a.exp.min(b.exp);
    let shift = |x: &Ball| {
        let by = x.exp - exp;
        (by <= 2 * MAX_EXPONENT).then(|| Ball { mid: &x.mid << by, rad: &x.rad << by, exp })
    };
    Some((shift(a)?, shift(b)?))
}

impl Balls {
    /// Creates the arithmetic with `precision` bits.
    pub fn new(precision: u32) -> Self {
        Balls { precision, lost: false }
    }

    /// Notes that some part affects only bits from position `bits` on, counted from the leading bit.
    pub fn note_depth(&mut self, bits: i64) {
        self.lost |= bits > i64::from(self.precision) - EVIDENCE;
    }

    /// Notes an argument near zero of a function that is approximately `1 + x` (`order` 1) or `1 - x²/2` (`order` 2) there.
    fn note_small_argument(&mut self, a: &Ball, order: i64) {
        if let Some(size) = a.magnitude() {
            self.note_depth(-order * size);
        }
    }

    /// Rounds to the working precision, widening the radius. `None` on overflow.
    pub fn round(&self, ball: Ball) -> Option<Ball> {
        let excess = ball.mid.bits().max(ball.rad.bits()) as i64 - i64::from(self.precision);
        let ball = if excess > 0 {
            let rad = if ball.rad.is_zero() { BigInt::one() } else { (ball.rad >> excess) + 2 };
            Ball { mid: ball.mid >> excess, rad, exp: ball.exp + excess }
        } else {
            ball
        };
        (ball.exp.abs() <= MAX_EXPONENT).then_some(ball)
    }

    /// Converts a rational number. `None` on overflow.
    pub fn rational(&mut self, value: &BigRational) -> Option<Ball> {
        // Two different fractions with numerators and denominators of this size may agree in all earlier bits.
        self.note_depth(value.numer().bits().max(value.denom().bits()) as i64);
        if value.is_integer() {
            return self.round(Ball { mid: value.numer().clone(), rad: BigInt::zero(), exp: 0 });
        }
        let shift = i64::from(self.precision) + value.denom().bits() as i64 - value.numer().bits().min(1 << 20) as i64 + 8;
        let shift = shift.max(0);
        let mid = (value.numer() << shift) / value.denom();
        self.round(Ball { mid, rad: BigInt::one(), exp: -shift })
    }

    /// Converts to fixed point with `bits` fractional bits. Returns midpoint and radius; `None` on overflow.
    pub fn fixed(&self, a: &Ball, bits: i64) -> Option<(BigInt, BigInt)> {
        let shift = a.exp + bits;
        if shift >= 0 {
            if shift > 2 * MAX_EXPONENT {
                return None;
            }
            return Some((&a.mid << shift, &a.rad << shift));
        }
        Some((&a.mid >> -shift, (&a.rad >> -shift) + 2))
    }

    fn unfixed(&self, mid: BigInt, rad: BigInt, bits: i64) -> Option<Ball> {
        self.round(Ball { mid, rad, exp: -bits })
    }

    /// Returns the fractional bits of the series, including guard bits.
    fn bits(&self) -> i64 {
        i64::from(self.precision) + 64
    }

    /// Returns π.
    pub fn pi(&self) -> Option<Ball> {
        let bits = self.bits();
        self.unfixed(series::pi(bits), BigInt::one() << 20, bits)
    }

    /// Returns e^a.
    pub fn exp(&mut self, a: &Ball) -> Option<Ball> {
        let bits = self.bits();
        self.note_small_argument(a, 1);
        let (x, radius) = self.fixed(a, bits + 16)?;
        // The exponential of an argument with a large error has no correct bits.
        if radius.bits() as i64 > bits || x.bits() as i64 > bits + 16 + 14 {
            return None;
        }
        let (mantissa, power) = series::exp(&x, bits + 16);
        let rad = ((&mantissa * (&radius + 1i32)) >> (bits + 15)) + (BigInt::one() << 24);
        self.round(Ball { mid: mantissa, rad, exp: power - bits - 16 })
    }

    /// Returns the natural logarithm; `None` unless `a` is certainly positive.
    pub fn ln(&self, a: &Ball) -> Option<Ball> {
        if !a.is_certainly_positive() {
            return None;
        }
        let bits = self.bits();
        // a = m · 2^k with m in [1/2, 1)
        let length = a.mid.bits() as i64;
        let shift = bits - length;
        let mantissa = if shift >= 0 { &a.mid << shift } else { &a.mid >> -shift };
        let mid = series::ln(&mantissa, bits) + series::ln2(bits) * (a.exp + length);
        let relative = ((&a.rad << bits) / (&a.mid - &a.rad)) + 2;
        self.unfixed(mid, relative + (BigInt::one() << 28), bits)
    }

    /// Returns sine and cosine.
    pub fn sin_cos(&mut self, a: &Ball) -> Option<(Ball, Ball)> {
        let bits = self.bits();
        self.note_small_argument(a, 2);
        let (x, radius) = self.fixed(a, bits)?;
        if radius.bits() as i64 >= bits || x.bits() as i64 > bits + 40 {
            return None;
        }
        // The reduction modulo π adds an error proportional to the argument.
        let (sin, cos) = series::sin_cos(&x, bits);
        let error: BigInt = radius + (BigInt::one() << 48);
        Some((self.unfixed(sin, error.clone(), bits)?, self.unfixed(cos, error, bits)?))
    }

    /// Returns the arctangent.
    pub fn arctan(&mut self, a: &Ball) -> Option<Ball> {
        let bits = self.bits();
        // For |x| > 1, arctan x = ±π/2 - arctan 1/x keeps the argument small.
        let size = a.mid.bits() as i64 + a.exp;
        if size > 1 {
            let inverse = self.inverted(a)?;
            let rest = self.arctan_small(&inverse, bits)?;
            let mut quarter = self.pi()?;
            quarter.exp -= 1;
            let quarter = if a.mid.is_negative() { negated(&quarter) } else { quarter };
            return self.add(&quarter, &negated(&rest));
        }
        self.arctan_small(a, bits)
    }

    fn arctan_small(&mut self, a: &Ball, bits: i64) -> Option<Ball> {
        self.note_small_argument(a, 1);
        let (x, radius) = self.fixed(a, bits)?;
        self.unfixed(series::arctan(&x, bits), radius + (BigInt::one() << 28), bits)
    }

    /// Returns 1/a.
    pub fn inverted(&mut self, a: &Ball) -> Option<Ball> {
        let one = Ball { mid: BigInt::one(), rad: BigInt::zero(), exp: 0 };
        self.divide(&one, a)
    }

    /// Returns the square root of a certainly positive number or of an exact zero; `None` for any other.
    pub fn sqrt(&self, a: &Ball) -> Option<Ball> {
        if a.mid.is_zero() && a.rad.is_zero() {
            return Some(a.clone());
        }
        if !a.is_certainly_positive() {
            return None;
        }
        // Use enough bits under the root, and an even exponent outside.
        let mut shift = (2 * i64::from(self.precision) + 8 - a.mid.bits() as i64).max(0);
        shift += (a.exp - shift).rem_euclid(2);
        let (low, high) = ((&a.mid - &a.rad) << shift, (&a.mid + &a.rad) << shift);
        let (low, high) = (low.sqrt(), high.sqrt() + 1);
        let mid = (&low + &high) >> 1;
        let rad = &high - &low + 1;
        self.round(Ball { mid, rad, exp: (a.exp - shift) / 2 })
    }
}

/// Returns -a.
pub fn negated(a: &Ball) -> Ball {
    Ball { mid: -&a.mid, ..a.clone() }
}
