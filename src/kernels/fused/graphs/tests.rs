//! Compares passes that run in fixed memory, or are recorded and replayed, with passes whose operations are started one by one.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::kernels::OutOfMemory;
use crate::kernels::cpu::testing::random;
use crate::kernels::fused::emulated::Emulator;
use crate::kernels::{Kernels, pass};

/// A toy model: an embedding table, and layers that each add a product with the normalized rows.
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
struct CannotRecord(Emulator);

impl Launch for CannotRecord {
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
        bail!("no stream is available")
    }
}

/// A machine with memory for a limited number of tensors.
#[derive(Debug)]
struct Limited {
    emulator: Arc<Emulator>,
    left: AtomicUsize,
}

impl Launch for Limited {
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

/// Runs a pass in which each sequence has `blocks` full blocks, and compares it with one whose operations are started one by one.
fn check(fused: &Fused, toy: &Toy, tokens: &[u32], blocks: usize) -> Result<Tensor> {
    let (table, slots, counts) = (vec![0; blocks], vec![0; tokens.len()], vec![blocks * 16; tokens.len()]);
    let (tables, tokens) = (vec![table.as_slice(); tokens.len()], fused.indices(tokens)?);
    let step = Step { tokens: &tokens, slots: &slots, blocks: &tables, counts: &counts };
    let (found, expected) = (fused.run_pass(&step, toy)?, pass::run_eagerly(fused, &step, toy)?);
    assert_eq!(found.to_vec2::<f32>()?, expected.to_vec2::<f32>()?);
    Ok(found)
}

/// Returns the state of each pass, by its number of sequences and stride: 0 for `Ran`, 1 for `Recorded`, 2 for `Unrecordable`.
fn states(fused: &Fused) -> Vec<([usize; 2], u8)> {
    let passes = fused.passes.lock().expect("no pass panicked");
    let code = |state: &PassState| match state {
        PassState::Ran => 0,
        PassState::Recorded(..) => 1,
        PassState::Unrecordable => 2,
    };
    let mut states: Vec<_> = passes.states.iter().map(|(key, state)| (*key, code(state))).collect();
    states.sort_unstable();
    states
}

#[test]
fn run_records_the_second_pass_and_replays_it_afterwards() -> Result<()> {
    let Some(emulator) = Emulator::new() else { return Ok(()) };
    let (fused, toy) = (Fused::new(Arc::new(emulator), DType::F32)?, Toy::new(1));
    let first = check(&fused, &toy, &[3, 1, 4], 2)?;
    let bits = first.to_vec2::<f32>()?;
    assert_eq!(states(&fused), [([3, 16], 0)]);
    check(&fused, &toy, &[2, 7, 1], 2)?;
    check(&fused, &toy, &[8, 2, 8], 16)?;
    assert_eq!(states(&fused), [([3, 16], 1)]);
    assert_eq!(first.to_vec2::<f32>()?, bits, "a result does not change later");
    // Longer sequences need a wider table, and a smaller number of sequences needs its own recording.
    check(&fused, &toy, &[1, 2], 2)?;
    check(&fused, &toy, &[5, 6], 2)?;
    assert_eq!(states(&fused), [([2, 16], 1), ([3, 16], 1)]);
    check(&fused, &toy, &[5, 6], 17)?;
    // The table was reallocated, so earlier recordings are discarded.
    assert_eq!(states(&fused), [([2, 32], 0)]);
    Ok(())
}

#[test]
fn run_discards_recordings_when_tensors_move_or_weights_are_replaced() -> Result<()> {
    let Some(emulator) = Emulator::new() else { return Ok(()) };
    let (fused, toy) = (Fused::new(Arc::new(emulator), DType::F32)?, Toy::new(1));
    let twice = |toy: &Toy, tokens: &[u32]| check(&fused, toy, tokens, 1).and_then(|_| check(&fused, toy, tokens, 1));
    twice(&toy, &[1, 2])?;
    assert_eq!(states(&fused), [([2, 16], 1)]);
    // More rows than fit into the fixed memory.
    twice(&toy, &[1, 2, 3, 4, 5])?;
    assert_eq!(states(&fused), [([5, 16], 1)]);
    twice(&toy, &[6, 2])?;
    assert_eq!(states(&fused), [([2, 16], 1), ([5, 16], 1)]);
    // Replacing the weights discards recordings; changing them in place does not.
    let other = Toy::new(10);
    check(&fused, &other, &[6, 2], 1)?;
    assert_eq!(states(&fused), [([2, 16], 0)]);
    check(&fused, &other, &[6, 2], 1)?;
    fused.add_into(&other.weights[1], &toy.weights[1])?;
    check(&fused, &other, &[6, 2], 1)?;
    assert_eq!(states(&fused), [([2, 16], 1)]);
    Ok(())
}

#[test]
fn run_starts_operations_one_by_one_if_recording_fails() -> Result<()> {
    let Some(emulator) = Emulator::new() else { return Ok(()) };
    let (fused, toy) = (Fused::new(Arc::new(CannotRecord(emulator)), DType::F32)?, Toy::new(1));
    for tokens in [[3, 1], [4, 1], [5, 8]] {
        check(&fused, &toy, &tokens, 1)?;
    }
    assert_eq!(states(&fused), [([2, 16], 2)]);
    Ok(())
}

/// A pass that runs out of memory halfway may already have moved tensors that recordings use.
#[test]
fn run_discards_recordings_if_a_pass_fails_after_moving_tensors() -> Result<()> {
    let Some(emulator) = Emulator::new() else { return Ok(()) };
    let limited = Arc::new(Limited { emulator: Arc::new(emulator), left: AtomicUsize::new(usize::MAX) });
    let (fused, toy) = (Fused::new(limited.clone(), DType::F32)?, Toy::new(1));
    check(&fused, &toy, &[3, 1], 1)?;
    check(&fused, &toy, &[3, 1], 1)?;
    assert_eq!(states(&fused), [([2, 16], 1)]);
    // The inputs of three sequences fit; the first tensor moves, and there is no memory for the second.
    limited.left.store(1, Ordering::Relaxed);
    assert!(check(&fused, &toy, &[3, 1, 4], 1).is_err());
    assert_eq!(states(&fused), []);
    limited.left.store(usize::MAX, Ordering::Relaxed);
    check(&fused, &toy, &[3, 1], 1).map(|_| ())
}

/// A pass with more than `MAX_SEQUENCES` sequences uses no fixed memory.
#[test]
fn run_pass_records_passes_of_up_to_max_sequences() -> Result<()> {
    let Some(emulator) = Emulator::new() else { return Ok(()) };
    let (fused, toy) = (Fused::new(Arc::new(emulator), DType::F32)?, Toy::new(1));
    check(&fused, &toy, &[1; MAX_SEQUENCES + 1], 1)?;
    assert!(fused.passes.lock().expect("no pass panicked").inputs.is_none());
    check(&fused, &toy, &[1; MAX_SEQUENCES], 1)?;
    assert_eq!(states(&fused), [([MAX_SEQUENCES, 16], 0)]);
    Ok(())
}
