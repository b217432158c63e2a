//! Everything that a run can be told, in one typed tree: `config.toml` in its folder is this, complete.

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
use crate::model::decoder::Recompute;
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
    /// `tiny`, a folder in Hugging Face layout, or a hub name.
    pub model: String,
    /// The model that the KL term holds to, named as `model` is; empty for the policy as it starts.
    pub reference: String,
    /// The training example: a name such as pi1, a problem of the embedded model, or a file.
    pub example: String,
    /// The algorithm's name: a preset of the settings below (`algorithm`).
    pub algo: String,
    /// Seed of every draw in training.
    pub seed: u64,
    /// Where and how it is computed.
    #[serde(default)]
    pub compute: ComputeSettings,
    /// How the example is asked.
    pub prompt: PromptSettings,
    /// What is sampled at each step.
    pub rollout: RolloutSettings,
    /// What a response is rewarded for.
    pub reward: RewardSettings,
    /// What is made of rewards.
    #[serde(default)]
    pub advantage: AdvantageSettings,
    /// The terms of the loss.
    pub loss: LossSettings,
    /// The critic, where advantages need one.
    #[serde(default)]
    pub critic: CriticSettings,
    /// The optimizer.
    pub optim: OptimSettings,
    /// Adapters that are trained in place of all weights.
    #[serde(default)]
    pub lora: LoraSettings,
    /// The loop.
    pub train: TrainSettings,
    /// Evaluation during the run.
    pub eval: EvalSettings,
    /// What is kept on disk.
    pub checkpoint: CheckpointSettings,
}

/// How the example is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptSettings {
    /// Appended to the question in training (evaluation asks the bare question).
    pub instruction: String,
    /// To which questions it is appended.
    #[serde(default)]
    pub append: Append,
    /// A chat template in place of the checkpoint's: a file, or empty.
    #[serde(default)]
    pub chat_template: String,
    /// The date that templates print as today's, `YYYY-MM-DD`; a run whose prompts have one records the day it began.
    #[serde(default)]
    pub date: String,
}

impl PromptSettings {
    /// The checkpoint's template and the clock's date.
    fn with_instruction(instruction: &str) -> Self {
        Self { instruction: instruction.to_owned(), append: Append::Unasked, chat_template: String::new(), date: String::new() }
    }

    /// What is appended to a question.
    pub fn instruction_for(&self, question: &str) -> &str {
        let has_its_own = self.append == Append::Unasked && !prompt_format::asked(question).is_empty();
        if has_its_own { "" } else { &self.instruction }
    }
}

/// To which questions the instruction is appended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Append {
    /// To all, as in runs from before there was a choice.
    #[default]
    Always,
    /// To those that do not ask for a format of the answer themselves, which is the default of new runs: two instructions contradict each other.
    Unasked,
}

/// What is sampled at each step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutSettings {
    /// Groups a step; each is one row of the batch, and the examples take turns.
    pub groups: usize,
    /// Responses in a group.
    pub group_size: usize,
    /// Sampling temperature; at first, where it has a course.
    pub temperature: f32,
    /// The temperature that a linear course ends at.
    #[serde(default)]
    pub temperature_to: f32,
    /// Steps of that course; 0 keeps the temperature.
    #[serde(default)]
    pub temperature_steps: u64,
    /// Only the k likeliest tokens; 0 is off.
    pub top_k: usize,
    /// Only the likeliest tokens that together reach this probability; 1 is off.
    pub top_p: f32,
    /// Only tokens at least this share of the likeliest one's probability; 0 is off.
    pub min_p: f32,
    /// What training does where these leave out tokens: refuse, renormalise or mismatch.
    #[serde(default = "Truncation::before_it_was_a_setting")]
    pub truncated: Truncation,
    /// Most tokens in a response.
    pub max_new: usize,
    /// At most so many further batches that replace groups whose rewards are all equal (dynamic sampling); 0 is off.
    #[serde(default)]
    pub resample: usize,
    /// Recorded rollouts, a file of JSON lines, that take the place of sampling; empty samples.
    pub replay: String,
    /// The largest difference (nats) between a recorded log-probability and the policy's at the first step; a recording with a larger one is
    /// refused.
    #[serde(default = "replay_gap")]
    pub replay_gap: f32,
    /// Limits of the engine.
    pub engine: EngineSettings,
}

/// 200 steps of training move the embedded model's log-probabilities by up to 6 nats; another temperature or model moves some by 13 and more.
fn replay_gap() -> f32 {
    12.0
}

/// The loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSettings {
    /// Steps: rollout batches.
    pub steps: u64,
    /// Optimizer updates made from one rollout batch, in all its epochs. With 1, every ratio is 1.
    pub updates_per_rollout: usize,
    /// Passes over a rollout batch, each divided into updates on equal shares of its groups.
    #[serde(default = "once")]
    pub epochs: usize,
    /// Steps after which the reference is set to the policy, again and again; 0 never.
    #[serde(default)]
    pub reference_every: u64,
    /// After each step the reference becomes `decay * reference + (1 - decay) * policy`; 0 leaves it.
    #[serde(default)]
    pub reference_decay: f32,
    /// Most tokens in one packed micro-batch; the gradient does not depend on it.
    pub micro_batch_tokens: usize,
    /// Which activations the backward pass recomputes.
    pub recompute: Recompute,
    /// Whether the reference's weights stay in the host's memory and pass through the GPU's block by block at each step: saves the GPU their size.
    #[serde(default)]
    pub stream_reference: bool,
    /// Micro-batches and sequences computed side by side; 0 decides by the model's size. Fixes the order of sums, so it is part of a run.
    pub lanes: usize,
}

fn once() -> usize {
    1
}

/// What is kept on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointSettings {
    /// Steps between checkpoints; 0 keeps the last one only.
    pub every: u64,
    /// Checkpoints that can be resumed; older ones keep their weights only.
    pub keep_last: usize,
    /// The dtype of exported weights. Where it rounds, `state` keeps the weights as they are.
    pub dtype: ExportDtype,
    /// Most bytes of weights in one file; beyond, they are dealt to several.
    pub max_shard_bytes: u64,
}

/// The dtype of exported weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExportDtype {
    /// The one that the policy computes with.
    Auto,
    /// 4 bytes.
    F32,
    /// 2 bytes, the range of f32.
    Bf16,
    /// 2 bytes, the precision of 11 bits.
    F16,
}

impl CheckpointSettings {
    /// How exported weights are written.
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

    /// Whether an export is not the f32 weights, which are the optimizer's masters, to the bit.
    pub fn rounds(&self, target: &Target) -> bool {
        self.format(target).dtype != WeightDtype::F32
    }
}

impl RunSettings {
    /// The published experiment (arXiv 2504.20571), for real checkpoints: graded as it was, rewards by its training code and evaluations by
    /// its evaluation code.
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
                max_new: 3072,
                resample: 0,
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
                recompute: Recompute::Auto,
                stream_reference: false,
                lanes: 0,
            },
            eval: EvalSettings { grader: Grader::Qwen, ..EvalSettings::default() },
            checkpoint: CheckpointSettings { every: 20, keep_last: 2, dtype: ExportDtype::Auto, max_shard_bytes: MAX_SHARD_BYTES },
        }
    }

    /// The embedded demonstration.
    pub fn demonstration() -> Self {
        let published = Self::published();
        Self {
            model: "tiny".into(),
            example: "tiny/addition/334+556".into(),
            prompt: PromptSettings::with_instruction(""),
            rollout: RolloutSettings { groups: 8, max_new: 80, ..published.rollout },
            reward: RewardSettings::default(),
            optim: OptimSettings {
                lr: 1e-4,
                schedule: Schedule::Linear,
                decay_steps: 100,
                beta2: 0.95,
                weight_decay: 0.0,
                ..published.optim
            },
            train: TrainSettings { steps: 300, micro_batch_tokens: 4096, recompute: Recompute::None, ..published.train },
            eval: EvalSettings { every: 15, benchmarks: "tiny".into(), max_new: 80, grader: Grader::Strict, ..published.eval },
            checkpoint: CheckpointSettings { every: 100, ..published.checkpoint },
            ..published
        }
    }

    /// The defaults that fit a model.
    pub fn defaults_for(model: &str) -> Self {
        if model == "tiny" { Self::demonstration() } else { Self { model: model.to_owned(), ..Self::published() } }
    }

    /// Whether a critic is trained beside the policy.
    pub fn has_critic(&self) -> bool {
        self.advantage.baseline == Baseline::Critic
    }

    /// Optimizer updates in one pass over a rollout batch.
    pub fn updates_per_epoch(&self) -> usize {
        self.train.updates_per_rollout / self.train.epochs
    }

    /// Whether a KL term holds the policy to a reference.
    pub fn has_reference(&self) -> bool {
        self.loss.kl != 0.0 || self.reward.kl != 0.0
    }

    /// Whether the reference changes during the run.
    pub fn reference_moves(&self) -> bool {
        self.has_reference() && (self.train.reference_every > 0 || self.train.reference_decay > 0.0)
    }

    /// Whether rewards are compared within a group, so that one whose rewards are all equal teaches the policy nothing.
    pub fn compares_in_groups(&self) -> bool {
        matches!(self.advantage.baseline, Baseline::Group | Baseline::LeaveOneOut)
    }
}
