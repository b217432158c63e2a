//! Functions of floating-point numbers with error bounds. Each bounds the effect of its argument's error.

use crate::verify::tree::Function;
use crate::verify::value::approx::{EPSILON, Value};

/// Returns the natural number below 100,000 that a value equals within its error. `None` if there is none.
pub fn natural(a: &Value) -> Option<u32> {
    let near = a.re.round();
    (a.is_real() && (a.re - near).abs() <= a.error + 1e-9 && a.error < 1e-6 && (0.0..100_000.0).contains(&near)).then_some(near as u32)
}

/// Evaluates the few functions of complex numbers that answers need. `None` for others, and for arguments that may be zero.
pub fn complex_call(function: Function, a: &Value) -> Option<Value> {
    let (size, angle) = (a.abs(), a.im.atan2(a.re));
    if size <= 2.0 * a.error {
        return None;
    }
    match function {
        Function::Sqrt => {
            let root = size.sqrt();
            Value { re: root * (angle / 2.0).cos(), im: root * (angle / 2.0).sin(), error: 0.0 }.checked(a.error / root)
        }
        Function::Ln | Function::Log => Value { re: size.ln(), im: angle, error: 0.0 }.checked(2.0 * a.error / size),
        Function::Exp => {
            let scale = a.re.exp();
            Value { re: scale * a.im.cos(), im: scale * a.im.sin(), error: 0.0 }
                .checked(2.0 * scale * a.error + scale * EPSILON * a.im.abs())
        }
        Function::Abs => Value { re: size, im: 0.0, error: 0.0 }.checked(a.error),
        _ => None,
    }
}

/// Evaluates a function of the real number `x`, known up to `error`. `None` if the result is undefined or unknown.
pub fn real_call(function: Function, x: f64, error: f64) -> Option<Value> {
    use Function::*;
    // With a larger error, the phase of the argument is unknown, and so is its sine.
    if error > 0.1 && !matches!(function, Abs | Floor | Ceil | Ln | Log | Sqrt | Exp) {
        return None;
    }
    let reduced = EPSILON * x.abs();
    let (value, slope) = match function {
        Sin => (x.sin(), 1.0 + reduced),
        Cos => (x.cos(), 1.0 + reduced),
        Tan => guarded(x.tan(), x.cos(), 1.0 / (x.cos() * x.cos()), error)?,
        Cot => guarded(x.cos() / x.sin(), x.sin(), 1.0 / (x.sin() * x.sin()), error)?,
        Sec => guarded(1.0 / x.cos(), x.cos(), 1.0 / (x.cos() * x.cos()), error)?,
        Csc => guarded(1.0 / x.sin(), x.sin(), 1.0 / (x.sin() * x.sin()), error)?,
        Arcsin | Arccos => {
            let room = 1.0 - x.abs();
            if room < -error {
                return None;
            }
            let clamped = x.clamp(-1.0, 1.0);
            if error == 0.0 && room == 0.0 {
                return Value { re: if function == Arcsin { clamped.asin() } else { clamped.acos() }, im: 0.0, error: 0.0 }.checked(0.0);
            }
            // At ±1 the slope is infinite, and the change grows with the square root of the error.
            let change = if room <= 2.0 * error { (4.0 * error).sqrt() } else { 2.0 * error / (room * (2.0 - room)).sqrt() };
            let value = if function == Arcsin { clamped.asin() } else { clamped.acos() };
            return Value { re: value, im: 0.0, error: 0.0 }.checked(change);
        }
        Arctan => (x.atan(), 1.0),
        Arccot => (std::f64::consts::FRAC_PI_2 - x.atan(), 1.0),
        Arcsec => return real_call(Arccos, 1.0 / x, 2.0 * error / (x * x)),
        Arccsc => return real_call(Arcsin, 1.0 / x, 2.0 * error / (x * x)),
        Sinh => (x.sinh(), 2.0 * x.cosh()),
        Cosh => (x.cosh(), 2.0 * x.cosh()),
        Tanh => (x.tanh(), 1.0),
        Arsinh => (x.asinh(), 1.0),
        Arcosh if x > 1.0 + 2.0 * error => (x.acosh(), 2.0 / (x * x - 1.0).sqrt()),
        Artanh if x.abs() < 1.0 - 2.0 * error => (x.atanh(), 4.0 / (1.0 - x * x)),
        Exp if error < 1.0 => (x.exp(), 2.0 * x.exp()),
        Ln | Log if x > 2.0 * error && x > 0.0 => (x.ln(), 2.0 / x),
        Sqrt if x > 2.0 * error => (x.sqrt(), 1.0 / x.sqrt()),
        // The root of a number that may be zero or slightly negative.
        Sqrt if x >= -error => {
            let value = x.max(0.0).sqrt();
            return Value { re: value, im: 0.0, error: 0.0 }.checked((3.0 * error).sqrt());
        }
        Abs => (x.abs(), 1.0),
        Floor | Ceil => {
            let near = x.round();
            // Near an integer the result is ambiguous. If the error is only rounding, the argument is the integer itself.
            if (x - near).abs() <= 2.0 * error && error > 1e-9 {
                return None;
            }
            let value = if (x - near).abs() <= 2.0 * error {
                near
            } else if function == Floor {
                x.floor()
            } else {
                x.ceil()
            };
            (value, 0.0)
        }
        Factorial => {
            let n = natural(&Value { re: x, im: 0.0, error })?;
            if n > 170 {
                return None;
            }
            let product = (2..=n).fold(1.0, |product, k| product * f64::from(k));
            return Value { re: product, im: 0.0, error: 0.0 }.checked(1e-13 * product);
        }
        Exp | Ln | Log | Sqrt | Arcosh | Artanh => return None,
    };
    Value { re: value, im: 0.0, error: 0.0 }.checked(slope * error + reduced * (1.0 + value.abs()))
}

/// Returns the value and slope of a function with poles, or `None` if its denominator may be zero.
fn guarded(value: f64, denominator: f64, slope: f64, error: f64) -> Option<(f64, f64)> {
    (denominator.abs() > 4.0 * error + 1e-14).then_some((value, 2.0 * slope))
}
