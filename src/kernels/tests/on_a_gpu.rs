//! The same test bodies on a GPU, including those that are too slow for an emulated one, and tests of a GPU's own matrix products.

use super::*;
use crate::kernels::{Fused, fused::launch::Launch};

/// Returns the GPU that tests run on, if there is one; `RLVR_REQUIRE_GPU=1` requires it.
pub(crate) fn gpu() -> Option<std::sync::Arc<crate::kernels::fused::cuda::Gpu>> {
    let gpu = crate::kernels::fused::cuda::Gpu::new(0, false);
    let gpu = gpu.map(std::sync::Arc::new).map_err(|error| format!("there is no GPU ({error})"));
    crate::testing::available(gpu, "RLVR_REQUIRE_GPU")
}

/// Returns true if `scripts/cuda-emulated.sh` emulates the GPU, which is too slow for some tests.
fn is_emulated() -> bool {
    crate::kernels::fused::cuda::describe(0).is_ok_and(|gpu| gpu.name == "emulated GPU")
}

/// Returns `Some` if the GPU is emulated. Such a GPU counts its work and can simulate faults. `RLVR_REQUIRE_EMULATED_GPU=1` requires one.
pub(crate) fn emulated_gpu() -> Option<()> {
    gpu()?;
    let emulated = is_emulated().then_some(()).ok_or("the GPU is a real one: scripts/cuda-emulated.sh emulates one".to_owned());
    crate::testing::available(emulated, "RLVR_REQUIRE_EMULATED_GPU")
}

/// Runs `work` and returns the candle kernels that it launches, from the log of an emulated GPU; none on a real GPU, which has no log.
pub(crate) fn launched_by_candle(work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Vec<String>> {
    let Some(log) = std::env::var_os("EMULATED_GPU_LOG") else {
        assert!(!is_emulated(), "scripts/cuda-emulated.sh sets EMULATED_GPU_LOG");
        return work().map(|()| Vec::new());
    };
    let lines = || std::fs::read_to_string(&log).map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
    let before = lines().map_or(0, |lines| lines.len());
    work()?;
    let launched = lines()?.split_off(before);
    assert!(launched.iter().any(|line| line.starts_with("rlvr\t")), "nothing was launched");
    let mut launched: Vec<String> = launched.into_iter().filter_map(|line| line.strip_prefix("candle\t").map(str::to_owned)).collect();
    launched.sort();
    launched.dedup();
    Ok(launched)
}

/// Runs a part in one dtype. `scripts/gpu-check.sh` runs each of the tests below in its own process, because after a kernel has
/// faulted, everything else in its process fails, too.
fn check_on_a_gpu(part: Part, dtype: DType, bounds: Bounds) -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    check(&Fused::new(gpu, dtype)?, part, bounds)
}

fn check_long(dtype: DType) -> Result<()> {
    let real = gpu().map(|_| (!is_emulated()).then_some(()).ok_or("an emulated GPU is too slow for it".to_owned()));
    match real.and_then(|real| crate::testing::available(real, "RLVR_REQUIRE_REAL_GPU")) {
        Some(()) => check_on_a_gpu(LONG, dtype, Bounds::Usual),
        None => Ok(()),
    }
}

#[test]
fn stock_operations_are_exact_in_f32() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    PARTS.into_iter().try_for_each(|part| check(&Stock::new(gpu.device().clone(), DType::F32), part, Bounds::Usual))
}

#[test]
fn rows_f32() -> Result<()> {
    check_on_a_gpu(ROWS, DType::F32, Bounds::Usual)
}

#[test]
fn rows_bf16() -> Result<()> {
    check_on_a_gpu(ROWS, DType::BF16, Bounds::Usual)
}

#[test]
fn attention_f32() -> Result<()> {
    check_on_a_gpu(ATTENTION, DType::F32, Bounds::Usual)
}

#[test]
fn attention_bf16() -> Result<()> {
    check_on_a_gpu(ATTENTION, DType::BF16, Bounds::Usual)
}

#[test]
fn head_f32() -> Result<()> {
    check_on_a_gpu(HEAD, DType::F32, Bounds::Usual)
}

#[test]
fn head_bf16() -> Result<()> {
    check_on_a_gpu(HEAD, DType::BF16, Bounds::Usual)
}

#[test]
fn long_f32() -> Result<()> {
    check_long(DType::F32)
}

#[test]
fn long_bf16() -> Result<()> {
    check_long(DType::BF16)
}

#[test]
fn quantization_and_sampling() -> Result<()> {
    fn all(bench: &mut Bench) -> Result<()> {
        [CODES, SAMPLES, SCORES].into_iter().try_for_each(|(_, operations)| operations(bench))
    }
    check_on_a_gpu(("choices", all), DType::F32, Bounds::Usual)
}

/// Runs every kernel at small shapes, for `compute-sanitizer`. The results are reported but not checked; other tests check them.
#[test]
fn every_kernel_once() -> Result<()> {
    [DType::F32, DType::BF16].into_iter().try_for_each(|dtype| check_on_a_gpu(ONCE, dtype, Bounds::None))
}

/// In tests, memory that no kernel has written is NaN.
#[test]
fn empty_returns_nan() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    for dtype in [DType::F32, DType::BF16] {
        let values: Vec<f32> = crate::kernels::on_host(&gpu.empty(1000.into(), dtype)?)?.to_dtype(DType::F32)?.to_vec1()?;
        assert!(values.iter().all(|value| value.is_nan()), "{dtype:?}");
    }
    Ok(())
}

#[test]
fn fused_copies_equal_candles() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    for dtype in [DType::F32, DType::BF16] {
        let kernels = Fused::new(gpu.clone(), dtype)?;
        check_copies(&kernels)?;
        check_token_ids(&kernels)?;
    }
    Ok(())
}

/// In each product of a forward pass, a row of a batch-invariant product has the same bits for any number of rows.
#[test]
fn rows_of_batch_invariant_products_do_not_depend_on_their_number() -> Result<()> {
    fn products(bench: &mut Bench) -> Result<()> {
        let shapes = [(64, 80), (1536, 2048), (1536, 1536), (1536, 17_920), (8960, 1536)];
        for (k, n) in if is_emulated() { &shapes[..1] } else { &shapes[..] }.iter().copied() {
            bench.assertions(&format!("batch-invariant products of {k} x {n}"), |bench| check_batch_invariant(bench.kernels, k, n));
        }
        Ok(())
    }
    if gpu().is_none() {
        return Ok(());
    }
    let kernels = Fused::new(std::sync::Arc::new(crate::kernels::fused::cuda::Gpu::new(0, true)?), DType::BF16)?;
    check(&kernels, ("batch-invariant", products), Bounds::Usual)
}

fn check_batch_invariant(kernels: &dyn Kernels, k: usize, n: usize) -> Result<()> {
    let put = |shape: (usize, usize), seed| random(shape, seed).to_dtype(DType::BF16)?.to_device(kernels.device());
    let (x, weight, transposed, base) = (put((1031, k), 1)?, put((k, n), 2)?, put((n, k), 3)?, put((1031, n), 4)?);
    let bias = put((1, n), 5)?.flatten_all()?;
    let all = |rows: usize| -> Result<[Vec<Vec<f32>>; 5]> {
        let x = x.narrow(0, 0, rows)?.contiguous()?;
        let sum = base.narrow(0, 0, rows)?.copy()?;
        let elsewhere = kernels.add_product(&sum, &x, &weight)?;
        kernels.add_product_into(&sum, &x, &weight)?;
        let read = |tensor: &Tensor| crate::kernels::on_host(tensor)?.to_dtype(DType::F32)?.to_vec2();
        let [sum, elsewhere] = [read(&sum)?, read(&elsewhere)?];
        assert!(sum == elsewhere, "add_product and add_product_into differ for {rows} rows");
        let products = [kernels.product(&x, &weight, None)?, kernels.product(&x, &weight, Some(&bias))?, kernels.logits(&x, &transposed)?];
        let [plain, biased, logits] = products;
        Ok([read(&plain)?, read(&biased)?, sum, elsewhere, read(&logits)?])
    };
    let expected = all(1031)?;
    for rows in [1, 2, 7, 63, 64, 65, 129, 512, 1000] {
        for (found, expected) in all(rows)?.iter().zip(&expected) {
            assert!(found[..] == expected[..rows], "{rows} rows differ from the same rows among 1031");
        }
    }
    Ok(())
}

/// An allocation that does not fit returns a typed error, and leaves memory for one that does.
#[test]
fn gpu_out_of_memory_is_a_typed_error() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let total = gpu.memory().expect("a GPU has memory of its own").total as usize;
    let error = gpu.empty((total / 2).into(), DType::F32).expect_err("twice the memory");
    assert!(crate::kernels::is_out_of_memory(&error.into()));
    gpu.empty(1024.into(), DType::F32).map(|_| ())
}
