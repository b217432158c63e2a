//! Passes of few sequences. They run in fixed memory, and from the second time on they are recorded and started with one call.
//!
//! With few sequences, a GPU finishes an operation before the host has started the next. A pass therefore allocates nothing but its result: its
//! numbers overwrite those of the previous pass, and all layers share one layer's tensors. Addresses and sizes then equal those of the previous
//! pass, so its operations can be recorded and started all at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use candle_core::{DType, Device, Result, Shape, Tensor, TensorId, bail};

use super::Fused;
use super::launch::{Argument, Grid, Launch, Pending, Product, Recorder, Recording};
use crate::kernels::pass::{Pass, Rows, Step};
use crate::kernels::shape::{Indices, Tables};

/// Largest number of sequences of such a pass. Up to this number, the products with the weights have one tile of rows. A pass then takes as long
/// as reading the weights, which is less than the host needs for its launches. Each number of sequences needs its own recording as sequences end
/// one by one.
pub const FEW: usize = 64;
/// Fewest blocks per sequence in a row of the block table; larger strides are powers of two. A recording is valid for one stride.
const LEAST_STRIDE: usize = 16;

/// State that is kept from pass to pass.
#[derive(Debug, Default)]
pub struct Passes {
    /// Tensors whose addresses recordings contain, besides those below. A tensor's id is never reused.
    tensors: Vec<TensorId>,
    /// Tokens, slots, positions, counts and blocks.
    numbers: Option<Tensor>,
    memory: Arc<Mutex<Memory>>,
    recorder: Option<Arc<dyn Recorder>>,
    /// The state of passes, by the number of sequences and the stride of the block table.
    known: HashMap<[usize; 2], Known>,
}

#[derive(Debug)]
enum Known {
    /// Computed once: all its memory exists, and the next pass is recorded.
    Made,
    /// The recording, and its result.
    Recorded(Box<dyn Recording>, Tensor),
    /// It cannot be recorded.
    Plain,
}

/// Runs a pass of at most [`FEW`] sequences.
pub fn run(fused: &Fused, step: &Step, pass: &dyn Pass) -> Result<Tensor> {
    let Ok(mut passes) = fused.passes.lock() else { bail!("another pass panicked") };
    passes.run(fused, step, pass)
}

impl Passes {
    fn run(&mut self, fused: &Fused, step: &Step, pass: &dyn Pass) -> Result<Tensor> {
        let tensors = pass.tensors();
        if tensors != self.tensors {
            self.known.clear();
            self.tensors = tensors;
        }
        let positions = step.positions();
        let (rows, stride) = self.place(fused, step, &positions)?;
        let key = [step.counts.len(), stride];
        let x = match self.known.get(&key) {
            Some(Known::Recorded(recording, x)) => {
                recording.replay()?;
                x.clone()
            }
            Some(Known::Made) => self.record(fused, pass, &rows, key)?,
            Some(Known::Plain) => self.compute(fused, &fused.machine, pass, &rows)?,
            None => {
                let x = self.compute(fused, &fused.machine, pass, &rows)?;
                self.known.insert(key, Known::Made);
                x
            }
        };
        // Copied, because the caller may keep the result for any time and the next pass overwrites it.
        let result = fused.machine.empty(x.shape().clone(), x.dtype())?;
        fused.machine.copy(&result, &x)?;
        Ok(result)
    }

    /// Writes the step's numbers to their fixed place, and returns the stride of the block table.
    fn place<'a>(&mut self, fused: &Fused, step: &Step<'a>, positions: &'a [u32]) -> Result<(Rows<'a>, usize)> {
        let n = step.counts.len();
        let longest = step.blocks.iter().map(|blocks| blocks.len()).max().unwrap_or(0);
        let stride = longest.next_power_of_two().max(LEAST_STRIDE);
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
                self.known.clear();
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

    /// Starts the pass on `machine`, with its tensors in the fixed memory.
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
        // After a failure too: recordings hold the old address of whatever has moved by then.
        if std::mem::take(&mut in_place.memory()?.has_moved) {
            self.known.clear();
        }
        computed
    }

    /// Records the pass and starts it; starts it unrecorded if it cannot be recorded.
    fn record(&mut self, fused: &Fused, pass: &dyn Pass, rows: &Rows, key: [usize; 2]) -> Result<Tensor> {
        match self.recorded(fused, pass, rows) {
            Ok(Some((recording, x))) => {
                recording.replay()?;
                self.known.insert(key, Known::Recorded(recording, x.clone()));
                Ok(x)
            }
            not_recorded => {
                if let Err(error) = not_recorded {
                    tracing::debug!(sequences = key[0], %error, "cannot record a pass; it runs operation by operation");
                }
                self.known.insert(key, Known::Plain);
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

/// Tensors in the order in which a pass requests them.
#[derive(Debug, Default)]
struct Memory {
    tensors: Vec<Tensor>,
    /// Number of tensors that the current pass has requested so far.
    used: usize,
    /// Whether a tensor was too small and has been reallocated.
    has_moved: bool,
}

/// A machine that places new tensors where the previous pass had them. They are views of larger tensors, which have room for the largest number
/// of sequences so far.
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
        bail!("cannot copy from the host during a pass: all its numbers are written before it begins")
    }

    fn put_floats(&self, _: &[f32]) -> Result<Tensor> {
        bail!("cannot copy from the host during a pass: all its numbers are written before it begins")
    }

    fn fetch(&self, _: &Tensor) -> Result<Pending> {
        bail!("cannot copy to the host during a pass")
    }
}

#[cfg(test)]
mod tests;
