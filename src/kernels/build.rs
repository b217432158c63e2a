//! Compiles the kernels for GPUs, with the feature `cuda`: one file for all cards, embedded in the program.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Cards that code is made for, beside the one that CUDA_COMPUTE_CAP names; newer cards compile the last one's PTX when the program starts.
const CAPABILITIES: [&str; 2] = ["80", "90"];

fn main() {
    println!("cargo:rerun-if-changed=src/kernels/build.rs");
    if std::env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    for name in ["CUDA_COMPUTE_CAP", "CUDA_HOME", "NVCC"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    println!("cargo:rerun-if-changed=src/kernels/cuda");
    let named = std::env::var("CUDA_COMPUTE_CAP").ok();
    let mut capabilities: Vec<&str> = CAPABILITIES.into_iter().chain(named.as_deref()).collect();
    capabilities.sort_unstable_by_key(|name| name.parse::<u32>().unwrap_or(0));
    capabilities.dedup();
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("kernels.fatbin");
    let mut command = Command::new(compiler());
    command.args(["-fatbin", "-O3", "-std=c++17", "-I", "src/kernels/cuda", "src/kernels/cuda/kernels.cu", "-o"]).arg(&out);
    for capability in &capabilities {
        command.arg(format!("-gencode=arch=compute_{capability},code=sm_{capability}"));
    }
    if let Some(last) = capabilities.last() {
        command.arg(format!("-gencode=arch=compute_{last},code=compute_{last}"));
    }
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("nvcc ended with {status}: {command:?}"),
        Err(error) => panic!(
            "cannot run {:?}: {error}. The feature cuda needs the CUDA toolkit: put nvcc on PATH or set CUDA_HOME; without a toolkit, \
             scripts/cuda-build.sh builds with one from Python packages",
            command.get_program()
        ),
    }
}

fn compiler() -> PathBuf {
    if let Some(path) = std::env::var_os("NVCC") {
        return path.into();
    }
    let home = std::env::var_os("CUDA_HOME").map(|home| Path::new(&home).join("bin/nvcc"));
    home.filter(|path| path.exists()).unwrap_or_else(|| "nvcc".into())
}
