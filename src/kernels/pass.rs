//! A decoding pass: a forward pass with one new token for each of several cached sequences. Every pass runs the same operations on
//! different inputs.
//!
//! Owns the input of a pass ([`Step`]) and the interface to its computation, layer by layer ([`Pass`]). This lets kernels reuse memory from
//! one pass to the next, or record a pass and replay it as a whole. Knows nothing about the contents of a layer.

use candle_core::{Result, Tensor, TensorId};

use super::{BlockTables, Indices, Kernels};

/// The input of a pass: one new token for each of n cached sequences.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The new tokens `[n]`.
    pub tokens: &'a Indices<'a>,
    /// The cache slot for each token's keys and values, `[n]`: block number times [`BLOCK`](super::BLOCK) plus the offset in the block.
    pub slots: &'a [u32],
    /// The cache blocks of each sequence, in order.
    pub blocks: &'a [&'a [u32]],
    /// The number of tokens in each sequence, including the new one, whose position is one less.
    pub counts: &'a [usize],
}

impl Step<'_> {
    /// The position of each new token in its sequence, `[n]`.
    pub fn positions(&self) -> Vec<u32> {
        self.counts.iter().map(|count| *count as u32 - 1).collect()
    }
}

/// The input of a pass in the form that the operations read.
#[derive(Clone, Debug)]
pub struct Rows<'a> {
    /// The new tokens `[n]`.
    pub tokens: Indices<'a>,
    /// Their positions `[n]`.
    pub positions: Indices<'a>,
    /// Their cache slots `[n]`.
    pub slots: Indices<'a>,
    /// Block tables and token counts of the sequences.
    pub tables: BlockTables<'a>,
}

/// The computation of a pass. The caller provides the kernels.
pub trait Pass {
    /// The number of layers.
    fn layers(&self) -> usize;

    /// Returns the input of the first layer, `[n, w]`: one row for each sequence.
    ///
    /// # Errors
    /// If an operation fails.
    fn begin(&self, kernels: &dyn Kernels, rows: &Rows) -> Result<Tensor>;

    /// Applies a layer to the rows `x [n, w]`, in place. Its intermediate tensors must not be used after it returns.
    ///
    /// # Errors
    /// If an operation fails.
    fn layer(&self, layer: usize, x: &Tensor, kernels: &dyn Kernels, rows: &Rows) -> Result<()>;

    /// Returns the ids of all tensors that the pass reads or writes but does not create: weights, rotary tables and the cache. Two passes
    /// with the same tensors and number of sequences run the same operations on the same addresses.
    fn tensors(&self) -> Vec<TensorId>;
}

/// Runs a pass operation by operation, without recording it. Returns the rows after the last layer, `[n, w]`.
///
/// # Errors
/// If an operation fails.
pub fn run_eagerly(kernels: &dyn Kernels, step: &Step, pass: &dyn Pass) -> Result<Tensor> {
    let positions = step.positions();
    let rows = Rows {
        tokens: step.tokens.clone(),
        positions: kernels.indices(&positions)?,
        slots: kernels.indices(step.slots)?,
        tables: kernels.tables(step.blocks, step.counts)?,
    };
    let x = pass.begin(kernels, &rows)?;
    (0..pass.layers()).try_for_each(|layer| pass.layer(layer, &x, kernels, &rows))?;
    Ok(x)
}
