//! Complex floating-point arithmetic in which every number has a bound on its error.

use num_traits::ToPrimitive;

use crate::verify::tree::{Constant, Function, Function2, Literal};
use crate::verify::value::approx_function::{complex_call, natural, real_call};
use crate::verify::value::evaluate::Arithmetic;
use crate::verify::value::field::mix;

/// A complex number with a bound on its distance from the true value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Value {
    /// Real part.
    pub re: f64,
    /// Imaginary part.
    pub im: f64,
    /// Bound on the distance from the true value.
    pub error: f64,
}

/// The distribution of the variables' values at one point, with its seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Uniform between 0.4 and 2.4.
    Positive(u64),
    /// Uniform between -2 and 2.
    Real(u64),
    /// Uniform between 0.05 and 0.95.
    Unit(u64),
    /// Integers from 2 to 9.
    Natural(u64),
}

/// Floating-point arithmetic at one point.
pub struct Approx {
    /// The point that gives the variables their values.
    pub point: Point,
    /// Treats decimals with at least four digits as rounded, with an error of half a unit in the last digit.
    pub decimals_are_rounded: bool,
    /// True if some part was too small, compared with the rest, to affect the value in double precision: `x + 10^{-20}` looks like `x`.
    pub lost: bool,
    /// Variables that are integers at every point, because they occur in factorials or binomial coefficients.
    pub integers: Vec<u32>,
}

/// A part smaller than this, relative to the rest, is lost in rounding.
const VANISHING: f64 = 1e-12;

/// The relative error of one operation, with room for library functions.
pub const EPSILON: f64 = 4.0 * f64::EPSILON;

impl Value {
    /// Creates a real number with the error of one rounding. `None` if it is not finite.
    pub fn real(re: f64) -> Option<Value> {
        Value { re, im: 0.0, error: 0.0 }.checked(0.0)
    }

    /// Returns the absolute value.
    pub fn abs(self) -> f64 {
        self.re.hypot(self.im)
    }

    /// True if the number is real within its error.
    pub fn is_real(self) -> bool {
        self.im.abs() <= self.error + EPSILON * self.re.abs()
    }

    /// Adds `error` and the error of one rounding. `None` if anything is not finite.
    pub fn checked(self, error: f64) -> Option<Value> {
        let error = error + EPSILON * self.abs();
        (self.re.is_finite() && self.im.is_finite() && error.is_finite()).then_some(Value { error, ..self })
    }
}

impl Arithmetic for Approx {
    type Value = Value;

    fn number(&mut self, literal: &Literal) -> Option<Value> {
        let re = literal.value.to_f64()?;
        let bits = literal.value.numer().bits().max(literal.value.denom().bits());
        self.lost |= bits > 53 && !self.decimals_are_rounded;
        // Integers of up to 53 bits are exact.
        let is_exact = literal.value.is_integer() && re.abs() < 9e15;
        let value = Value { error: 0.0, ..Value::real(re)? };
        if is_exact {
            return Some(value);
        }
        let rounded = self.decimals_are_rounded && literal.significant >= 4;
        let half_unit = literal.decimals.filter(|_| rounded).map_or(0.0, |decimals| 0.500_001 * 10f64.powi(-decimals));
        value.checked(half_unit)
    }

    fn constant(&mut self, constant: Constant) -> Option<Value> {
        match constant {
            Constant::Pi => Value::real(std::f64::consts::PI),
            Constant::E => Value::real(std::f64::consts::E),
            Constant::I => Some(Value { re: 0.0, im: 1.0, error: 0.0 }),
            Constant::Infinity => None,
        }
    }

    fn symbol(&mut self, name: u32) -> Option<Value> {
        let unit = |seed: u64| (mix(seed ^ mix(u64::from(name) + 77)) >> 11) as f64 / (1u64 << 53) as f64;
        let point = match self.point {
            Point::Positive(seed) | Point::Unit(seed) | Point::Real(seed) if self.integers.contains(&name) => Point::Natural(seed),
            point => point,
        };
        match point {
            Point::Positive(seed) => Some(Value { re: 0.4 + 2.0 * unit(seed), im: 0.0, error: 0.0 }),
            Point::Unit(seed) => Some(Value { re: 0.05 + 0.9 * unit(seed), im: 0.0, error: 0.0 }),
            Point::Real(seed) => Some(Value { re: 4.0 * unit(seed) - 2.0, im: 0.0, error: 0.0 }),
            Point::Natural(seed) => Some(Value { re: (2.0 + 8.0 * unit(seed)).floor(), im: 0.0, error: 0.0 }),
        }
    }

    fn negate(&mut self, a: &Value) -> Option<Value> {
        // An imaginary part of ±0 becomes +0, so the root of -4 is always 2i.
        Some(Value { re: -a.re, im: 0.0 - a.im, error: a.error })
    }

    fn add(&mut self, a: &Value, b: &Value) -> Option<Value> {
        self.lost |= vanishes(a, b) || vanishes(b, a);
        Value { re: a.re + b.re, im: a.im + b.im, error: 0.0 }.checked(a.error + b.error)
    }

    fn multiply(&mut self, a: &Value, b: &Value) -> Option<Value> {
        // A product below the smallest normal number has no digits left to compare.
        self.lost |= a.abs() * b.abs() < f64::MIN_POSITIVE && a.abs() > 0.0 && b.abs() > 0.0;
        let error = a.abs() * b.error + b.abs() * a.error + a.error * b.error;
        if a.im == 0.0 && b.im == 0.0 {
            return Value { re: a.re * b.re, im: 0.0, error: 0.0 }.checked(error);
        }
        Value { re: a.re * b.re - a.im * b.im, im: a.re * b.im + a.im * b.re, error: 0.0 }.checked(error)
    }

    fn divide(&mut self, a: &Value, b: &Value) -> Option<Value> {
        let size = b.abs();
        // A divisor that may be zero makes the quotient unknown.
        if size <= 2.0 * b.error || size == 0.0 {
            return None;
        }
        self.lost |= a.abs() / size < f64::MIN_POSITIVE && a.abs() > 0.0;
        let scale = size * size;
        let quotient = if a.im == 0.0 && b.im == 0.0 {
            Value { re: a.re / b.re, im: 0.0, error: 0.0 }
        } else {
            Value { re: (a.re * b.re + a.im * b.im) / scale, im: (a.im * b.re - a.re * b.im) / scale, error: 0.0 }
        };
        quotient.checked((a.error + quotient.abs() * b.error) / (size - b.error))
    }

    fn power(&mut self, a: &Value, b: &Value) -> Option<Value> {
        let is_integer = b.im == 0.0 && b.re.fract() == 0.0 && b.error <= EPSILON * b.re.abs();
        if is_integer && b.re.abs() <= 4096.0 {
            return self.integer_power(a, b.re as i32);
        }
        if a.abs() <= a.error {
            return (a.abs() == 0.0 && b.re > 0.0).then_some(Value { re: 0.0, im: 0.0, error: 0.0 });
        }
        if a.im == 0.0 && a.re < 0.0 && b.im == 0.0 {
            // Take the real odd root of a negative number: (-8)^(1/3) = -2.
            for index in [3.0, 5.0, 7.0, 9.0] {
                let numerator = (b.re * index).round();
                if (b.re * index - numerator).abs() < 1e-9 {
                    let size = self.power(&Value { re: -a.re, ..*a }, b)?;
                    let odd = numerator % 2.0 != 0.0;
                    return if odd { self.negate(&size) } else { Some(size) };
                }
            }
        }
        let logarithm = self.call(Function::Ln, a)?;
        let exponent = self.multiply(&logarithm, b)?;
        self.call(Function::Exp, &exponent)
    }

    fn call(&mut self, function: Function, a: &Value) -> Option<Value> {
        self.lost |= is_flat(function, a);
        if a.im != 0.0 || (function == Function::Sqrt || function == Function::Ln || function == Function::Log) && a.re < 0.0 {
            return complex_call(function, a);
        }
        real_call(function, a.re, a.error)
    }

    fn call2(&mut self, function: Function2, a: &Value, b: &Value) -> Option<Value> {
        match function {
            Function2::Root => {
                let one = Value::real(1.0)?;
                let exponent = self.divide(&one, a)?;
                self.power(b, &exponent)
            }
            Function2::LogBase => {
                let (base, argument) = (self.call(Function::Ln, a)?, self.call(Function::Ln, b)?);
                self.divide(&argument, &base)
            }
            Function2::Max | Function2::Min if a.is_real() && b.is_real() => {
                let first = (a.re >= b.re) == (function == Function2::Max);
                let chosen = if first { a } else { b };
                Some(Value { error: a.error.max(b.error), ..*chosen })
            }
            Function2::Modulo if a.is_real() && b.is_real() && b.re != 0.0 => {
                let quotient = self.divide(a, b)?;
                let whole = self.call(Function::Floor, &quotient)?;
                let taken = self.multiply(b, &whole)?;
                self.subtract(a, &taken)
            }
            Function2::Binomial => {
                let (n, k) = (natural(a)?, natural(b)?);
                if k > n {
                    return Value::real(0.0);
                }
                let product = (1..=k.min(n - k).min(1000)).fold(1.0, |p, i| p * f64::from(n - k.min(n - k) + i) / f64::from(i));
                Value::real(product)?.checked(1e-13 * product)
            }
            Function2::Gcd | Function2::Lcm => {
                let (x, y) = (natural(a)?, natural(b)?);
                let gcd = num_integer::gcd(x, y);
                Value::real(if function == Function2::Gcd { f64::from(gcd) } else { f64::from(x) / f64::from(gcd.max(1)) * f64::from(y) })
            }
            Function2::Max | Function2::Min | Function2::Modulo => None,
        }
    }

    fn opaque(&mut self, name: u32, arguments: &[Value]) -> Option<Value> {
        // A different smooth function for each name, so that different arguments almost always have different values.
        let weight = |at: u64| 0.5 + (mix(u64::from(name) * 64 + at) >> 11) as f64 / (1u64 << 53) as f64;
        let mut sum = Value::real(weight(0))?;
        for (at, argument) in (1..).zip(arguments) {
            let term = self.multiply(argument, &Value::real(weight(at))?)?;
            sum = self.add(&sum, &term)?;
        }
        let wave = self.call(Function::Sin, &sum)?;
        let slope = self.multiply(&sum, &Value::real(0.1)?)?;
        self.add(&wave, &slope)
    }

    fn cost(&self, _: Option<&Value>) -> u64 {
        4
    }
}

/// True if `a` is certainly not zero, but too small to affect its sum with `b`.
fn vanishes(a: &Value, b: &Value) -> bool {
    a.abs() > a.error && a.abs() < VANISHING * b.abs()
}

/// True if a function hardly depends on its argument here: `\cos x` near zero, `\tanh x` far from it.
fn is_flat(function: Function, a: &Value) -> bool {
    use Function::*;
    let size = a.abs();
    let known = size > a.error;
    match function {
        Exp => known && size < VANISHING || a.re < -700.0,
        Cos | Sec | Cosh => known && size * size < VANISHING,
        Arccos | Arccot => known && size < VANISHING,
        Tanh => size > 14.0,
        Arctan => size > 1.0 / VANISHING,
        _ => false,
    }
}

impl Approx {
    /// Creates the arithmetic at `point`, in which decimals are exact.
    pub fn new(point: Point) -> Self {
        Approx { point, decimals_are_rounded: false, lost: false, integers: Vec::new() }
    }

    fn integer_power(&mut self, a: &Value, exponent: i32) -> Option<Value> {
        if exponent == 0 {
            return if a.abs() <= a.error { None } else { Value::real(1.0) };
        }
        let mut left = exponent.unsigned_abs();
        let (mut result, mut square) = (Value { re: 1.0, im: 0.0, error: 0.0 }, *a);
        loop {
            if left & 1 == 1 {
                result = self.multiply(&result, &square)?;
            }
            left >>= 1;
            if left == 0 {
                break;
            }
            square = self.multiply(&square, &square)?;
        }
        if exponent < 0 { self.divide(&Value { re: 1.0, im: 0.0, error: 0.0 }, &result) } else { Some(result) }
    }
}
