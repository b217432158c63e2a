//! The rows of `rollout.*`.

use super::{COUNT, MAX_RESPONSES, MAX_TOKENS, SHARE};
use crate::config::range::{Range, Row, above_to, between, row, whole};

/// Logits divided by a temperature far below 0.001 would leave the range of f32.
const TEMPERATURE: Range = between(0.001, 1000.0);

#[rustfmt::skip] // a row is two lines
pub(super) const ROWS: &[Row] = &[
    row("rollout.groups", whole(1, MAX_RESPONSES), "Groups per step. A group holds the responses to one prompt; several examples take turns.").in_unit("groups")
        .because("As published: 128 copies of one example, each a group of its own. The demonstration uses 8 to be fast on a CPU."),
    row("rollout.group_size", whole(1, MAX_RESPONSES), "Responses per group.").in_unit("responses")
        .because("As published."),
    row("rollout.temperature", TEMPERATURE, "Sampling temperature. Log-probabilities, ratios, KL and entropy also use this temperature, not 1.")
        .because("As published. The paper reports that 1.0 adds about 0.8 points."),
    row("rollout.temperature_to", TEMPERATURE, "Final temperature of a linear schedule that starts at `rollout.temperature`.")
        .because("No effect without `rollout.temperature_steps`; 1 is the model's own distribution."),
    row("rollout.temperature_steps", COUNT, "Length of this schedule in steps; 0 keeps the temperature constant.").in_unit("steps")
        .because("As published: constant."),
    row("rollout.top_k", COUNT, "Sample only from the k most likely tokens; 0 is off.").in_unit("tokens")
        .because("As published: off. Truncated sampling biases training unless the trainer accounts for it."),
    row("rollout.top_p", above_to(0.0, 1.0), "Sample only from the most likely tokens that together reach this probability; 1 is off.")
        .because("As published: off; see `rollout.top_k`."),
    row("rollout.min_p", SHARE, "Sample only tokens with at least this share of the most likely token's probability; 0 is off.")
        .because("Off, since the published run samples from the whole distribution; see `rollout.top_k`."),
    row("rollout.truncated", Range::OneOf(&["refuse", "renormalise", "mismatch"]), "How to train with `top_k`, `top_p` or `min_p`: `refuse` rejects them, `renormalise` uses the distribution over the tokens that pass the filters in sampler and trainer, `mismatch` trains on the full distribution, which is biased ([sampling.md](sampling.md)).")
        .because("Either choice changes what is trained, so it must be made on purpose."),
    row("rollout.max_new_tokens", whole(1, MAX_TOKENS), "Maximum number of tokens in a response. A longer response is cut off there and trained on like any other.").in_unit("tokens")
        .because("As published. 80 tokens hold the embedded model's longest worked answers."),
    row("rollout.dynamic_sampling", COUNT, "Dynamic sampling: maximum number of extra batches per step that replace groups whose rewards are all equal; 0 is off.").in_unit("batches")
        .because("As published: off. With one example, nearly all groups have equal rewards after saturation; replacing them costs batches without end."),
    row("rollout.replay", Range::Text, "A file of recorded rollouts to train on instead of sampling; empty for sampling.")
        .because("A run normally samples its own responses."),
    row("rollout.replay_gap", above_to(0.0, 1000.0), "Maximum difference in nats between a recorded log-probability and the policy's at the first step. A recording with a larger difference is refused ([data.md](data.md)).").in_unit("nats")
        .because("Measured on the embedded model: 200 steps of training move log-probabilities by up to 6 nats; another temperature or model moves some by 13 or more."),
    row("rollout.engine.max_running", whole(0, 1_000_000), "Maximum number of sequences that run at once, over all workers; 0 means 256 on the CPU and 1024 on a GPU.").in_unit("sequences")
        .because("1024 is the published batch, so a GPU can run it at once. On a CPU, 256 limits memory; more rows gain little there. Not tuned."),
    row("rollout.engine.kv_cache_mib", COUNT, "Maximum size of the key/value cache in MiB, over all workers; 0 means 4096 on the CPU and most of the free memory on a GPU.").in_unit("MiB")
        .because("A CPU shares its memory with other programs; a GPU is usually used alone."),
    row("rollout.engine.prefill_tokens", COUNT, "Maximum number of prompt tokens computed in one pass; 0 means 2048 on the CPU and 16384 on a GPU.").in_unit("tokens")
        .because("A trade-off between the memory of a pass and the number of passes. Not tuned."),
];
