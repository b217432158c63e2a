//! All settings of a run in one typed tree. `config.toml` in the run folder is its complete serialization.

pub mod algorithm;
mod critic;
mod renamed;
pub mod table;
mod truncation;
mod validity;

use serde::{Deserialize, Serialize};

use super::prompt_format;
use crate::eval::EvalSettings;
use crate::kernels::{ComputeSettings, Target};
use crate::metrics::TrackingSettings;
use crate::model::decoder::ActivationCheckpointing;
use crate::model::export::{Format, MAX_SHARD_BYTES, WeightDtype};
use crate::model::lora::LoraSettings;
use crate::objective::{AdvantageSettings, Baseline, LossSettings};
use crate::optim::{OptimSettings, Schedule};
use crate::reward::RewardSettings;
use crate::rollout::limits::EngineSettings;
use crate::verify::Grader;

pub use critic::CriticSettings;
pub use truncation::Truncation;

/// The settings of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSettings {
    /// The model to train: `tiny`, a folder in Hugging Face format, or a hub name.
    pub model: String,
    /// The reference model of the KL term, given like `model`; empty for the initial policy.
    pub reference: String,
    /// The training examples: a name such as `pi1`, a problem of the embedded model, or a file.
    pub example: String,
    /// The name of the algorithm, a preset of the settings below ([`algorithm`]).
    pub algo: String,
    /// Seed of all randomness in training.
    pub seed: u64,
    /// Device, kernels and dtype.
    #[serde(default)]
    pub compute: ComputeSettings,
    /// How a question becomes a prompt.
    pub prompt: PromptSettings,
    /// Sampling of rollouts at each step.
    pub rollout: RolloutSettings,
    /// Rewards and grading.
    pub reward: RewardSettings,
    /// How rewards become advantages.
    #[serde(default)]
    pub advantage: AdvantageSettings,
    /// The terms of the loss.
    pub loss: LossSettings,
    /// The critic, used if `advantage.baseline` is `critic`.
    #[serde(default)]
    pub critic: CriticSettings,
    /// The optimizer.
    pub optim: OptimSettings,
    /// LoRA adapters, trained instead of all weights.
    #[serde(default)]
    pub lora: LoraSettings,
    /// The training loop.
    pub train: TrainSettings,
    /// Evaluation during the run.
    pub eval: EvalSettings,
    /// Checkpoints and exported weights.
    pub checkpoint: CheckpointSettings,
    /// Programs that show the run while it trains.
    #[serde(default)]
    pub tracking: TrackingSettings,
}

/// How a question becomes a prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptSettings {
    /// Appended to the question in training. Evaluation uses the bare question.
    pub instruction: String,
    /// The questions that the instruction is appended to.
    #[serde(default)]
    pub append: Append,
    /// A file with a chat template to use instead of the checkpoint's; empty for the checkpoint's.
    #[serde(default)]
    pub chat_template: String,
    /// The date that chat templates show as today's, `YYYY-MM-DD`; empty for today. If a template shows the date, the run records its start
    /// date here.
    #[serde(default)]
    pub date: String,
}

impl PromptSettings {
    /// Uses this instruction, the checkpoint's template and today's date.
    fn with_instruction(instruction: &str) -> Self {
        Self { instruction: instruction.to_owned(), append: Append::Unasked, chat_template: String::new(), date: String::new() }
    }

    /// Returns the text to append to a question; empty if the question requests an answer format itself and `append` is
    /// [`Append::Unasked`].
    pub fn instruction_for(&self, question: &str) -> &str {
        let has_instruction = self.append == Append::Unasked && !prompt_format::requested_formats(question).is_empty();
        if has_instruction { "" } else { &self.instruction }
    }
}

/// The questions that the instruction is appended to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Append {
    /// All questions. The serde default, because runs recorded before this setting did so.
    #[default]
    Always,
    /// Only questions that request no answer format themselves, since two instructions may contradict each other. The default of new runs.
    Unasked,
}

/// Sampling of rollouts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutSettings {
    /// Groups per step. A group holds the responses to one prompt; several examples take turns.
    pub groups: usize,
    /// Responses per group.
    pub group_size: usize,
    /// Sampling temperature; with a schedule, its initial value.
    pub temperature: f32,
    /// Final temperature of a linear schedule.
    #[serde(default)]
    pub temperature_to: f32,
    /// Length of the schedule in steps; 0 keeps the temperature constant.
    #[serde(default)]
    pub temperature_steps: u64,
    /// Sample only from the k most likely tokens; 0 is off.
    pub top_k: usize,
    /// Sample only from the most likely tokens that together reach this probability; 1 is off.
    pub top_p: f32,
    /// Sample only tokens with at least this share of the most likely token's probability; 0 is off.
    pub min_p: f32,
    /// How to train if these filters exclude tokens.
    #[serde(default = "Truncation::default_for_old_runs")]
    pub truncated: Truncation,
    /// Maximum number of tokens in a response.
    pub max_new_tokens: usize,
    /// Dynamic sampling: the maximum number of extra batches per step that replace groups whose rewards are all equal; 0 is off.
    #[serde(default)]
    pub dynamic_sampling: usize,
    /// A file of recorded rollouts (JSON Lines) to train on instead of sampling; empty for sampling.
    pub replay: String,
    /// The maximum difference, in nats, between a recorded log-probability and the policy's at the first step. A recording with a larger
    /// difference is refused.
    #[serde(default = "replay_gap")]
    pub replay_gap: f32,
    /// Limits of the rollout engine.
    pub engine: EngineSettings,
}

/// The default of `rollout.replay_gap`. 200 training steps move log-probabilities of the embedded model by up to 6 nats; another
/// temperature or model moves some by 13 or more.
fn replay_gap() -> f32 {
    12.0
}

/// The training loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSettings {
    /// Training steps; each samples one rollout batch.
    pub steps: u64,
    /// Optimizer updates per rollout batch, over all epochs. With 1, every ratio is 1.
    pub updates_per_rollout: usize,
    /// Passes over each rollout batch. Each pass splits the groups evenly among its updates.
    #[serde(default = "once")]
    pub epochs: usize,
    /// Steps between resets of the reference model to the policy; 0 never resets it.
    #[serde(default)]
    pub reference_every: u64,
    /// After each step the reference becomes `decay * reference + (1 - decay) * policy`; 0 keeps it fixed.
    #[serde(default)]
    pub reference_decay: f32,
    /// Maximum number of tokens in a packed micro-batch. Does not change the gradient.
    pub micro_batch_tokens: usize,
    /// Activation checkpointing: the activations that the backward pass recomputes.
    pub activation_checkpointing: ActivationCheckpointing,
    /// True to keep the reference's weights in host memory and stream them through the GPU block by block at each step, which saves GPU
    /// memory.
    #[serde(default)]
    pub stream_reference: bool,
    /// Worker threads, each with its own micro-batch or sequences; 0 chooses by the model's size. The number fixes the order of sums, so a
    /// resumed run must keep it.
    pub workers: usize,
    /// The number of shards whose gradients are summed by a binary tree, a power of two; 0 sums over workers. With shards, the bits of a run do
    /// not depend on the number of its processes and workers. The serde default is 0, because runs recorded before this setting had none.
    #[serde(default)]
    pub shards: usize,
}

fn once() -> usize {
    1
}

/// Checkpoints and exported weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointSettings {
    /// Steps between checkpoints; 0 writes only the last one.
    pub every: u64,
    /// Number of resumable checkpoints to keep; older ones keep only their weights.
    pub keep_last: usize,
    /// Maximum number of evenly spaced older checkpoints to keep, without states; 0 keeps all. The serde default is 0, because runs recorded
    /// before this setting kept all.
    #[serde(default)]
    pub keep_spaced: usize,
    /// The dtype of exported weights. If it rounds them, `state` also keeps the exact weights.
    pub dtype: ExportDtype,
    /// Maximum size of a weight file in bytes; larger models are split into shards.
    pub max_shard_bytes: u64,
}

/// The dtype of exported weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExportDtype {
    /// The dtype that the policy computes with.
    Auto,
    /// 32 bits.
    F32,
    /// bfloat16: 16 bits, with the range of f32.
    Bf16,
    /// IEEE half precision: 16 bits, 11 of them significant.
    F16,
}

impl CheckpointSettings {
    /// Returns the format of exported weights when the policy computes on `target`.
    pub fn format(&self, target: &Target) -> Format {
        let dtype = match self.dtype {
            ExportDtype::Auto if target.element_bytes == size_of::<f32>() => WeightDtype::F32,
            ExportDtype::Auto => WeightDtype::Bf16,
            ExportDtype::F32 => WeightDtype::F32,
            ExportDtype::Bf16 => WeightDtype::Bf16,
            ExportDtype::F16 => WeightDtype::F16,
        };
        Format { dtype, max_shard_bytes: self.max_shard_bytes }
    }

    /// True if exporting rounds the f32 master weights.
    pub fn rounds(&self, target: &Target) -> bool {
        self.format(target).dtype != WeightDtype::F32
    }
}

impl RunSettings {
    /// Returns the settings of the published experiment (arXiv 2504.20571), for real checkpoints. Rewards and evaluations use the graders
    /// of its training and evaluation code.
    pub fn published() -> Self {
        Self {
            model: "Qwen/Qwen2.5-Math-1.5B".into(),
            reference: String::new(),
            example: "pi1".into(),
            algo: "grpo".into(),
            seed: 0,
            compute: ComputeSettings::default(),
            prompt: PromptSettings::with_instruction(crate::data::example::PUBLISHED_INSTRUCTION),
            rollout: RolloutSettings {
                groups: 128,
                group_size: 8,
                temperature: 0.6,
                temperature_to: 1.0,
                temperature_steps: 0,
                top_k: 0,
                top_p: 1.0,
                min_p: 0.0,
                truncated: Truncation::Refuse,
                max_new_tokens: 3072,
                dynamic_sampling: 0,
                replay: String::new(),
                replay_gap: replay_gap(),
                engine: EngineSettings::default(),
            },
            reward: RewardSettings { grader: Grader::Deepscaler, ..RewardSettings::default() },
            advantage: AdvantageSettings::default(),
            loss: LossSettings::default(),
            critic: CriticSettings::default(),
            optim: OptimSettings::default(),
            lora: LoraSettings::default(),
            train: TrainSettings {
                steps: 2000,
                updates_per_rollout: 1,
                epochs: 1,
                reference_every: 0,
                reference_decay: 0.0,
                micro_batch_tokens: 16384,
                activation_checkpointing: ActivationCheckpointing::Auto,
                stream_reference: false,
                workers: 0,
                shards: 0,
            },
            eval: EvalSettings { grader: Grader::Qwen, ..EvalSettings::default() },
            checkpoint: CheckpointSettings {
                every: 20,
                keep_last: 2,
                keep_spaced: 8,
                dtype: ExportDtype::Auto,
                max_shard_bytes: MAX_SHARD_BYTES,
            },
            tracking: TrackingSettings::default(),
        }
    }

    /// Returns the settings of the demonstration with the embedded model.
    pub fn demonstration() -> Self {
        let published = Self::published();
        Self {
            model: "tiny".into(),
            example: "tiny/addition/334+556".into(),
            prompt: PromptSettings::with_instruction(""),
            rollout: RolloutSettings { groups: 8, max_new_tokens: 80, ..published.rollout },
            reward: RewardSettings::default(),
            optim: OptimSettings {
                lr: 1e-4,
                schedule: Schedule::Linear,
                decay_steps: 100,
                beta2: 0.95,
                weight_decay: 0.0,
                ..published.optim
            },
            train: TrainSettings {
                steps: 300,
                micro_batch_tokens: 4096,
                activation_checkpointing: ActivationCheckpointing::None,
                ..published.train
            },
            eval: EvalSettings { every: 15, benchmarks: "tiny".into(), max_new_tokens: 80, grader: Grader::Strict, ..published.eval },
            checkpoint: CheckpointSettings { every: 100, ..published.checkpoint },
            ..published
        }
    }

    /// Returns the default settings for a model.
    pub fn defaults_for(model: &str) -> Self {
        if model == "tiny" { Self::demonstration() } else { Self { model: model.to_owned(), ..Self::published() } }
    }

    /// True if a critic is trained alongside the policy.
    pub fn has_critic(&self) -> bool {
        self.advantage.baseline == Baseline::Critic
    }

    /// Returns the number of optimizer updates in one pass over a rollout batch.
    pub fn updates_per_epoch(&self) -> usize {
        self.train.updates_per_rollout / self.train.epochs
    }

    /// True if the loss or the reward has a KL term.
    pub fn has_reference(&self) -> bool {
        self.loss.kl != 0.0 || self.reward.kl != 0.0
    }

    /// True if the reference model changes during the run.
    pub fn reference_moves(&self) -> bool {
        self.has_reference() && (self.train.reference_every > 0 || self.train.reference_decay > 0.0)
    }

    /// True if the baseline compares rewards within a group, so that a group with equal rewards gives no policy gradient.
    pub fn compares_in_groups(&self) -> bool {
        matches!(self.advantage.baseline, Baseline::Group | Baseline::LeaveOneOut)
    }
}
