//! Every operation of every version against the same computed in f64 with plain loops, row by row: one test body for all devices.

use candle_core::{DType, Device, Result, Tensor};

use super::cpu::testing::random;
use super::{Heads, Kernels, Stock};
use attention::{alone, shared};
use copies::{check_copies, check_numbers};
use head::{check_choices, check_scores_of_choices};
use optimizer::check_codes;

mod attention;
mod copies;
mod exact;
#[cfg(feature = "cuda")]
mod gpu_faults;
mod head;
#[cfg(feature = "cuda")]
mod on_a_gpu;
mod optimizer;
mod rows;

#[cfg(feature = "cuda")]
pub(crate) use on_a_gpu::{gpu, launched_by_candle};

/// What one operation gave, beside the exact values: rows of `width`.
struct Outcome {
    name: String,
    width: usize,
    exact: Vec<f64>,
    found: Vec<f64>,
}

impl Outcome {
    /// The operation, without the shape.
    fn operation(&self) -> &str {
        self.name.split(" of ").next().unwrap_or_default()
    }

    /// The distance of each row from the exact one, as a share of the exact row's norm, or of a tenth of the usual row's where that is more:
    /// the gradient of a query that sees one key is 0, and is what is left of a difference.
    fn errors(&self) -> Vec<f64> {
        assert_eq!(self.exact.len(), self.found.len(), "{}", self.name);
        let squares = |row: &[f64]| row.iter().map(|x| x * x).sum::<f64>();
        let rows = self.exact.len().div_ceil(self.width).max(1);
        let usual = (squares(&self.exact) / rows as f64).sqrt();
        let error = |(exact, found): (&[f64], &[f64])| {
            let distance: f64 = exact.iter().zip(found).map(|(e, f)| (e - f) * (e - f)).sum();
            let norm = squares(exact).sqrt().max(0.1 * usual);
            // A NaN must not pass as small.
            if distance.is_nan() { f64::INFINITY } else { distance.sqrt() / if norm == 0.0 { 1.0 } else { norm } }
        };
        self.exact.chunks(self.width).zip(self.found.chunks(self.width)).map(error).collect()
    }
}

/// Runs operations and collects what they gave.
struct Bench<'a> {
    kernels: &'a dyn Kernels,
    outcomes: Vec<Outcome>,
}

/// A tensor as the kernels have it, and its exact values.
struct Input {
    tensor: Tensor,
    exact: Vec<f64>,
}

impl Bench<'_> {
    fn put(&self, values: &Tensor, dtype: DType) -> Result<Input> {
        let rounded = values.to_dtype(dtype)?;
        let exact = rounded.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
        Ok(Input { tensor: rounded.to_device(self.kernels.device())?, exact })
    }

    fn random(&self, shape: impl Into<candle_core::Shape>, seed: u64) -> Result<Input> {
        self.put(&random(shape, seed), self.kernels.dtype())
    }

    fn random_f32(&self, shape: impl Into<candle_core::Shape>, seed: u64) -> Result<Input> {
        self.put(&random(shape, seed), DType::F32)
    }

    fn outcome(&mut self, name: &str, width: usize, exact: Vec<f64>, found: &Tensor) -> Result<()> {
        let found = super::on_host(found)?.to_dtype(DType::F64)?.contiguous()?.flatten_all()?.to_vec1()?;
        self.outcomes.push(Outcome { name: name.to_owned(), width, exact, found });
        Ok(())
    }

    fn listed(&mut self, name: &str, exact: Vec<f64>, found: &[f32]) {
        let found = found.iter().map(|x| f64::from(*x)).collect();
        self.outcomes.push(Outcome { name: name.to_owned(), width: exact.len().max(1), exact, found });
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

/// Some of the operations, over awkward shapes.
type Part = fn(&mut Bench) -> Result<()>;

const PARTS: [Part; 3] = [rows_and_products, attention, head_and_optimizer];

fn rows_and_products(bench: &mut Bench) -> Result<()> {
    for (t, width) in [(1, 64), (3, 16), (65, 128), (7, 1536)] {
        bench.rows(t, width)?;
    }
    for (m, k, n) in [(1, 64, 48), (3, 16, 64), (65, 128, 80)] {
        bench.products(m, k, n)?;
    }
    bench.rotation(5, Heads { query: 2, key_value: 1, width: 64 })?;
    bench.rotation(1, Heads { query: 6, key_value: 2, width: 128 })
}

fn attention(bench: &mut Bench) -> Result<()> {
    let heads = |query, key_value, width| Heads { query, key_value, width };
    for heads in [heads(1, 1, 64), heads(6, 1, 64), heads(8, 1, 128), heads(4, 2, 128)] {
        bench.packed_attention(&alone(&[1]), heads)?;
        bench.packed_attention(&alone(&[63, 1, 65]), heads)?;
        bench.packed_attention(&shared(37, &[1, 30, 64]), heads)?;
        bench.cached_attention(&[1, 16, 63, 64, 65], heads)?;
    }
    bench.packed_attention(&alone(&[64, 130]), heads(1, 1, 64))?;
    bench.cached_attention(&[300, 257], heads(12, 2, 128))?;
    // More query heads than rows of a tile.
    bench.cached_attention(&[20, 65], heads(20, 1, 64))?;
    // So many queries that the work on a prefix's keys is split.
    bench.packed_attention(&shared(70, &[30; 40]), heads(1, 1, 64))
}

/// Too much for an emulated GPU: a sequence of thousands of tokens, a thousand sequences that share their prompt, and a real vocabulary.
fn long(bench: &mut Bench) -> Result<()> {
    bench.packed_attention(&alone(&[4097]), Heads { query: 2, key_value: 1, width: 64 })?;
    bench.cached_attention(&[4097, 1, 4096], Heads { query: 2, key_value: 1, width: 128 })?;
    let lengths: Vec<usize> = (0..1024).map(|i| 1 + i * 7 % 23).collect();
    bench.packed_attention(&shared(150, &lengths), Heads { query: 2, key_value: 1, width: 128 })?;
    bench.cached_attention(&lengths, Heads { query: 6, key_value: 1, width: 64 })?;
    bench.rows(4097, 256)?;
    bench.head(64, 151_936, 0.6)
}

fn head_and_optimizer(bench: &mut Bench) -> Result<()> {
    for (t, vocabulary, temperature) in [(1, 17, 1.0), (5, 257, 0.6), (3, 4099, 1.0)] {
        bench.head(t, vocabulary, temperature)?;
    }
    for (vocabulary, temperature) in [(17, 1.0), (257, 0.6), (4099, 1.3)] {
        bench.head_of_kept(vocabulary, temperature)?;
    }
    [1, 255, 5000].into_iter().try_for_each(|count| bench.optimizer(count))?;
    [1, 7, 255, 256, 257, 5000].into_iter().try_for_each(|count| bench.coded_optimizer(count))
}

fn outcomes(kernels: &dyn Kernels, part: Part) -> Result<Vec<Outcome>> {
    let mut bench = Bench { kernels, outcomes: Vec::new() };
    part(&mut bench)?;
    Ok(bench.outcomes)
}

/// In f32 every row is within 2e-5 of the exact one; nearly all are far closer.
fn check_f32(kernels: &dyn Kernels, part: Part) -> Result<()> {
    for outcome in outcomes(kernels, part)? {
        let [worst, _] = worst_and_mean(&outcome);
        assert!(worst < 2e-5, "{}: a row is off by {worst:.1e} of itself", outcome.name);
    }
    Ok(())
}

/// In bf16 no row is further off than twice the worst that stock operations give for the operation in any shape (where much cancels, a row's
/// error is luck), and in each shape rows are no further off on average than half as much again.
fn check_bf16(kernels: &dyn Kernels, part: Part) -> Result<()> {
    let stock = outcomes(&Stock::new(Device::Cpu, DType::BF16), part)?;
    let worst_of = |operation: &str| {
        let same = stock.iter().filter(|outcome| outcome.operation() == operation);
        same.map(|outcome| worst_and_mean(outcome)[0]).fold(0.0, f64::max)
    };
    for (outcome, stock) in outcomes(kernels, part)?.iter().zip(&stock) {
        let ([worst, mean], stock_worst, [_, stock_mean]) = (worst_and_mean(outcome), worst_of(outcome.operation()), worst_and_mean(stock));
        // Where stock operations happen to be exact, a fortieth of a rounding.
        let is_near = worst <= 2.0 * stock_worst + 1e-4 && mean <= 1.5 * stock_mean + 1e-4;
        assert!(
            is_near,
            "{}: rows are off by up to {worst:.1e} of themselves, {mean:.1e} on average; with stock operations {stock_worst:.1e}, {stock_mean:.1e}",
            outcome.name
        );
    }
    Ok(())
}

fn worst_and_mean(outcome: &Outcome) -> [f64; 2] {
    let errors = outcome.errors();
    [errors.iter().copied().fold(0.0, f64::max), mean(errors.into_iter())]
}

#[test]
fn the_plain_versions_are_exact() -> Result<()> {
    PARTS.into_iter().chain([long as Part]).try_for_each(|part| check_f32(&super::Cpu, part))
}

#[test]
fn stock_operations_are_exact_in_f32() -> Result<()> {
    PARTS.into_iter().try_for_each(|part| check_f32(&Stock::new(Device::Cpu, DType::F32), part))
}

/// Rounding to 8 bits of mantissa gives errors of 1 in 500, and a few times as much where sums cancel; a wrong formula gives far more.
#[test]
fn stock_operations_are_near_in_bf16() -> Result<()> {
    let kernels = Stock::new(Device::Cpu, DType::BF16);
    for outcome in PARTS.into_iter().map(|part| outcomes(&kernels, part)).collect::<Result<Vec<_>>>()?.into_iter().flatten() {
        let [_, mean] = worst_and_mean(&outcome);
        assert!(mean < 1e-2, "{}: rows are off by {mean:.1e} of themselves on average", outcome.name);
    }
    Ok(())
}

#[test]
fn the_sampler_scores_as_the_trainer_does() -> Result<()> {
    check_scores_of_choices(&super::Cpu)
}

/// A lane may have no sequence at all.
#[test]
fn no_rows_are_added_to_none() -> Result<()> {
    for kernels in [&super::Cpu as &dyn Kernels, &Stock::new(Device::Cpu, DType::F32)] {
        let zeros = |rows: usize, width: usize| Tensor::zeros((rows, width), DType::F32, &Device::Cpu);
        kernels.add_product_into(&zeros(0, 16)?, &zeros(0, 8)?, &zeros(8, 16)?)?;
    }
    Ok(())
}

#[test]
fn copies_are_those_of_candle() -> Result<()> {
    check_copies(&super::Cpu)?;
    check_copies(&Stock::new(Device::Cpu, DType::BF16))
}

#[test]
fn stock_operations_choose_the_same_tokens() -> Result<()> {
    check_choices(&Stock::new(Device::Cpu, DType::F32))
}

#[test]
fn stock_operations_leave_the_same_codes() -> Result<()> {
    check_codes(&Stock::new(Device::Cpu, DType::F32))
}

/// The kernels for GPUs, thread by thread on the CPU.
mod emulated {
    use std::sync::Arc;

    use super::*;
    use crate::kernels::Fused;
    use crate::kernels::fused::emulated::Emulator;

    fn kernels(dtype: DType) -> Result<Option<Fused>> {
        Emulator::new().map(|emulator| Fused::new(Arc::new(emulator), dtype)).transpose()
    }

    fn in_f32(part: Part) -> Result<()> {
        kernels(DType::F32)?.map_or(Ok(()), |kernels| check_f32(&kernels, part))
    }

    fn in_bf16(part: Part) -> Result<()> {
        kernels(DType::BF16)?.map_or(Ok(()), |kernels| check_bf16(&kernels, part))
    }

    #[test]
    fn rows_and_products_are_exact_in_f32() -> Result<()> {
        in_f32(rows_and_products)
    }

    #[test]
    fn rows_and_products_are_near_in_bf16() -> Result<()> {
        in_bf16(rows_and_products)
    }

    #[test]
    fn attention_is_exact_in_f32() -> Result<()> {
        in_f32(attention)
    }

    #[test]
    fn attention_is_near_in_bf16() -> Result<()> {
        in_bf16(attention)
    }

    #[test]
    fn head_and_optimizer_are_exact_in_f32() -> Result<()> {
        in_f32(head_and_optimizer)
    }

    #[test]
    fn head_and_optimizer_are_near_in_bf16() -> Result<()> {
        in_bf16(head_and_optimizer)
    }

    #[test]
    fn the_fused_kernels_copy_as_candle_does() -> Result<()> {
        for dtype in [DType::F32, DType::BF16] {
            let Some(kernels) = kernels(dtype)? else { return Ok(()) };
            check_copies(&kernels)?;
            check_numbers(&kernels)?;
        }
        Ok(())
    }

    #[test]
    fn the_fused_kernels_leave_the_same_codes() -> Result<()> {
        kernels(DType::F32)?.map_or(Ok(()), |kernels| check_codes(&kernels))
    }

    #[test]
    fn the_fused_kernels_choose_the_same_tokens() -> Result<()> {
        kernels(DType::F32)?.map_or(Ok(()), |kernels| check_choices(&kernels))
    }

    #[test]
    fn the_fused_sampler_scores_as_the_trainer_does() -> Result<()> {
        kernels(DType::F32)?.map_or(Ok(()), |kernels| check_scores_of_choices(&kernels))
    }
}
