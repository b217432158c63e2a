//! Estimates how long the ranks of a run exchange gradients and weights, and how evenly they share an update. The assumptions are those of
//! `scripts/simulate_processes.py`.

use super::Plan;
use crate::checkpoint::disk::format_bytes;
use crate::model::value;
use crate::train::shards::deal;

/// The bytes per second and direction between GPUs of a host: 70% of an H100's NVLink.
const NVLINK: f64 = 0.7 * 450e9;
/// The bytes per second and direction from each GPU to another host: 70% of a 400 Gb/s network adapter.
const NETWORK: f64 = 0.7 * 50e9;
/// The bytes per second and direction between processes on CPUs, on one host or over a 10 Gb/s network.
const CPU_LINK: f64 = 1e9;

/// How fast ranks exchange data.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Links {
    /// Bytes per second and direction between any two ranks; `None` for an assumption that depends on the device.
    pub bytes_per_s: Option<f64>,
}

impl Links {
    /// Returns the bytes per second and direction between ranks of one host, and to other hosts.
    fn rates(self, is_gpu: bool) -> (f64, f64) {
        match self.bytes_per_s {
            Some(rate) => (rate, rate),
            None if is_gpu => (NVLINK, NETWORK),
            None => (CPU_LINK, CPU_LINK),
        }
    }
}

impl Plan<'_> {
    /// Returns the seconds of a step's exchanges between ranks; 0 for one rank. Ranks add up gradients in f32 in pairs at distance 1, 2, 4
    /// and so on, and send half of what is left each time. Then owners send the updated weights to all.
    pub(super) fn exchange_s(&self) -> f64 {
        let ranks = self.work.ranks;
        let (near, far) = self.work.links.rates(self.target.is_gpu);
        let (gradients, weights) = self.exchanged_bytes();
        let (mut seconds, mut bytes) = (0.0, gradients);
        for distance in (0..ranks.count.ilog2()).map(|level| 1 << level) {
            bytes /= 2.0;
            seconds += bytes / if distance < ranks.on_host { near } else { far };
        }
        let slowest = if ranks.count <= ranks.on_host { near } else { far };
        let update = seconds + weights * (1.0 - 1.0 / ranks.count as f64) / slowest;
        self.settings.train.updates_per_rollout as f64 * update
    }

    /// Returns the bytes of the gradients in f32 and of the weights that an update exchanges, of the policy and of the critic.
    fn exchanged_bytes(&self) -> (f64, f64) {
        let (settings, element_bytes) = (self.settings, self.target.element_bytes as f64);
        let trained = settings.optim.owned(&settings.lora.trained(self.config), 1)[0].elements as f64;
        let critic = if settings.has_critic() { value::parameter_count(self.config) as f64 } else { 0.0 };
        // Adapters are in f32.
        let policy_weights = if settings.lora.is_on() { 4.0 * trained } else { element_bytes * trained };
        (4.0 * (trained + critic), policy_weights + element_bytes * critic)
    }

    /// Returns the largest part of the responses' tokens that a rank trains on, given the lengths of the responses of an update. A shard
    /// cannot be smaller than its longest response.
    pub(super) fn fullest_part(&self, lengths: &[usize]) -> f64 {
        let ranks = self.work.ranks.count;
        if ranks == 1 {
            return 1.0;
        }
        let shards = deal(lengths, self.settings.train.shards.max(ranks));
        let tokens = |numbers: &Vec<usize>| numbers.iter().map(|number| lengths[*number]).sum::<usize>();
        let of_rank = shards.chunks(shards.len() / ranks).map(|own| own.iter().map(tokens).sum::<usize>());
        of_rank.max().unwrap_or(0) as f64 / lengths.iter().sum::<usize>().max(1) as f64
    }

    /// Returns the efficiency of several ranks, given the seconds of a step with one and with these: 1 if the devices are used as well as
    /// one is alone. The ranks of a host without GPUs share its processors.
    pub(super) fn efficiency(&self, alone_s: f64, step_s: f64) -> f64 {
        alone_s / (self.devices() as f64 * step_s)
    }

    /// The number of GPUs, or of hosts without GPUs.
    fn devices(&self) -> usize {
        let ranks = self.work.ranks;
        if self.target.is_gpu { ranks.count } else { ranks.count.div_ceil(ranks.on_host) }
    }

    /// Describes what the exchange assumes, and what follows if many devices are used badly; empty for one rank.
    pub(super) fn exchange_lines(&self, efficiencies: impl Iterator<Item = f64>) -> String {
        let ranks = self.work.ranks;
        if !ranks.are_several() {
            return String::new();
        }
        let gb = |rate: f64| format!("{} GB/s", rate / 1e9);
        let (near, far) = self.work.links.rates(self.target.is_gpu);
        let to_others = if ranks.count > ranks.on_host && near != far { format!(", {} to other hosts", gb(far)) } else { String::new() };
        let (gradients, weights) = self.exchanged_bytes();
        let sent = format_bytes(((gradients + weights) * (1.0 - 1.0 / ranks.count as f64)) as u64);
        let mut text = format!("  each update exchanges {sent} per process; assumes {}{to_others} (--link changes it)\n", gb(near));
        let (count, devices) = (self.devices(), if self.target.is_gpu { "GPUs" } else { "machines" });
        if count == 1 {
            text += "  the processes share this machine's processors, so they are no faster than one\n";
        } else if efficiencies.fold(f64::MAX, f64::min) < 0.5 {
            text += &format!("  below 50% efficiency, {count} {devices} serve a grid of runs (rlvr study) better than one run\n");
        }
        text
    }
}
