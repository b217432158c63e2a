//! Tests faults and unusual conditions: transfers that outlive their GPU, threads that used another one, and GPUs that are too old, in use or
//! lost. Most of these tests run in their own processes, because environment variables configure the emulated GPU.

use std::process::{Command, Output};
use std::sync::Arc;

use super::on_a_gpu::{emulated_gpu, gpu};
use super::*;
use crate::kernels::compute::{Backend, ComputeSettings, DeviceChoice};
use crate::kernels::fused::cuda::Gpu;
use crate::kernels::fused::launch::Launch;
use crate::kernels::{Cpu, Fused, is_lost, on_host};

/// Runs a test in its own process, on an emulated GPU with these variables; `None` if the GPU is not emulated.
fn on_another_gpu(test: &str, variables: &[(&str, &str)]) -> Option<Output> {
    emulated_gpu()?;
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--ignored", "--nocapture", "--exact", &format!("kernels::tests::gpu_faults::{test}")]);
    Some(command.envs(variables.iter().copied()).output().expect("the test program starts"))
}

fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat()
}

#[test]
#[ignore = "runs in its own process, started by the test below"]
fn prints_resolved_compute() {
    let settings = ComputeSettings { device: DeviceChoice::Cuda(0), kernels: Backend::Fused, ..ComputeSettings::default() };
    match settings.resolve() {
        Ok(compute) => println!("computes on {}", compute.describe()),
        Err(reason) => println!("does not compute: {reason:#}"),
    }
    let memory = gpu().and_then(|gpu| gpu.memory());
    println!("{}", memory.and_then(|memory| memory.held_by_others()).unwrap_or_default());
}

#[test]
fn resolve_reports_gpus_that_are_too_old_or_in_use() {
    let check = |variables: &[(&str, &str)], expected: &str| {
        let Some(output) = on_another_gpu("prints_resolved_compute", variables) else { return };
        assert!(text(&output).contains(expected), "{variables:?}: {}", text(&output));
    };
    check(&[], "computes on emulated GPU, bf16, fused kernels");
    check(&[("EMULATED_GPU_CAPABILITY", "7.5")], "does not compute: the emulated GPU has compute capability 7.5, but the kernels need 8.0");
    check(&[("EMULATED_GPU_CAPABILITY", "8.0")], "computes on emulated GPU");
    check(
        &[("EMULATED_GPU_DRIVER", "12080")],
        "does not compute: the NVIDIA driver supports CUDA 12.8, but this program needs 13.0: install driver 580 or newer",
    );
    check(&[("EMULATED_GPU_OTHERS_MIB", "3000")], "other processes hold 3.1 GB of the GPU's 4.3 GB: run nvidia-smi to list them");
}

#[test]
#[ignore = "runs in its own process, started by the test below"]
fn works_until_the_gpu_is_lost() {
    let kernels = Fused::new(Arc::new(Gpu::new(0, false).expect("a GPU")), DType::F32).expect("kernels");
    let x = random((3, 64), 1).to_device(kernels.device()).expect("memory");
    let work = || kernels.swiglu(&x).and_then(|y| kernels.sum_of_squares(&y));
    let error = (0..100).find_map(|_| work().err()).expect("the GPU must be lost");
    assert!(is_lost(&error.into()));
    let read = on_host(&x).expect_err("nothing can be read from a lost GPU");
    assert!(is_lost(&read.into()));
    println!("the program ends normally");
}

#[test]
fn is_lost_recognizes_a_lost_gpu_and_the_program_still_ends() {
    for code in ["719", "214", "46"] {
        let Some(output) =
            on_another_gpu("works_until_the_gpu_is_lost", &[("EMULATED_GPU_LOST_AFTER", "7"), ("EMULATED_GPU_LOST_CODE", code)])
        else {
            return;
        };
        assert!(output.status.success() && text(&output).contains("the program ends normally"), "{}", text(&output));
    }
}

/// Runs products, transfers and kernels on two GPUs in turn, on one thread and on a new one.
#[test]
#[ignore = "runs in its own process, started by the test below"]
fn works_on_two_gpus() -> Result<()> {
    let gpus = [0, 1].map(|number| Arc::new(Gpu::new(number, true).expect("a GPU")));
    let kernels = gpus.map(|gpu| Fused::new(gpu, DType::F32).expect("kernels"));
    let (x, weight) = (random((3, 64), 1), random((64, 48), 2));
    let expected = Cpu.product(&x, &weight, None)?;
    let on = |kernels: &Fused| -> Result<(Tensor, Tensor)> { Ok((x.to_device(kernels.device())?, weight.to_device(kernels.device())?)) };
    let inputs = kernels.iter().map(on).collect::<Result<Vec<_>>>()?;
    let check = |number: usize| -> Result<()> {
        let (kernels, (x, weight)) = (&kernels[number], &inputs[number]);
        let product = kernels.product(x, weight, None)?;
        let far = (on_host(&product)? - &expected)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
        assert!(far < 1e-5, "GPU {number} is off by {far:.1e}");
        kernels.logits(x, &weight.t()?.contiguous()?)?;
        let bias = kernels.cast(&random(48, 3), DType::F32)?;
        kernels.add_into(&bias, &kernels.cast(&random(48, 4), DType::F32)?)?;
        kernels.sum_of_squares(&bias)?;
        assert!(kernels.memory().is_some());
        Ok(())
    };
    for number in [0, 1, 0, 0, 1] {
        check(number)?;
    }
    // One operation on each GPU in turn, so that each follows an operation on the other GPU.
    let sums = kernels.iter().zip(&inputs).map(|(kernels, (x, weight))| kernels.product(x, weight, None)).collect::<Result<Vec<_>>>()?;
    for _ in 0..2 {
        for ((kernels, (x, weight)), sum) in kernels.iter().zip(&inputs).zip(&sums) {
            kernels.add_product_into(sum, x, weight)?;
        }
    }
    kernels.iter().zip(&sums).try_for_each(|(kernels, sum)| kernels.read(sum).map(|_| ()))?;
    std::thread::scope(|scope| scope.spawn(|| check(0).and_then(|()| check(1))).join().expect("no panic"))?;
    let [first, second] = kernels;
    drop((sums, inputs));
    std::thread::spawn(move || drop(first)).join().expect("no panic");
    second.indices(&[1, 2, 3]).map(|_| println!("the program ends normally"))
}

#[test]
fn operations_alternate_between_gpus_and_threads() {
    let Some(output) = on_another_gpu("works_on_two_gpus", &[("EMULATED_GPUS", "2")]) else { return };
    assert!(output.status.success() && text(&output).contains("the program ends normally"), "{}", text(&output));
}

/// Host memory and the stream must exist until a transfer has finished, whether the GPU or the transfer is dropped first. Otherwise the
/// emulated driver aborts the program.
#[test]
fn transfers_outlive_their_gpu() -> Result<()> {
    if gpu().is_none() {
        return Ok(());
    }
    for batch_invariant in [false, true] {
        let gpu = Gpu::new(0, batch_invariant)?;
        let numbers = gpu.put(&[1, 2, 3])?;
        let [read, unread, late] = [gpu.fetch(&numbers)?, gpu.fetch(&numbers)?, gpu.fetch(&numbers)?];
        gpu.put(&[4; 1000])?;
        drop(unread);
        std::thread::spawn(move || drop(gpu)).join().expect("no panic");
        assert_eq!(read()?, [1, 2, 3]);
        drop(numbers);
        assert_eq!(std::thread::spawn(late).join().expect("no panic")?, [1, 2, 3]);
    }
    Ok(())
}

/// The driver may return from a copy to the host before the data has arrived, so every reader must wait.
#[test]
fn reads_wait_for_the_gpu() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let kernels = Fused::new(gpu, DType::F32)?;
    let (x, on_device) = (random((5, 17), 1), random((5, 17), 1).to_device(kernels.device())?);
    let squares: f64 = x.flatten_all()?.to_vec1::<f32>()?.iter().map(|x| f64::from(*x).powi(2)).sum();
    assert!((kernels.sum_of_squares(&on_device)? - squares).abs() < 1e-9 * squares);
    assert_eq!(kernels.read(&on_device)?, x.flatten_all()?.to_vec1::<f32>()?);
    assert_eq!(on_host(&on_device)?.to_vec2::<f32>()?, x.to_vec2::<f32>()?);
    let scores = kernels.head_scores_in_place(&on_device, &[0, 3, 16, 2, 1], 1.0)?;
    assert!(scores.logprobs.iter().chain(&scores.entropies).all(|score| score.is_finite()));
    Ok(())
}
