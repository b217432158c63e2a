//! What every setting of a run may be: one row each, which the checks, the error messages and `docs/settings.md` are made of.
//!
//! A new setting needs its row here: `cargo test --lib every_setting_has_a_row` names those that lack one. Then write the page again, by
//! `RLVR_WRITE_DOCS=1 cargo test --lib settings_page` or `cargo run -- train --help-settings > docs/settings.md`. What depends on two settings
//! at once is in `validity`.

use super::renamed::RENAMED;
use super::{RunSettings, algorithm};
use crate::config::range::{Range, Row, above, above_to, at_least, between, finite, from_below, joined, row, whole};
use crate::config::{self, Renamed};
use crate::data::benchmark::Decoding;
use crate::kernels::Place;
use crate::objective::Aggregation;
use crate::optim;

/// Steps, tokens, and other counts that nothing else limits.
pub const MANY: i64 = 1_000_000_000;
/// Groups, and responses in a group.
pub const RESPONSES: i64 = 100_000;
/// Tokens of a response.
pub const TOKENS: i64 = 10_000_000;

const SEED: Range = whole(0, i64::MAX);
const COUNT: Range = whole(0, MANY);
const COUNT_FROM_1: Range = whole(1, MANY);
const SHARE: Range = between(0.0, 1.0);
const DECAY: Range = from_below(0.0, 1.0);
/// Far below 0.001, logits divided by it leave the range of f32.
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
    &joined::<{ BEFORE_OPTIM.len() + optim::ROWS.len() + AFTER_OPTIM.len() }>(&[BEFORE_OPTIM, &optim::ROWS, AFTER_OPTIM]);

#[rustfmt::skip] // a row is a line
const BEFORE_OPTIM: &[Row] = &[
    row("model", Range::Text, "`tiny` (the embedded model), a folder in Hugging Face layout, or a hub name."),
    row("reference", Range::Text, "The model that the KL term measures against, named as `model` is; empty takes the policy as it starts."),
    row("example", Range::Text, "What to train on: `pi1`, `pi1,pi13`, `pi1..pi16`, `dsr-sub`, a problem of the embedded model, or a file."),
    row("algo", Range::OneOf(&algorithm::NAMES), "A preset of the settings below."),
    row("seed", SEED, "The seed of every random draw in training."),
    row("compute.device", DEVICE, "Where it computes; `auto` takes a GPU if there is one."),
    row("compute.kernels", Range::OneOf(&["auto", "reference", "plain", "fused"]), "Candle's stock operations (`reference`) or this program's own: `plain` on the CPU, `fused` on a GPU."),
    row("compute.dtype", Range::OneOf(&["auto", "f32", "bf16"]), "The dtype of weights and activations; `auto` is f32 on the CPU and bf16 on a GPU."),
    row("compute.batch_invariant", Range::Switch, "Sum in one order whatever the batch, so that sampler and trainer agree to the bit; on the CPU they always do."),
    row("prompt.instruction", Range::Text, "Appended to the question in training. Evaluation asks the question alone."),
    row("prompt.append", Range::OneOf(&["unasked", "always"]), "Append it to questions that ask for no format of the answer themselves, or to all."),
    row("prompt.chat_template", Range::Text, "A file with a chat template to use instead of the checkpoint's own."),
    row("prompt.date", DATE, "The day that chat templates print as today's. A run whose prompts have one records the day it began."),
    row("rollout.groups", whole(1, RESPONSES), "Groups per step. Each is one row of the batch; several examples take turns."),
    row("rollout.group_size", whole(1, RESPONSES), "Responses in a group."),
    row("rollout.temperature", TEMPERATURE, "Sampling temperature. Log-probabilities, ratios, KL and entropy are those of the distribution at this temperature, not at 1."),
    row("rollout.temperature_to", TEMPERATURE, "Where a linear change of the temperature ends."),
    row("rollout.temperature_steps", COUNT, "Steps that this change takes; 0 keeps the temperature."),
    row("rollout.top_k", COUNT, "Sample from the k likeliest tokens only; 0 is off."),
    row("rollout.top_p", above_to(0.0, 1.0), "Sample from the likeliest tokens that together reach this probability; 1 is off."),
    row("rollout.min_p", SHARE, "Sample only tokens with at least this share of the likeliest one's probability; 0 is off."),
    row("rollout.truncated", Range::OneOf(&["refuse", "renormalise", "mismatch"]), "Training with `top_k`, `top_p` or `min_p`: refuse them, use the distribution among the kept tokens for sampler and trainer, or use the whole one although part was sampled from ([sampling.md](sampling.md))."),
    row("rollout.max_new", whole(1, TOKENS), "Most tokens in a response. A longer response is cut there and trained on like any other, with the reward that it gets."),
    row("rollout.resample", COUNT, "Draw groups whose rewards are all equal again, at most this many times (dynamic sampling); 0 is off."),
    row("rollout.replay", Range::Text, "A file of recorded rollouts to train on instead of sampling; empty samples."),
    row("rollout.replay_gap", above_to(0.0, 1000.0), "The largest difference, in nats, between a recorded log-probability and the policy's at the first step. A recording with a larger one is refused ([data.md](data.md))."),
    row("rollout.engine.max_running", whole(0, 1_000_000), "Most sequences that run at once; 0 takes 256 on the CPU and 1024 on a GPU."),
    row("rollout.engine.kv_cache_mib", COUNT, "Most memory for the key/value cache in MiB; 0 takes 4096 on the CPU and what is free on a GPU."),
    row("rollout.engine.prefill_tokens", COUNT, "Most prompt tokens computed in one pass; 0 takes 2048 on the CPU and 16384 on a GPU."),
    row("reward.name", Range::Text, "One reward, or a weighted sum: `outcome + 0.5*format`. See [rewards.md](rewards.md)."),
    row("reward.grader", GRADER, "Whose notion of equality decides what is right. See [graders.md](graders.md)."),
    row("reward.after_think", Range::Switch, "Grade only what follows the last `</think>`; a response without one is wrong."),
    row("reward.label", Range::Text, "Reward this answer instead of the example's own; empty keeps it."),
    row("reward.label_noise", SHARE, "The share of examples that get a wrong label: the answer of another example."),
    row("reward.label_seed", SEED, "The seed that chooses these examples and their labels."),
    row("reward.command", Range::Texts, "The program behind the reward `command`, with its arguments."),
    row("reward.command_timeout_s", above_to(0.0, 1e6), "Seconds that this program may take for the responses of a step."),
    row("reward.overlong_buffer", whole(0, TOKENS), "A penalty grows from 0 to 1 over this many tokens before `rollout.max_new` (DAPO); 0 is off."),
    row("reward.kl", at_least(0.0), "Coefficient of the KL divergence that is subtracted from each token's reward."),
    row("reward.kl_estimator", KL_ESTIMATOR, "Its estimator; `k1` is the unbiased one for rewards."),
    row("advantage.baseline", Range::OneOf(&["group", "leave-one-out", "critic", "none"]), "What is subtracted from a reward. Rewards of a group within one part in a million of each other count as equal: their advantages are 0."),
    row("advantage.scale", Range::OneOf(&["group", "batch", "none"]), "The standard deviation that advantages are divided by."),
    row("advantage.gamma", SHARE, "What a reward is worth one token earlier; used without a baseline and with a critic."),
    row("advantage.lambda", SHARE, "Lambda of generalised advantage estimation; used with a critic."),
    row("loss.policy", at_least(0.0), "Coefficient of the policy loss; 0 learns from no reward."),
    row("loss.ratio", Range::OneOf(&["token", "sequence"]), "Whether the probability ratio is that of each token or of the whole response (GSPO)."),
    row("loss.surrogate", Range::OneOf(&["clip", "cispo"]), "PPO's clipped surrogate, or CISPO's weighted log-probability."),
    row("loss.clip_low", above_to(0.0, 1.0), "The ratio is clipped below at 1 - clip_low; 1 (no lower bound) needs `cispo`."),
    row("loss.clip_high", above(0.0), "The ratio is clipped above at 1 + clip_high."),
    row("loss.kl", at_least(0.0), "Coefficient of the KL divergence from the reference. Both sides are taken at the rollout temperature."),
    row("loss.kl_estimator", KL_ESTIMATOR, "Its estimator. `k3` is clamped: a token whose estimate exceeds 10 nats counts 10 and has gradient 0. `k1` has an expected gradient of 0 and holds nothing; `k2` has the right gradient on policy."),
    row("loss.entropy", finite(), "Coefficient of the entropy bonus; a negative one punishes entropy. The entropy is that of the distribution at the rollout temperature."),
    row("loss.entropy_to", finite(), "Where a linear change of this coefficient ends."),
    row("loss.entropy_steps", COUNT, "Steps that this change takes; 0 keeps the coefficient."),
    row("loss.entropy_target", at_least(0.0), "Entropy in nats per token that the coefficient is steered towards; 0 is off."),
    row("loss.entropy_step", at_least(0.0), "How far steering moves the coefficient in a step."),
    row("loss.aggregation", AGGREGATION, "How the losses of tokens become one number. N is a length, or sequences in a logical micro-batch."),
];

#[rustfmt::skip] // a row is a line
const AFTER_OPTIM: &[Row] = &[
    row("critic.lr", at_least(0.0), "Learning rate of the critic, constant; 0 where there is none."),
    row("critic.weight_decay", at_least(0.0), "Its decoupled weight decay."),
    row("critic.clip", at_least(0.0), "A value counts as moved from its old one by at most this much; 0 turns clipping off."),
    row("critic.warmup_steps", COUNT, "Steps at the beginning in which the critic learns and the policy does not."),
    row("critic.head_init", at_least(0.0), "Standard deviation of the head's initial weights."),
    row("critic.beta1", DECAY, "Decay of the first moment."),
    row("critic.beta2", DECAY, "Decay of the second moment."),
    row("critic.eps", above(0.0), "Added to the root of the second moment."),
    row("critic.clip_norm", at_least(0.0), "Largest global gradient norm; 0 turns clipping off."),
    row("lora.rank", whole(0, 65_536), "Rank of an adapter beside every projection, at most the model's width; 0 trains all weights."),
    row("lora.alpha", at_least(0.0), "An adapter's product is scaled by alpha / rank; 0 is twice the rank."),
    row("train.steps", COUNT_FROM_1, "Steps; each samples one batch of rollouts."),
    row("train.updates_per_rollout", whole(1, RESPONSES), "Optimizer updates from one rollout batch, in all its epochs. With 1, every ratio is 1."),
    row("train.epochs", whole(1, RESPONSES), "Passes over a rollout batch, each divided into updates on equal shares of its groups."),
    row("train.reference_every", COUNT, "Set the reference to the policy every this many steps; 0 never."),
    row("train.reference_decay", DECAY, "After each step the reference becomes `decay * reference + (1 - decay) * policy`; 0 leaves it."),
    row("train.micro_batch_tokens", COUNT_FROM_1, "Most tokens in one packed micro-batch; the gradient does not depend on it. With `recompute = \"auto\"` a GPU may take fewer."),
    row("train.recompute", Range::OneOf(&["auto", "all", "selective", "none"]), "Which activations the backward pass recomputes: whole blocks (`all`), norms and SwiGLU only (`selective`), or none; `auto` decides by memory."),
    row("train.stream_reference", Range::Switch, "Keep the reference's weights in the host's memory and pass them through the GPU block by block."),
    row("train.lanes", whole(0, 1024), "Micro-batches and sequences computed side by side; 0 decides by the model's size. It fixes the order of sums."),
    row("eval.every", COUNT, "Steps between evaluations; 0 evaluates the base and the last step only."),
    row("eval.benchmarks", Range::Text, "The sets to evaluate, with commas between; empty evaluates nothing."),
    row("eval.limit", COUNT, "At most this many problems of each set; 0 takes all."),
    row("eval.max_new", whole(1, TOKENS), "Most tokens in a response."),
    row("eval.decoding", DECODING, "`published` decodes each set in its own way; the others are one way for all sets."),
    row("eval.seed", SEED, "The seed of sampled responses, the same at every step."),
    row("eval.grader", GRADER, "Whose notion of equality decides what is right. See [graders.md](graders.md)."),
    row("eval.reflection_words", Range::Text, "Words that are counted as self-reflection, with commas between, in any case."),
    row("eval.best_by", Range::Text, "The set or pass whose accuracy chooses the best checkpoint; empty takes the mean of all greedy passes, `mean` the plain mean over sets."),
    row("eval.saturation_window", whole(1, 1_000_000), "Steps over which the train accuracy is averaged before it counts as saturated."),
    row("checkpoint.every", COUNT, "Steps between checkpoints; 0 keeps the last one only."),
    row("checkpoint.keep_last", COUNT_FROM_1, "Checkpoints that can be resumed, besides the last good one (see [runs.md](runs.md)); older ones keep their weights only."),
    row("checkpoint.dtype", Range::OneOf(&["auto", "f32", "bf16", "f16"]), "The dtype of exported weights; `auto` is the one that the policy computes with."),
    row("checkpoint.max_shard_bytes", whole(1, i64::MAX), "Most bytes of weights in one file."),
];

const DEVICE: Range = Range::Form { form: "`auto`, `cpu`, `cuda` or `cuda:N`", read: |text| text.parse::<Place>().map(drop) };
const AGGREGATION: Range = Range::Form {
    form: "`token-mean`, `seq-mean-token-mean`, `seq-mean-token-sum`, `seq-mean-token-sum-norm(N)`, `microbatch-token-mean(N)`",
    read: |text| text.parse::<Aggregation>().map(drop),
};
const DECODING: Range = Range::Form {
    form: "`published`, `greedy`, `t0.6x8` (8 samples at temperature 0.6), `t0.6p0.95x8` (top-p 0.95)",
    read: |text| if text == crate::eval::settings::PUBLISHED { Ok(()) } else { text.parse::<Decoding>().map(drop) },
};
const DATE: Range = Range::Form {
    form: "`YYYY-MM-DD`, or empty for the clock's",
    read: |text| if text.is_empty() { Ok(()) } else { crate::text::check_date(text).map_err(|error| format!("{error:#}")) },
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
        assert_eq!(rows.len(), ROWS.len(), "a row is there twice");
        for table in defaults() {
            let settings: BTreeSet<String> = config::leaves(&table).into_iter().map(|(path, _)| path).collect();
            let missing: Vec<&String> = settings.iter().filter(|path| !rows.contains(path.as_str())).collect();
            assert!(missing.is_empty(), "add a row for {missing:?} to src/train/settings/table.rs (optim.*: to ROWS in src/optim/mod.rs)");
            let gone: Vec<&&str> = rows.iter().filter(|path| !settings.contains(**path)).collect();
            assert!(gone.is_empty(), "these rows are of no setting: {gone:?}");
        }
    }

    /// The default tree with one setting changed, read by its type alone.
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

    /// The names in a row are all that the type has, and the type has all that the row names.
    #[test]
    fn rows_name_every_alternative() {
        // The algorithm is a text by type, and its row names the registry itself.
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
    fn sentences_are_whole() {
        for row in ROWS {
            assert!(row.about.ends_with('.') && row.about.len() > 10 && !row.about.contains('\n'), "{}: {}", row.path, row.about);
        }
    }
}
