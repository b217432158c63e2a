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
mod tests {
    use super::*;
    use crate::kernels::cpu::testing::random;
    use crate::kernels::fused::emulated::Emulator;
    use crate::kernels::{Kernels, pass};

    /// Rows of a table by the tokens, and layers that each add a product with the normalised rows.
    struct Toy {
        table: Tensor,
        norm: Tensor,
        weights: Vec<Tensor>,
    }

    impl Toy {
        fn new(seed: u64) -> Self {
            Self {
                table: random((9, 16), seed),
                norm: random(16, seed + 1),
                weights: (2..5).map(|layer| random((16, 16), seed + layer)).collect(),
            }
        }
    }

    impl Pass for Toy {
        fn layers(&self) -> usize {
            self.weights.len()
        }

        fn begin(&self, kernels: &dyn Kernels, rows: &Rows) -> Result<Tensor> {
            kernels.gather(&self.table, &rows.tokens)
        }

        fn layer(&self, layer: usize, x: &Tensor, kernels: &dyn Kernels, _: &Rows) -> Result<()> {
            let (normed, _) = kernels.rms_norm(x, &self.norm, 1e-6)?;
            kernels.add_product_into(x, &normed, &self.weights[layer])
        }

        fn tensors(&self) -> Vec<TensorId> {
            self.weights.iter().chain([&self.table, &self.norm]).map(Tensor::id).collect()
        }
    }

    /// A machine that cannot record.
    #[derive(Debug)]
    struct Plain(Emulator);

    impl Launch for Plain {
        fn device(&self) -> &Device {
            self.0.device()
        }

        fn launch(&self, kernel: &str, grid: Grid, arguments: &[Argument]) -> Result<()> {
            self.0.launch(kernel, grid, arguments)
        }

        fn product(&self, product: &Product) -> Result<()> {
            self.0.product(product)
        }

        fn empty(&self, shape: Shape, dtype: DType) -> Result<Tensor> {
            self.0.empty(shape, dtype)
        }

        fn recorder(self: Arc<Self>) -> Result<Option<Arc<dyn Recorder>>> {
            bail!("no stream is left")
        }
    }

    /// A pass with sequences of `blocks` blocks each, checked against one made operation by operation.
    fn check(fused: &Fused, toy: &Toy, tokens: &[u32], blocks: usize) -> Result<Tensor> {
        let (table, slots, counts) = (vec![0; blocks], vec![0; tokens.len()], vec![blocks * 16; tokens.len()]);
        let (tables, tokens) = (vec![table.as_slice(); tokens.len()], fused.indices(tokens)?);
        let step = Step { tokens: &tokens, slots: &slots, blocks: &tables, counts: &counts };
        let (found, expected) = (fused.run_pass(&step, toy)?, pass::plainly(fused, &step, toy)?);
        assert_eq!(found.to_vec2::<f32>()?, expected.to_vec2::<f32>()?);
        Ok(found)
    }

    /// How far passes have come, by the number of sequences and the stride: 0 made, 1 recorded, 2 not to be recorded.
    fn known(fused: &Fused) -> Vec<([usize; 2], u8)> {
        let passes = fused.passes.lock().expect("no pass panicked");
        let step = |known: &Known| match known {
            Known::Made => 0,
            Known::Recorded(..) => 1,
            Known::Plain => 2,
        };
        let mut known: Vec<_> = passes.known.iter().map(|(key, known)| (*key, step(known))).collect();
        known.sort_unstable();
        known
    }

    #[test]
    fn the_second_pass_is_recorded_and_the_next_ones_replay_it() -> Result<()> {
        let Some(emulator) = Emulator::new() else { return Ok(()) };
        let (fused, toy) = (Fused::new(Arc::new(emulator), DType::F32)?, Toy::new(1));
        let first = check(&fused, &toy, &[3, 1, 4], 2)?;
        let bits = first.to_vec2::<f32>()?;
        assert_eq!(known(&fused), [([3, 16], 0)]);
        check(&fused, &toy, &[2, 7, 1], 2)?;
        check(&fused, &toy, &[8, 2, 8], 16)?;
        assert_eq!(known(&fused), [([3, 16], 1)]);
        assert_eq!(first.to_vec2::<f32>()?, bits, "a result stays as it is");
        // Longer sequences have a wider table, and fewer sequences another recording.
        check(&fused, &toy, &[1, 2], 2)?;
        check(&fused, &toy, &[5, 6], 2)?;
        assert_eq!(known(&fused), [([2, 16], 1), ([3, 16], 1)]);
        check(&fused, &toy, &[5, 6], 17)?;
        // The table has no room where it lies, and nothing is known about the new place but this pass.
        assert_eq!(known(&fused), [([2, 32], 0)]);
        Ok(())
    }

    #[test]
    fn recordings_end_with_what_they_have_the_addresses_of() -> Result<()> {
        let Some(emulator) = Emulator::new() else { return Ok(()) };
        let (fused, toy) = (Fused::new(Arc::new(emulator), DType::F32)?, Toy::new(1));
        let twice = |toy: &Toy, tokens: &[u32]| check(&fused, toy, tokens, 1).and_then(|_| check(&fused, toy, tokens, 1));
        twice(&toy, &[1, 2])?;
        assert_eq!(known(&fused), [([2, 16], 1)]);
        // More rows than the memory has room for.
        twice(&toy, &[1, 2, 3, 4, 5])?;
        assert_eq!(known(&fused), [([5, 16], 1)]);
        twice(&toy, &[6, 2])?;
        assert_eq!(known(&fused), [([2, 16], 1), ([5, 16], 1)]);
        // Other weights; the same ones changed in place are the same.
        let other = Toy::new(10);
        check(&fused, &other, &[6, 2], 1)?;
        assert_eq!(known(&fused), [([2, 16], 0)]);
        check(&fused, &other, &[6, 2], 1)?;
        fused.add_into(&other.weights[1], &toy.weights[1])?;
        check(&fused, &other, &[6, 2], 1)?;
        assert_eq!(known(&fused), [([2, 16], 1)]);
        Ok(())
    }

    #[test]
    fn a_pass_that_cannot_be_recorded_is_made_operation_by_operation() -> Result<()> {
        let Some(emulator) = Emulator::new() else { return Ok(()) };
        let (fused, toy) = (Fused::new(Arc::new(Plain(emulator)), DType::F32)?, Toy::new(1));
        for tokens in [[3, 1], [4, 1], [5, 8]] {
            check(&fused, &toy, &tokens, 1)?;
        }
        assert_eq!(known(&fused), [([2, 16], 2)]);
        Ok(())
    }

    /// Many sequences take no memory that stays, and none take nothing.
    #[test]
    fn only_few_sequences_are_repeated() -> Result<()> {
        let Some(emulator) = Emulator::new() else { return Ok(()) };
        let (fused, toy) = (Fused::new(Arc::new(emulator), DType::F32)?, Toy::new(1));
        check(&fused, &toy, &[1; FEW + 1], 1)?;
        assert!(fused.passes.lock().expect("no pass panicked").numbers.is_none());
        check(&fused, &toy, &[1; FEW], 1)?;
        assert_eq!(known(&fused), [([FEW, 16], 0)]);
        Ok(())
    }
}
