//! The operations that everything else computes with, on contiguous tensors: one list, and a version for each kind of machine.
//!
//! Owns every `unsafe` block of the program and every loop over tensor elements. Must never know what a model, a prompt or a reward is.
//! [`cpu`] is the plain version, whose results the others are held to; [`stock`] is made of candle's stock operations alone and runs
//! wherever candle does; [`fused`] launches the kernels in `cuda/`. Weights and activations have the kernels' own dtype; gradients of weights,
//! logits and row statistics are f32, and so are moments unless they are coded in 8 bits.
//! Axis legend: t = token, n = sequence, h = head, d = head width, q/kv = query and key/value heads, v = vocabulary, w = model width,
//! f = feed-forward width.

use std::fmt::Debug;

use candle_core::{DType, Device, Result, Tensor};

use crate::flow::{Kept, Truncated};

pub mod compute;
pub mod cpu;
pub mod fused;
pub mod layout;
pub mod shape;
pub mod stock;
pub mod timed;
pub mod watched;

pub use compute::{Compute, ComputeSettings, Place, Precision, Target, Version, device_name, is_out_of_memory};
pub use cpu::Cpu;
pub use cpu::adamw::Step;
pub use cpu::adamw_8bit::Coded;
pub use cpu::head::RowScores;
pub use cpu::sample::Filter;
pub use fused::Fused;
pub use shape::{BLOCK, Heads, Indices, LayerCache, Segment, Tables};
pub use stock::Stock;
pub use timed::Timed;
pub use watched::{Watch, Watched};

/// One way of computing, on one device in one dtype.
pub trait Kernels: Debug + Send + Sync {
    /// What `--kernels` calls this version of the operations.
    fn version(&self) -> &'static str;

    /// Where tensors lie.
    fn device(&self) -> &Device;

    /// The dtype of weights and activations.
    fn dtype(&self) -> DType;

    /// The device's own memory; none where it is the machine's.
    fn memory(&self) -> Option<DeviceMemory> {
        None
    }

    /// Makes row numbers known to the device.
    fn indices<'a>(&self, rows: &'a [u32]) -> Result<Indices<'a>>;

    /// Makes the blocks and token counts of cached sequences known to the device.
    fn tables<'a>(&self, blocks: &'a [&'a [u32]], counts: &'a [usize]) -> Result<Tables<'a>>;

    /// `table [n, w]` at `rows` to `[rows, w]`.
    fn gather(&self, table: &Tensor, rows: &Indices) -> Result<Tensor>;

    /// `target[rows[i]] += values[i]`, in place; a row may come up many times.
    fn scatter_add(&self, target: &Tensor, rows: &Indices, values: &Tensor) -> Result<()>;

    /// `x [m, k]` times `weight [k, n]`, plus `bias [n]` where given.
    fn product(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor>;

    /// `x [m, k]` times the transpose of `weight [n, k]`.
    fn product_transposed(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor>;

    /// `target [m, n] += x [m, k] weight [k, n]`, in place; all in the kernels' dtype, or all in f32.
    fn add_product(&self, target: &Tensor, x: &Tensor, weight: &Tensor) -> Result<()>;

    /// `gradient [m, n] += a [t, m]^T b [t, n]`, in place: a weight's gradient, in f32. The factors are in the kernels' dtype, or in f32.
    fn add_transposed_product(&self, gradient: &Tensor, a: &Tensor, b: &Tensor) -> Result<()>;

    /// `gradient [n] += ` the column sums of `dy [t, n]`, in place: a bias's gradient, in f32.
    fn add_column_sums(&self, gradient: &Tensor, dy: &Tensor) -> Result<()>;

    /// RMSNorm: `x [t, w]`, `weight [w]` to `(y [t, w], inverse_rms [t])`; the second, in f32, is what the backward pass needs.
    fn rms_norm(&self, x: &Tensor, weight: &Tensor, eps: f32) -> Result<(Tensor, Tensor)>;

    /// Adds the gradient of x to `dx [t, w]` and that of the weight to `weight_gradient [w]`, in place.
    fn rms_norm_backward(
        &self,
        dx: &Tensor,
        weight_gradient: &Tensor,
        dy: &Tensor,
        x: &Tensor,
        weight: &Tensor,
        inverse_rms: &Tensor,
    ) -> Result<()>;

    /// Turns the first `heads` heads of each row of `qkv` in place; `cos`, `sin [p, d/2]` in f32 are looked up at `positions [t]`. `inverse`
    /// turns back, which is the gradient.
    fn rotate(&self, qkv: &Tensor, heads: Heads, cos: &Tensor, sin: &Tensor, positions: &Indices, inverse: bool) -> Result<()>;

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

    /// `silu(gate) * up`: `gate_up [t, 2 f]` to `[t, f]`.
    fn swiglu(&self, gate_up: &Tensor) -> Result<Tensor>;

    /// The gradient of `gate_up [t, 2 f]` from that of the output, `dy [t, f]`.
    fn swiglu_backward(&self, dy: &Tensor, gate_up: &Tensor) -> Result<Tensor>;

    /// Logits in f32: `x [t, w]` times the transpose of `table [v, w]`.
    fn logits(&self, x: &Tensor, table: &Tensor) -> Result<Tensor>;

    /// Scores of `logits [t, v]` divided by the temperature, for the chosen tokens `targets [t]`. The logits may be changed; only
    /// `head_backward` may read them afterwards.
    fn head_scores(&self, logits: &Tensor, targets: &[u32], temperature: f32) -> Result<RowScores>;

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
    /// one that `keep` and `head_scores` give.
    fn choose_kept(&self, logits: Tensor, limit: usize, choice: &Choice) -> Result<Chosen>;

    /// Sets the `logits [t, v]` of all tokens that a row does not keep to [`MASKED`], so that softmax, entropy and gradients are those of the
    /// kept tokens. The logits are used up.
    ///
    /// # Errors
    /// When there is not one set for each row, or a set has a token beyond the vocabulary.
    fn keep(&self, logits: Tensor, kept: &Kept) -> Result<Tensor>;

    /// The sum of squares of an f32 tensor, in f64.
    fn sum_of_squares(&self, gradient: &Tensor) -> Result<f64>;

    /// One AdamW step over a parameter, in place.
    fn adamw(&self, parameter: &Parameter, step: &Step) -> Result<()>;

    /// `target += source`, f32, in place.
    fn add(&self, target: &Tensor, source: &Tensor) -> Result<()>;

    /// Sets every element to 0, in place.
    fn clear(&self, target: &Tensor) -> Result<()>;
}

/// The logit of a token that is not kept. Its probability is 0 in f32, and, unlike minus infinity, it times 0 is 0.
pub const MASKED: f32 = -1e30;

/// A device's memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceMemory {
    /// What this program may still take.
    pub free: u64,
    /// All of it.
    pub total: u64,
    /// The most that tensors of this program have taken together.
    pub peak: u64,
}

/// How tokens are chosen from rows of logits.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// Logits are divided by it; 0 takes the likeliest token, the first of equals, and scores it at temperature 1.
    pub temperature: f32,
    /// Which tokens may be drawn.
    pub filter: Filter,
    /// A number in [0, 1) for each row; none are read at temperature 0.
    pub uniforms: &'a [f32],
}

/// Tokens that were chosen: here, or on their way from the device.
pub struct Chosen {
    tokens: Option<Tensor>,
    read: Box<ReadChosen>,
}

/// One token for each row of logits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drawn {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Their log-probabilities over the whole vocabulary.
    pub logprobs: Vec<f32>,
    /// The tokens that could have been drawn, and the log-probabilities among them; from `choose_kept` only.
    pub truncated: Option<Truncated>,
}

/// Waits for tokens.
type ReadChosen = dyn FnOnce() -> Result<Drawn> + Send;

impl Chosen {
    /// Tokens that the host has.
    pub fn here(drawn: Drawn) -> Self {
        Self { tokens: None, read: Box::new(|| Ok(drawn)) }
    }

    /// Tokens `[n]` that the device has first; `read` waits for them.
    pub fn later(tokens: Tensor, read: impl FnOnce() -> Result<Drawn> + Send + 'static) -> Self {
        Self { tokens: Some(tokens), read: Box::new(read) }
    }

    /// The tokens, where the device has them before the host does: the next pass can begin with them.
    pub fn on_device(&self) -> Option<&Tensor> {
        self.tokens.as_ref()
    }

    /// The tokens with what was recorded of them.
    pub fn read(self) -> Result<Drawn> {
        (self.read)()
    }
}

/// The two moments of a parameter.
#[derive(Clone, Debug)]
pub enum Moments {
    /// In f32, shaped as the parameter.
    Full {
        /// The mean gradient.
        first: Tensor,
        /// The mean of its square.
        second: Tensor,
    },
    /// In 8 bits.
    Coded {
        /// The mean gradient.
        first: Coded,
        /// The mean of its square.
        second: Coded,
    },
}

/// What an optimizer step changes, and the gradient that it reads. All of one number of elements.
#[derive(Clone, Copy, Debug)]
pub struct Parameter<'a> {
    /// What the model computes with, in the kernels' dtype or in f32.
    pub weight: &'a Tensor,
    /// The same in f32, where that dtype is another: what is updated, and then rounded to `weight`.
    pub master: Option<&'a Tensor>,
    /// The moments.
    pub moments: &'a Moments,
    /// The gradient, f32.
    pub gradient: &'a Tensor,
}

#[cfg(test)]
pub(crate) mod tests;
