//! Compares every operation of every backend, row by row, with the same computation in f64 with plain loops. The test bodies are the same for
//! all devices.

use std::panic::{AssertUnwindSafe, catch_unwind};

use candle_core::{DType, Device, Result, Tensor};

use super::cpu::testing::random;
use super::{Heads, Kernels, Stock};
use attention::{with_prefix, without_prefix};
use copies::{check_copies, check_token_ids};
use outcome::{Bounds, Outcome, Verdict};

mod attention;
mod copies;
mod exact;
#[cfg(feature = "cuda")]
mod gpu_faults;
mod head;
#[cfg(feature = "cuda")]
mod on_a_gpu;
mod optimizer;
mod outcome;
mod pass;
mod rows;
mod stock_errors;

#[cfg(feature = "cuda")]
pub(crate) use on_a_gpu::{emulated_gpu, gpu, launched_by_candle};

/// Runs operations, and checks and reports each result immediately.
struct Bench<'a> {
    kernels: &'a dyn Kernels,
    part: &'static str,
    bounds: Bounds,
    outcomes: Vec<Outcome>,
}

/// A tensor on the kernels' device, and its exact values.
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

    /// Compares an operation's result with the exact values, in rows of `width` elements. A result that cannot be read is also an outcome.
    fn outcome(&mut self, name: &str, width: usize, exact: Vec<f64>, found: &Tensor) -> Result<()> {
        let read = || super::on_host(found)?.to_dtype(DType::F64)?.contiguous()?.flatten_all()?.to_vec1();
        match read() {
            Ok(found) => self.compare(name, width, &exact, &found),
            Err(error) => self.report(name, Verdict::Error, &error.to_string()),
        }
        Ok(())
    }

    fn outcome_of_slice(&mut self, name: &str, exact: Vec<f64>, found: &[f32]) {
        let found: Vec<f64> = found.iter().map(|x| f64::from(*x)).collect();
        self.compare(name, exact.len().max(1), &exact, &found);
    }

    fn compare(&mut self, name: &str, width: usize, exact: &[f64], found: &[f64]) {
        if exact.len() != found.len() {
            return self.report(name, Verdict::Wrong, &format!("{} values, expected {}", found.len(), exact.len()));
        }
        let errors = outcome::errors(width, exact, found);
        self.push(Outcome::of_errors(self.part, name, self.kernels.dtype(), self.bounds, &errors));
    }

    fn report(&mut self, name: &str, verdict: Verdict, note: &str) {
        self.push(Outcome::with_note(self.part, name, self.kernels.dtype(), verdict, note));
    }

    fn push(&mut self, outcome: Outcome) {
        outcome.write();
        self.outcomes.push(outcome);
    }

    /// Runs operations that record their outcomes. Records an error or a failed assertion as another outcome, so that the part can continue, and
    /// returns false.
    fn attempt(&mut self, name: &str, operations: impl FnOnce(&mut Self) -> Result<()>) -> bool {
        match catch_unwind(AssertUnwindSafe(|| operations(self))) {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => self.report(name, Verdict::Error, &error.to_string()),
            Err(panic) => {
                let message = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
                self.report(name, Verdict::Wrong, message.unwrap_or("a panic without a message"));
            }
        }
        false
    }

    /// Runs a check that consists of assertions, and records one outcome.
    fn assertions(&mut self, name: &str, check: impl FnOnce(&mut Self) -> Result<()>) {
        if self.attempt(name, check) {
            self.report(name, Verdict::Ok, "");
        }
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

/// A group of operations at awkward shapes: its name, and the function that runs it.
type Part = (&'static str, fn(&mut Bench) -> Result<()>);

const ROWS: Part = ("rows", rows_and_products);
const ATTENTION: Part = ("attention", attention);
const HEAD: Part = ("head", head_and_optimizer);
const PARTS: [Part; 3] = [ROWS, ATTENTION, HEAD];
/// Too slow for an emulated GPU.
const LONG: Part = ("long", long);
const CODES: Part = ("codes", optimizer::codes);
const SAMPLES: Part = ("choices", head::samples);
const SCORES: Part = ("choices", head::scores_of_samples);
/// Every operation once, for `compute-sanitizer`. The sizes of errors are not checked.
const ONCE: Part = ("once", once);

fn rows_and_products(bench: &mut Bench) -> Result<()> {
    for (t, width) in [(1, 64), (3, 16), (65, 128), (7, 1536)] {
        bench.attempt(&format!("rows of {t} x {width}"), |bench| bench.rows(t, width));
    }
    for (m, k, n) in [(1, 64, 48), (3, 16, 64), (65, 128, 80)] {
        bench.attempt(&format!("products of {m} x {k} x {n}"), |bench| bench.products(m, k, n));
    }
    // In the last case, the number of pairs is not a multiple of any vector width, and the rows form more than one chunk.
    for (t, heads) in [(5, heads(2, 1, 64)), (1, heads(6, 2, 128)), (37, heads(2, 1, 12))] {
        bench.attempt(&format!("rotation of {t} x {heads:?}"), |bench| bench.rotation(t, heads));
    }
    Ok(())
}

fn heads(query: usize, key_value: usize, width: usize) -> Heads {
    Heads { query, key_value, width }
}

fn attention(bench: &mut Bench) -> Result<()> {
    for heads in [heads(1, 1, 64), heads(6, 1, 64), heads(8, 1, 128), heads(4, 2, 128)] {
        bench.packed(&without_prefix(&[1]), heads);
        bench.packed(&without_prefix(&[63, 1, 65]), heads);
        bench.packed(&with_prefix(37, &[1, 30, 64]), heads);
        bench.cached(&[1, 16, 63, 64, 65], heads);
    }
    bench.packed(&without_prefix(&[64, 130]), heads(1, 1, 64));
    bench.cached(&[300, 257], heads(12, 2, 128));
    // More query heads than a tile has rows.
    bench.cached(&[20, 65], heads(20, 1, 64));
    // Enough queries to split the work on a prefix's keys.
    bench.packed(&with_prefix(70, &[30; 40]), heads(1, 1, 64));
    Ok(())
}

/// A sequence of thousands of tokens, a thousand sequences with a shared prompt, and a realistic vocabulary.
fn long(bench: &mut Bench) -> Result<()> {
    bench.packed(&without_prefix(&[4097]), heads(2, 1, 64));
    bench.cached(&[4097, 1, 4096], heads(2, 1, 128));
    let lengths: Vec<usize> = (0..1024).map(|i| 1 + i * 7 % 23).collect();
    bench.packed(&with_prefix(150, &lengths), heads(2, 1, 128));
    bench.cached(&lengths, heads(6, 1, 64));
    bench.attempt("rows of 4097 x 256", |bench| bench.rows(4097, 256));
    bench.attempt("head of 64 x 151936", |bench| bench.head(64, 151_936, 0.6));
    Ok(())
}

fn head_and_optimizer(bench: &mut Bench) -> Result<()> {
    for (t, vocabulary, temperature) in [(1, 17, 1.0), (5, 257, 0.6), (3, 4099, 1.0)] {
        bench.attempt(&format!("head of {t} x {vocabulary}"), |bench| bench.head(t, vocabulary, temperature));
    }
    for (vocabulary, temperature) in [(17, 1.0), (257, 0.6), (4099, 1.3)] {
        bench.attempt(&format!("masked head of {vocabulary}"), |bench| bench.masked_head(vocabulary, temperature));
    }
    for count in [1, 255, 5000] {
        bench.attempt(&format!("optimizer of {count}"), |bench| bench.optimizer(count));
    }
    for count in [1, 7, 255, 256, 257, 5000] {
        bench.attempt(&format!("8-bit optimizer of {count}"), |bench| bench.quantized_optimizer(count));
    }
    Ok(())
}

/// Every kernel at shapes with several tiles, one of them partial, but with little work: a sanitizer makes each launch a hundred times slower.
fn once(bench: &mut Bench) -> Result<()> {
    bench.attempt("rows of 65 x 136", |bench| bench.rows(65, 136));
    // No products: cuBLASLt's kernels are not this program's.
    for heads in [heads(2, 1, 64), heads(2, 1, 128)] {
        bench.attempt(&format!("rotation of 5 x {heads:?}"), |bench| bench.rotation(5, heads));
        bench.packed(&with_prefix(37, &[1, 30, 66]), heads);
        bench.cached(&[70, 17], heads);
    }
    // Enough queries to split the work on a prefix's keys.
    bench.packed(&with_prefix(20, &[30; 36]), heads(1, 1, 64));
    bench.attempt("head of 3 x 259", |bench| bench.head(3, 259, 0.6));
    bench.attempt("masked head of 257", |bench| bench.masked_head(257, 0.6));
    bench.attempt("optimizer of 600", |bench| bench.optimizer(600));
    bench.attempt("8-bit optimizer of 600", |bench| bench.quantized_optimizer(600));
    bench.attempt("copies", |bench| check_copies(bench.kernels));
    bench.attempt("token ids", |bench| check_token_ids(bench.kernels));
    bench.attempt("rotating and storing at once", |bench| pass::check_rotate_and_store(bench.kernels));
    head::samples_once(bench);
    Ok(())
}

/// Runs a part to its end, even if outcomes are wrong, and returns its outcomes.
fn run(kernels: &dyn Kernels, (name, operations): Part, bounds: Bounds) -> Vec<Outcome> {
    let mut bench = Bench { kernels, part: name, bounds, outcomes: Vec::new() };
    bench.attempt(name, operations);
    bench.outcomes
}

/// Runs a part, then fails if any of its outcomes is wrong.
fn check(kernels: &dyn Kernels, part: Part, bounds: Bounds) -> Result<()> {
    let outcomes = run(kernels, part, bounds);
    assert!(!outcomes.is_empty(), "{} has no operations", part.0);
    let wrong: Vec<String> = outcomes.iter().filter(|outcome| outcome.verdict != Verdict::Ok).map(Outcome::line).collect();
    assert!(wrong.is_empty(), "{} of {} outcomes are wrong:\n{}", wrong.len(), outcomes.len(), wrong.join("\n"));
    Ok(())
}

fn stock_in_f32() -> Stock {
    Stock::new(Device::Cpu, DType::F32)
}

#[test]
fn cpu_operations_are_exact() -> Result<()> {
    PARTS.into_iter().chain([LONG]).try_for_each(|part| check(&super::Cpu, part, Bounds::Usual))
}

#[test]
fn stock_operations_are_exact_in_f32() -> Result<()> {
    PARTS.into_iter().try_for_each(|part| check(&stock_in_f32(), part, Bounds::Usual))
}

#[test]
fn cpu_sample_scores_as_the_trainer_does() -> Result<()> {
    check(&super::Cpu, SCORES, Bounds::Usual)
}

/// A worker may have no sequences, and so no rows.
#[test]
fn add_product_into_accepts_no_rows() -> Result<()> {
    for kernels in [&super::Cpu as &dyn Kernels, &stock_in_f32()] {
        let zeros = |rows: usize, width: usize| Tensor::zeros((rows, width), DType::F32, &Device::Cpu);
        kernels.add_product_into(&zeros(0, 16)?, &zeros(0, 8)?, &zeros(8, 16)?)?;
    }
    Ok(())
}

#[test]
fn copies_equal_candles() -> Result<()> {
    check_copies(&super::Cpu)?;
    check_copies(&Stock::new(Device::Cpu, DType::BF16))
}

#[test]
fn stock_sample_returns_the_same_tokens() -> Result<()> {
    check(&stock_in_f32(), SAMPLES, Bounds::Usual)
}

#[test]
fn stock_adamw_writes_the_same_codes() -> Result<()> {
    check(&stock_in_f32(), CODES, Bounds::Usual)
}

/// A part continues after an error or a failed assertion, and fails at its end with all outcomes.
#[test]
fn check_fails_with_every_outcome_of_a_part() {
    fn part(bench: &mut Bench) -> Result<()> {
        bench.attempt("an error of 2 x 2", |_| candle_core::bail!("no kernel has this name"));
        bench.assertions("an assertion of 3", |_| panic!("2 and 3 differ"));
        bench.assertions("a check of 4", |_| Ok(()));
        bench.outcome_of_slice("an operation of 5", vec![1.0], &[1.5]);
        candle_core::bail!("the part stops here")
    }
    let outcomes = run(&super::Cpu, ("failing", part), Bounds::Usual);
    let found: Vec<(&str, Verdict)> = outcomes.iter().map(|outcome| (outcome.operation(), outcome.verdict)).collect();
    let expected = [
        ("an error", Verdict::Error),
        ("an assertion", Verdict::Wrong),
        ("a check", Verdict::Ok),
        ("an operation", Verdict::Wrong),
        ("failing", Verdict::Error),
    ];
    assert_eq!(found, expected);
    let failed = catch_unwind(|| check(&super::Cpu, ("failing", part), Bounds::Usual)).unwrap_err();
    let message = failed.downcast_ref::<String>().unwrap();
    assert!(message.starts_with("4 of 5 outcomes") && message.contains("2 and 3 differ") && message.contains("has this name"), "{message}");
}

/// The GPU kernels, emulated thread by thread on the CPU.
mod emulated {
    use std::sync::Arc;

    use super::*;
    use crate::kernels::Fused;
    use crate::kernels::fused::emulated::Emulator;

    fn check_emulated(part: Part, dtype: DType) -> Result<()> {
        let Some(emulator) = Emulator::new() else { return Ok(()) };
        check(&Fused::new(Arc::new(emulator), dtype)?, part, Bounds::Usual)
    }

    #[test]
    fn fused_rows_and_products_are_exact_in_f32() -> Result<()> {
        check_emulated(ROWS, DType::F32)
    }

    #[test]
    fn fused_rows_and_products_are_close_in_bf16() -> Result<()> {
        check_emulated(ROWS, DType::BF16)
    }

    #[test]
    fn fused_attention_is_exact_in_f32() -> Result<()> {
        check_emulated(ATTENTION, DType::F32)
    }

    #[test]
    fn fused_attention_is_close_in_bf16() -> Result<()> {
        check_emulated(ATTENTION, DType::BF16)
    }

    #[test]
    fn fused_head_and_optimizer_are_exact_in_f32() -> Result<()> {
        check_emulated(HEAD, DType::F32)
    }

    #[test]
    fn fused_head_and_optimizer_are_close_in_bf16() -> Result<()> {
        check_emulated(HEAD, DType::BF16)
    }

    #[test]
    fn fused_copies_equal_candles() -> Result<()> {
        for dtype in [DType::F32, DType::BF16] {
            let Some(emulator) = Emulator::new() else { return Ok(()) };
            let kernels = Fused::new(Arc::new(emulator), dtype)?;
            check_copies(&kernels)?;
            check_token_ids(&kernels)?;
        }
        Ok(())
    }

    #[test]
    fn fused_adamw_writes_the_same_codes() -> Result<()> {
        check_emulated(CODES, DType::F32)
    }

    #[test]
    fn fused_sample_returns_the_same_tokens() -> Result<()> {
        check_emulated(SAMPLES, DType::F32)
    }

    #[test]
    fn fused_sample_scores_as_the_trainer_does() -> Result<()> {
        check_emulated(SCORES, DType::F32)
    }

    /// The part for sanitizers launches every kernel.
    #[test]
    fn once_launches_every_kernel() -> Result<()> {
        let Some(emulator) = Emulator::new().map(Arc::new) else { return Ok(()) };
        for dtype in [DType::F32, DType::BF16] {
            check(&Fused::new(emulator.clone(), dtype)?, ONCE, Bounds::None)?;
        }
        let (all, launched) = (emulator.kernels(), emulator.launched());
        let left: Vec<&String> = all.difference(&launched).collect();
        assert!(!all.is_empty() && left.is_empty(), "{left:?} were not launched");
        Ok(())
    }
}
