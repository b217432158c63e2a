//! Runs decoding passes with few sequences in fixed memory, and replays recordings of them with one call (CUDA graphs).
//!
//! With few sequences, a GPU finishes an operation before the host has started the next one. A pass therefore allocates only its result: its
//! inputs overwrite those of the previous pass, and all layers share the tensors of one layer. Addresses and sizes are then the same in each
//! pass, so a pass can be recorded once and replayed with one call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use candle_core::{DType, Device, Result, Shape, Tensor, TensorId, bail};

use super::Fused;
use super::launch::{Argument, Grid, Launch, PendingRead, Product, Recorder, Recording};
use crate::kernels::pass::{Pass, Rows, Step};
use crate::kernels::shape::{BlockTables, Indices};

/// Largest number of sequences in a recorded pass. Up to this number, each product with a weight has one tile of rows. The pass then takes
/// about as long as reading the weights, which is less time than the host needs to launch its operations one by one. Each number of
/// sequences has its own recording, because sequences end one by one.
pub const MAX_SEQUENCES: usize = 64;
/// Smallest stride of the block table: cache blocks per sequence. Larger strides are powers of two. A recording is valid for one stride.
const MIN_STRIDE: usize = 16;

/// Recordings and fixed memory, reused from pass to pass.
#[derive(Debug, Default)]
pub struct GraphCache {
    /// The ids of weights and other tensors whose addresses are in recordings. Ids of tensors are never reused.
    tensors: Vec<TensorId>,
    /// The inputs of a pass: tokens, slots, positions, counts and blocks, as u32.
    inputs: Option<Tensor>,
    memory: Arc<Mutex<Memory>>,
    recorder: Option<Arc<dyn Recorder>>,
    /// The state of each pass, by its number of sequences and the stride of its block table.
    states: HashMap<[usize; 2], PassState>,
}

#[derive(Debug)]
enum PassState {
    /// Has run once, which allocated its memory. The next pass is recorded.
    Ran,
    /// A recording and its result.
    Recorded(Box<dyn Recording>, Tensor),
    /// Cannot be recorded.
    Unrecordable,
}

/// Runs a pass with at most [`MAX_SEQUENCES`] sequences, and returns the rows after the last layer, `[n, w]`.
///
/// # Errors
/// If an operation of the pass fails.
pub fn run(fused: &Fused, step: &Step, pass: &dyn Pass) -> Result<Tensor> {
    let Ok(mut passes) = fused.passes.lock() else { bail!("another pass panicked") };
    passes.run(fused, step, pass)
}

impl GraphCache {
    fn run(&mut self, fused: &Fused, step: &Step, pass: &dyn Pass) -> Result<Tensor> {
        let tensors = pass.tensors();
        if tensors != self.tensors {
            self.states.clear();
            self.tensors = tensors;
        }
        let positions = step.positions();
        let (rows, stride) = self.write_inputs(fused, step, &positions)?;
        let key = [step.counts.len(), stride];
        let x = match self.states.get(&key) {
            Some(PassState::Recorded(recording, x)) => {
                recording.replay()?;
                x.clone()
            }
            Some(PassState::Ran) => self.record(fused, pass, &rows, key)?,
            Some(PassState::Unrecordable) => self.compute(fused, &fused.machine, pass, &rows)?,
            None => {
                let x = self.compute(fused, &fused.machine, pass, &rows)?;
                self.states.insert(key, PassState::Ran);
                x
            }
        };
        // The caller may keep the result, but the next pass overwrites `x`.
        let result = fused.machine.empty(x.shape().clone(), x.dtype())?;
        fused.machine.copy(&result, &x)?;
        Ok(result)
    }

    /// Writes the inputs of a step to their fixed memory. Returns them as tensors, and the stride of the block table.
    fn write_inputs<'a>(&mut self, fused: &Fused, step: &Step<'a>, positions: &'a [u32]) -> Result<(Rows<'a>, usize)> {
        let n = step.counts.len();
        let longest = step.blocks.iter().map(|blocks| blocks.len()).max().unwrap_or(0);
        let stride = longest.next_power_of_two().max(MIN_STRIDE);
        let on_host = step.tokens.on_host().ok();
        let mut numbers = on_host.map_or_else(|| vec![0; n], <[u32]>::to_vec);
        numbers.extend_from_slice(step.slots);
        numbers.extend_from_slice(positions);
        numbers.extend(step.counts.iter().map(|count| *count as u32));
        for blocks in step.blocks {
            numbers.extend_from_slice(blocks);
            numbers.resize(numbers.len() + stride - blocks.len(), 0);
        }
        let inputs = match self.inputs.take() {
            Some(inputs) if inputs.elem_count() >= numbers.len() => inputs,
            _ => {
                self.states.clear();
                fused.machine.empty(numbers.len().next_power_of_two().into(), DType::U32)?
            }
        };
        let part = |index: usize| inputs.narrow(0, index * n, n);
        let tokens = part(0)?;
        if on_host.is_some() {
            fused.machine.write(&inputs, &numbers)?;
        } else {
            fused.machine.write(&inputs.narrow(0, n, numbers.len() - n)?, &numbers[n..])?;
            fused.machine.copy(&tokens, step.tokens.on_device()?)?;
        }
        let rows = Rows {
            tokens: Indices::Device(tokens),
            slots: Indices::Both(step.slots, part(1)?),
            positions: Indices::Both(positions, part(2)?),
            tables: BlockTables::Device { counts: part(3)?, blocks: inputs.narrow(0, 4 * n, n * stride)?.reshape((n, stride))? },
        };
        self.inputs = Some(inputs);
        Ok((rows, stride))
    }

    /// Runs the pass on `machine`, with its intermediate tensors in fixed memory.
    fn compute(&mut self, fused: &Fused, machine: &Arc<dyn Launch>, pass: &dyn Pass, rows: &Rows) -> Result<Tensor> {
        let reused = Arc::new(ReusedMemory { machine: machine.clone(), memory: self.memory.clone() });
        let kernels = Fused { machine: reused.clone(), ..fused.clone() };
        reused.memory()?.used = 0;
        let compute = || {
            let x = pass.begin(&kernels, rows)?;
            let first = reused.memory()?.used;
            for layer in 0..pass.layers() {
                reused.memory()?.used = first;
                pass.layer(layer, &x, &kernels, rows)?;
            }
            Ok(x)
        };
        let computed = compute();
        // Also after a failure: recordings contain the old addresses of tensors that have moved.
        if std::mem::take(&mut reused.memory()?.has_moved) {
            self.states.clear();
        }
        computed
    }

    /// Records the pass and replays it, or runs it operation by operation if it cannot be recorded.
    fn record(&mut self, fused: &Fused, pass: &dyn Pass, rows: &Rows, key: [usize; 2]) -> Result<Tensor> {
        match self.try_record(fused, pass, rows) {
            Ok(Some((recording, x))) => {
                recording.replay()?;
                self.states.insert(key, PassState::Recorded(recording, x.clone()));
                Ok(x)
            }
            not_recorded => {
                if let Err(error) = not_recorded {
                    tracing::debug!(sequences = key[0], %error, "cannot record a decoding pass: its operations are started one by one");
                }
                self.states.insert(key, PassState::Unrecordable);
                self.compute(fused, &fused.machine, pass, rows)
            }
        }
    }

    fn try_record(&mut self, fused: &Fused, pass: &dyn Pass, rows: &Rows) -> Result<Option<(Box<dyn Recording>, Tensor)>> {
        if self.recorder.is_none() {
            self.recorder = fused.machine.clone().recorder()?;
        }
        let Some(recorder) = self.recorder.clone() else { return Ok(None) };
        let (machine, mut x): (Arc<dyn Launch>, _) = (recorder.clone(), None);
        let recording = recorder.record(&mut || {
            x = Some(self.compute(fused, &machine, pass, rows)?);
            Ok(())
        })?;
        Ok(x.map(|x| (recording, x)))
    }
}

/// The intermediate tensors of a pass, in the order in which it requests them.
#[derive(Debug, Default)]
struct Memory {
    tensors: Vec<Tensor>,
    /// Number of tensors that the current pass has requested.
    used: usize,
    /// True if a tensor was too small and has been reallocated.
    has_moved: bool,
}

/// A machine that reuses the tensors of earlier passes instead of allocating. It returns views of tensors with room for the largest number of
/// sequences that any pass has had.
#[derive(Debug)]
struct ReusedMemory {
    machine: Arc<dyn Launch>,
    memory: Arc<Mutex<Memory>>,
}

impl ReusedMemory {
    fn memory(&self) -> Result<std::sync::MutexGuard<'_, Memory>> {
        let Ok(memory) = self.memory.lock() else { bail!("another pass panicked") };
        Ok(memory)
    }
}

impl Launch for ReusedMemory {
    fn device(&self) -> &Device {
        self.machine.device()
    }

    fn launch(&self, kernel: &str, grid: Grid, arguments: &[Argument]) -> Result<()> {
        self.machine.launch(kernel, grid, arguments)
    }

    fn product(&self, product: &Product) -> Result<()> {
        self.machine.product(product)
    }

    fn is_batch_invariant(&self) -> bool {
        self.machine.is_batch_invariant()
    }

    fn empty(&self, shape: Shape, dtype: DType) -> Result<Tensor> {
        let mut memory = self.memory()?;
        let (index, count) = (memory.used, shape.elem_count());
        let has_room = |tensor: &Tensor| tensor.dtype() == dtype && tensor.elem_count() >= count;
        if !memory.tensors.get(index).is_some_and(has_room) {
            let larger = self.machine.empty(count.into(), dtype)?;
            memory.tensors.truncate(index);
            memory.tensors.push(larger);
            memory.has_moved = true;
        }
        memory.used += 1;
        memory.tensors[index].narrow(0, 0, count)?.reshape(shape)
    }

    fn put(&self, _: &[u32]) -> Result<Tensor> {
        bail!("cannot copy from the host during a decoding pass: its inputs must be written before it starts")
    }

    fn put_floats(&self, _: &[f32]) -> Result<Tensor> {
        bail!("cannot copy from the host during a decoding pass: its inputs must be written before it starts")
    }

    fn fetch(&self, _: &Tensor) -> Result<PendingRead> {
        bail!("cannot copy to the host during a decoding pass")
    }
}

#[cfg(test)]
mod tests;
