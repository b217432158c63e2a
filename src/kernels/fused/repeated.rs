//! Passes of few sequences: made in memory that stays, and from the second time on recorded and started as a whole.
//!
//! With few sequences a GPU is done with an operation sooner than the host has started the next. So a pass allocates nothing but its result: its
//! numbers are written to the place where the last pass had its own, and one layer's tensors serve all layers. As addresses and sizes are then
//! those of the pass before, its operations can be recorded, and the host starts them all at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use candle_core::{DType, Device, Result, Shape, Tensor, TensorId, bail};

use super::Fused;
use super::launch::{Argument, Grid, Launch, Pending, Product, Recorder, Recording};
use crate::kernels::pass::{Pass, Rows, Step};
use crate::kernels::shape::{Indices, Tables};

/// Most sequences of such a pass. The weights' products have one tile of rows up to here, so that a pass takes as long as reading the weights,
/// which is less than the host needs for its launches; and as sequences end one by one, each number of them is recorded anew.
pub const FEW: usize = 64;
/// Fewest blocks that a sequence's row of the table has room for; above, a power of two. A recording is good for as long as the stride is.
const LEAST_STRIDE: usize = 16;

/// What is kept from pass to pass.
#[derive(Debug, Default)]
pub struct Passes {
    /// Tensors that recordings have the addresses of, besides those below. A number is never given to a second tensor.
    tensors: Vec<TensorId>,
    /// Tokens, slots, positions, counts and blocks.
    numbers: Option<Tensor>,
    memory: Arc<Mutex<Memory>>,
    recorder: Option<Arc<dyn Recorder>>,
    /// How far passes have come, by the number of sequences and the stride of the table.
    known: HashMap<[usize; 2], Known>,
}

#[derive(Debug)]
enum Known {
    /// Made once: all that it needs is there, and the next one is recorded.
    Made,
    /// The recording, and where it leaves its result.
    Recorded(Box<dyn Recording>, Tensor),
    /// It cannot be recorded.
    Plain,
}

/// A pass of at most [`FEW`] sequences.
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
        // The caller may hold the result for as long as it likes: the next pass overwrites its own.
        let result = fused.machine.empty(x.shape().clone(), x.dtype())?;
        fused.machine.copy(&result, &x)?;
        Ok(result)
    }

    /// Brings the step's numbers to where they always are, and gives the stride of the table of blocks.
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

    /// Starts the pass on `machine`, with its tensors in the memory that stays.
    fn compute(&mut self, fused: &Fused, machine: &Arc<dyn Launch>, pass: &dyn Pass, rows: &Rows) -> Result<Tensor> {
        let in_place = Arc::new(InPlace { machine: machine.clone(), memory: self.memory.clone() });
        let kernels = Fused { machine: in_place.clone(), ..fused.clone() };
        in_place.memory()?.used = 0;
        let x = pass.begin(&kernels, rows)?;
        let first = in_place.memory()?.used;
        for layer in 0..pass.layers() {
            in_place.memory()?.used = first;
            pass.layer(layer, &x, &kernels, rows)?;
        }
        if std::mem::take(&mut in_place.memory()?.has_moved) {
            self.known.clear();
        }
        Ok(x)
    }

    /// Records the pass and starts it, or starts it without where it cannot be recorded.
    fn record(&mut self, fused: &Fused, pass: &dyn Pass, rows: &Rows, key: [usize; 2]) -> Result<Tensor> {
        match self.recorded(fused, pass, rows) {
            Ok(Some((recording, x))) => {
                recording.replay()?;
                self.known.insert(key, Known::Recorded(recording, x.clone()));
                Ok(x)
            }
            not_recorded => {
                if let Err(error) = not_recorded {
                    tracing::debug!(sequences = key[0], %error, "a pass cannot be recorded and is made operation by operation");
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

/// Tensors in the order in which a pass asks for them.
#[derive(Debug, Default)]
struct Memory {
    tensors: Vec<Tensor>,
    /// How many of them the pass has by now.
    used: usize,
    /// Whether one was too small and lies elsewhere since.
    has_moved: bool,
}

/// Another machine, whose new tensors lie where they did in the pass before. Those that a pass has are views of larger ones, which have room for
/// most sequences that there were.
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
        bail!("a pass is given all its numbers before it begins")
    }

    fn put_floats(&self, _: &[f32]) -> Result<Tensor> {
        bail!("a pass is given all its numbers before it begins")
    }

    fn fetch(&self, _: &Tensor) -> Result<Pending> {
        bail!("the host reads nothing in the middle of a pass")
    }
}

#[cfg(test)]
mod tests;
