//! The operations that everything else computes with, on contiguous tensors: one list, [`Kernels`], and a version for each kind of machine.
//!
//! Owns every `unsafe` block of the program and every loop over tensor elements. Must never know what a model, a prompt or a reward is.
//! [`cpu`] is the plain version, whose results the others are held to; [`stock`] is made of candle's stock operations alone and runs
//! wherever candle does; [`fused`] launches the kernels in `cuda/`. All versions share the arguments and
//! results in [`shape`], [`logits`] and [`optimizer`]. [`compute`] chooses a version from what [`card`] finds and [`confirmation`] confirms;
//! [`watched`] wraps any of them.
//! Weights and activations have the kernels' own dtype; gradients of weights, logits and row statistics are f32, and so are moments unless
//! they are coded in 8 bits.
//! Axis legend: t = token, n = sequence, h = head, d = head width, q/kv = query and key/value heads, v = vocabulary, w = model width,
//! f = feed-forward width.

use std::fmt::Debug;
use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor};

use crate::flow::Kept;

pub mod card;
pub mod compute;
pub mod confirmation;
mod copies;
pub mod cpu;
pub mod fused;
pub mod layout;
pub mod logits;
pub mod memory;
pub mod optimizer;
pub mod pass;
pub mod shape;
pub mod stock;
pub mod timed;
pub mod watched;

pub use card::device_name;
pub use compute::{Compute, ComputeSettings, Place, Precision, Target, Version};
pub use copies::{on_host, wait_for};
pub use cpu::Cpu;
pub use fused::Fused;
pub use logits::{Choice, Chosen, Drawn, Filter, MASKED, RowScores};
pub use memory::{DeviceLost, DeviceMemory, OutOfMemory, is_lost, is_out_of_memory};
pub use optimizer::{Coded, Moments, Parameter, Step};
pub use pass::Pass;
pub use shape::{BLOCK, Heads, Indices, LayerCache, Rotation, Segment, Tables};
pub use stock::Stock;
pub use timed::Timed;
pub use watched::{Watch, Watched};

watched::operations! {
    /// One way of computing, on one device in one dtype.
    ///
    /// Tensors are handles to storage, so that an operation can write through `&Tensor`. Those that write to an argument say so: their names
    /// end in `_into` (they add to their first arguments) or in `_in_place`, or they are verbs that can only mean a write: `store`,
    /// `copy_blocks`, `set`, `set_columns` and `clear`.
    pub trait Kernels: Debug + Send + Sync {
        /// What `--kernels` calls this version of the operations.
        fn version(&self) -> &'static str;

        /// Where tensors lie.
        fn device(&self) -> &Device;

        /// The dtype of weights and activations.
        fn dtype(&self) -> DType;

        /// The device's own memory; none where it is the machine's.
        fn memory(&self) -> Option<DeviceMemory>;

        operations:

        /// Makes row numbers known to the device.
        fn indices<'a>(&self, rows: &'a [u32]) -> Result<Indices<'a>>;

        /// Makes the blocks and token counts of cached sequences known to the device.
        fn tables<'a>(&self, blocks: &'a [&'a [u32]], counts: &'a [usize]) -> Result<Tables<'a>>;

        /// Rows of `table [n, w]` at indices `rows`, `[rows, w]`, in the table's dtype: the kernels' own or, on a device, u32.
        fn gather(&self, table: &Tensor, rows: &Indices) -> Result<Tensor>;

        /// `target[rows[i]] += values[i]`; a row may come up many times. The numbers are the host's own: it groups them.
        ///
        /// # Errors
        /// When there is not one row of values for each number.
        fn scatter_add_into(&self, target: &Tensor, rows: &[u32], values: &Tensor) -> Result<()>;

        /// `x [m, k]` times `weight [k, n]`, plus `bias [n]` where given. A factor may be a transposed view (`weight.t()`). The bits of a
        /// row do not depend on the other rows where the version promises that; a transposed factor is a gradient's, and need not keep it.
        fn product(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor>;

        /// `target [m, n] += x [m, k] weight [k, n]`, as `product` multiplies: a residual stream (all in the kernels' dtype, or all in f32),
        /// or a weight's gradient in f32 from `x.t()` and `dy`, which are in the kernels' dtype or in f32.
        fn add_product_into(&self, target: &Tensor, x: &Tensor, weight: &Tensor) -> Result<()>;

        /// `base [m, n] + x [m, k] weight [k, n]` in the kernels' dtype; bit-identical to `add_product_into` on a copy of `base`.
        fn add_product(&self, base: &Tensor, x: &Tensor, weight: &Tensor) -> Result<Tensor>;

        /// RMSNorm: `x [t, w]`, `weight [w]` to `(y [t, w], inverse_rms [t])`; the second, in f32, is what the backward pass needs.
        fn rms_norm(&self, x: &Tensor, weight: &Tensor, eps: f32) -> Result<(Tensor, Tensor)>;

        /// Adds the gradient of x to `dx [t, w]` and that of the weight to `weight_gradient [w]`.
        fn rms_norm_backward_into(
            &self,
            dx: &Tensor,
            weight_gradient: &Tensor,
            dy: &Tensor,
            x: &Tensor,
            weight: &Tensor,
            inverse_rms: &Tensor,
        ) -> Result<()>;

        /// Applies rotary position embedding to the queries and keys of each row of `qkv [t, (q + 2 kv) d]`.
        fn rotate_in_place(&self, qkv: &Tensor, heads: Heads, rotation: &Rotation) -> Result<()>;

        /// The gradient of `rotate_in_place`: rotates the rows of `d_qkv [t, (q + 2 kv) d]` back. If a bias was added to `qkv` before the
        /// rotation, adds the column sums of the result to `bias_gradient [(q + 2 kv) d]`, in f32.
        fn rotate_back_in_place(
            &self,
            d_qkv: &Tensor,
            heads: Heads,
            rotation: &Rotation,
            bias_gradient: Option<&Tensor>,
        ) -> Result<()>;

        /// Causal attention over sequences laid end to end: `qkv [t, (q + 2 kv) d]`, rotated, to `output [t, q d]` and the log-sum-exp of the
        /// scores in f32, laid out as `attend_packed_backward` of the same kernels wants it.
        fn attend_packed(&self, qkv: &Tensor, segments: &[Segment], heads: Heads) -> Result<(Tensor, Tensor)>;

        /// The gradient of `qkv` from `d_out [t, q d]`; keys and values of a shared prefix collect the gradients of all that continue it.
        fn attend_packed_backward(
            &self,
            d_out: &Tensor,
            out: &Tensor,
            log_sum_exp: &Tensor,
            qkv: &Tensor,
            segments: &[Segment],
            heads: Heads,
        ) -> Result<Tensor>;

        /// Room for `blocks` blocks of keys and values.
        fn cache(&self, blocks: usize, heads: Heads) -> Result<LayerCache>;

        /// Writes the keys and values of `qkv [t, (q + 2 kv) d]` to `slots [t]` (block number * 16 + offset in the block).
        fn store(&self, cache: &LayerCache, qkv: &Tensor, slots: &Indices, heads: Heads) -> Result<()>;

        /// Copies whole blocks, `(from, to)`: a shared block that two sequences are about to continue differently.
        fn copy_blocks(&self, cache: &LayerCache, pairs: &[(u32, u32)], heads: Heads) -> Result<()>;

        /// Attention of one new token per sequence, `qkv [n, (q + 2 kv) d]`, already stored in the cache: `[n, q d]`.
        fn attend_cached(&self, qkv: &Tensor, cache: &LayerCache, tables: &Tables, heads: Heads) -> Result<Tensor>;

        /// `rotate_in_place` and `store` in one: rotates the queries and keys of each row, and writes the rotated keys and the values to the
        /// cache.
        fn rotate_and_store_in_place(
            &self,
            qkv: &Tensor,
            heads: Heads,
            rotation: &Rotation,
            cache: &LayerCache,
            slots: &Indices,
        ) -> Result<()>;

        /// `silu(gate) * up`: `gate_up [t, 2 f]` to `[t, f]`.
        fn swiglu(&self, gate_up: &Tensor) -> Result<Tensor>;

        /// The gradient of `gate_up [t, 2 f]` from that of the output, `dy [t, f]`.
        fn swiglu_backward(&self, dy: &Tensor, gate_up: &Tensor) -> Result<Tensor>;

        /// Logits `[t, v]` in f32: `x [t, w]` times the transpose of `table [v, w]`. The one product whose result is wider than its factors;
        /// a forward pass ends with it, so that it keeps the promise about rows.
        fn logits(&self, x: &Tensor, table: &Tensor) -> Result<Tensor>;

        /// Scores of `logits [t, v]` divided by the temperature, for the chosen tokens `targets [t]`. A version may scale the logits in place:
        /// only `head_backward` may read them afterwards.
        fn head_scores_in_place(&self, logits: &Tensor, targets: &[u32], temperature: f32) -> Result<RowScores>;

        /// The gradient of the logits, `[t, v]`, from the derivatives by each row's log-probability and entropy; the logits are used up.
        fn head_backward(
            &self,
            logits: Tensor,
            targets: &[u32],
            temperature: f32,
            scores: &RowScores,
            d_logprob: &[f32],
            d_entropy: &[f32],
        ) -> Result<Tensor>;

        /// Chooses a token from each row of `logits [n, v]`, of which only the first `limit` may be drawn, and gives its log-probability at the
        /// choice's temperature, over all tokens. The logits are used up.
        fn choose(&self, logits: Tensor, limit: usize, choice: &Choice) -> Result<Chosen>;

        /// As `choose`, and records for each row which tokens could have been drawn, with the chosen token's log-probability among those alone: the
        /// one that `keep` and `head_scores_in_place` give.
        fn choose_kept(&self, logits: Tensor, limit: usize, choice: &Choice) -> Result<Chosen>;

        /// Sets the `logits [t, v]` of all tokens that a row does not keep to [`MASKED`], so that softmax, entropy and gradients are those of the
        /// kept tokens. The logits are used up.
        ///
        /// # Errors
        /// When there is not one set for each row, or a set has a token beyond the vocabulary.
        fn keep(&self, logits: Tensor, kept: &Kept) -> Result<Tensor>;

        /// The sum of squares of an f32 tensor, in f64.
        fn sum_of_squares(&self, gradient: &Tensor) -> Result<f64>;

        /// One AdamW step over a parameter: its weight, its master and its moments change.
        fn adamw_in_place(&self, parameter: &Parameter, step: &Step) -> Result<()>;

        /// `target += source`, f32.
        fn add_into(&self, target: &Tensor, source: &Tensor) -> Result<()>;

        /// Sets every element to 0.
        fn clear(&self, target: &Tensor) -> Result<()>;

        /// `x`, from any device, on this device and in `dtype` (f32 or bf16); `x` itself if it is already there in that dtype.
        fn cast(&self, x: &Tensor, dtype: DType) -> Result<Tensor>;

        /// `target = source`, which may be on another device and in another dtype; values are rounded to the target's dtype.
        fn set(&self, target: &Tensor, source: &Tensor) -> Result<()>;

        /// A copy of some columns of `matrix [m, n]`, in f32.
        fn columns(&self, matrix: &Tensor, columns: Range<usize>) -> Result<Tensor>;

        /// Writes `source [m, n]` to the columns of `target` that begin at `first`, rounded to its dtype.
        fn set_columns(&self, target: &Tensor, first: usize, source: &Tensor) -> Result<()>;

        /// Concatenates tensors along their first axis, in a copy; all other axes match.
        fn stack(&self, parts: &[&Tensor]) -> Result<Tensor>;

        /// `factor x` in f32, for a matrix or a transposed view of one, as a factor of a product.
        fn scaled(&self, x: &Tensor, factor: f64) -> Result<Tensor>;

        /// `average = decay average + (1 - decay) x`, in f32; x is in the kernels' dtype or in f32.
        fn mix_in_place(&self, average: &Tensor, x: &Tensor, decay: f64) -> Result<()>;

        /// The values of an f32 tensor, row by row. Waits until the device has computed them.
        fn read(&self, x: &Tensor) -> Result<Vec<f32>>;

        passes:

        /// A whole pass over cached sequences, `[n, w]`. A watch sees each of its operations.
        fn run_pass(&self, step: &pass::Step, pass: &dyn Pass) -> Result<Tensor>;
    }
}

#[cfg(test)]
pub(crate) mod tests;
