//! Real numbers to hundreds of digits: a midpoint and a radius, both exact, so that an interval certainly holds the true value. Two constants
//! whose intervals part are different; that they are equal is believed when their intervals still meet at the highest precision.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};

use super::evaluate::Arithmetic;
use super::series;
use super::tree::{Constant, Function, Function2, Literal};

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
}

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

    fn is_certainly_positive(&self) -> bool {
        self.mid > self.rad
    }

    fn holds_zero(&self) -> bool {
        self.mid.abs() <= self.rad
    }
}

/// Both numbers over the smaller exponent; `None` where that would be enormous.
fn aligned(a: &Ball, b: &Ball) -> Option<(Ball, Ball)> {
    let exp = a.exp.min(b.exp);
    let shift = |x: &Ball| {
        let by = x.exp - exp;
        (by <= 2 * MAX_EXPONENT).then(|| Ball { mid: &x.mid << by, rad: &x.rad << by, exp })
    };
    Some((shift(a)?, shift(b)?))
}

impl Balls {
    fn round(&self, ball: Ball) -> Option<Ball> {
        let excess = ball.mid.bits().max(ball.rad.bits()) as i64 - i64::from(self.precision);
        let ball = if excess > 0 {
            let rad = if ball.rad.is_zero() { BigInt::one() } else { (ball.rad >> excess) + 2 };
            Ball { mid: ball.mid >> excess, rad, exp: ball.exp + excess }
        } else {
            ball
        };
        (ball.exp.abs() <= MAX_EXPONENT).then_some(ball)
    }

    fn rational(&self, value: &BigRational) -> Option<Ball> {
        if value.is_integer() {
            return self.round(Ball { mid: value.numer().clone(), rad: BigInt::zero(), exp: 0 });
        }
        let shift = i64::from(self.precision) + value.denom().bits() as i64 - value.numer().bits().min(1 << 20) as i64 + 8;
        let shift = shift.max(0);
        let mid = (value.numer() << shift) / value.denom();
        self.round(Ball { mid, rad: BigInt::one(), exp: -shift })
    }

    /// The number as a fixed-point one of `bits` fractional bits: midpoint and radius.
    fn fixed(&self, a: &Ball, bits: i64) -> Option<(BigInt, BigInt)> {
        let shift = a.exp + bits;
        if shift >= 0 {
            if shift > 2 * MAX_EXPONENT {
                return None;
            }
            return Some((&a.mid << shift, &a.rad << shift));
        }
        Some((&a.mid >> -shift, (&a.rad >> -shift) + 2))
    }

    fn from_fixed(&self, mid: BigInt, rad: BigInt, bits: i64) -> Option<Ball> {
        self.round(Ball { mid, rad, exp: -bits })
    }

    /// Working bits of the series, guards included.
    fn bits(&self) -> i64 {
        i64::from(self.precision) + 64
    }

    fn pi(&self) -> Option<Ball> {
        let bits = self.bits();
        self.from_fixed(series::pi(bits), BigInt::one() << 20, bits)
    }

    fn exp(&self, a: &Ball) -> Option<Ball> {
        let bits = self.bits();
        let (x, radius) = self.fixed(a, bits + 16)?;
        // Arguments known to less than one bit have no exponential worth the name.
        if radius.bits() as i64 > bits || x.bits() as i64 > bits + 16 + 14 {
            return None;
        }
        let (mantissa, power) = series::exp(&x, bits + 16);
        let rad = ((&mantissa * (&radius + 1i32)) >> (bits + 15)) + (BigInt::one() << 24);
        self.round(Ball { mid: mantissa, rad, exp: power - bits - 16 })
    }

    fn ln(&self, a: &Ball) -> Option<Ball> {
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
        self.from_fixed(mid, relative + (BigInt::one() << 28), bits)
    }

    /// Sine and cosine.
    fn sin_cos(&self, a: &Ball) -> Option<(Ball, Ball)> {
        let bits = self.bits();
        let (x, radius) = self.fixed(a, bits)?;
        if radius.bits() as i64 >= bits || x.bits() as i64 > bits + 40 {
            return None;
        }
        // π to the argument's size: the multiple that is taken away enlarges its error.
        let (sin, cos) = series::sin_cos(&x, bits);
        let error: BigInt = radius + (BigInt::one() << 48);
        Some((self.from_fixed(sin, error.clone(), bits)?, self.from_fixed(cos, error, bits)?))
    }

    fn arctan(&self, a: &Ball) -> Option<Ball> {
        let bits = self.bits();
        // Beyond one, arctan x = ±π/2 - arctan 1/x keeps the argument small.
        let size = a.mid.bits() as i64 + a.exp;
        if size > 1 {
            let inverse = self.inverted(a)?;
            let rest = self.arctan_small(&inverse, bits)?;
            let mut quarter = self.pi()?;
            quarter.exp -= 1;
            let quarter = if a.mid.is_negative() { negated(&quarter) } else { quarter };
            return Self { precision: self.precision }.add(&quarter, &negated(&rest));
        }
        self.arctan_small(a, bits)
    }

    fn arctan_small(&self, a: &Ball, bits: i64) -> Option<Ball> {
        let (x, radius) = self.fixed(a, bits)?;
        self.from_fixed(series::arctan(&x, bits), radius + (BigInt::one() << 28), bits)
    }

    fn inverted(&self, a: &Ball) -> Option<Ball> {
        let one = Ball { mid: BigInt::one(), rad: BigInt::zero(), exp: 0 };
        Balls { precision: self.precision }.divide(&one, a)
    }

    fn sqrt(&self, a: &Ball) -> Option<Ball> {
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

fn negated(a: &Ball) -> Ball {
    Ball { mid: -&a.mid, ..a.clone() }
}

impl Arithmetic for Balls {
    type Value = Ball;

    fn number(&mut self, literal: &Literal) -> Option<Ball> {
        self.rational(&literal.value)
    }

    fn constant(&mut self, constant: Constant) -> Option<Ball> {
        match constant {
            Constant::Pi => self.pi(),
            Constant::E => self.exp(&Ball { mid: BigInt::one(), rad: BigInt::zero(), exp: 0 }),
            Constant::I | Constant::Infinity => None,
        }
    }

    fn symbol(&mut self, _: u32) -> Option<Ball> {
        None
    }

    fn negate(&mut self, a: &Ball) -> Option<Ball> {
        Some(negated(a))
    }

    fn add(&mut self, a: &Ball, b: &Ball) -> Option<Ball> {
        let (a, b) = aligned(a, b)?;
        self.round(Ball { mid: a.mid + b.mid, rad: a.rad + b.rad, exp: a.exp })
    }

    fn multiply(&mut self, a: &Ball, b: &Ball) -> Option<Ball> {
        let rad = a.mid.abs() * &b.rad + b.mid.abs() * &a.rad + &a.rad * &b.rad;
        self.round(Ball { mid: &a.mid * &b.mid, rad, exp: a.exp + b.exp })
    }

    fn divide(&mut self, a: &Ball, b: &Ball) -> Option<Ball> {
        if b.holds_zero() {
            return None;
        }
        let shift = (i64::from(self.precision) + b.mid.bits() as i64 - a.mid.bits() as i64 + 8).max(0);
        let mid = (&a.mid << shift) / &b.mid;
        // |a/b - a'/b'| is at most (ra + |q| rb) / (|b| - rb)
        let rad = ((&a.rad << shift) + (mid.abs() + 1) * &b.rad) / (b.mid.abs() - &b.rad) + 2;
        self.round(Ball { mid, rad, exp: a.exp - b.exp - shift })
    }

    fn power(&mut self, a: &Ball, b: &Ball) -> Option<Ball> {
        if b.rad.is_zero() && b.exp >= 0 {
            let exponent = (&b.mid << b.exp.min(64)).to_i64().filter(|e| e.abs() <= 100_000)?;
            let mut result = self.integer(1)?;
            let (mut square, mut left) = (a.clone(), exponent.unsigned_abs());
            while left > 0 {
                if left & 1 == 1 {
                    result = self.multiply(&result, &square)?;
                }
                left >>= 1;
                if left > 0 {
                    square = self.multiply(&square, &square)?;
                }
            }
            return if exponent < 0 { self.inverted(&result) } else { Some(result) };
        }
        if a.mid.is_negative() {
            return self.odd_power(a, b);
        }
        let logarithm = self.ln(a)?;
        let exponent = self.multiply(&logarithm, b)?;
        self.exp(&exponent)
    }

    fn call(&mut self, function: Function, a: &Ball) -> Option<Ball> {
        use Function::*;
        let one = self.integer(1)?;
        match function {
            Sin => Some(self.sin_cos(a)?.0),
            Cos => Some(self.sin_cos(a)?.1),
            Tan | Cot | Sec | Csc => {
                let (sin, cos) = self.sin_cos(a)?;
                match function {
                    Tan => self.divide(&sin, &cos),
                    Cot => self.divide(&cos, &sin),
                    Sec => self.divide(&one, &cos),
                    _ => self.divide(&one, &sin),
                }
            }
            Arctan => self.arctan(a),
            Arcsin | Arccos => {
                // arcsin x = arctan(x / sqrt(1 - x^2)); at the ends it is a right angle.
                let mut quarter = self.pi()?;
                quarter.exp -= 1;
                let square = self.multiply(a, a)?;
                if square.meets(&one) && square.rad.is_zero() {
                    let arcsin = if a.mid.is_negative() { negated(&quarter) } else { quarter.clone() };
                    return if function == Arcsin { Some(arcsin) } else { self.subtract(&quarter, &arcsin) };
                }
                let rest = self.subtract(&one, &square)?;
                let root = self.sqrt(&rest)?;
                let ratio = self.divide(a, &root)?;
                let arcsin = self.arctan(&ratio)?;
                if function == Arcsin {
                    return Some(arcsin);
                }
                self.subtract(&quarter, &arcsin)
            }
            Sinh | Cosh | Tanh => {
                let (up, down) = (self.exp(a)?, self.exp(&negated(a))?);
                let (sum, difference) = (self.add(&up, &down)?, self.subtract(&up, &down)?);
                let two = self.integer(2)?;
                match function {
                    Sinh => self.divide(&difference, &two),
                    Cosh => self.divide(&sum, &two),
                    _ => self.divide(&difference, &sum),
                }
            }
            Exp => self.exp(a),
            Ln | Log => self.ln(a),
            Sqrt => self.sqrt(a),
            Abs => Some(Ball { mid: a.mid.abs(), ..a.clone() }),
            Arccot | Arcsec | Arccsc | Arsinh | Arcosh | Artanh | Floor | Ceil | Factorial => None,
        }
    }

    fn call2(&mut self, function: Function2, a: &Ball, b: &Ball) -> Option<Ball> {
        match function {
            Function2::Root => {
                let exponent = self.inverted(a)?;
                if b.mid.is_negative() {
                    let odd = a.rad.is_zero() && a.exp == 0 && a.mid.bit(0);
                    let size = self.power(&negated(b), &exponent)?;
                    return odd.then(|| negated(&size));
                }
                self.power(b, &exponent)
            }
            Function2::LogBase => {
                let (base, argument) = (self.ln(a)?, self.ln(b)?);
                self.divide(&argument, &base)
            }
            Function2::Max | Function2::Min => {
                let difference = self.subtract(a, b)?;
                if difference.holds_zero() {
                    return None;
                }
                let first = difference.mid.is_positive() == (function == Function2::Max);
                Some(if first { a.clone() } else { b.clone() })
            }
            Function2::Binomial | Function2::Modulo | Function2::Gcd | Function2::Lcm => None,
        }
    }

    fn opaque(&mut self, _: u32, _: &[Ball]) -> Option<Ball> {
        None
    }

    fn cost(&self, _: Option<&Ball>) -> u64 {
        u64::from(self.precision) * 4
    }
}

impl Balls {
    /// A negative number to a power with a small odd denominator, as the real root that is meant.
    fn odd_power(&mut self, a: &Ball, b: &Ball) -> Option<Ball> {
        for index in [3i64, 5, 7, 9] {
            let multiple = Ball { mid: &b.mid * index, rad: &b.rad * index, exp: b.exp };
            let (fixed, radius) = self.fixed(&multiple, 32)?;
            let nearest: BigInt = (&fixed + (BigInt::one() << 31)) >> 32;
            let distance: BigInt = fixed - (&nearest << 32);
            if distance.abs() <= radius + 4 {
                let size = self.power(&negated(a), b)?;
                return Some(if nearest.bit(0) { negated(&size) } else { size });
            }
        }
        None
    }
}
