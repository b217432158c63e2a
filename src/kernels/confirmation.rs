//! The GPUs on which the fused kernels are confirmed. Entries come from two files with the same format: `confirmed.toml` next to this file,
//! which is built into the program, and the user's own `rlvr/confirmed.toml` in `$XDG_CACHE_HOME` or `~/.cache`. `scripts/gpu-check.sh` adds
//! an entry, taken from the `machine` block of `rlvr bench --json`, if all its correctness checks pass:
//!
//! ```toml
//! [[confirmed]]
//! card = "NVIDIA H100 80GB HBM3"    # name of the GPU, as the driver reports it
//! capability = "9.0"
//! driver = "580.95.05"
//! commit = "0123456789ab"           # of the program that was checked
//! date = "2026-11-28"
//! kernels = "0123456789abcdef"      # digest of the kernels' sources
//! ```
//!
//! An entry applies to GPUs with this name and compute capability as long as the kernels' sources are unchanged.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The entries built into the program.
const BUILT_IN: &str = include_str!("confirmed.toml");
/// A digest of the sources of the kernels and of the code that launches them: 16 hexadecimal digits. `build.rs` computes it.
pub const KERNELS: &str = env!("RLVR_KERNELS_DIGEST");

/// Identifies a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuInfo {
    /// The name that the driver reports.
    pub name: String,
    /// The compute capability, such as (9, 0).
    pub capability: (i32, i32),
    /// The driver's release if the system reports it; otherwise `CUDA` and the CUDA version that the driver supports.
    pub driver: String,
}

/// One confirmed GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The name that the driver reports.
    pub card: String,
    /// The compute capability, such as 9.0.
    pub capability: String,
    /// The driver's release.
    pub driver: String,
    /// The commit of the program that was checked.
    pub commit: String,
    /// The date of the check, as YYYY-MM-DD.
    pub date: String,
    /// [`KERNELS`] of the program that was checked.
    pub kernels: String,
}

/// A file of entries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirmed {
    /// The entries, oldest first.
    #[serde(default)]
    pub confirmed: Vec<Entry>,
}

impl Confirmed {
    fn has(&self, gpu: &GpuInfo) -> bool {
        let capability = format!("{}.{}", gpu.capability.0, gpu.capability.1);
        self.confirmed.iter().any(|entry| entry.card == gpu.name && entry.capability == capability && entry.kernels == KERNELS)
    }
}

/// Returns true if the fused kernels are confirmed on this GPU.
pub fn is_confirmed(gpu: &GpuInfo) -> bool {
    let built_in: Confirmed = toml::from_str(BUILT_IN).expect("confirmed.toml is read by a test");
    built_in.has(gpu) || user_file().is_some_and(|path| read(&path).has(gpu))
}

/// The path of the user's own file; `None` if neither `XDG_CACHE_HOME` nor `HOME` is set.
fn user_file() -> Option<PathBuf> {
    let folder = |variable: &str| std::env::var_os(variable).filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let cache = folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("rlvr/confirmed.toml"))
}

/// Reads the entries of a file. Returns no entries if the file is missing, and none, with a warning, if it cannot be read.
fn read(path: &Path) -> Confirmed {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Confirmed::default(),
        Err(error) => {
            tracing::warn!("cannot read {} ({error}): its confirmations are ignored", path.display());
            return Confirmed::default();
        }
    };
    toml::from_str(&text).unwrap_or_else(|error| {
        let error = error.message().trim_end();
        tracing::warn!("{} is not a valid list of confirmed GPUs ({error}): delete it and run scripts/gpu-check.sh again", path.display());
        Confirmed::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(name: &str) -> GpuInfo {
        GpuInfo { name: name.to_owned(), capability: (9, 0), driver: "580.95.05".to_owned() }
    }

    /// An entry in the format that `scripts/gpu-check.sh` writes.
    fn entry(kernels: &str) -> String {
        format!(
            "[[confirmed]]\ncard = \"NVIDIA H200\"\ncapability = \"9.0\"\ndriver = \"580.95.05\"\ncommit = \"0123456789ab\"\n\
             date = \"2026-11-28\"\nkernels = \"{kernels}\"\n"
        )
    }

    #[test]
    fn has_requires_the_same_gpu_and_kernels() {
        let check = |text: &str, name: &str, expected: bool| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("confirmed.toml");
            std::fs::write(&path, text).unwrap();
            assert_eq!(read(&path).has(&gpu(name)), expected, "{name} in {text}");
        };
        check(&entry(KERNELS), "NVIDIA H200", true);
        check(&entry(KERNELS), "NVIDIA H100 80GB HBM3", false);
        check(&entry("0123456789abcdef"), "NVIDIA H200", false);
        check(&[entry("0123456789abcdef"), entry(KERNELS)].concat(), "NVIDIA H200", true);
        check("", "NVIDIA H200", false);
        check("confirmed = 3", "NVIDIA H200", false);
        check(&entry(KERNELS).replace("driver", "drivers"), "NVIDIA H200", false);
        let other = GpuInfo { capability: (10, 0), ..gpu("NVIDIA H200") };
        assert!(!toml::from_str::<Confirmed>(&entry(KERNELS)).unwrap().has(&other));
        assert!(!read(Path::new("/nonexistent/confirmed.toml")).has(&gpu("NVIDIA H200")));
    }

    #[test]
    fn built_in_entries_are_complete() {
        let built_in: Confirmed = toml::from_str(BUILT_IN).unwrap();
        for entry in built_in.confirmed {
            assert!(![entry.card, entry.driver, entry.commit, entry.date, entry.kernels].iter().any(String::is_empty));
        }
        assert_eq!(KERNELS.len(), 16);
    }
}
