//! A pass over cached sequences, one new token of each: the same operations again and again, with other numbers each time.
//!
//! Owns what such a pass is given ([`Step`]) and how it is made layer by layer ([`Pass`]), so that kernels may keep its memory from one to the
//! next, or record it and start it again as a whole. Must never know what a layer computes.

use candle_core::{Result, Tensor, TensorId};

use super::{Indices, Kernels, Tables};

/// One new token of each of n cached sequences.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The tokens `[n]`.
    pub tokens: &'a Indices<'a>,
    /// Where each token's keys and values go, `[n]`: block number * 16 + offset in the block.
    pub slots: &'a [u32],
    /// The blocks that hold each sequence.
    pub blocks: &'a [&'a [u32]],
    /// Tokens of each sequence, the new one included; its position is one less.
    pub counts: &'a [usize],
}

impl Step<'_> {
    /// The position of each token in its sequence.
    pub fn positions(&self) -> Vec<u32> {
        self.counts.iter().map(|count| *count as u32 - 1).collect()
    }
}

/// The same numbers where the operations read them.
#[derive(Clone, Debug)]
pub struct Rows<'a> {
    /// The tokens.
    pub tokens: Indices<'a>,
    /// Their positions.
    pub positions: Indices<'a>,
    /// Their slots.
    pub slots: Indices<'a>,
    /// Blocks and token counts of their sequences.
    pub tables: Tables<'a>,
}

/// What a pass computes, on the kernels that it is given.
pub trait Pass {
    /// How many layers there are.
    fn layers(&self) -> usize;

    /// What the first layer begins with: a row for each sequence.
    fn begin(&self, kernels: &dyn Kernels, rows: &Rows) -> Result<Tensor>;

    /// A layer over these rows, in place. No tensor that it makes is used after it.
    fn layer(&self, layer: usize, x: &Tensor, kernels: &dyn Kernels, rows: &Rows) -> Result<()>;

    /// All tensors that the pass reads or writes and does not make: weights, tables, and the cache. Passes over the same ones, of as many
    /// sequences, are the same operations at the same addresses.
    fn tensors(&self) -> Vec<TensorId>;
}

/// Makes a pass operation by operation.
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
