//! Compares passes in fixed memory, recorded and replayed, with passes computed operation by operation.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::kernels::OutOfMemory;
use crate::kernels::cpu::testing::random;
use crate::kernels::fused::emulated::Emulator;
use crate::kernels::{Kernels, pass};

/// A table's rows for the tokens, and layers that each add a product with the normalised rows.
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

/// A machine with memory for a few more tensors.
#[derive(Debug)]
struct Short {
    emulator: Arc<Emulator>,
    left: AtomicUsize,
}

impl Launch for Short {
    fn device(&self) -> &Device {
        self.emulator.device()
    }

    fn launch(&self, kernel: &str, grid: Grid, arguments: &[Argument]) -> Result<()> {
        self.emulator.launch(kernel, grid, arguments)
    }

    fn product(&self, product: &Product) -> Result<()> {
        self.emulator.product(product)
    }

    fn empty(&self, shape: Shape, dtype: DType) -> Result<Tensor> {
        let one_less = |left: usize| left.checked_sub(1);
        if self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_err() {
            return Err(OutOfMemory::new("no memory is left").into());
        }
        self.emulator.empty(shape, dtype)
    }

    fn recorder(self: Arc<Self>) -> Result<Option<Arc<dyn Recorder>>> {
        self.emulator.clone().recorder()
    }
}

/// A pass with sequences of `blocks` blocks each, compared with one computed operation by operation.
fn check(fused: &Fused, toy: &Toy, tokens: &[u32], blocks: usize) -> Result<Tensor> {
    let (table, slots, counts) = (vec![0; blocks], vec![0; tokens.len()], vec![blocks * 16; tokens.len()]);
    let (tables, tokens) = (vec![table.as_slice(); tokens.len()], fused.indices(tokens)?);
    let step = Step { tokens: &tokens, slots: &slots, blocks: &tables, counts: &counts };
    let (found, expected) = (fused.run_pass(&step, toy)?, pass::plainly(fused, &step, toy)?);
    assert_eq!(found.to_vec2::<f32>()?, expected.to_vec2::<f32>()?);
    Ok(found)
}

/// The state of passes, by the number of sequences and the stride: 0 computed, 1 recorded, 2 cannot be recorded.
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
    assert_eq!(first.to_vec2::<f32>()?, bits, "a result does not change later");
    // Longer sequences need a wider table, and fewer sequences another recording.
    check(&fused, &toy, &[1, 2], 2)?;
    check(&fused, &toy, &[5, 6], 2)?;
    assert_eq!(known(&fused), [([2, 16], 1), ([3, 16], 1)]);
    check(&fused, &toy, &[5, 6], 17)?;
    // The table has grown and moved, so only this pass is known at its new address.
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
    // Other weights end recordings; the same weights changed in place do not.
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

/// A pass that runs out of memory half-way has given up memory that recordings have the address of.
#[test]
fn recordings_end_with_a_pass_that_fails() -> Result<()> {
    let Some(emulator) = Emulator::new() else { return Ok(()) };
    let short = Arc::new(Short { emulator: Arc::new(emulator), left: AtomicUsize::new(usize::MAX) });
    let (fused, toy) = (Fused::new(short.clone(), DType::F32)?, Toy::new(1));
    check(&fused, &toy, &[3, 1], 1)?;
    check(&fused, &toy, &[3, 1], 1)?;
    assert_eq!(known(&fused), [([2, 16], 1)]);
    // The numbers of three sequences have room; their first tensor moves, and there is no memory for the second.
    short.left.store(1, Ordering::Relaxed);
    assert!(check(&fused, &toy, &[3, 1, 4], 1).is_err());
    assert_eq!(known(&fused), []);
    short.left.store(usize::MAX, Ordering::Relaxed);
    check(&fused, &toy, &[3, 1], 1).map(|_| ())
}

/// Many sequences use no fixed memory, and an empty pass does nothing.
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
