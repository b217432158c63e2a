//! Kernels with somebody who watches every operation, around any others.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Instant;

use candle_core::{DType, Device, Result, Tensor};

use super::{Choice, Chosen, DeviceMemory, Heads, Indices, Kernels, LayerCache, Parameter, RowScores, Segment, Step, Tables};
use crate::flow::Kept;

/// Who watches; operations go by the names of the methods of [`Kernels`].
pub trait Watch: Debug + Send + Sync {
    /// An operation is about to start.
    ///
    /// # Errors
    /// In the operation's place: it is not started then.
    fn before(&self, _operation: &'static str) -> Result<()> {
        Ok(())
    }

    /// An operation was started at `begin`; a device may still be at it.
    fn after(&self, _operation: &'static str, _begin: Instant, _kernels: &dyn Kernels) -> Result<()> {
        Ok(())
    }
}

/// Other kernels, watched.
#[derive(Clone, Debug)]
pub struct Watched {
    kernels: Arc<dyn Kernels>,
    watch: Arc<dyn Watch>,
}

impl Watched {
    /// Has `watch` see all that `kernels` do.
    pub fn new(kernels: Arc<dyn Kernels>, watch: Arc<dyn Watch>) -> Self {
        Self { kernels, watch }
    }

    fn watched<T>(&self, operation: &'static str, compute: impl FnOnce(&dyn Kernels) -> Result<T>) -> Result<T> {
        self.watch.before(operation)?;
        let begin = Instant::now();
        let result = compute(&*self.kernels)?;
        self.watch.after(operation, begin, &*self.kernels)?;
        Ok(result)
    }
}

impl Kernels for Watched {
    fn version(&self) -> &'static str {
        self.kernels.version()
    }

    fn device(&self) -> &Device {
        self.kernels.device()
    }

    fn dtype(&self) -> DType {
        self.kernels.dtype()
    }

    fn memory(&self) -> Option<DeviceMemory> {
        self.kernels.memory()
    }

    fn indices<'a>(&self, rows: &'a [u32]) -> Result<Indices<'a>> {
        self.watched("indices", |kernels| kernels.indices(rows))
    }

    fn tables<'a>(&self, blocks: &'a [&'a [u32]], counts: &'a [usize]) -> Result<Tables<'a>> {
        self.watched("tables", |kernels| kernels.tables(blocks, counts))
    }

    fn gather(&self, table: &Tensor, rows: &Indices) -> Result<Tensor> {
        self.watched("gather", |kernels| kernels.gather(table, rows))
    }

    fn scatter_add(&self, target: &Tensor, rows: &Indices, values: &Tensor) -> Result<()> {
        self.watched("scatter_add", |kernels| kernels.scatter_add(target, rows, values))
    }

    fn product(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        self.watched("product", |kernels| kernels.product(x, weight, bias))
    }

    fn product_transposed(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        self.watched("product_transposed", |kernels| kernels.product_transposed(x, weight))
    }

    fn add_product(&self, target: &Tensor, x: &Tensor, weight: &Tensor) -> Result<()> {
        self.watched("add_product", |kernels| kernels.add_product(target, x, weight))
    }

    fn add_transposed_product(&self, gradient: &Tensor, a: &Tensor, b: &Tensor) -> Result<()> {
        self.watched("add_transposed_product", |kernels| kernels.add_transposed_product(gradient, a, b))
    }

    fn add_column_sums(&self, gradient: &Tensor, dy: &Tensor) -> Result<()> {
        self.watched("add_column_sums", |kernels| kernels.add_column_sums(gradient, dy))
    }

    fn rms_norm(&self, x: &Tensor, weight: &Tensor, eps: f32) -> Result<(Tensor, Tensor)> {
        self.watched("rms_norm", |kernels| kernels.rms_norm(x, weight, eps))
    }

    fn rms_norm_backward(
        &self,
        dx: &Tensor,
        weight_gradient: &Tensor,
        dy: &Tensor,
        x: &Tensor,
        weight: &Tensor,
        inverse_rms: &Tensor,
    ) -> Result<()> {
        self.watched("rms_norm_backward", |kernels| kernels.rms_norm_backward(dx, weight_gradient, dy, x, weight, inverse_rms))
    }

    fn rotate(&self, qkv: &Tensor, heads: Heads, cos: &Tensor, sin: &Tensor, positions: &Indices, inverse: bool) -> Result<()> {
        self.watched("rotate", |kernels| kernels.rotate(qkv, heads, cos, sin, positions, inverse))
    }

    fn attend_packed(&self, qkv: &Tensor, segments: &[Segment], heads: Heads) -> Result<(Tensor, Tensor)> {
        self.watched("attend_packed", |kernels| kernels.attend_packed(qkv, segments, heads))
    }

    fn attend_packed_backward(
        &self,
        d_out: &Tensor,
        out: &Tensor,
        log_sum_exp: &Tensor,
        qkv: &Tensor,
        segments: &[Segment],
        heads: Heads,
    ) -> Result<Tensor> {
        self.watched("attend_packed_backward", |kernels| kernels.attend_packed_backward(d_out, out, log_sum_exp, qkv, segments, heads))
    }

    fn cache(&self, blocks: usize, heads: Heads) -> Result<LayerCache> {
        self.watched("cache", |kernels| kernels.cache(blocks, heads))
    }

    fn store(&self, cache: &LayerCache, qkv: &Tensor, slots: &Indices, heads: Heads) -> Result<()> {
        self.watched("store", |kernels| kernels.store(cache, qkv, slots, heads))
    }

    fn copy_blocks(&self, cache: &LayerCache, pairs: &[(u32, u32)], heads: Heads) -> Result<()> {
        self.watched("copy_blocks", |kernels| kernels.copy_blocks(cache, pairs, heads))
    }

    fn attend_cached(&self, qkv: &Tensor, cache: &LayerCache, tables: &Tables, heads: Heads) -> Result<Tensor> {
        self.watched("attend_cached", |kernels| kernels.attend_cached(qkv, cache, tables, heads))
    }

    fn swiglu(&self, gate_up: &Tensor) -> Result<Tensor> {
        self.watched("swiglu", |kernels| kernels.swiglu(gate_up))
    }

    fn swiglu_backward(&self, dy: &Tensor, gate_up: &Tensor) -> Result<Tensor> {
        self.watched("swiglu_backward", |kernels| kernels.swiglu_backward(dy, gate_up))
    }

    fn logits(&self, x: &Tensor, table: &Tensor) -> Result<Tensor> {
        self.watched("logits", |kernels| kernels.logits(x, table))
    }

    fn head_scores(&self, logits: &Tensor, targets: &[u32], temperature: f32) -> Result<RowScores> {
        self.watched("head_scores", |kernels| kernels.head_scores(logits, targets, temperature))
    }

    fn head_backward(
        &self,
        logits: Tensor,
        targets: &[u32],
        temperature: f32,
        scores: &RowScores,
        d_logprob: &[f32],
        d_entropy: &[f32],
    ) -> Result<Tensor> {
        self.watched("head_backward", |kernels| kernels.head_backward(logits, targets, temperature, scores, d_logprob, d_entropy))
    }

    fn choose(&self, logits: Tensor, limit: usize, choice: &Choice) -> Result<Chosen> {
        self.watched("choose", |kernels| kernels.choose(logits, limit, choice))
    }

    fn choose_kept(&self, logits: Tensor, limit: usize, choice: &Choice) -> Result<Chosen> {
        self.watched("choose_kept", |kernels| kernels.choose_kept(logits, limit, choice))
    }

    fn keep(&self, logits: Tensor, kept: &Kept) -> Result<Tensor> {
        self.watched("keep", |kernels| kernels.keep(logits, kept))
    }

    fn sum_of_squares(&self, gradient: &Tensor) -> Result<f64> {
        self.watched("sum_of_squares", |kernels| kernels.sum_of_squares(gradient))
    }

    fn adamw(&self, parameter: &Parameter, step: &Step) -> Result<()> {
        self.watched("adamw", |kernels| kernels.adamw(parameter, step))
    }

    fn add(&self, target: &Tensor, source: &Tensor) -> Result<()> {
        self.watched("add", |kernels| kernels.add(target, source))
    }

    fn clear(&self, target: &Tensor) -> Result<()> {
        self.watched("clear", |kernels| kernels.clear(target))
    }
}
