//! Kernels that note how long each operation takes, around any others. The device is waited for after each operation, so the whole takes
//! longer than without: for breakdowns and traces, never for a measurement itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Instant;

use candle_core::{DType, Device, Result, Tensor};

use super::{Choice, Heads, Indices, Kernels, LayerCache, Parameter, RowScores, Segment, Step, Tables};

/// One operation, as it ran.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// The method of [`Kernels`].
    pub operation: &'static str,
    /// The part of the work that it was for, as the caller has named it.
    pub part: &'static str,
    /// The thread that called it, numbered from 0 in the order of first calls.
    pub thread: usize,
    /// Seconds since the recorder was made.
    pub begin_s: f64,
    /// The same for its end.
    pub end_s: f64,
}

/// Where spans are collected, from all threads.
#[derive(Debug)]
pub struct Recorder {
    began: Instant,
    notes: Mutex<Notes>,
}

#[derive(Debug, Default)]
struct Notes {
    part: &'static str,
    threads: Vec<ThreadId>,
    spans: Vec<Span>,
    used_bytes: Option<u64>,
}

/// What was recorded.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Operations, in the order of their ends.
    pub spans: Vec<Span>,
    /// Most bytes of the device's memory in use after an operation, where the kernels say.
    pub used_bytes: Option<u64>,
}

impl Recorder {
    /// An empty one, whose clock starts now.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { began: Instant::now(), notes: Mutex::default() })
    }

    /// Names the part of the work that follows.
    pub fn enter(&self, part: &'static str) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).part = part;
    }

    /// All that has been recorded since the last time.
    pub fn take(&self) -> Record {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        Record { spans: std::mem::take(&mut notes.spans), used_bytes: notes.used_bytes.take() }
    }

    fn note(&self, operation: &'static str, part: Option<&'static str>, begin: Instant, memory: Option<(u64, u64)>) {
        let seconds = |instant: Instant| instant.duration_since(self.began).as_secs_f64();
        let (begin_s, end_s, id) = (seconds(begin), seconds(Instant::now()), thread::current().id());
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let known = notes.threads.iter().position(|known| *known == id);
        let thread = known.unwrap_or_else(|| {
            notes.threads.push(id);
            notes.threads.len() - 1
        });
        let part = part.unwrap_or(notes.part);
        notes.spans.push(Span { operation, part, thread, begin_s, end_s });
        notes.used_bytes = notes.used_bytes.max(memory.map(|(free, total)| total.saturating_sub(free)));
    }
}

/// Other kernels, timed.
#[derive(Clone, Debug)]
pub struct Timed {
    kernels: Arc<dyn Kernels>,
    recorder: Arc<Recorder>,
    part: Option<&'static str>,
}

impl Timed {
    /// Times `kernels`. Where `part` is given, all that they do is for that part, whatever the recorder was told.
    pub fn new(kernels: Arc<dyn Kernels>, recorder: Arc<Recorder>, part: Option<&'static str>) -> Self {
        Self { kernels, recorder, part }
    }

    fn time<T>(&self, operation: &'static str, compute: impl FnOnce(&dyn Kernels) -> Result<T>) -> Result<T> {
        let begin = Instant::now();
        let result = compute(&*self.kernels)?;
        self.device().synchronize()?;
        self.recorder.note(operation, self.part, begin, self.memory());
        Ok(result)
    }
}

impl Kernels for Timed {
    fn device(&self) -> &Device {
        self.kernels.device()
    }

    fn dtype(&self) -> DType {
        self.kernels.dtype()
    }

    fn memory(&self) -> Option<(u64, u64)> {
        self.kernels.memory()
    }

    fn indices<'a>(&self, rows: &'a [u32]) -> Result<Indices<'a>> {
        self.time("indices", |kernels| kernels.indices(rows))
    }

    fn tables<'a>(&self, blocks: &'a [&'a [u32]], counts: &'a [usize]) -> Result<Tables<'a>> {
        self.time("tables", |kernels| kernels.tables(blocks, counts))
    }

    fn gather(&self, table: &Tensor, rows: &Indices) -> Result<Tensor> {
        self.time("gather", |kernels| kernels.gather(table, rows))
    }

    fn scatter_add(&self, target: &Tensor, rows: &Indices, values: &Tensor) -> Result<()> {
        self.time("scatter_add", |kernels| kernels.scatter_add(target, rows, values))
    }

    fn product(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        self.time("product", |kernels| kernels.product(x, weight, bias))
    }

    fn product_transposed(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        self.time("product_transposed", |kernels| kernels.product_transposed(x, weight))
    }

    fn add_product(&self, target: &Tensor, x: &Tensor, weight: &Tensor) -> Result<()> {
        self.time("add_product", |kernels| kernels.add_product(target, x, weight))
    }

    fn add_transposed_product(&self, gradient: &Tensor, a: &Tensor, b: &Tensor) -> Result<()> {
        self.time("add_transposed_product", |kernels| kernels.add_transposed_product(gradient, a, b))
    }

    fn add_column_sums(&self, gradient: &Tensor, dy: &Tensor) -> Result<()> {
        self.time("add_column_sums", |kernels| kernels.add_column_sums(gradient, dy))
    }

    fn rms_norm(&self, x: &Tensor, weight: &Tensor, eps: f32) -> Result<(Tensor, Tensor)> {
        self.time("rms_norm", |kernels| kernels.rms_norm(x, weight, eps))
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
        self.time("rms_norm_backward", |kernels| kernels.rms_norm_backward(dx, weight_gradient, dy, x, weight, inverse_rms))
    }

    fn rotate(&self, qkv: &Tensor, heads: Heads, cos: &Tensor, sin: &Tensor, positions: &Indices, inverse: bool) -> Result<()> {
        self.time("rotate", |kernels| kernels.rotate(qkv, heads, cos, sin, positions, inverse))
    }

    fn attend_packed(&self, qkv: &Tensor, segments: &[Segment], heads: Heads) -> Result<(Tensor, Tensor)> {
        self.time("attend_packed", |kernels| kernels.attend_packed(qkv, segments, heads))
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
        self.time("attend_packed_backward", |kernels| kernels.attend_packed_backward(d_out, out, log_sum_exp, qkv, segments, heads))
    }

    fn cache(&self, blocks: usize, heads: Heads) -> Result<LayerCache> {
        self.time("cache", |kernels| kernels.cache(blocks, heads))
    }

    fn store(&self, cache: &LayerCache, qkv: &Tensor, slots: &Indices, heads: Heads) -> Result<()> {
        self.time("store", |kernels| kernels.store(cache, qkv, slots, heads))
    }

    fn copy_blocks(&self, cache: &LayerCache, pairs: &[(u32, u32)], heads: Heads) -> Result<()> {
        self.time("copy_blocks", |kernels| kernels.copy_blocks(cache, pairs, heads))
    }

    fn attend_cached(&self, qkv: &Tensor, cache: &LayerCache, tables: &Tables, heads: Heads) -> Result<Tensor> {
        self.time("attend_cached", |kernels| kernels.attend_cached(qkv, cache, tables, heads))
    }

    fn swiglu(&self, gate_up: &Tensor) -> Result<Tensor> {
        self.time("swiglu", |kernels| kernels.swiglu(gate_up))
    }

    fn swiglu_backward(&self, dy: &Tensor, gate_up: &Tensor) -> Result<Tensor> {
        self.time("swiglu_backward", |kernels| kernels.swiglu_backward(dy, gate_up))
    }

    fn logits(&self, x: &Tensor, table: &Tensor) -> Result<Tensor> {
        self.time("logits", |kernels| kernels.logits(x, table))
    }

    fn head_scores(&self, logits: &Tensor, targets: &[u32], temperature: f32) -> Result<RowScores> {
        self.time("head_scores", |kernels| kernels.head_scores(logits, targets, temperature))
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
        self.time("head_backward", |kernels| kernels.head_backward(logits, targets, temperature, scores, d_logprob, d_entropy))
    }

    fn choose(&self, logits: Tensor, limit: usize, choice: &Choice) -> Result<(Vec<u32>, Vec<f32>)> {
        self.time("choose", |kernels| kernels.choose(logits, limit, choice))
    }

    fn sum_of_squares(&self, gradient: &Tensor) -> Result<f64> {
        self.time("sum_of_squares", |kernels| kernels.sum_of_squares(gradient))
    }

    fn adamw(&self, parameter: &Parameter, step: &Step) -> Result<()> {
        self.time("adamw", |kernels| kernels.adamw(parameter, step))
    }

    fn add(&self, target: &Tensor, source: &Tensor) -> Result<()> {
        self.time("add", |kernels| kernels.add(target, source))
    }

    fn clear(&self, target: &Tensor) -> Result<()> {
        self.time("clear", |kernels| kernels.clear(target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Cpu;
    use crate::kernels::cpu::testing::random;

    #[test]
    fn operations_give_the_same_and_leave_a_span_each() -> Result<()> {
        let recorder = Recorder::new();
        let timed = Timed::new(Arc::new(Cpu), recorder.clone(), None);
        let (x, weight) = (random((3, 8), 1), random((8, 5), 2));
        recorder.enter("first");
        let product = timed.product(&x, &weight, None)?;
        assert_eq!(product.to_vec2::<f32>()?, Cpu.product(&x, &weight, None)?.to_vec2::<f32>()?);
        recorder.enter("second");
        timed.add(&x, &x.copy()?)?;
        Timed::new(Arc::new(timed.clone()), recorder.clone(), Some("own")).clear(&x)?;
        let spans = recorder.take().spans;
        let names: Vec<_> = spans.iter().map(|span| (span.part, span.operation, span.thread)).collect();
        assert_eq!(names, [("first", "product", 0), ("second", "add", 0), ("second", "clear", 0), ("own", "clear", 0)]);
        assert!(spans.iter().all(|span| span.begin_s <= span.end_s));
        assert!(recorder.take().spans.is_empty());
        Ok(())
    }
}
