//! The part of the build script for the kernels: computes the digest by which confirmations identify the kernels. With the feature `cuda`, also compiles the kernels into one file for all
//! GPUs, which is embedded in the program.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compute capabilities to compile for, in addition to CUDA_COMPUTE_CAP. On newer GPUs, the driver compiles the PTX of the last one when the
/// program starts.
const CAPABILITIES: [&str; 2] = ["80", "90"];

/// The files that determine the kernels' results: their sources, the code that launches them, and their argument types.
const SOURCES: [&str; 7] = [
    "src/kernels/build.rs",
    "src/kernels/cuda",
    "src/kernels/fused",
    "src/kernels/logits.rs",
    "src/kernels/optimizer.rs",
    "src/kernels/pass.rs",
    "src/kernels/shape.rs",
];

/// Runs as a part of the build script.
pub fn build() {
    println!("cargo:rerun-if-changed=src/kernels/build.rs");
    println!("cargo:rustc-env=RLVR_KERNELS_DIGEST={:016x}", digest(&SOURCES));
    if std::env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    for name in ["CUDA_COMPUTE_CAP", "CUDA_HOME", "NVCC"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let requested = std::env::var("CUDA_COMPUTE_CAP").ok();
    let mut capabilities: Vec<&str> = CAPABILITIES.into_iter().chain(requested.as_deref()).collect();
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
    // Recompiles only if the kernels' own sources changed; the code that launches them changes more often.
    let (stamp, made_from) = (out.with_extension("made-from"), format!("{:016x} {command:?}", digest(&["src/kernels/cuda"])));
    if out.exists() && std::fs::read_to_string(&stamp).is_ok_and(|before| before == made_from) {
        return;
    }
    match command.status() {
        Ok(status) if status.success() => {
            std::fs::write(&stamp, made_from).unwrap_or_else(|error| panic!("cannot write {}: {error}", stamp.display()))
        }
        Ok(status) => panic!("nvcc failed with {status}: {command:?}"),
        Err(error) => panic!(
            "cannot run {:?}: {error}. The feature cuda needs the CUDA toolkit: put nvcc on PATH or set CUDA_HOME; without a toolkit, \
             scripts/cuda-build.sh builds with one from Python packages",
            command.get_program()
        ),
    }
}

/// An FNV-1a hash over the names and contents of all sources in these files and folders, without those of tests and emulators.
fn digest(paths: &[&str]) -> u64 {
    let mut files = Vec::new();
    for path in paths {
        println!("cargo:rerun-if-changed={path}");
        collect(Path::new(path), &mut files);
    }
    files.sort();
    let bytes = files.iter().flat_map(|file| {
        let content = std::fs::read(file).unwrap_or_else(|error| panic!("cannot read {}: {error}", file.display()));
        [file.to_string_lossy().into_owned().into_bytes(), content].concat()
    });
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) {
    if path.is_file() {
        return files.push(path.to_owned());
    }
    let entries = std::fs::read_dir(path).unwrap_or_else(|error| panic!("cannot list {}: {error}", path.display()));
    for path in entries.flatten().map(|entry| entry.path()) {
        let is_source = path.extension().is_some_and(|extension| ["cu", "cuh", "rs"].iter().any(|known| extension == *known));
        // Test-only files do not affect users' results.
        if path.file_stem().is_some_and(|name| ["emulated", "tests", "counts"].iter().any(|tests| name == *tests)) {
            continue;
        }
        if path.is_dir() {
            collect(&path, files);
        } else if is_source {
            files.push(path);
        }
    }
}

fn compiler() -> PathBuf {
    if let Some(path) = std::env::var_os("NVCC") {
        return path.into();
    }
    let home = std::env::var_os("CUDA_HOME").map(|home| Path::new(&home).join("bin/nvcc"));
    home.filter(|path| path.exists()).unwrap_or_else(|| "nvcc".into())
}
