//! A plan as JSON, for programs.

use serde_json::{Map, Value, json};

use super::memory::rollout_load;
use super::survey::times_json;
use super::{PhaseMemory, Plan, Times};

/// Where a plan's times come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeSource {
    /// This machine's rates, measured just now.
    MeasuredRates,
    /// A model of a card's data sheet.
    CardModel,
}

impl Plan<'_> {
    /// Returns the plan as JSON: all sizes in bytes, all times in seconds. `None` stands for unknown.
    pub fn json(&self, free_memory: Option<u64>, free_disk: Option<u64>, times: &[Times], source: TimeSource) -> Value {
        let load = rollout_load(self.settings, self.work);
        let states: Map<String, Value> = self.memory.model_states.iter().map(|(name, bytes)| (name.clone(), json!(bytes))).collect();
        let phase = |phase: &PhaseMemory| {
            let parts: Map<String, Value> = phase.parts.iter().map(|(name, bytes)| ((*name).to_owned(), json!(bytes))).collect();
            json!({"name": phase.name, "bytes": phase.bytes(), "parts": parts})
        };
        let disk = &self.disk;
        let refusal = self.check(free_memory, free_disk).err().map(|error| format!("{error:#}"));
        json!({
            "model": self.settings.model,
            "parameters": self.config.parameter_count(),
            "device": if self.target.is_gpu { "gpu" } else { "cpu" },
            "element_bytes": self.target.element_bytes,
            "workers": self.workers,
            "processes": self.work.ranks.count,
            "processes_per_host": self.work.ranks.on_host,
            "shards": self.settings.train.shards,
            "memory": {
                "model_states": states,
                "phases": self.memory.phases.iter().map(phase).collect::<Vec<_>>(),
                "allocator_bytes": self.memory.allocator_overhead(),
                "peak_bytes": self.memory.peak(),
                "peak_bytes_of_emptiest_process": self.least_peak,
                "available_bytes": free_memory,
                "micro_batch_rows": self.memory.micro_batch_rows,
            },
            "disk": {
                "checkpoints": disk.checkpoints,
                "checkpoints_written": disk.written,
                "weights_bytes": disk.weights,
                "states": disk.states,
                "state_bytes": disk.state,
                "best_bytes": disk.best,
                "rollouts_bytes": disk.rollouts,
                "present_bytes": disk.present,
                "needed_bytes": disk.needed(),
                "available_bytes": free_disk,
            },
            "tokens_per_step": {
                "prompts": load.prompts.iter().sum::<usize>(),
                "responses": load.requests,
                "max_new_tokens": load.max_new_tokens,
                "is_exact": self.work.exact,
            },
            "steps": self.settings.train.steps.saturating_sub(self.work.done),
            "evaluations": self.evaluations(),
            "times_from": match source {
                TimeSource::MeasuredRates => "rates measured on this machine",
                TimeSource::CardModel => "a model of the card's data sheet, not a measurement",
            },
            "times": times.iter().map(times_json).collect::<Vec<_>>(),
            "fits": refusal.is_none(),
            "refusal": refusal,
        })
    }
}
