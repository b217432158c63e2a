//! Elementary functions in fixed point: integers count multiples of 2^-bits. About the last twenty bits of a result are noise, which the
//! callers account for.

use num_bigint::BigInt;
use num_integer::Integer;
use num_traits::{One, Signed, ToPrimitive, Zero};

/// Returns π by Machin's formula, 16 arctan(1/5) - 4 arctan(1/239).
pub fn pi(bits: i64) -> BigInt {
    (arctan_inverse(5, bits) << 4) - (arctan_inverse(239, bits) << 2)
}

/// Returns ln 2 = 2 artanh(1/3).
pub fn ln2(bits: i64) -> BigInt {
    let mut term: BigInt = (BigInt::one() << (bits + 1)) / 3;
    let mut sum = BigInt::zero();
    let mut odd = 1u32;
    while !term.is_zero() {
        sum += &term / odd;
        term /= 9;
        odd += 2;
    }
    sum
}

fn arctan_inverse(n: u32, bits: i64) -> BigInt {
    let mut term: BigInt = (BigInt::one() << bits) / n;
    let (mut sum, mut odd, square) = (BigInt::zero(), 1u32, n * n);
    while !term.is_zero() {
        let part = &term / odd;
        if odd & 2 == 0 {
            sum += part;
        } else {
            sum -= part;
        }
        term /= square;
        odd += 2;
    }
    sum
}

/// Returns e^x as (m, k) with e^x = m · 2^(k - bits).
pub fn exp(x: &BigInt, bits: i64) -> (BigInt, i64) {
    let ln2 = ln2(bits + 32);
    let wide: BigInt = x << 32;
    let count: BigInt = Integer::div_floor(&(&wide + (&ln2 >> 1)), &ln2);
    let rest = (wide - &ln2 * &count) >> 32;
    // e^r = (e^(r/2^12))^(2^12), with guard bits for the error of the squarings.
    let (halvings, guard) = (12, 32);
    let work = bits + guard;
    let small = (rest << guard) >> halvings;
    let one = BigInt::one() << work;
    let (mut sum, mut term, mut n) = (one.clone(), one, 1u32);
    while !term.is_zero() && n < 5000 {
        term = ((&term * &small) >> work) / n;
        if term == BigInt::from(-1) {
            break;
        }
        sum += &term;
        n += 1;
    }
    for _ in 0..halvings {
        sum = (&sum * &sum) >> work;
    }
    (sum >> guard, count.to_i64().unwrap_or(0))
}

/// Returns ln x for x in [1/2, 1), as 2 artanh((x - 1)/(x + 1)).
pub fn ln(x: &BigInt, bits: i64) -> BigInt {
    let one = BigInt::one() << bits;
    let ratio = ((x - &one) << bits) / (x + &one);
    let square = (&ratio * &ratio) >> bits;
    let (mut term, mut sum, mut odd) = (ratio, BigInt::zero(), 1u32);
    while !term.is_zero() && term != BigInt::from(-1) {
        sum += &term / odd;
        term = (&term * &square) >> bits;
        odd += 2;
    }
    sum << 1
}

/// Returns sin x and cos x.
pub fn sin_cos(x: &BigInt, bits: i64) -> (BigInt, BigInt) {
    let quarter = pi(bits + 64) >> 1;
    let wide: BigInt = x << 64;
    let count: BigInt = Integer::div_floor(&(&wide + (&quarter >> 1)), &quarter);
    let rest = (wide - quarter * &count) >> 64;
    let square = (&rest * &rest) >> bits;
    let one = BigInt::one() << bits;
    let (sin, cos) = (alternating(rest, &square, bits, 2), alternating(one, &square, bits, 1));
    let turn: BigInt = &count & BigInt::from(3);
    match turn.to_u8() {
        Some(0) => (sin, cos),
        Some(1) => (cos, -sin),
        Some(2) => (-sin, -cos),
        _ => (-cos, sin),
    }
}

/// Sums `first` - `first`·`square`/(n(n+1)) + ..., where n starts at `start`: 2 for sine and 1 for cosine.
fn alternating(first: BigInt, square: &BigInt, bits: i64, start: u32) -> BigInt {
    let (mut term, mut sum, mut n) = (first.clone(), first, start);
    while n < 5000 {
        term = -((&term * square) >> bits) / (n * (n + 1));
        if term.abs() <= BigInt::one() {
            break;
        }
        sum += &term;
        n += 2;
    }
    sum
}

/// Returns arctan x for |x| up to about 2: halves the argument three times, then sums the series.
pub fn arctan(x: &BigInt, bits: i64) -> BigInt {
    let halvings = 3;
    let mut x = x.clone();
    for _ in 0..halvings {
        // arctan x = 2 arctan(x / (1 + sqrt(1 + x^2)))
        let one = BigInt::one() << bits;
        let root = ((BigInt::one() << (2 * bits)) + &x * &x).sqrt();
        x = (x << bits) / (one + root);
    }
    let square = (&x * &x) >> bits;
    let (mut term, mut sum, mut odd) = (x, BigInt::zero(), 1u32);
    while term.abs() > BigInt::one() {
        sum += &term / odd;
        term = -((&term * &square) >> bits);
        odd += 2;
    }
    sum << halvings
}
