//! Real numbers to hundreds of digits: a midpoint and a radius, both exact, so that an interval certainly holds the true value. Two constants
//! whose intervals part are different. That they are equal is believed when their intervals still meet at the highest precision, unless some
//! part of them is too small beside the rest for that precision to see: then the meeting shows nothing.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed, Zero};

use crate::verify::value::evaluate::Arithmetic;
use crate::verify::value::series;

/// (mid ± rad) · 2^exp.
#[derive(Clone, Debug)]
pub struct Ball {
    pub mid: BigInt,
    pub rad: BigInt,
    pub exp: i64,
}

/// Balls of a working precision in bits.
pub struct Balls {
    pub precision: u32,
    /// Some operand was so small, or so near to where a function is flat, that too few digits tell of it: `1 + e^{-1000}`.
    pub lost: bool,
}

/// Bits that must tell of every part of a value for its agreement with another to mean something.
const EVIDENCE: i64 = 80;
/// Exponents beyond this are overflow.
const MAX_EXPONENT: i64 = 20_000;

impl Ball {
    /// Whether the two intervals have a point in common.
    pub fn meets(&self, other: &Ball) -> bool {
        let Some((a, b)) = aligned(self, other) else { return false };
        (a.mid - b.mid).abs() <= a.rad + b.rad
    }

    /// Whether the interval is narrow for its size: that two such meet means something.
    pub fn is_sharp(&self, bits: u64) -> bool {
        self.rad.is_zero() || self.mid.bits() > self.rad.bits() + bits || (self.rad.bits() as i64) + self.exp < -(bits as i64)
    }

    pub fn is_certainly_positive(&self) -> bool {
        self.mid > self.rad
    }

    pub fn holds_zero(&self) -> bool {
        self.mid.abs() <= self.rad
    }

    /// The binary exponent of its size; `None` where it may be zero.
    pub fn magnitude(&self) -> Option<i64> {
        (!self.holds_zero()).then(|| self.mid.bits() as i64 + self.exp)
    }
}

/// Both numbers over the smaller exponent; `None` where that would be enormous.
pub fn aligned(a: &Ball, b: &Ball) -> Option<(Ball, Ball)> {
    let exp = a.exp.min(b.exp);
    let shift = |x: &Ball| {
        let by = x.exp - exp;
        (by <= 2 * MAX_EXPONENT).then(|| Ball { mid: &x.mid << by, rad: &x.rad << by, exp })
    };
    Some((shift(a)?, shift(b)?))
}

impl Balls {
    /// Balls of `precision` bits.
    pub fn new(precision: u32) -> Self {
        Balls { precision, lost: false }
    }

    /// Notes that a result tells of a part only by digits `bits` behind its first.
    pub fn weigh(&mut self, bits: i64) {
        self.lost |= bits > i64::from(self.precision) - EVIDENCE;
    }

    /// Notes an argument near zero, where a function begins as `1 + x` or `1 - x²/2`.
    fn weigh_small(&mut self, a: &Ball, order: i64) {
        if let Some(size) = a.magnitude() {
            self.weigh(-order * size);
        }
    }

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

    pub fn rational(&mut self, value: &BigRational) -> Option<Ball> {
        // Two fractions with such numerators and denominators may differ in later digits only.
        self.weigh(value.numer().bits().max(value.denom().bits()) as i64);
        if value.is_integer() {
            return self.round(Ball { mid: value.numer().clone(), rad: BigInt::zero(), exp: 0 });
        }
        let shift = i64::from(self.precision) + value.denom().bits() as i64 - value.numer().bits().min(1 << 20) as i64 + 8;
        let shift = shift.max(0);
        let mid = (value.numer() << shift) / value.denom();
        self.round(Ball { mid, rad: BigInt::one(), exp: -shift })
    }

    /// The number as a fixed-point one of `bits` fractional bits: midpoint and radius.
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

    /// Working bits of the series, guards included.
    fn bits(&self) -> i64 {
        i64::from(self.precision) + 64
    }

    pub fn pi(&self) -> Option<Ball> {
        let bits = self.bits();
        self.unfixed(series::pi(bits), BigInt::one() << 20, bits)
    }

    pub fn exp(&mut self, a: &Ball) -> Option<Ball> {
        let bits = self.bits();
        self.weigh_small(a, 1);
        let (x, radius) = self.fixed(a, bits + 16)?;
        // Arguments known to less than one bit have no exponential worth the name.
        if radius.bits() as i64 > bits || x.bits() as i64 > bits + 16 + 14 {
            return None;
        }
        let (mantissa, power) = series::exp(&x, bits + 16);
        let rad = ((&mantissa * (&radius + 1i32)) >> (bits + 15)) + (BigInt::one() << 24);
        self.round(Ball { mid: mantissa, rad, exp: power - bits - 16 })
    }

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

    /// Sine and cosine.
    pub fn sin_cos(&mut self, a: &Ball) -> Option<(Ball, Ball)> {
        let bits = self.bits();
        self.weigh_small(a, 2);
        let (x, radius) = self.fixed(a, bits)?;
        if radius.bits() as i64 >= bits || x.bits() as i64 > bits + 40 {
            return None;
        }
        // π to the argument's size: the multiple that is taken away enlarges its error.
        let (sin, cos) = series::sin_cos(&x, bits);
        let error: BigInt = radius + (BigInt::one() << 48);
        Some((self.unfixed(sin, error.clone(), bits)?, self.unfixed(cos, error, bits)?))
    }

    pub fn arctan(&mut self, a: &Ball) -> Option<Ball> {
        let bits = self.bits();
        // Beyond one, arctan x = ±π/2 - arctan 1/x keeps the argument small.
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
        self.weigh_small(a, 1);
        let (x, radius) = self.fixed(a, bits)?;
        self.unfixed(series::arctan(&x, bits), radius + (BigInt::one() << 28), bits)
    }

    pub fn inverted(&mut self, a: &Ball) -> Option<Ball> {
        let one = Ball { mid: BigInt::one(), rad: BigInt::zero(), exp: 0 };
        self.divide(&one, a)
    }

    pub fn sqrt(&self, a: &Ball) -> Option<Ball> {
        if a.mid.is_zero() && a.rad.is_zero() {
            return Some(a.clone());
        }
        if !a.is_certainly_positive() {
            return None;
        }
        // Enough bits under the root, and an even exponent outside of it.
        let mut shift = (2 * i64::from(self.precision) + 8 - a.mid.bits() as i64).max(0);
        shift += (a.exp - shift).rem_euclid(2);
        let (low, high) = ((&a.mid - &a.rad) << shift, (&a.mid + &a.rad) << shift);
        let (low, high) = (low.sqrt(), high.sqrt() + 1);
        let mid = (&low + &high) >> 1;
        let rad = &high - &low + 1;
        self.round(Ball { mid, rad, exp: (a.exp - shift) / 2 })
    }
}

pub fn negated(a: &Ball) -> Ball {
    Ball { mid: -&a.mid, ..a.clone() }
}
