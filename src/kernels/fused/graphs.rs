//! Decode passes of few sequences: run in fixed memory, then recorded and replayed with one call (CUDA graphs).
//!
//! With few sequences, a GPU finishes an operation before the host has started the next. A pass therefore allocates nothing but its result:
//! its input numbers overwrite those of the previous pass, and all layers share the tensors of one layer. Addresses and sizes then equal
//! those of the previous pass, so the whole pass can be recorded once and started with one call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use candle_core::{DType, Device, Result, Shape, Tensor, TensorId, bail};

use super::Fused;
use super::launch::{Argument, Grid, Launch, PendingRead, Product, Recorder, Recording};
use crate::kernels::pass::{Pass, Rows, Step};
use crate::kernels::shape::{Indices, Tables};

/// Largest number of sequences in such a pass. Up to this number, each product with a weight has one tile of rows. The pass then takes
/// about as long as reading the weights, which is less time than the host needs for the launches. Each number of sequences needs its own
/// recording because sequences end one by one.
pub const FEW: usize = 64;
/// Smallest number of blocks per row of the block table; larger strides are powers of two. A recording is valid for one stride.
const MIN_STRIDE: usize = 16;

/// State kept from pass to pass.
#[derive(Debug, Default)]
pub struct GraphCache {
    /// Further tensors whose addresses are in recordings. A tensor's id is never reused.
    tensors: Vec<TensorId>,
    /// Tokens, slots, positions, counts and blocks, as u32.
    numbers: Option<Tensor>,
    memory: Arc<Mutex<Memory>>,
    recorder: Option<Arc<dyn Recorder>>,
    /// The state of each pass, by its number of sequences and the stride of its block table.
    states: HashMap<[usize; 2], PassState>,
}

#[derive(Debug)]
enum PassState {
    /// Has run once: its memory is allocated, and the next pass is recorded.
    Ran,
    /// A recording and its result.
    Recorded(Box<dyn Recording>, Tensor),
    /// Cannot be recorded.
    Unrecordable,
}

/// Runs a pass of at most [`FEW`] sequences, and returns its final hidden states.
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
        let (rows, stride) = self.place(fused, step, &positions)?;
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

    /// Writes the step's numbers to their fixed memory, and returns the stride of the block table.
    fn place<'a>(&mut self, fused: &Fused, step: &Step<'a>, positions: &'a [u32]) -> Result<(Rows<'a>, usize)> {
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
        let there = match self.numbers.take() {
            Some(there) if there.elem_count() >= numbers.len() => there,
            _ => {
                self.states.clear();
                fused.machine.empty(numbers.len().next_power_of_two().into(), DType::U32)?
            }
        };
        let part = |place: usize| there.narrow(0, place * n, n);
        let tokens = part(0)?;
        if on_host.is_some() {
            fused.machine.write(&there, &numbers)?;
        } else {
            fused.machine.write(&there.narrow(0, n, numbers.len() - n)?, &numbers[n..])?;
            fused.machine.copy(&tokens, step.tokens.on_device()?)?;
        }
        let rows = Rows {
            tokens: Indices::Device(tokens),
            slots: Indices::Both(step.slots, part(1)?),
            positions: Indices::Both(positions, part(2)?),
            tables: Tables::Device { counts: part(3)?, blocks: there.narrow(0, 4 * n, n * stride)?.reshape((n, stride))? },
        };
        self.numbers = Some(there);
        Ok((rows, stride))
    }

    /// Runs the pass on `machine`, with its tensors in the fixed memory.
    fn compute(&mut self, fused: &Fused, machine: &Arc<dyn Launch>, pass: &dyn Pass, rows: &Rows) -> Result<Tensor> {
        let in_place = Arc::new(InPlace { machine: machine.clone(), memory: self.memory.clone() });
        let kernels = Fused { machine: in_place.clone(), ..fused.clone() };
        in_place.memory()?.used = 0;
        let compute = || {
            let x = pass.begin(&kernels, rows)?;
            let first = in_place.memory()?.used;
            for layer in 0..pass.layers() {
                in_place.memory()?.used = first;
                pass.layer(layer, &x, &kernels, rows)?;
            }
            Ok(x)
        };
        let computed = compute();
        // Also after a failure: recordings contain the old addresses of tensors that have moved.
        if std::mem::take(&mut in_place.memory()?.has_moved) {
            self.states.clear();
        }
        computed
    }

    /// Records the pass and replays it. Runs it directly if it cannot be recorded.
    fn record(&mut self, fused: &Fused, pass: &dyn Pass, rows: &Rows, key: [usize; 2]) -> Result<Tensor> {
        match self.recorded(fused, pass, rows) {
            Ok(Some((recording, x))) => {
                recording.replay()?;
                self.states.insert(key, PassState::Recorded(recording, x.clone()));
                Ok(x)
            }
            not_recorded => {
                if let Err(error) = not_recorded {
                    tracing::debug!(sequences = key[0], %error, "cannot record a pass: its operations are started one by one");
                }
                self.states.insert(key, PassState::Unrecordable);
                self.compute(fused, &fused.machine, pass, rows)
            }
        }
    }

    fn recorded(&mut self, fused: &Fused, pass: &dyn Pass, rows: &Rows) -> Result<Option<(Box<dyn Recording>, Tensor)>> {
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

/// The tensors of a pass, in the order in which it requests them.
#[derive(Debug, Default)]
struct Memory {
    tensors: Vec<Tensor>,
    /// Number of tensors that the current pass has requested.
    used: usize,
    /// True if a tensor was too small and has been reallocated.
    has_moved: bool,
}

/// A machine that returns the tensors of the previous pass instead of allocating. They are views of larger tensors, which have room for the
/// largest number of sequences up to now.
#[derive(Debug)]
struct InPlace {
    machine: Arc<dyn Launch>,
    memory: Arc<Mutex<Memory>>,
}

impl InPlace {
    fn memory(&self) -> Result<std::sync::MutexGuard<'_, Memory>> {
        let Ok(memory) = self.memory.lock() else { bail!("another pass panicked") };
        Ok(memory)
    }
}

impl Launch for InPlace {
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
        let (place, count) = (memory.used, shape.elem_count());
        let has_room = |there: &Tensor| there.dtype() == dtype && there.elem_count() >= count;
        if !memory.tensors.get(place).is_some_and(has_room) {
            let larger = self.machine.empty(count.into(), dtype)?;
            memory.tensors.truncate(place);
            memory.tensors.push(larger);
            memory.has_moved = true;
        }
        memory.used += 1;
        memory.tensors[place].narrow(0, 0, count)?.reshape(shape)
    }

    fn put(&self, _: &[u32]) -> Result<Tensor> {
        bail!("cannot copy from the host during a pass: its numbers must be written before it starts")
    }

    fn put_floats(&self, _: &[f32]) -> Result<Tensor> {
        bail!("cannot copy from the host during a pass: its numbers must be written before it starts")
    }

    fn fetch(&self, _: &Tensor) -> Result<PendingRead> {
        bail!("cannot copy to the host during a pass")
    }
}

#[cfg(test)]
mod tests;
