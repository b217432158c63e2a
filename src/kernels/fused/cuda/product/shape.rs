//! The shape of a product, which determines its algorithm: sizes, layouts of the factors, dtypes, and whether a bias or an addend is added.
//!
//! One size is the number of tokens, which changes from call to call; the model determines all others. Tokens are the rows of the first
//! factor as stored: m in `x [t, k] weight`, and k in a weight's gradient, `x^T [m, t] dy`.

use std::fmt;

use candle_core::{DType, Result, bail};

use crate::kernels::fused::launch::Product;

/// The shape of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Rows of the result.
    pub m: usize,
    /// Inner size: the number of terms per sum.
    pub k: usize,
    /// Columns of the result.
    pub n: usize,
    /// Whether the first factor is stored transposed.
    pub a_transposed: bool,
    /// Whether the second factor is stored transposed.
    pub b_transposed: bool,
    /// Dtype of both factors.
    pub factors: DType,
    /// Dtype of the result, bias and addend.
    pub result: DType,
    /// Whether a bias is added to each row.
    pub bias: bool,
    /// Whether a matrix is added. The algorithm and the bits do not depend on whether the result overwrites it.
    pub addend: bool,
}

/// Alignment that cuBLASLt's fast algorithms need, in bytes.
const ALIGNMENT: usize = 16;
/// Smallest bucket, in tokens: the smallest tile has this many rows.
const MIN_BUCKET: usize = 16;
/// Up to this number of tokens, buckets double. Above it there are four per power of two.
const DOUBLING: usize = 128;

impl Shape {
    /// Returns the shape of a product.
    ///
    /// # Errors
    /// If the sizes do not match, or products of these dtypes are not supported.
    pub fn of(product: &Product) -> Result<Self> {
        let (m, k, n) = product.sizes()?;
        let (factors, other, result) = (product.a.stored.dtype(), product.b.stored.dtype(), product.out.dtype());
        let is_supported = matches!((factors, result), (DType::F32, DType::F32) | (DType::BF16, DType::BF16 | DType::F32));
        if factors != other || !is_supported {
            bail!("products of {factors:?} and {other:?} into {result:?} are not supported");
        }
        Ok(Self {
            m,
            k,
            n,
            a_transposed: product.a.is_transposed,
            b_transposed: product.b.is_transposed,
            factors,
            result,
            bias: product.bias.is_some(),
            addend: product.addend.is_some(),
        })
    }

    /// Returns the number of tokens.
    pub fn tokens(&self) -> usize {
        if self.a_transposed { self.k } else { self.m }
    }

    /// Returns the same shape with another number of tokens.
    pub fn of_tokens(self, tokens: usize) -> Self {
        if self.a_transposed { Self { k: tokens, ..self } } else { Self { m: tokens, ..self } }
    }

    /// Returns the shape for which an algorithm is timed: this shape with its number of tokens rounded up.
    ///
    /// Without buckets, almost every micro-batch would be timed, because exact numbers of tokens hardly ever repeat. Up to 128 tokens, the
    /// time depends on the number of rows per tile, a power of two. Above, it depends on how evenly the tiles fill the multiprocessors, which
    /// changes every few tiles, so a bucket exceeds its smallest member by at most a quarter.
    pub fn bucket(self) -> Self {
        let tokens = self.tokens();
        let doubled = tokens.next_power_of_two().max(MIN_BUCKET);
        self.of_tokens(if doubled <= DOUBLING { doubled } else { tokens.next_multiple_of(doubled / 8) })
    }

    /// Returns the required alignment of the factors' addresses, in bytes. It depends on the lengths of rows, not on the number of tokens, so
    /// it is the same for sampler and trainer.
    pub fn alignment(&self) -> usize {
        let a_row = if self.a_transposed { self.m } else { self.k };
        let b_row = if self.b_transposed { self.k } else { self.n };
        let (factor, result) = (self.factors.size_in_bytes(), self.result.size_in_bytes());
        let rows = [a_row * factor, b_row * factor, self.n * result];
        if rows.iter().all(|bytes| bytes % ALIGNMENT == 0) { ALIGNMENT } else { factor }
    }

    /// Returns the required alignment of the result, bias and addend, in bytes. Their elements may be wider than those of the factors.
    pub fn result_alignment(&self) -> usize {
        self.alignment().max(self.result.size_in_bytes())
    }

    /// The number of floating-point operations.
    #[cfg(test)]
    pub fn flops(&self) -> f64 {
        2.0 * self.m as f64 * self.k as f64 * self.n as f64
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transposed = |transposed| if transposed { "^T" } else { "" };
        let (factors, result) = (self.factors.as_str(), self.result.as_str());
        write!(f, "{}x{}{} {}x{}{}", self.m, self.k, transposed(self.a_transposed), self.k, self.n, transposed(self.b_transposed))?;
        write!(f, " {factors} to {result}")?;
        write!(f, "{}{}", if self.bias { " + bias" } else { "" }, if self.addend { " + addend" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(m: usize, k: usize, n: usize) -> Shape {
        let (factors, result) = (DType::BF16, DType::BF16);
        Shape { m, k, n, a_transposed: false, b_transposed: false, factors, result, bias: true, addend: false }
    }

    #[test]
    fn bucket_for_a_gpu_rounds_tokens_up_by_at_most_a_quarter_above_128() {
        let bucket = |tokens| shape(tokens, 64, 48).bucket().tokens();
        let found: Vec<usize> = [1, 16, 17, 33, 128, 129, 161, 256, 257, 513, 640, 641, 1024, 1025, 16_384].map(bucket).into();
        assert_eq!(found, [16, 16, 32, 64, 128, 160, 192, 256, 320, 640, 640, 768, 1024, 1280, 16_384]);
        for tokens in 1..5000 {
            let bucket = bucket(tokens);
            assert!(tokens <= bucket && (tokens <= 128 || bucket * 4 <= tokens * 5), "{tokens} in {bucket}");
        }
    }

    #[test]
    fn tokens_on_a_gpu_are_k_of_a_weight_gradient_and_m_of_other_products() {
        let gradient = Shape { a_transposed: true, ..shape(1536, 700, 2048) };
        assert_eq!((gradient.tokens(), gradient.bucket().k, gradient.bucket().m), (700, 768, 1536));
        assert_eq!(gradient.to_string(), "1536x700^T 700x2048 bf16 to bf16 + bias");
    }

    #[test]
    fn alignment_on_a_gpu_depends_only_on_row_lengths() {
        assert_eq!([shape(1, 64, 48), shape(7, 64, 48), shape(7, 64, 52), shape(7, 63, 48)].map(|shape| shape.alignment()), [16, 16, 2, 2]);
        let wide = Shape { result: DType::F32, ..shape(7, 64, 52) };
        assert_eq!((wide.alignment(), wide.result_alignment()), (2, 4), "104 bytes of b");
        assert_eq!(Shape { result: DType::F32, b_transposed: true, ..shape(7, 64, 52) }.alignment(), 16);
    }
}
