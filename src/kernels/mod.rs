//! The operations that models, rollouts and the optimizer compute with, on contiguous tensors: one trait, [`Kernels`], and one
//! implementation for each kind of machine.
//!
//! Owns every loop over tensor elements and every `unsafe` block of the program, except the calls of C libraries in `dist`. Knows nothing
//! about models, prompts or rewards. There are three implementations (backends): [`cpu`] has the plain loops with which the other two are compared, [`stock`] uses only candle's stock
//! operations and runs wherever candle does, and [`fused`] launches the kernels in `cuda/`. They share the argument and result types in
//! [`shape`], [`logits`] and [`optimizer`]. [`compute`] selects the backend by the GPU that [`gpu_info`] finds and the confirmed GPUs
//! that [`confirmation`] lists. [`hooks`] wraps any backend in hooks, such as those of the [`profiler`].
//!
//! Dtypes: weights and activations have the kernels' own dtype. Weight gradients, logits and row statistics are f32. Optimizer moments are
//! f32 or quantized to 8 bits.
//!
//! Axis legend: t = token, n = sequence, h = head, d = head width, q/kv = query and key/value heads, v = vocabulary, w = model width, f =
//! feed-forward width, m/k/n = rows, inner size and columns of a product.

use std::fmt::Debug;
use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor};

use crate::flow::SamplingMask;

pub mod compute;
pub mod confirmation;
mod copies;
pub mod cpu;
pub mod fused;
pub mod gpu_info;
pub mod hooks;
pub mod layout;
pub mod logits;
pub mod memory;
pub mod optimizer;
pub mod pass;
mod processor;
pub mod profiler;
pub mod shape;
mod slices;
pub mod stock;

pub use compute::{Backend, Compute, ComputeSettings, DeviceChoice, Precision, Target};
pub use copies::{on_host, wait_for};
pub use cpu::Cpu;
pub use fused::Fused;
pub use gpu_info::{device_name, gpu_number};
pub use hooks::{HookedKernels, OperationHooks};
pub use logits::{Filter, MASKED, PendingSample, RowScores, SamplerOutput, SamplingParams};
pub use memory::{DeviceLost, DeviceMemory, OutOfMemory, is_lost, is_out_of_memory};
pub use optimizer::{Moments, Parameter, Quantized, Step};
pub use pass::Pass;
pub use processor::processor_features;
pub use profiler::Profiler;
pub use shape::{BLOCK, BlockTables, Heads, Indices, LayerCache, Rotation, Segment};
pub use slices::device_slice;
pub use stock::Stock;

hooks::operations! {
    /// A backend: one implementation of all operations, for one device and one dtype.
    ///
    /// Tensors are handles to storage, so an operation can write through `&Tensor`. The names show which operations do: those ending in
    /// `_into` add to their first arguments, those ending in `_in_place` overwrite them, and `store`, `copy_blocks`, `set`, `set_columns` and
    /// `clear` are themselves verbs for writing.
    ///
    /// Tensors are contiguous, on [`device`](Self::device), and in [`dtype`](Self::dtype), unless an operation says otherwise.
    /// Implementations check ranks, dtypes and layouts only where they depend on them; the caller must pass shapes that agree.
    ///
    /// Below, "the device fails" means that it is out of memory ([`OutOfMemory`]), has stopped working ([`DeviceLost`]), or rejects the
    /// operation. A device may report a failure late, in a later operation.
    pub trait Kernels: Debug + Send + Sync {
        /// The name of this backend: `plain`, `stock`, `fused`, or `fused, batch-invariant`.
        fn backend(&self) -> &'static str;

        /// The device that holds the tensors.
        fn device(&self) -> &Device;

        /// The dtype of weights and activations.
        fn dtype(&self) -> DType;

        /// The memory of the device; `None` if the device uses the machine's main memory or does not report it.
        fn memory(&self) -> Option<DeviceMemory>;

        operations:

        /// Copies row numbers to where this backend reads them: the host, the device or both.
        ///
        /// # Errors
        /// If the device fails.
        fn indices<'a>(&self, rows: &'a [u32]) -> Result<Indices<'a>>;

        /// Copies the block tables and token counts of cached sequences to where this backend reads them: the host or the device.
        ///
        /// `blocks[i]` lists the cache blocks of sequence i in order; `counts[i]` is its number of tokens, including the new one.
        ///
        /// # Errors
        /// If the device fails.
        fn tables<'a>(&self, blocks: &'a [&'a [u32]], counts: &'a [usize]) -> Result<BlockTables<'a>>;

        /// Returns the rows of `table [n, w]` at `rows`, in that order: `[rows, w]`, in the table's dtype. This is the kernels' own or, except
        /// in the plain loops, u32.
        ///
        /// # Errors
        /// If the row numbers are not where this backend reads them, a row number is out of range (not checked on a GPU), or the device
        /// fails.
        fn gather(&self, table: &Tensor, rows: &Indices) -> Result<Tensor>;

        /// `target[rows[i]] += values[i]`: adds each row of `values [rows, w]` to a row of `target [n, w]`, which is in the kernels' dtype
        /// or in f32. A row number may occur several times. The row numbers are on the host, where the fused backend groups them.
        ///
        /// # Errors
        /// If `rows` and `values` differ in length, or the device fails.
        fn scatter_add_into(&self, target: &Tensor, rows: &[u32], values: &Tensor) -> Result<()>;

        /// Returns `x [m, k] weight [k, n] + bias [n]`, `[m, n]`; without a bias, only the product. Either factor may be a transposed view
        /// (`weight.t()`).
        ///
        /// In a batch-invariant backend (the plain loops always, the fused kernels on request), the bits of a row do not depend on the other
        /// rows. Products with transposed factors are exempt: they occur only in gradients.
        ///
        /// # Errors
        /// If the shapes do not match, a factor is neither contiguous nor the transpose of a contiguous matrix, or the device fails.
        fn product(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor>;

        /// `target [m, n] += x [m, k] weight [k, n]`, multiplied as in `product`. The target is either a residual stream (all three in the
        /// kernels' dtype, or all in f32), or a weight's gradient in f32, computed from `x.t()` and `dy` in the kernels' dtype or in f32.
        ///
        /// # Errors
        /// If the shapes do not match, a factor is neither contiguous nor the transpose of a contiguous matrix, or the device fails.
        fn add_product_into(&self, target: &Tensor, x: &Tensor, weight: &Tensor) -> Result<()>;

        /// Returns `base [m, n] + x [m, k] weight [k, n]` in the kernels' dtype. Bit-identical to `add_product_into` on a copy of `base`.
        ///
        /// # Errors
        /// If the shapes do not match, a factor is neither contiguous nor the transpose of a contiguous matrix, or the device fails.
        fn add_product(&self, base: &Tensor, x: &Tensor, weight: &Tensor) -> Result<Tensor>;

        /// Applies RMSNorm to each row of `x [t, w]` and scales the result by `weight [w]`. Returns `(y [t, w], inverse_rms [t])`. The backward
        /// pass needs `inverse_rms`, which is f32.
        ///
        /// # Errors
        /// If `x` is not a matrix, or the device fails.
        fn rms_norm(&self, x: &Tensor, weight: &Tensor, eps: f32) -> Result<(Tensor, Tensor)>;

        /// The backward pass of `rms_norm`: adds the gradient of `x` to `dx [t, w]` and the gradient of the weight to `weight_gradient [w]`,
        /// which is f32. `dy [t, w]` is the gradient of `y`.
        ///
        /// # Errors
        /// If a tensor has an unsupported dtype or layout, or the device fails.
        fn rms_norm_backward_into(
            &self,
            dx: &Tensor,
            weight_gradient: &Tensor,
            dy: &Tensor,
            x: &Tensor,
            weight: &Tensor,
            inverse_rms: &Tensor,
        ) -> Result<()>;

        /// Applies rotary position embedding to the queries and keys in each row of `qkv [t, (q + 2 kv) d]`. Row i has position
        /// `rotation.positions[i]`.
        ///
        /// # Errors
        /// If a position is beyond the context length that the rotary tables cover, the positions are not where this backend reads them, or
        /// the device fails.
        fn rotate_in_place(&self, qkv: &Tensor, heads: Heads, rotation: &Rotation) -> Result<()>;

        /// The backward pass of `rotate_in_place`: rotates the rows of `d_qkv [t, (q + 2 kv) d]` back. If `bias_gradient [(q + 2 kv) d]`
        /// (f32) is given, also adds the column sums of the result to it: the gradient of a bias that was added before the rotation.
        ///
        /// # Errors
        /// If a position is beyond the context length that the rotary tables cover, the positions are not where this backend reads them, or
        /// the device fails.
        fn rotate_back_in_place(
            &self,
            d_qkv: &Tensor,
            heads: Heads,
            rotation: &Rotation,
            bias_gradient: Option<&Tensor>,
        ) -> Result<()>;

        /// Causal attention over packed sequences. Takes the rotated `qkv [t, (q + 2 kv) d]` and returns `output [t, q d]` and the
        /// log-sum-exp of the scores in f32, in the layout that this backend's `attend_packed_backward` expects.
        ///
        /// # Errors
        /// If `qkv` is not a matrix, the fused kernels do not support heads of this width, or the device fails.
        fn attend_packed(&self, qkv: &Tensor, segments: &[Segment], heads: Heads) -> Result<(Tensor, Tensor)>;

        /// The backward pass of `attend_packed`: returns the gradient of `qkv [t, (q + 2 kv) d]` from `d_out [t, q d]`. The gradients of the
        /// keys and values of a shared prefix are summed over all segments that continue it.
        ///
        /// # Errors
        /// If `qkv` is not a matrix, the fused kernels do not support heads of this width, or the device fails.
        fn attend_packed_backward(
            &self,
            d_out: &Tensor,
            out: &Tensor,
            log_sum_exp: &Tensor,
            qkv: &Tensor,
            segments: &[Segment],
            heads: Heads,
        ) -> Result<Tensor>;

        /// Allocates a layer's key/value cache of `blocks` blocks with [`BLOCK`] positions each, filled with zeros.
        ///
        /// # Errors
        /// If the device fails.
        fn cache(&self, blocks: usize, heads: Heads) -> Result<LayerCache>;

        /// Writes the keys and values of `qkv [t, (q + 2 kv) d]` to the cache at `slots [t]`. A slot is a block number times [`BLOCK`] plus
        /// the offset in the block.
        ///
        /// # Errors
        /// If the slots are not where this backend reads them, or the device fails.
        fn store(&self, cache: &LayerCache, qkv: &Tensor, slots: &Indices, heads: Heads) -> Result<()>;

        /// Copies whole blocks of keys and values, given as pairs `(from, to)`, when sequences that share a block are about to diverge. The
        /// pairs may be copied in any order, so no block may occur both as a source and as a target.
        ///
        /// # Errors
        /// If the device fails.
        fn copy_blocks(&self, cache: &LayerCache, pairs: &[(u32, u32)], heads: Heads) -> Result<()>;

        /// Attention of one new token per sequence over its cached tokens. The keys and values of `qkv [n, (q + 2 kv) d]` must already be
        /// in the cache. Returns `[n, q d]`.
        ///
        /// # Errors
        /// If the tables are not where this backend reads them, the fused kernels do not support heads of this width, or the device fails.
        fn attend_cached(&self, qkv: &Tensor, cache: &LayerCache, tables: &BlockTables, heads: Heads) -> Result<Tensor>;

        /// `rotate_in_place` and `store` in one operation: rotates the queries and keys of each row in place, and writes the rotated keys
        /// and the values to the cache at `slots [t]`.
        ///
        /// # Errors
        /// If a position is beyond the context length that the rotary tables cover, the positions or slots are not where this backend reads
        /// them, or the device fails.
        fn rotate_and_store_in_place(
            &self,
            qkv: &Tensor,
            heads: Heads,
            rotation: &Rotation,
            cache: &LayerCache,
            slots: &Indices,
        ) -> Result<()>;

        /// Returns `silu(gate) * up`, `[t, f]`, from `gate_up [t, 2 f]`, whose rows hold all gates before the `up` values.
        ///
        /// # Errors
        /// If `gate_up` is not a matrix, or the device fails.
        fn swiglu(&self, gate_up: &Tensor) -> Result<Tensor>;

        /// The backward pass of `swiglu`: returns the gradient of `gate_up [t, 2 f]` from the gradient of the output, `dy [t, f]`.
        ///
        /// # Errors
        /// If `gate_up` is not a matrix, or the device fails.
        fn swiglu_backward(&self, dy: &Tensor, gate_up: &Tensor) -> Result<Tensor>;

        /// Returns the logits `[t, v]` in f32: `x [t, w]` times the transpose of `table [v, w]`. This is the only product of the forward
        /// pass whose result has a wider dtype than its factors. It is batch-invariant whenever `product` is.
        ///
        /// # Errors
        /// If the shapes do not match, a factor is neither contiguous nor the transpose of a contiguous matrix, or the device fails.
        fn logits(&self, x: &Tensor, table: &Tensor) -> Result<Tensor>;

        /// Returns the log-probability (nats) of each token in `targets [t]`, and each row's entropy and log-sum-exp, under `logits [t, v]`
        /// (f32) divided by the temperature. A backend may scale the logits in place: afterwards only `head_backward` may read them.
        ///
        /// # Errors
        /// If a target is beyond the vocabulary, or the device fails.
        fn head_scores_in_place(&self, logits: &Tensor, targets: &[u32], temperature: f32) -> Result<RowScores>;

        /// The backward pass of `head_scores_in_place`: returns the gradient of the logits, `[t, v]` in the kernels' dtype, from the
        /// derivatives of the loss with respect to each row's log-probability and entropy, `[t]` each. Consumes the logits, whose memory may
        /// be reused for the result.
        ///
        /// # Errors
        /// If `logits` is not a matrix, or the device fails.
        fn head_backward(
            &self,
            logits: Tensor,
            targets: &[u32],
            temperature: f32,
            scores: &RowScores,
            d_logprob: &[f32],
            d_entropy: &[f32],
        ) -> Result<Tensor>;

        /// Samples a token from each row of `logits [n, v]` (f32), among the first `limit` tokens of the vocabulary. Returns the tokens
        /// with their log-probabilities (nats) over the whole vocabulary, at the sampling temperature (1 for greedy decoding). Consumes the
        /// logits.
        ///
        /// # Errors
        /// If `logits` is not a matrix, or the device fails. [`PendingSample::read`] reports failures that happen later.
        fn sample(&self, logits: Tensor, limit: usize, params: &SamplingParams) -> Result<PendingSample>;

        /// Like `sample`, and also records each row's sampling mask and the token's log-probability among the tokens in the mask. This
        /// log-probability equals the one that `mask_logits` followed by `head_scores_in_place` returns.
        ///
        /// # Errors
        /// If `logits` is not a matrix, or the device fails. [`PendingSample::read`] reports failures that happen later.
        fn sample_with_mask(&self, logits: Tensor, limit: usize, params: &SamplingParams) -> Result<PendingSample>;

        /// Sets the logits outside each row's sampling mask to [`MASKED`], so that softmax, entropy and gradients are those of the tokens
        /// in the mask. Returns the masked `logits [t, v]` in f32, which may share storage with the argument.
        ///
        /// # Errors
        /// If the number of masks differs from the number of rows, a mask has a token beyond the vocabulary, or the device fails.
        fn mask_logits(&self, logits: Tensor, mask: &SamplingMask) -> Result<Tensor>;

        /// Returns the sum of the squares of an f32 tensor, in f64. Waits for the device.
        ///
        /// # Errors
        /// If the device fails.
        fn sum_of_squares(&self, gradient: &Tensor) -> Result<f64>;

        /// Applies one AdamW step to a parameter: updates its weight, master weight (if any) and moments in place.
        ///
        /// # Errors
        /// If a tensor has an unsupported dtype or layout, or the device fails.
        fn adamw_in_place(&self, parameter: &Parameter, step: &Step) -> Result<()>;

        /// `target += source`; both f32, with the same number of elements.
        ///
        /// # Errors
        /// If the device fails.
        fn add_into(&self, target: &Tensor, source: &Tensor) -> Result<()>;

        /// Sets every element to 0.
        ///
        /// # Errors
        /// If the device fails.
        fn clear(&self, target: &Tensor) -> Result<()>;

        /// Returns `x` on this device in `dtype` (f32 or bf16). `x` may be on any device; if it already has this device and dtype, it is
        /// returned itself, not copied.
        ///
        /// # Errors
        /// If the dtypes cannot be converted, or a device fails.
        fn cast(&self, x: &Tensor, dtype: DType) -> Result<Tensor>;

        /// `target = source`. The two may be on different devices and have different dtypes. Values are rounded to the target's dtype.
        ///
        /// # Errors
        /// If the shapes do not match, the dtypes cannot be converted, or a device fails.
        fn set(&self, target: &Tensor, source: &Tensor) -> Result<()>;

        /// Returns a copy of some columns of `matrix [m, n]`, in f32: `[m, columns]`.
        ///
        /// # Errors
        /// If the columns are out of range, or the device fails.
        fn columns(&self, matrix: &Tensor, columns: Range<usize>) -> Result<Tensor>;

        /// Writes `source [m, n]` to the columns of `target` starting at `first`, rounded to the target's dtype.
        ///
        /// # Errors
        /// If the numbers of rows differ, the columns are out of range, or the device fails.
        fn set_columns(&self, target: &Tensor, first: usize, source: &Tensor) -> Result<()>;

        /// Returns a new tensor that concatenates `parts` along their first axis, in order. All other axes must match.
        ///
        /// # Errors
        /// If `parts` is empty, their shapes or dtypes do not match, or the device fails.
        fn stack(&self, parts: &[&Tensor]) -> Result<Tensor>;

        /// Returns `factor * x` for a matrix `x` in f32 or a transposed view of one. The result can be a factor of a product.
        ///
        /// # Errors
        /// If `x` is not f32 (only the fused kernels check this), or the device fails.
        fn scaled(&self, x: &Tensor, factor: f64) -> Result<Tensor>;

        /// `average = decay * average + (1 - decay) * x`, in f32; `x` is in the kernels' dtype or in f32.
        ///
        /// # Errors
        /// If the shapes differ, `average` is not f32, or a device fails.
        fn mix_in_place(&self, average: &Tensor, x: &Tensor, decay: f64) -> Result<()>;

        /// Returns the values of an f32 tensor in row-major order. Waits for the device.
        ///
        /// # Errors
        /// If `x` is not f32 (the fused kernels do not check this fully), or the device fails.
        fn read(&self, x: &Tensor) -> Result<Vec<f32>>;

        passes:

        /// Runs a whole pass over cached sequences, with one new token each, and returns the rows after the last layer, `[n, w]`. With hooks,
        /// each operation of the pass calls them.
        ///
        /// # Errors
        /// If one of its operations fails.
        fn run_pass(&self, step: &pass::Step, pass: &dyn Pass) -> Result<Tensor>;
    }
}

#[cfg(test)]
pub(crate) mod tests;
