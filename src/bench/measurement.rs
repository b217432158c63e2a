//! Data of the benchmark's report: one measurement per workload, and a description of the machine.

use std::collections::HashMap;

use serde::Serialize;

use crate::kernels::profiler::Span;
use crate::kernels::{confirmation, gpu_info};
use crate::model::Decoder;
use crate::workers::Workers;

/// The measurement of one workload.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    /// The workload's name, such as `decode:20`.
    pub work: String,
    /// Median time of the repeats, in seconds.
    pub median_s: f64,
    /// Shortest time, in seconds.
    pub min_s: f64,
    /// Longest time, in seconds.
    pub max_s: f64,
    /// Number of measured repeats.
    pub repeats: usize,
    /// True if a warm-up run came first. A long workload is not warmed up: its first run is the only measurement.
    pub warmed_up: bool,
    /// Start of the measured repeats, after the warm-up, in nanoseconds since the Unix epoch.
    pub began_unix_ns: u64,
    /// End of the measured repeats, in nanoseconds since the Unix epoch.
    pub ended_unix_ns: u64,
    /// Response tokens per second at the median.
    pub tokens_per_s: f64,
    /// Floating-point operations per second at the median: 2 per computed parameter and token in the forward pass, 6 with the backward
    /// pass.
    pub flops: f64,
    /// `flops` as a fraction of the measured rate of the model's widest product. `None` if the ceilings were not measured, as for the other
    /// fields that depend on them.
    pub share_of_ceiling: Option<f64>,
    /// Useful floating-point operations, including attention but not the reference model. See [`cost`](super::cost).
    pub useful_flop: f64,
    /// Floating-point operations of the reference model; 0 without one.
    pub reference_flop: f64,
    /// Model FLOP utilization (MFU): useful operations per second at the median, as a fraction of the rate of the machine's fastest product.
    pub utilisation: Option<f64>,
    /// `utilisation` with the reference model counted as useful.
    pub utilisation_with_reference: Option<f64>,
    /// Minimum time in seconds: all operations at the rate of the fastest product, plus all bytes at the copy bandwidth.
    pub least_s: Option<f64>,
    /// `least_s` as a fraction of the median.
    pub share_of_least: Option<f64>,
    /// Peak memory in bytes; `None` if the system does not report it.
    pub peak_bytes: Option<u64>,
    /// What `peak_bytes` measures: "process" is the process's resident memory since the workload started, "device" is the memory of tensors
    /// on the device since the program started.
    pub peak_of: &'static str,
    /// Time by operation, longest first, from one extra repeat that waits for the device after each operation. Empty if not requested. On a
    /// GPU, waiting takes longer than most operations: use a profiler there.
    pub breakdown: Vec<OperationTime>,
}

/// Total time of one kind of operation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OperationTime {
    /// The method of [`Kernels`](crate::kernels::Kernels).
    pub operation: &'static str,
    /// Number of calls.
    pub count: usize,
    /// Total seconds of all calls, summed over the workers.
    pub seconds: f64,
}

/// Sums spans by operation, longest first.
pub fn breakdown(spans: &[Span]) -> Vec<OperationTime> {
    let mut sums = HashMap::<&'static str, (usize, f64)>::new();
    for span in spans {
        let (count, seconds) = sums.entry(span.operation).or_default();
        *count += 1;
        *seconds += span.end_s - span.begin_s;
    }
    let mut times: Vec<OperationTime> =
        sums.into_iter().map(|(operation, (count, seconds))| OperationTime { operation, count, seconds }).collect();
    times.sort_by(|a, b| b.seconds.total_cmp(&a.seconds).then(a.operation.cmp(b.operation)));
    times
}

/// The machine and the program that were measured.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The device, such as `cpu`.
    pub device: String,
    /// The implementation of the kernels: `cpu`, `stock` or `fused`.
    pub kernels: String,
    /// The dtype of weights and activations.
    pub dtype: &'static str,
    /// The device's memory in bytes; `None` if it shares the host's.
    pub memory_bytes: Option<u64>,
    /// Number of the host's cores.
    pub cores: usize,
    /// Number of workers.
    #[serde(rename = "lanes")]
    pub workers: usize,
    /// The GPU's name; `None` on the CPU, like the next two fields. Confirmed GPUs are recorded with these three and the kernels' digest.
    pub card: Option<String>,
    /// The GPU's compute capability, such as 9.0.
    pub capability: Option<String>,
    /// The driver's release, or the CUDA version that it supports if the system does not report the release.
    pub driver: Option<String>,
    /// Digest of the kernels' sources (`kernels::confirmation`).
    pub kernels_digest: &'static str,
    /// The program's version.
    pub program: &'static str,
}

impl Machine {
    /// Describes the machine that `decoder` runs on.
    pub fn of(decoder: &Decoder, workers: &Workers) -> Self {
        let kernels = decoder.kernels();
        let gpu = gpu_info::info_of(kernels.device());
        Self {
            device: format!("{:?}", kernels.device().location()).to_lowercase(),
            kernels: format!("{kernels:?}").chars().take_while(|c| c.is_alphanumeric()).collect::<String>().to_lowercase(),
            dtype: kernels.dtype().as_str(),
            memory_bytes: kernels.memory().map(|memory| memory.total),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            workers: workers.count(),
            card: gpu.as_ref().map(|info| info.name.clone()),
            capability: gpu.as_ref().map(|info| format!("{}.{}", info.capability.0, info.capability.1)),
            driver: gpu.map(|info| info.driver),
            kernels_digest: confirmation::KERNELS,
            program: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// Returns the process's peak resident memory in bytes since [`reset_peak_memory`], or `None` if the system does not report it.
pub fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kibibytes: u64 = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// Resets the process's peak memory. On systems that do not support this, the peak is that since the process started.
pub fn reset_peak_memory() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breakdown_sums_spans_by_operation() {
        let span = |operation, begin_s, end_s| Span { operation, part: "", thread: 0, begin_s, end_s };
        let spans = [span("add", 0.0, 1.0), span("product", 1.0, 4.0), span("add", 4.0, 5.5)];
        let found: Vec<_> = breakdown(&spans).into_iter().map(|time| (time.operation, time.count, time.seconds)).collect();
        assert_eq!(found, [("product", 1, 3.0), ("add", 2, 2.5)]);
    }
}
