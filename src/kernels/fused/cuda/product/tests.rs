//! Tests products on a real or emulated GPU: rounding with bias and addend, reproducible bits, and the choice of algorithms.

use std::process::Command;

use candle_core::{DType, Device, Tensor};

use super::*;
use crate::kernels::cpu::testing::random;
use crate::kernels::fused::cuda::{Gpu, describe};
use crate::kernels::fused::launch::Launch;
use crate::kernels::shape::Factor;
use crate::kernels::{Fused, Kernels, tests::gpu};

mod sweep;

/// Returns true if `scripts/cuda-emulated.sh` emulates the GPU.
fn is_emulated() -> bool {
    describe(0).is_ok_and(|gpu| gpu.name == "emulated GPU")
}

fn put(gpu: &Gpu, values: &Tensor, dtype: DType) -> Result<Tensor> {
    values.to_dtype(dtype)?.to_device(gpu.device())
}

fn read(tensor: &Tensor) -> Result<Vec<f32>> {
    crate::kernels::on_host(tensor)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
}

/// A sum of 257 is not representable in bf16 and is rounded to 256. Bias and addend must be added before the rounding.
#[test]
fn multiply_on_a_gpu_rounds_once_after_bias_and_addend() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let (k, n) = (64, 48);
    let of = |value: f32, shape: &[usize]| put(&gpu, &Tensor::full(value, shape, &Device::Cpu)?, DType::BF16);
    let column: Vec<f32> = (0..k).map(|term| if term == 0 { 5.0 } else { 4.0 }).collect();
    let weight = put(&gpu, &Tensor::from_vec(column, (k, 1), &Device::Cpu)?.repeat((1, n))?, DType::BF16)?;
    for batch_invariant in [false, true] {
        let products = Products::new(gpu.cuda.cuda_stream(), batch_invariant, None)?;
        for m in [1, 7, 8, 65, 512] {
            let (x, bias, addend) = (of(1.0, &[m, k])?, of(1.0, &[n])?, of(2.0, &[m, n])?);
            let check = |bias: Option<&Tensor>, addend: Option<&Tensor>, out: &Tensor, expected: f32| -> Result<()> {
                products.multiply(
                    &products.stream,
                    &Product { a: Factor::of(&x)?, b: Factor::of(&weight)?, bias, addend, out, forward: true },
                )?;
                assert_eq!(read(out)?, vec![expected; m * n], "{m} rows, bias {}, addend {}", bias.is_some(), addend.is_some());
                Ok(())
            };
            let out = of(f32::NAN, &[m, n])?;
            check(None, None, &out, 256.0)?;
            check(Some(&bias), None, &out, 258.0)?;
            check(Some(&bias), Some(&addend), &out, 260.0)?;
            check(None, Some(&of(1.0, &[m, n])?), &out, 258.0)?;
            assert_eq!(read(&addend)?, vec![2.0; m * n], "the addend does not change");
            check(Some(&bias), Some(&addend), &addend, 260.0)?;
        }
    }
    Ok(())
}

#[test]
fn product_on_a_gpu_refuses_mismatched_shapes_and_dtypes() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let of = |shape: &[usize], dtype| put(&gpu, &Tensor::zeros(shape, DType::F32, &Device::Cpu)?, dtype);
    let (x, weight, out) = (of(&[3, 64], DType::F32)?, of(&[64, 48], DType::F32)?, of(&[3, 48], DType::F32)?);
    let check = |bias: Option<&Tensor>, addend: Option<&Tensor>, out: &Tensor, expected: &str| -> Result<()> {
        let product = Product { a: Factor::of(&x)?, b: Factor::of(&weight)?, bias, addend, out, forward: true };
        let error = gpu.product(&product).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        Ok(())
    };
    check(None, None, &of(&[3, 64], DType::F32)?, "cannot write the product of 3 x 64 and 64 x 48 to [3, 64]")?;
    check(Some(&of(&[47], DType::F32)?), None, &out, "cannot add the bias [47] in F32 to a product of 3 x 48")?;
    check(Some(&of(&[48], DType::BF16)?), None, &out, "cannot add the bias [48] in BF16")?;
    check(None, Some(&of(&[2, 48], DType::F32)?), &out, "cannot add [2, 48] in F32 to a product of 3 x 48")?;
    check(None, None, &of(&[3, 48], DType::BF16)?, "products of F32 and F32 into BF16 are not supported")
}

/// Computes gradients and forward products of awkward sizes several times. Partial sums must be added in a fixed order.
#[test]
fn product_on_a_gpu_has_the_same_bits_each_time() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    for dtype in [DType::F32, DType::BF16] {
        let kernels = Fused::new(gpu.clone(), dtype)?;
        for (t, k, n) in [(1, 64, 48), (7, 64, 80), (64, 256, 48), (65, 128, 80), (301, 48, 64)] {
            let of = |shape: (usize, usize), seed| put(&gpu, &random(shape, seed), dtype);
            let (x, weight, dy, base) = (of((t, k), 1)?, of((k, n), 2)?, of((t, n), 3)?, of((t, n), 4)?);
            let bias = put(&gpu, &random(n, 5), dtype)?;
            let all = || -> Result<Vec<Vec<f32>>> {
                let gradient = Tensor::zeros((k, n), DType::F32, &Device::Cpu)?.to_device(gpu.device())?;
                kernels.add_product_into(&gradient, &x.t()?, &dy)?;
                let products = [
                    kernels.product(&x, &weight, Some(&bias))?,
                    kernels.add_product(&base, &x, &weight)?,
                    kernels.product(&dy, &weight.t()?, None)?,
                    gradient,
                ];
                products.iter().map(read).collect()
            };
            let first = all()?;
            assert!(first.iter().flatten().all(|value| value.is_finite()));
            for _ in 0..3 {
                assert_eq!(all()?, first, "{t} x {k} x {n} in {dtype:?}");
            }
        }
    }
    Ok(())
}

/// Returns the id of the cuBLASLt algorithm for a product of `x [m, 64]` and a weight of 64 x 48.
fn algorithm_id(products: &Products, m: usize) -> Option<i32> {
    let (factors, result) = (DType::F32, DType::F32);
    let shape = Shape { m, k: 64, n: 48, a_transposed: false, b_transposed: false, factors, result, bias: false, addend: false };
    let state = products.state.lock().unwrap();
    let plan = &state.plans[&(shape, products.batch_invariant)];
    plan.algorithm.setting(candle_core::cuda_backend::cudarc::cublaslt::sys::cublasLtMatmulAlgoConfigAttributes_t::CUBLASLT_ALGO_CONFIG_ID)
}

fn multiply(products: &Products, gpu: &Gpu, rows: &[usize]) -> Result<Vec<Option<i32>>> {
    let weight = put(gpu, &random((64, 48), 2), DType::F32)?;
    let multiply = |m: &usize| {
        let (x, out) = (put(gpu, &random((*m, 64), 1), DType::F32)?, gpu.empty((*m, 48).into(), DType::F32)?);
        let (a, b) = (Factor::of(&x)?, Factor::of(&weight)?);
        products.multiply(&products.stream, &Product { a, b, bias: None, addend: None, out: &out, forward: true })?;
        Ok(algorithm_id(products, *m))
    };
    rows.iter().map(multiply).collect()
}

/// If an algorithm does not support a number of rows, another is used. Emulated algorithm 21 supports only multiples of 8.
#[test]
fn plan_on_a_gpu_replaces_an_algorithm_that_does_not_support_the_rows() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let products = Products::new(gpu.cuda.cuda_stream(), true, None)?;
    let numbers = multiply(&products, &gpu, &[512, 65, 8, 1])?;
    assert!(!is_emulated() || numbers == [Some(21), Some(22), Some(21), Some(22)], "{numbers:?}");
    Ok(())
}

#[test]
#[ignore = "runs in its own process, which the test below starts"]
fn prints_algorithms_with_a_folder() -> Result<()> {
    let gpu = Gpu::new(0, false)?;
    let folder = std::env::var_os("PRODUCTS_FOLDER").map(std::path::PathBuf::from);
    let products = Products::new(gpu.cuda.cuda_stream(), false, folder.as_deref())?;
    let numbers = multiply(&products, &gpu, &[8, 16, 7, 8, 32])?;
    println!("numbers {numbers:?}");
    Ok(())
}

/// Later processes use the choices of the first process, whatever times they would measure.
#[test]
fn algorithm_cache_on_a_gpu_decides_in_later_processes() {
    if gpu().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let numbers = |fastest: &str, folder: &Path| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "--nocapture", "kernels::fused::cuda::product::tests::prints_algorithms_with_a_folder"]);
        let output = command.env("EMULATED_GPU_CLOCK", fastest).env("PRODUCTS_FOLDER", folder).output().unwrap();
        let printed = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{printed}");
        printed.lines().find_map(|line| line.strip_prefix("numbers ")).unwrap_or_else(|| panic!("{printed}")).to_owned()
    };
    let files = |folder: &Path| -> Vec<String> {
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".json")).collect()
    };
    if is_emulated() {
        // Without a clock, cuBLASLt's first choice is used and nothing is stored.
        assert_eq!(numbers("", folder.path()), "[Some(11), Some(11), Some(11), Some(11), Some(11)]");
        assert_eq!(files(folder.path()), Vec::<String>::new());
        // 7 rows belong to the bucket of 16, whose algorithm does not support 7.
        assert_eq!(numbers("21", folder.path()), "[Some(21), Some(21), Some(11), Some(21), Some(21)]");
    }
    let first = numbers("21", folder.path());
    assert_eq!(files(folder.path()).len(), 1);
    assert_eq!(numbers("23", folder.path()), first);
    if is_emulated() {
        // A new folder, as if the file had been deleted.
        let other = tempfile::tempdir().unwrap();
        assert_eq!(numbers("23", other.path()), "[Some(23), Some(23), Some(23), Some(23), Some(23)]");
    }
}
