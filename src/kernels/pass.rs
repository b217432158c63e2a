//! A pass over cached sequences, with one new token for each: the same operations every time, on different numbers.
//!
//! Owns the input of such a pass ([`Step`]) and its computation layer by layer ([`Pass`]), so that kernels can keep its memory from one pass to
//! the next, or record it and replay it as a whole. Must never know what a layer computes.

use candle_core::{Result, Tensor, TensorId};

use super::{Indices, Kernels, Tables};

/// One new token of each of n cached sequences.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The tokens `[n]`.
    pub tokens: &'a Indices<'a>,
    /// Slot of each token's keys and values, `[n]`: block number * 16 + offset in the block.
    pub slots: &'a [u32],
    /// The blocks of each sequence.
    pub blocks: &'a [&'a [u32]],
    /// Number of tokens in each sequence, including the new one; the token's position is one less.
    pub counts: &'a [usize],
}

impl Step<'_> {
    /// The position of each token in its sequence.
    pub fn positions(&self) -> Vec<u32> {
        self.counts.iter().map(|count| *count as u32 - 1).collect()
    }
}

/// The same numbers as tensors on the device.
#[derive(Clone, Debug)]
pub struct Rows<'a> {
    /// The tokens.
    pub tokens: Indices<'a>,
    /// Their positions.
    pub positions: Indices<'a>,
    /// Their slots.
    pub slots: Indices<'a>,
    /// Blocks and token counts of the sequences.
    pub tables: Tables<'a>,
}

/// The computation of a pass, on given kernels.
pub trait Pass {
    /// The number of layers.
    fn layers(&self) -> usize;

    /// The input of the first layer: a row for each sequence.
    fn begin(&self, kernels: &dyn Kernels, rows: &Rows) -> Result<Tensor>;

    /// Applies a layer to these rows, in place. Its intermediate tensors are not used after it returns.
    fn layer(&self, layer: usize, x: &Tensor, kernels: &dyn Kernels, rows: &Rows) -> Result<()>;

    /// All tensors that the pass reads or writes but does not create: weights, tables and the cache. Passes over the same tensors with the same
    /// number of sequences are the same operations at the same addresses.
    fn tensors(&self) -> Vec<TensorId>;
}

/// Runs a pass operation by operation.
pub fn plainly(kernels: &dyn Kernels, step: &Step, pass: &dyn Pass) -> Result<Tensor> {
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
