//! What determines the algorithm of a product: its sizes, how its factors are stored, their dtypes, and what is added.
//!
//! One size is the number of tokens. It changes from call to call; all others belong to the model. Tokens are the rows of the first factor as
//! stored: m of `x [t, k] weight`, and k of a weight's gradient, `x^T [m, t] dy`.

use std::fmt;

use candle_core::{DType, Result, bail};

use crate::kernels::fused::launch::Product;

/// The kind of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Rows of the result.
    pub m: usize,
    /// Terms of each sum.
    pub k: usize,
    /// Columns of the result.
    pub n: usize,
    /// Whether the first factor is stored transposed.
    pub a_transposed: bool,
    /// Whether the second factor is stored transposed.
    pub b_transposed: bool,
    /// Dtype of both factors.
    pub factors: DType,
    /// Dtype of the result and of the bias and addend.
    pub result: DType,
    /// Whether a bias is added to each row.
    pub bias: bool,
    /// Whether a matrix is added. The result may overwrite it or be elsewhere; the algorithm, and so the bits, are the same.
    pub addend: bool,
}

/// Alignment that cuBLASLt's fast algorithms need, in bytes.
const ALIGNMENT: usize = 16;
/// Fewest tokens in a bucket: the fewest rows of a tile.
const LEAST_BUCKET: usize = 16;
/// Buckets double up to this number of tokens; above it there are four per power of two.
const DOUBLING: usize = 128;

impl Shape {
    /// The shape of a product.
    ///
    /// # Errors
    /// If the sizes do not match, or products of these dtypes are not supported.
    pub fn of(product: &Product) -> Result<Self> {
        let (m, k, n) = product.sizes()?;
        let (factors, other, result) = (product.a.stored.dtype(), product.b.stored.dtype(), product.out.dtype());
        let is_known = matches!((factors, result), (DType::F32, DType::F32) | (DType::BF16, DType::BF16 | DType::F32));
        if factors != other || !is_known {
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

    /// The number of tokens.
    pub fn tokens(&self) -> usize {
        if self.a_transposed { self.k } else { self.m }
    }

    /// The same shape with another number of tokens.
    pub fn of_tokens(self, tokens: usize) -> Self {
        if self.a_transposed { Self { k: tokens, ..self } } else { Self { m: tokens, ..self } }
    }

    /// The shape that an algorithm is timed for: this shape with its tokens rounded up.
    ///
    /// Up to 128 tokens the rows of a tile matter, which are powers of two. Above, the time depends on how many tiles keep how many
    /// multiprocessors busy, which changes with every few tiles. Above 128, a bucket exceeds its smallest member by at most a quarter. Exact
    /// numbers would be timed again for almost every micro-batch, because they hardly ever repeat.
    pub fn bucket(self) -> Self {
        let tokens = self.tokens();
        let doubled = tokens.next_power_of_two().max(LEAST_BUCKET);
        self.of_tokens(if doubled <= DOUBLING { doubled } else { tokens.next_multiple_of(doubled / 8) })
    }

    /// Alignment of the addresses of the factors, in bytes. It follows from the lengths of rows, whatever the number of tokens, so that sampler
    /// and trainer have the same alignment.
    pub fn alignment(&self) -> usize {
        let a_row = if self.a_transposed { self.m } else { self.k };
        let b_row = if self.b_transposed { self.k } else { self.n };
        let (factor, result) = (self.factors.size_in_bytes(), self.result.size_in_bytes());
        let rows = [a_row * factor, b_row * factor, self.n * result];
        if rows.iter().all(|bytes| bytes % ALIGNMENT == 0) { ALIGNMENT } else { factor }
    }

    /// Alignment of the result and of what is added, in bytes: an element of theirs may be wider than one of a factor.
    pub fn result_alignment(&self) -> usize {
        self.alignment().max(self.result.size_in_bytes())
    }

    /// Floating-point operations.
    #[cfg(test)]
    pub fn flops(&self) -> f64 {
        2.0 * self.m as f64 * self.k as f64 * self.n as f64
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let turned = |transposed| if transposed { "^T" } else { "" };
        let (factors, result) = (self.factors.as_str(), self.result.as_str());
        write!(f, "{}x{}{} {}x{}{}", self.m, self.k, turned(self.a_transposed), self.k, self.n, turned(self.b_transposed))?;
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
    fn bucket_rounds_tokens_up_by_at_most_a_quarter_above_128() {
        let bucket = |tokens| shape(tokens, 64, 48).bucket().tokens();
        let found: Vec<usize> = [1, 16, 17, 33, 128, 129, 161, 256, 257, 513, 640, 641, 1024, 1025, 16_384].map(bucket).into();
        assert_eq!(found, [16, 16, 32, 64, 128, 160, 192, 256, 320, 640, 640, 768, 1024, 1280, 16_384]);
        for tokens in 1..5000 {
            let bucket = bucket(tokens);
            assert!(tokens <= bucket && (tokens <= 128 || bucket * 4 <= tokens * 5), "{tokens} in {bucket}");
        }
    }

    #[test]
    fn tokens_are_the_terms_of_a_gradient_and_the_rows_of_all_else() {
        let gradient = Shape { a_transposed: true, ..shape(1536, 700, 2048) };
        assert_eq!((gradient.tokens(), gradient.bucket().k, gradient.bucket().m), (700, 768, 1536));
        assert_eq!(gradient.to_string(), "1536x700^T 700x2048 bf16 to bf16 + bias");
    }

    #[test]
    fn alignment_follows_the_lengths_of_rows_alone() {
        assert_eq!([shape(1, 64, 48), shape(7, 64, 48), shape(7, 64, 52), shape(7, 63, 48)].map(|shape| shape.alignment()), [16, 16, 2, 2]);
        let wide = Shape { result: DType::F32, ..shape(7, 64, 52) };
        assert_eq!((wide.alignment(), wide.result_alignment()), (2, 4), "104 bytes of b");
        assert_eq!(Shape { result: DType::F32, b_transposed: true, ..shape(7, 64, 52) }.alignment(), 16);
    }
}
