//! The table of a run's settings: one row per setting, with its range and description. Checks, error messages and `docs/settings.md` use
//! these rows.
//!
//! A new setting needs a row here; `cargo test --lib every_setting_has_a_row` lists settings without one. Then regenerate the page with
//! `RLVR_WRITE_DOCS=1 cargo test --lib settings_page` or `cargo run -- train --help-settings > docs/settings.md`. Checks
//! that involve several settings are in `validity`.

use super::renamed::RENAMED;
use super::{RunSettings, algorithm};
use crate::config::range::{Range, Row, above, above_to, at_least, between, concat_rows, finite, from_below, row, whole};
use crate::config::{self, Renamed};
use crate::data::benchmark::Decoding;
use crate::kernels::DeviceChoice;
use crate::metrics::tracking::check_address;
use crate::objective::Aggregation;
use crate::optim;

/// Upper limit of steps, tokens and other counts without a narrower limit.
pub const MAX_COUNT: i64 = 1_000_000_000;
/// Upper limit of groups, and of responses in a group.
pub const MAX_RESPONSES: i64 = 100_000;
/// Upper limit of tokens in a response.
pub const MAX_TOKENS: i64 = 10_000_000;

const SEED: Range = whole(0, i64::MAX);
const COUNT: Range = whole(0, MAX_COUNT);
const COUNT_FROM_1: Range = whole(1, MAX_COUNT);
const SHARE: Range = between(0.0, 1.0);
const DECAY: Range = from_below(0.0, 1.0);
/// Logits divided by a temperature far below 0.001 would leave the range of f32.
const TEMPERATURE: Range = between(0.001, 1000.0);
const GRADER: Range = Range::OneOf(&["strict", "deepscaler", "qwen"]);
const KL_ESTIMATOR: Range = Range::OneOf(&["k1", "k2", "k3"]);

impl config::Settings for RunSettings {
    fn rows() -> Vec<Row> {
        ROWS.to_vec()
    }

    fn renamed() -> &'static [Renamed] {
        RENAMED
    }
}

/// All settings, in the order of `config.toml`.
pub const ROWS: &[Row] =
    &concat_rows::<{ BEFORE_OPTIM.len() + optim::ROWS.len() + AFTER_OPTIM.len() }>(&[BEFORE_OPTIM, &optim::ROWS, AFTER_OPTIM]);

#[rustfmt::skip] // a row is a line
const BEFORE_OPTIM: &[Row] = &[
    row("model", Range::Text, "`tiny` (the embedded model), a folder in Hugging Face format, or a hub name."),
    row("reference", Range::Text, "The reference model of the KL term, given like `model`; empty uses the initial policy."),
    row("example", Range::Text, "The training examples: `pi1`, `pi1,pi13`, `pi1..pi16`, `dsr-sub`, a problem of the embedded model, or a file."),
    row("algo", Range::OneOf(&algorithm::NAMES), "The algorithm: a preset of the settings below."),
    row("seed", SEED, "The seed of all randomness in training."),
    row("compute.device", DEVICE, "The device; `auto` uses a GPU if there is one, except for the embedded model, which stays on the CPU."),
    row("compute.kernels", Range::OneOf(&["auto", "stock", "plain", "fused"]), "The kernels: this program's own (`plain` on the CPU, `fused` on a GPU), or candle's `stock` operations. `auto` is `plain` on the CPU, `fused` on confirmed GPUs and with `batch_invariant`, and `stock` on other GPUs."),
    row("compute.dtype", Range::OneOf(&["auto", "f32", "bf16"]), "The dtype of weights and activations; `auto` is f32 on the CPU and bf16 on a GPU."),
    row("compute.batch_invariant", Range::Boolean, "Make sums on a GPU independent of the batch, so that sampler and trainer agree bit for bit. On the CPU they always do."),
    row("prompt.instruction", Range::Text, "Appended to the question in training. Evaluation uses the bare question."),
    row("prompt.append", Range::OneOf(&["unasked", "always"]), "`unasked` appends the instruction only to questions that request no answer format themselves; `always` appends it to all."),
    row("prompt.chat_template", Range::Text, "A file with a chat template to use instead of the checkpoint's; empty uses the checkpoint's."),
    row("prompt.date", DATE, "The date that chat templates show as today's. If a template shows the date, the run records its start date here."),
    row("rollout.groups", whole(1, MAX_RESPONSES), "Groups per step. A group holds the responses to one prompt; several examples take turns."),
    row("rollout.group_size", whole(1, MAX_RESPONSES), "Responses per group."),
    row("rollout.temperature", TEMPERATURE, "Sampling temperature. Log-probabilities, ratios, KL and entropy also use this temperature, not 1."),
    row("rollout.temperature_to", TEMPERATURE, "Final temperature of a linear schedule that starts at `rollout.temperature`."),
    row("rollout.temperature_steps", COUNT, "Length of this schedule in steps; 0 keeps the temperature constant."),
    row("rollout.top_k", COUNT, "Sample only from the k most likely tokens; 0 is off."),
    row("rollout.top_p", above_to(0.0, 1.0), "Sample only from the most likely tokens that together reach this probability; 1 is off."),
    row("rollout.min_p", SHARE, "Sample only tokens with at least this share of the most likely token's probability; 0 is off."),
    row("rollout.truncated", Range::OneOf(&["refuse", "renormalise", "mismatch"]), "How to train with `top_k`, `top_p` or `min_p`: `refuse` rejects them, `renormalise` uses the distribution over the tokens that pass the filters in sampler and trainer, `mismatch` trains on the full distribution, which is biased ([sampling.md](sampling.md))."),
    row("rollout.max_new_tokens", whole(1, MAX_TOKENS), "Maximum number of tokens in a response. A longer response is cut off there and trained on like any other."),
    row("rollout.dynamic_sampling", COUNT, "Dynamic sampling: maximum number of extra batches per step that replace groups whose rewards are all equal; 0 is off."),
    row("rollout.replay", Range::Text, "A file of recorded rollouts to train on instead of sampling; empty for sampling."),
    row("rollout.replay_gap", above_to(0.0, 1000.0), "Maximum difference in nats between a recorded log-probability and the policy's at the first step. A recording with a larger difference is refused ([data.md](data.md))."),
    row("rollout.engine.max_running", whole(0, 1_000_000), "Maximum number of sequences that run at once, over all workers; 0 means 256 on the CPU and 1024 on a GPU."),
    row("rollout.engine.kv_cache_mib", COUNT, "Maximum size of the key/value cache in MiB, over all workers; 0 means 4096 on the CPU and most of the free memory on a GPU."),
    row("rollout.engine.prefill_tokens", COUNT, "Maximum number of prompt tokens computed in one pass; 0 means 2048 on the CPU and 16384 on a GPU."),
    row("reward.name", Range::Text, "A reward, or a weighted sum such as `outcome + 0.5*format`. See [rewards.md](rewards.md)."),
    row("reward.grader", GRADER, "The grader that decides whether an answer equals the gold answer. See [graders.md](graders.md)."),
    row("reward.after_think", Range::Boolean, "Grade only the text after the last `</think>`; a response without one is wrong."),
    row("reward.label", Range::Text, "Reward this answer instead of the example's gold answer; empty uses the gold answer."),
    row("reward.label_noise", SHARE, "The share of examples to mislabel with the answer of another example."),
    row("reward.label_seed", SEED, "The seed that chooses the mislabeled examples and their labels."),
    row("reward.command", Range::Strings, "The program that computes the reward named `command`, with its arguments."),
    row("reward.command_timeout_s", above_to(0.0, 1e6), "Timeout of this program in seconds, for all responses of a step."),
    row("reward.overlong_buffer", whole(0, MAX_TOKENS), "DAPO's overlong penalty: grows from 0 to 1 over this many tokens before the maximum response length; 0 is off."),
    row("reward.kl", at_least(0.0), "Coefficient of the KL divergence that is subtracted from each token's reward."),
    row("reward.kl_estimator", KL_ESTIMATOR, "Estimator of this KL divergence; `k1` is unbiased in rewards."),
    row("advantage.baseline", Range::OneOf(&["group", "leave-one-out", "critic", "none"]), "The baseline subtracted from rewards. If all rewards of a group agree to one part in a million, its advantages are 0."),
    row("advantage.scale", Range::OneOf(&["group", "batch", "none"]), "The standard deviation that advantages are divided by: over the group, over the batch, or none."),
    row("advantage.gamma", SHARE, "Discount factor per token. Used with a critic or without a baseline."),
    row("advantage.lambda", SHARE, "Lambda of generalized advantage estimation (GAE). Used with a critic."),
    row("loss.policy", at_least(0.0), "Coefficient of the policy loss; 0 ignores rewards."),
    row("loss.ratio", Range::OneOf(&["token", "sequence"]), "Probability ratio per token, or per whole response (GSPO)."),
    row("loss.surrogate", Range::OneOf(&["clip", "cispo"]), "PPO's clipped surrogate, or CISPO's weighted log-probability."),
    row("loss.clip_low", above_to(0.0, 1.0), "Lower clip of the ratio, at 1 - clip_low; 1 means no lower bound and requires `cispo`."),
    row("loss.clip_high", above(0.0), "Upper clip of the ratio, at 1 + clip_high."),
    row("loss.kl", at_least(0.0), "Coefficient of the KL divergence from the reference model, with both models at the rollout temperature."),
    row("loss.kl_estimator", KL_ESTIMATOR, "Estimator of this KL divergence. `k3` is clamped at 10 nats per token, with gradient 0 beyond. `k1` has an expected gradient of 0 and constrains nothing. `k2` has the correct gradient on policy."),
    row("loss.entropy", finite(), "Coefficient of the entropy bonus at the rollout temperature; a negative value penalizes entropy."),
    row("loss.entropy_to", finite(), "Final coefficient of a linear schedule that starts at `loss.entropy`."),
    row("loss.entropy_steps", COUNT, "Length of this schedule in steps; 0 keeps the coefficient constant."),
    row("loss.entropy_target", at_least(0.0), "Target entropy in nats per token, which the coefficient adapts to reach; 0 is off."),
    row("loss.entropy_step", at_least(0.0), "Change of the coefficient per step while it adapts to the target."),
    row("loss.aggregation", AGGREGATION, "How per-token losses are combined into one loss. N is a length in tokens, or the number of sequences in a logical micro-batch."),
];

#[rustfmt::skip] // a row is a line
const AFTER_OPTIM: &[Row] = &[
    row("critic.lr", at_least(0.0), "Learning rate of the critic, constant; 0 without a critic."),
    row("critic.weight_decay", at_least(0.0), "Decoupled weight decay of the critic."),
    row("critic.clip", at_least(0.0), "Clip range of the value loss: how far a value may move from its old one; 0 turns clipping off."),
    row("critic.warmup_steps", COUNT, "Initial steps that train only the critic, not the policy."),
    row("critic.head_init", at_least(0.0), "Standard deviation of the value head's initial weights."),
    row("critic.beta1", DECAY, "Decay rate of the first moment."),
    row("critic.beta2", DECAY, "Decay rate of the second moment."),
    row("critic.eps", above(0.0), "Added to the square root of the second moment."),
    row("critic.clip_norm", at_least(0.0), "Maximum global gradient norm of the critic; 0 turns clipping off."),
    row("lora.rank", whole(0, 65_536), "Rank of the LoRA adapters on all projections, at most the model's width; 0 trains all weights."),
    row("lora.alpha", at_least(0.0), "Adapters are scaled by alpha / rank; 0 means twice the rank."),
    row("train.steps", COUNT_FROM_1, "Training steps. Each samples one batch of rollouts."),
    row("train.updates_per_rollout", whole(1, MAX_RESPONSES), "Optimizer updates per rollout batch, over all epochs. With 1, every ratio is 1."),
    row("train.epochs", whole(1, MAX_RESPONSES), "Passes over each rollout batch. Each pass splits the groups evenly among its updates."),
    row("train.reference_every", COUNT, "Steps between resets of the reference model to the policy; 0 never resets it."),
    row("train.reference_decay", DECAY, "After each step the reference becomes `decay * reference + (1 - decay) * policy`; 0 keeps it fixed."),
    row("train.micro_batch_tokens", COUNT_FROM_1, "Maximum number of tokens in a packed micro-batch. Does not change the gradient. Automatic activation checkpointing may use fewer on a GPU."),
    row("train.activation_checkpointing", Range::OneOf(&["auto", "full", "selective", "none"]), "Activation checkpointing: the backward pass recomputes whole blocks (`full`), only norms and SwiGLU (`selective`), or nothing (`none`). `auto` decides by the size of the activations and, on a GPU, by its total memory."),
    row("train.stream_reference", Range::Boolean, "Keep the reference model in host memory and stream it through the GPU block by block."),
    row("train.workers", whole(0, 1024), "Worker threads, each with its own micro-batch or sequences; 0 chooses by the model's size. The number fixes the order of sums."),
    row("eval.every", COUNT, "Steps between evaluations; 0 evaluates only before the first step and after the last."),
    row("eval.benchmarks", Range::Text, "Comma-separated benchmarks to evaluate; empty evaluates none."),
    row("eval.limit", COUNT, "Maximum number of problems per benchmark; 0 evaluates all."),
    row("eval.max_new_tokens", whole(1, MAX_TOKENS), "Maximum number of tokens in a response."),
    row("eval.decoding", DECODING, "`published` decodes each benchmark as in its published evaluation; the others apply to all benchmarks."),
    row("eval.seed", SEED, "The seed of sampled responses, the same at every evaluation."),
    row("eval.grader", GRADER, "The grader that decides whether an answer equals the gold answer. See [graders.md](graders.md)."),
    row("eval.reflection_words", Range::Text, "Comma-separated words that count as self-reflection, regardless of case."),
    row("eval.best_by", Range::Text, "The benchmark or pass whose accuracy selects the best checkpoint. Empty uses the mean of all greedy passes; `mean` uses the unweighted mean over benchmarks."),
    row("eval.saturation_window", whole(1, 1_000_000), "Saturation is detected on the training accuracy averaged over this many steps."),
    row("checkpoint.every", COUNT, "Steps between checkpoints; 0 writes only the last one."),
    row("checkpoint.keep_last", COUNT_FROM_1, "Number of resumable checkpoints to keep, in addition to the last good one (see [runs.md](runs.md)). Older ones keep only their weights."),
    row("checkpoint.keep_spaced", COUNT, "Maximum number of older checkpoints to keep, evenly spaced over the run so far and without states; 0 keeps all. Checkpoints of the steps that `summary.json` names are kept as well (see [runs.md](runs.md))."),
    row("checkpoint.dtype", Range::OneOf(&["auto", "f32", "bf16", "f16"]), "The dtype of exported weights; `auto` uses the dtype that the policy computes with."),
    row("checkpoint.max_shard_bytes", whole(1, i64::MAX), "Maximum size of a weight file in bytes; larger models are split into shards."),
    row("tracking.tensorboard", Range::Boolean, "Write TensorBoard event files to the run's folder."),
    row("tracking.mlflow", MLFLOW, "The MLflow server to record the run in; empty uses the address in `MLFLOW_TRACKING_URI`, if any. Credentials come only from the environment: `MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD`, or `MLFLOW_TRACKING_TOKEN`."),
    row("tracking.experiment", Range::Text, "The name of the MLflow experiment, which is created if there is none."),
    row("tracking.run_name", Range::Text, "The name of the MLflow run; empty uses the name of the run's folder."),
];

const DEVICE: Range = Range::Parsed { syntax: "`auto`, `cpu`, `cuda` or `cuda:N`", parse: |text| text.parse::<DeviceChoice>().map(drop) };
const AGGREGATION: Range = Range::Parsed {
    syntax: "`token-mean`, `seq-mean-token-mean`, `seq-mean-token-sum`, `seq-mean-token-sum-norm(N)`, `microbatch-token-mean(N)`",
    parse: |text| text.parse::<Aggregation>().map(drop),
};
const DECODING: Range = Range::Parsed {
    syntax: "`published`, `greedy`, `t0.6x8` (8 samples at temperature 0.6), `t0.6p0.95x8` (top-p 0.95)",
    parse: |text| if text == crate::eval::settings::PUBLISHED { Ok(()) } else { text.parse::<Decoding>().map(drop) },
};
const MLFLOW: Range = Range::Parsed {
    syntax: "an address such as `http://127.0.0.1:5000`, `off`, or empty",
    parse: |text| check_address(text).map_err(|error| format!("{error:#}")),
};
const DATE: Range = Range::Parsed {
    syntax: "`YYYY-MM-DD`, or empty for today",
    parse: |text| if text.is_empty() { Ok(()) } else { crate::text::check_date(text).map_err(|error| format!("{error:#}")) },
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use toml::{Table, Value};

    use super::*;

    fn defaults() -> [Table; 2] {
        [RunSettings::demonstration(), RunSettings::published()].map(|settings| Table::try_from(settings).unwrap())
    }

    #[test]
    fn every_setting_has_a_row() {
        let rows: BTreeSet<&str> = ROWS.iter().map(|row| row.path).collect();
        assert_eq!(rows.len(), ROWS.len(), "two rows have the same path");
        for table in defaults() {
            let settings: BTreeSet<String> = config::flatten(&table).into_iter().map(|(path, _)| path).collect();
            let missing: Vec<&String> = settings.iter().filter(|path| !rows.contains(path.as_str())).collect();
            assert!(missing.is_empty(), "add a row for {missing:?} to src/train/settings/table.rs (optim.*: to ROWS in src/optim/mod.rs)");
            let unused: Vec<&&str> = rows.iter().filter(|path| !settings.contains(**path)).collect();
            assert!(unused.is_empty(), "these rows belong to no setting: {unused:?}");
        }
    }

    /// Returns the default settings with one changed, parsed without checking its range.
    fn read(path: &str, value: Value) -> Result<RunSettings, String> {
        let mut table = defaults()[0].clone();
        let mut group = &mut table;
        let (groups, name) = path.rsplit_once('.').unwrap_or(("", path));
        for part in groups.split('.').filter(|part| !part.is_empty()) {
            group = group.get_mut(part).unwrap().as_table_mut().unwrap();
        }
        group.insert(name.to_owned(), value);
        toml::from_str(&toml::to_string(&table).unwrap()).map_err(|error| error.message().to_owned())
    }

    /// A row lists exactly the names that the setting's type accepts.
    #[test]
    fn rows_list_every_alternative() {
        // The algorithm's type is a string, and its row refers to the registry.
        for row in ROWS.iter().filter(|row| row.path != "algo") {
            let Range::OneOf(names) = row.range else { continue };
            for name in names {
                read(row.path, Value::String((*name).to_owned())).unwrap_or_else(|error| panic!("{} {name}: {error}", row.path));
            }
            let error = read(row.path, Value::String("?".into())).unwrap_err();
            let known: BTreeSet<&str> = error.split_once("expected").unwrap().1.split('`').skip(1).step_by(2).collect();
            assert_eq!(known, names.iter().copied().collect(), "{}: {error}", row.path);
        }
    }

    #[test]
    fn rows_have_complete_sentences() {
        for row in ROWS {
            assert!(row.about.ends_with('.') && row.about.len() > 10 && !row.about.contains('\n'), "{}: {}", row.path, row.about);
        }
    }
}
