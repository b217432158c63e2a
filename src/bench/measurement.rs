//! What is reported: a measurement of each work, and the machine beside it.

use std::collections::HashMap;

use serde::Serialize;

use crate::kernels::timed::Span;
use crate::kernels::{card, confirmation};
use crate::lanes::Lanes;
use crate::model::Decoder;

/// One measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    /// What was measured.
    pub work: String,
    /// Median of the repeats, seconds.
    pub median_s: f64,
    /// Fastest.
    pub min_s: f64,
    /// Slowest.
    pub max_s: f64,
    /// Repeats.
    pub repeats: usize,
    /// Whether a run before them was left out; the first run of a long work is its measurement.
    pub warmed_up: bool,
    /// Start of the measured repeats, which follow the warm-up, in nanoseconds since 1970.
    pub began_unix_ns: u64,
    /// End of the measured repeats, likewise.
    pub ended_unix_ns: u64,
    /// Response tokens per second at the median.
    pub tokens_per_s: f64,
    /// Floating-point operations per second at the median, counted as 2 per computed parameter and token forward and 6 with the backward pass.
    pub flops: f64,
    /// FLOP/s as a share of the measured rate of products at the model's widest shape. All shares are none if the ceilings were not measured.
    pub share_of_ceiling: Option<f64>,
    /// Operations of use, those of attention included, as [`counts`](super::counts) has them; the reference pass left out.
    pub useful_flop: f64,
    /// Operations of the reference pass.
    pub reference_flop: f64,
    /// Model FLOP utilisation: useful operations per second at the median, as a share of the machine's fastest product.
    pub utilisation: Option<f64>,
    /// The same with the reference pass counted as useful.
    pub utilisation_with_reference: Option<f64>,
    /// Seconds that the machine needs at least: all operations at the rate of its fastest product, and then all bytes at its copy bandwidth.
    pub least_s: Option<f64>,
    /// `least_s` as a share of the median.
    pub share_of_least: Option<f64>,
    /// Most memory in use, in bytes, where the system says.
    pub peak_bytes: Option<u64>,
    /// Whose memory that is: the process's, its peak since the work began, or the device's, the most that tensors have taken so far.
    pub peak_of: &'static str,
    /// Time by operation, longest first, from one extra repeat that waits for the device after each operation. On a GPU the wait takes longer
    /// than most operations: use these times for a CPU, and a profiler for a GPU.
    pub breakdown: Vec<OperationTime>,
}

/// What one kind of operation took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OperationTime {
    /// The method of [`Kernels`](crate::kernels::Kernels).
    pub operation: &'static str,
    /// Calls.
    pub count: usize,
    /// Seconds of all calls together, over all lanes.
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

/// What was measured on.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The device that computes.
    pub device: String,
    /// The version of the operations.
    pub kernels: String,
    /// The dtype of weights and activations.
    pub dtype: &'static str,
    /// The device's memory; none where it is the host's.
    pub memory_bytes: Option<u64>,
    /// Cores of the host.
    pub cores: usize,
    /// Lanes.
    pub lanes: usize,
    /// The GPU's name; none on the CPU. A confirmation of the kernels (`kernels::confirmation`) records this field and the ones below.
    pub card: Option<String>,
    /// Its compute capability, such as 9.0.
    pub capability: Option<String>,
    /// The release of its driver.
    pub driver: Option<String>,
    /// The digest of the kernels' sources.
    pub kernels_digest: &'static str,
    /// The program's version.
    pub program: &'static str,
}

impl Machine {
    /// The one that a decoder computes on.
    pub fn of(decoder: &Decoder, lanes: &Lanes) -> Self {
        let kernels = decoder.kernels();
        let gpu = card::card_of(kernels.device());
        Self {
            device: format!("{:?}", kernels.device().location()).to_lowercase(),
            kernels: format!("{kernels:?}").chars().take_while(|c| c.is_alphanumeric()).collect::<String>().to_lowercase(),
            dtype: kernels.dtype().as_str(),
            memory_bytes: kernels.memory().map(|memory| memory.total),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            lanes: lanes.count(),
            card: gpu.as_ref().map(|card| card.name.clone()),
            capability: gpu.as_ref().map(|card| format!("{}.{}", card.capability.0, card.capability.1)),
            driver: gpu.map(|card| card.driver),
            kernels_digest: confirmation::KERNELS,
            program: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// The process's peak of resident memory in bytes, since `forget_process_peak` where the system allows that.
pub fn process_peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kibibytes: u64 = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// Lets the process's peak begin anew; where the system does not, the peak of the whole process is reported.
pub fn forget_process_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_summed_by_operation() {
        let span = |operation, begin_s, end_s| Span { operation, part: "", thread: 0, begin_s, end_s };
        let spans = [span("add", 0.0, 1.0), span("product", 1.0, 4.0), span("add", 4.0, 5.5)];
        let found: Vec<_> = breakdown(&spans).into_iter().map(|time| (time.operation, time.count, time.seconds)).collect();
        assert_eq!(found, [("product", 1, 3.0), ("add", 2, 2.5)]);
    }
}
