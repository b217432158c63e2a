//! Finds out what this machine has: available memory, and measured rates of computing and reading memory.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};

use crate::kernels::{Kernels, Target};
use crate::model::ModelConfig;
use crate::workers::Workers;

/// Returns the bytes of memory that each of `processes` processes on this machine may still allocate: its part of the system's available
/// memory, or of what a control group allows, or less if `ulimit -v` limits a process. `None` if the system does not report it.
pub fn available_bytes(processes: usize) -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let available = meminfo_field(&meminfo, "MemAvailable:")? * 1024;
    let limited = std::fs::read_to_string("/proc/self/cgroup").ok().and_then(|groups| {
        let left = groups.lines().flat_map(group_folders).filter_map(|folder| left_in_group(&folder));
        left.min()
    });
    let shared = available.min(limited.unwrap_or(u64::MAX)) / processes.max(1) as u64;
    Some(shared.min(address_space_left().unwrap_or(u64::MAX)))
}

/// Returns the device of `kernels` and the bytes of memory available on it to each of `processes` processes on this machine: the GPU's if it
/// reports them, because each process has a GPU, or else a part of the machine's; `None` if unknown.
pub fn device_memory(kernels: &dyn Kernels, processes: usize) -> (Target, Option<u64>) {
    let target = Target::of(kernels);
    (target, target.free.or_else(|| available_bytes(processes)))
}

/// Returns the bytes left by the limit on this process's address space (`ulimit -v`); `None` without a limit.
#[cfg(unix)]
fn address_space_left() -> Option<u64> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::As).current?;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    left_below_limit(limit, &status)
}

#[cfg(not(unix))]
fn address_space_left() -> Option<u64> {
    None
}

/// Returns the bytes left below a limit on the address space, where `status` is the text of `/proc/self/status`.
fn left_below_limit(limit: u64, status: &str) -> Option<u64> {
    Some(limit.saturating_sub(meminfo_field(status, "VmSize:")? * 1024))
}

/// Returns the number after a name in the format of `/proc/meminfo`, in KiB.
fn meminfo_field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// Returns the folders of a control group and its ancestors, from a line of `/proc/self/cgroup`: `0::/a/b` (version 2) or `4:memory:/a/b`
/// (version 1).
fn group_folders(line: &str) -> Vec<PathBuf> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { return Vec::new() };
    let root = match controllers {
        "" => Path::new("/sys/fs/cgroup"),
        list if list.split(',').any(|controller| controller == "memory") => Path::new("/sys/fs/cgroup/memory"),
        _ => return Vec::new(),
    };
    let group = root.join(path.trim_start_matches('/'));
    // In a container, the root folder may be the group itself.
    group.ancestors().take_while(|folder| folder.starts_with(root)).map(Path::to_owned).collect()
}

/// Returns the bytes left below a control group's limit, counting cached file pages as free; `None` without a limit.
fn left_in_group(folder: &Path) -> Option<u64> {
    let number = |name: &str| std::fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
    let limit = number("memory.max").or_else(|| number("memory.limit_in_bytes"))?;
    let used = number("memory.current").or_else(|| number("memory.usage_in_bytes"))?;
    let stat = std::fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let field = |name: &str| stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok()).unwrap_or(0);
    let files = field("inactive_file ") + field("active_file ");
    Some(limit.saturating_sub(used.saturating_sub(files)))
}

/// Measures the floating-point operations per second, summed over all workers, of a product of `rows` rows with a matrix of the model's
/// width. Takes about `seconds`.
///
/// # Errors
/// If a kernel fails.
pub fn measure_flops(config: &ModelConfig, kernels: &dyn Kernels, workers: &Workers, rows: usize, seconds: f64) -> Result<f64> {
    // Larger than the caches, like a model's matrices, but at most 64 MiB.
    let (k, n) = (config.hidden, (2 * config.feed_forward).min((16 << 20) / config.hidden).max(1));
    let rates = workers.run(|_| {
        let full = |value: f32, shape| kernels.cast(&Tensor::full(value, shape, &Device::Cpu)?, kernels.dtype());
        let (x, weight) = (full(0.5, (rows, k))?, full(0.25, (k, n))?);
        // Synchronize with a GPU only after every 16 products.
        let at_once = if kernels.device().is_cpu() { 1 } else { 16 };
        let products = |count: usize| {
            (0..count).try_for_each(|_| kernels.product(&x, &weight, None).map(|_| ()))?;
            kernels.device().synchronize()
        };
        products(1)?;
        let (start, mut count) = (Instant::now(), 0);
        while count == 0 || start.elapsed().as_secs_f64() < seconds {
            products(at_once)?;
            count += at_once;
        }
        Ok(2.0 * (count * rows * k * n) as f64 / start.elapsed().as_secs_f64())
    })?;
    Ok(rates.into_iter().sum())
}

/// Measures the bytes per second that a sum over a tensor larger than all caches reads. Takes about `seconds`.
///
/// # Errors
/// If a kernel fails.
pub fn measure_bandwidth(kernels: &dyn Kernels, seconds: f64) -> Result<f64> {
    let numbers = if kernels.device().is_cpu() { 16 << 20 } else { 256 << 20 };
    let part = kernels.cast(&Tensor::ones(1 << 20, DType::F32, &Device::Cpu)?, DType::F32)?;
    let tensor = kernels.stack(&vec![&part; numbers >> 20])?;
    kernels.sum_of_squares(&tensor)?;
    let (start, mut count) = (Instant::now(), 0);
    while count == 0 || start.elapsed().as_secs_f64() < seconds {
        kernels.sum_of_squares(&tensor)?;
        count += 1;
    }
    Ok((count * numbers * size_of::<f32>()) as f64 / start.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_folders_reads_both_cgroup_versions() {
        let check = |line: &str, expected: &[&str]| {
            assert_eq!(group_folders(line), expected.iter().map(PathBuf::from).collect::<Vec<_>>(), "{line}");
        };
        check("0::/a/b", &["/sys/fs/cgroup/a/b", "/sys/fs/cgroup/a", "/sys/fs/cgroup"]);
        check("4:cpu,memory:/a", &["/sys/fs/cgroup/memory/a", "/sys/fs/cgroup/memory"]);
        check("3:cpuset:/a", &[]);
        check("nonsense", &[]);
    }

    #[test]
    fn left_in_group_counts_file_pages_as_free() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        assert_eq!(left_in_group(folder.path()), None);
        write("memory.max", "1000\n");
        write("memory.current", "700\n");
        write("memory.stat", "anon 300\nactive_file 150\ninactive_file 250\n");
        assert_eq!(left_in_group(folder.path()), Some(700));
        write("memory.max", "max\n");
        assert_eq!(left_in_group(folder.path()), None);
        assert_eq!(left_below_limit(10_000, "VmPeak:  9 kB\nVmSize:\t 4 kB\n"), Some(10_000 - 4096));
        assert_eq!(left_below_limit(1000, "VmSize: 4 kB\n"), Some(0));
        assert_eq!(meminfo_field("MemTotal: 5 kB\nMemAvailable:   16 kB\n", "MemAvailable:"), Some(16));
    }
}
