//! Ball arithmetic: every operation encloses the true result or returns `None`.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};

use crate::verify::tree::{Constant, Function, Function2, Literal};
use crate::verify::value::ball::{Ball, Balls, aligned, negated};
use crate::verify::value::evaluate::Arithmetic;
use crate::verify::value::exact::Exact;

/// Larger factorials are left to the other stages.
const MAX_FACTORIAL: i64 = 200;

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
        if let (Some(a), Some(b)) = (a.magnitude(), b.magnitude()) {
            self.note_depth((a - b).abs());
        }
        let (a, b) = aligned(a, b)?;
        self.round(Ball { mid: a.mid + b.mid, rad: a.rad + b.rad, exp: a.exp })
    }

    fn multiply(&mut self, a: &Ball, b: &Ball) -> Option<Ball> {
        let rad = a.mid.abs() * &b.rad + b.mid.abs() * &a.rad + &a.rad * &b.rad;
        self.round(Ball { mid: &a.mid * &b.mid, rad, exp: a.exp + b.exp })
    }

    fn divide(&mut self, a: &Ball, b: &Ball) -> Option<Ball> {
        if b.contains_zero() {
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
                // arcsin x = arctan(x / sqrt(1 - x^2)); at ±1 it is a right angle.
                let mut quarter = self.pi()?;
                quarter.exp -= 1;
                let square = self.multiply(a, a)?;
                if square.overlaps(&one) && square.rad.is_zero() {
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
            Arccot => self.right_angle_less(Arctan, a),
            Arcsec | Arccsc => {
                let inverse = self.inverted(a)?;
                self.call(if function == Arcsec { Arccos } else { Arcsin }, &inverse)
            }
            Arsinh | Arcosh => {
                // ln(x + √(x² ± 1)). The odd function uses |x|, so no digits are lost to cancellation.
                let size = Ball { mid: a.mid.abs(), ..a.clone() };
                let square = self.multiply(a, a)?;
                let moved = if function == Arsinh { self.add(&square, &one)? } else { self.subtract(&square, &one)? };
                let root = self.sqrt(&moved)?;
                let sum = self.add(if function == Arsinh { &size } else { a }, &root)?;
                let logarithm = self.ln(&sum)?;
                Some(if function == Arsinh && a.mid.is_negative() { negated(&logarithm) } else { logarithm })
            }
            Artanh => {
                let (above, below) = (self.add(&one, a)?, self.subtract(&one, a)?);
                let ratio = self.divide(&above, &below)?;
                let logarithm = self.ln(&ratio)?;
                Some(Ball { exp: logarithm.exp - 1, ..logarithm })
            }
            Floor => self.floor(a),
            Ceil => Some(negated(&self.floor(&negated(a))?)),
            Factorial => {
                let n = exact_natural(a).filter(|n| *n <= MAX_FACTORIAL)?;
                (2..=n).try_fold(one, |product, k| {
                    let k = self.integer(k)?;
                    self.multiply(&product, &k)
                })
            }
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
                if difference.contains_zero() {
                    return None;
                }
                let first = difference.mid.is_positive() == (function == Function2::Max);
                Some(if first { a.clone() } else { b.clone() })
            }
            Function2::Modulo => {
                let quotient = self.divide(a, b)?;
                let times = self.floor(&quotient)?;
                let taken = self.multiply(b, &times)?;
                self.subtract(a, &taken)
            }
            // For integers these are exact or too large.
            Function2::Binomial | Function2::Gcd | Function2::Lcm => {
                let part = |ball: &Ball| Some(BigRational::from_integer(exact_natural(ball)?.into()));
                let value = Exact.call2(function, &part(a)?, &part(b)?)?;
                self.rational(&value)
            }
        }
    }

    fn opaque(&mut self, _: u32, _: &[Ball]) -> Option<Ball> {
        None
    }

    fn cost(&self, _: Option<&Ball>) -> u64 {
        u64::from(self.precision) * 5 / 4
    }
}

impl Balls {
    /// Returns π/2 minus a function of `a`.
    fn right_angle_less(&mut self, function: Function, a: &Ball) -> Option<Ball> {
        let mut quarter = self.pi()?;
        quarter.exp -= 1;
        let value = self.call(function, a)?;
        self.subtract(&quarter, &value)
    }

    /// Returns the largest integer that is at most `a`, if the interval determines it.
    fn floor(&mut self, a: &Ball) -> Option<Ball> {
        let (low, high) = (&a.mid - &a.rad, &a.mid + &a.rad);
        if a.exp >= 0 {
            return a.rad.is_zero().then(|| a.clone());
        }
        let whole = low >> -a.exp;
        (whole == high >> -a.exp).then(|| Ball { mid: whole, rad: BigInt::zero(), exp: 0 })
    }

    /// Raises a negative number to a power with a small odd denominator, as the real root.
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

/// Returns the value of a ball that is exactly a non-negative integer.
fn exact_natural(a: &Ball) -> Option<i64> {
    let shifted = if a.exp >= 0 { &a.mid << a.exp.min(64) } else { &a.mid >> (-a.exp).min(1 << 20) };
    let exact = a.rad.is_zero() && (a.exp >= 0 || (&shifted << -a.exp) == a.mid);
    shifted.to_i64().filter(|n| exact && *n >= 0)
}
