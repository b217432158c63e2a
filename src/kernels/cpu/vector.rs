//! Arithmetic that the loops share: an `exp` that the compiler vectorizes, and sums in a fixed order.
//!
//! The functions are `inline(always)`, so that each of a caller's `#[multiversion]` clones compiles them for its own instruction set. A fused
//! multiply-add rounds once everywhere, so all instruction sets give the same results.

/// Number of parallel partial sums: the number of f32 in an AVX-512 register, and of keys in a block of attention.
pub const LANES: usize = 16;

/// Returns e^x, to within 2 ulp; 0 below -87.3, infinity above 88.7, and NaN for NaN.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer in the low mantissa bits
    let clamped = x.clamp(-87.3, 88.7);
    let shifted = clamped.mul_add(std::f32::consts::LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    // ln 2 is split in two, so that the remainder has all its bits.
    let r = n.mul_add(-1.428_606_8e-6, n.mul_add(-0.693_145_75, clamped));
    let p = 1.987_569_1e-4f32;
    let p = p.mul_add(r, 1.398_199_9e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_5e-1);
    let p = p.mul_add(r, 0.5);
    let y = p.mul_add(r * r, r) + 1.0;
    // 2^n is split into two factors, because n reaches 128, which one exponent field cannot represent.
    let bits = (shifted.to_bits() as i32).wrapping_sub(MAGIC.to_bits() as i32);
    let half = bits >> 1;
    let scale = |e: i32| f32::from_bits((e.wrapping_add(127) << 23) as u32);
    let y = y * scale(half) * scale(bits - half);
    if x < -87.3 {
        0.0
    } else if x > 88.7 {
        f32::INFINITY
    } else {
        y
    }
}

/// Returns 1 / (1 + e^-x).
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Returns the sum of the lanes, added pairwise.
#[inline(always)]
pub fn sum_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// Returns the largest of the lanes.
#[inline(always)]
pub fn max_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = if lanes[i] > lanes[i + half] { lanes[i] } else { lanes[i + half] };
        }
        half /= 2;
    }
    lanes[0]
}

/// Returns the sum of `term(i)` for i in 0..len. Lane l sums the terms with i % 16 = l, and the lanes are added pairwise.
#[inline(always)]
pub fn sum(len: usize, term: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let whole = len - len % LANES;
    for start in (0..whole).step_by(LANES) {
        for (lane, total) in lanes.iter_mut().enumerate() {
            *total += term(start + lane);
        }
    }
    for i in whole..len {
        lanes[i - whole] += term(i);
    }
    sum_lanes(lanes)
}

/// Returns the dot product of two slices of equal length.
#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let b = &b[..a.len()];
    let mut lanes = [0.0; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let (a_rest, b_rest) = (a_chunks.remainder(), b_chunks.remainder());
    for (x, y) in a_chunks.zip(b_chunks) {
        for i in 0..LANES {
            lanes[i] = x[i].mul_add(y[i], lanes[i]);
        }
    }
    for (i, (x, y)) in a_rest.iter().zip(b_rest).enumerate() {
        lanes[i] = x.mul_add(*y, lanes[i]);
    }
    sum_lanes(lanes)
}

/// `y += scale * x`, element by element.
#[inline(always)]
pub fn add_scaled(y: &mut [f32], scale: f32, x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = x.mul_add(scale, *y);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_ulp_over_its_whole_range() {
        for i in -870_000..=886_000 {
            let x = i as f32 * 1e-4;
            let (found, expected) = (exp(x), f64::from(x).exp() as f32);
            let ulps = (found.to_bits() as i64 - expected.to_bits() as i64).abs();
            assert!(ulps <= 2, "exp({x}) = {found:e}, expected {expected:e}");
        }
    }

    #[test]
    fn exp_handles_special_values() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(-1e30), 0.0);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn sum_and_dot_cover_every_length() {
        for len in [0, 1, 15, 16, 17, 100] {
            let values: Vec<f32> = (0..len).map(|i| i as f32).collect();
            assert_eq!(sum(len, |i| values[i]), (len * len.max(1) - len) as f32 / 2.0);
            assert_eq!(dot(&values, &vec![1.0; len]), sum(len, |i| values[i]));
        }
    }
}
