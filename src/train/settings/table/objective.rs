//! The rows of `reward.*`, `advantage.*` and `loss.*`.

use super::{COUNT, GRADER, MAX_TOKENS, SEED, SHARE};
use crate::config::range::{Range, Row, above, above_to, at_least, finite, row, whole};
use crate::objective::Aggregation;

const KL_ESTIMATOR: Range = Range::OneOf(&["k1", "k2", "k3"]);
const AGGREGATION: Range = Range::Parsed {
    syntax: "`token-mean`, `seq-mean-token-mean`, `seq-mean-token-sum`, `seq-mean-token-sum-norm(N)`, `microbatch-token-mean(N)`",
    parse: |text| text.parse::<Aggregation>().map(drop),
};

#[rustfmt::skip] // a row is two lines
pub(super) const ROWS: &[Row] = &[
    row("reward.name", Range::Text, "A reward, or a weighted sum such as `outcome + 0.5*format`. See [rewards.md](rewards.md).")
        .because("As published: 1 if the boxed answer is correct, otherwise 0."),
    row("reward.grader", GRADER, "The grader that decides whether an answer equals the gold answer. See [graders.md](graders.md).")
        .because("The paper's examples use its grader, so that runs are comparable; all others use ours."),
    row("reward.after_think", Range::Boolean, "Grade only the text after the last `</think>`; a response without one is wrong.")
        .because("Most models write no `</think>`. The published code grades R1-style models only after it: turn this on for them."),
    row("reward.label", Range::Text, "Reward this answer instead of the example's gold answer; empty uses the gold answer.")
        .because("Other answers serve experiments with wrong labels."),
    row("reward.label_noise", SHARE, "The share of examples to mislabel with the answer of another example.")
        .because("Off; the paper's experiments use 0.6 and 0.9."),
    row("reward.label_seed", SEED, "The seed that chooses the mislabeled examples and their labels.")
        .because("A fixed seed makes the labels repeatable."),
    row("reward.command", Range::Strings, "The program that computes the reward named `command`, with its arguments.")
        .because("No program: built-in rewards need none."),
    row("reward.command_timeout_s", above_to(0.0, 1e6), "Timeout of this program in seconds, for all responses of a step.").in_unit("s")
        .because("A trade-off: slow verifiers must finish, and a hanging one must not stop the run for long. Not tuned."),
    row("reward.overlong_buffer", whole(0, MAX_TOKENS), "DAPO's overlong penalty: grows from 0 to 1 over this many tokens before the maximum response length; 0 is off.").in_unit("tokens")
        .because("As published: off. `dapo` sets a fifth of the maximum length, the share in its paper."),
    row("reward.kl", at_least(0.0), "Coefficient of the KL divergence that is subtracted from each token's reward.")
        .because("As published for GRPO, which has its KL term in the loss. `ppo`, `rloo` and `reinforce++` set 0.001."),
    row("reward.kl_estimator", KL_ESTIMATOR, "Estimator of this KL divergence; `k1` is unbiased in rewards.")
        .because("Unbiased as a part of the reward, and verl's default."),
    row("advantage.baseline", Range::OneOf(&["group", "leave-one-out", "critic", "none"]), "The baseline subtracted from rewards. If all rewards of a group agree to one part in a million, its advantages are 0.")
        .because("As published: GRPO."),
    row("advantage.scale", Range::OneOf(&["group", "batch", "none"]), "The standard deviation that advantages are divided by: over the group, over the batch, or none.")
        .because("As published: GRPO."),
    row("advantage.gamma", SHARE, "Discount factor per token. Used with a critic or without a baseline.")
        .because("As published for PPO (defaults of the published code): the final reward counts fully for every token."),
    row("advantage.lambda", SHARE, "Lambda of generalized advantage estimation (GAE). Used with a critic.")
        .because("As published for PPO (defaults of the published code)."),
    row("loss.policy", at_least(0.0), "Coefficient of the policy loss; 0 ignores rewards.")
        .because("All other coefficients are relative to it; 0 serves ablations."),
    row("loss.ratio", Range::OneOf(&["token", "sequence"]), "Probability ratio per token, or per whole response (GSPO).")
        .because("As published; `gspo` sets `sequence`."),
    row("loss.surrogate", Range::OneOf(&["clip", "cispo"]), "PPO's clipped surrogate, or CISPO's weighted log-probability.")
        .because("As published; `cispo` sets `cispo`."),
    row("loss.clip_low", above_to(0.0, 1.0), "Lower clip of the ratio, at 1 - clip_low; 1 means no lower bound and requires `cispo`.")
        .because("As published. Without effect at one update per rollout batch."),
    row("loss.clip_high", above(0.0), "Upper clip of the ratio, at 1 + clip_high.")
        .because("As published. Without effect at one update per rollout batch; `dapo` sets 0.28."),
    row("loss.kl", at_least(0.0), "Coefficient of the KL divergence from the reference model, with both models at the rollout temperature.")
        .because("As published."),
    row("loss.kl_estimator", KL_ESTIMATOR, "Estimator of this KL divergence. `k3` is clamped at 10 nats per token, with gradient 0 beyond. `k1` has an expected gradient of 0 and constrains nothing. `k2` has the correct gradient on policy.")
        .because("As published, with the same clamp."),
    row("loss.entropy", finite(), "Coefficient of the entropy bonus at the rollout temperature; a negative value penalizes entropy.")
        .because("As published. The paper reports that the term adds about 2.3 points."),
    row("loss.entropy_to", finite(), "Final coefficient of a linear schedule that starts at `loss.entropy`.")
        .because("No effect without `loss.entropy_steps`."),
    row("loss.entropy_steps", COUNT, "Length of this schedule in steps; 0 keeps the coefficient constant.").in_unit("steps")
        .because("As published: constant."),
    row("loss.entropy_target", at_least(0.0), "Target entropy in nats per token, which the coefficient adapts to reach; 0 is off.").in_unit("nats per token")
        .because("As published: off."),
    row("loss.entropy_step", at_least(0.0), "Change of the coefficient per step while it adapts to the target.")
        .because("No effect without `loss.entropy_target`."),
    row("loss.aggregation", AGGREGATION, "How per-token losses are combined into one loss. N is a length in tokens, or the number of sequences in a logical micro-batch.")
        .because("Does not depend on how a batch is split. The published code's mean does; `microbatch-token-mean(N)` reproduces it."),
];
