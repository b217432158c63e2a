//! The names of all metrics, each with its unit, its meaning and when it is present. A line of `metrics.jsonl` has no other keys, TensorBoard
//! and MLflow show the same names, and the documentation's table is generated from these rows.
//!
//! # How metrics are named
//!
//! Each quantity has one name. verl's names are kept where they mean what they say, so that a verl dashboard shows the same curves:
//! `actor/*`, `response_length/*`, `prompt_length/*`, and `critic/*` for a critic's own quantities. Three of verl's names are not kept:
//! `critic/score/*` and `critic/rewards/*`, because they are rewards and not a critic's, and because most runs have no critic; and
//! `perf/throughput`, because verl counts prompt tokens in it. [`Metric::verl`] says where to look instead.
//!
//! Names end in their unit: `_s` for seconds, `_share` for a number from 0 to 1, `_per_s` for a rate. verl's names and accuracies, which
//! have no such ending, have their unit in the table.

/// A metric, or several with the same pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// The key. A part in capitals stands for a name: `val/PASS`.
    pub key: &'static str,
    /// The unit, such as `s`, `tokens` or `share`; empty for a number without one.
    pub unit: &'static str,
    /// The meaning, in a sentence of Markdown.
    pub about: &'static str,
    /// When the metric is present; empty if every line has it.
    pub present: &'static str,
    /// verl's name for the same quantity if it differs; empty otherwise.
    pub verl: &'static str,
}

const NOT_OUTCOME: &str = "unless the reward is `outcome` alone, whose mean is `train/accuracy`";
const UPDATES_POLICY: &str = "unless a critic warms up";
const HAS_CRITIC: &str = "with a critic";
const AT_EVALUATIONS: &str = "after evaluations";

const fn metric(key: &'static str, unit: &'static str, present: &'static str, about: &'static str) -> Metric {
    Metric { key, unit, about, present, verl: "" }
}

const fn as_in_verl(metric: Metric, verl: &'static str) -> Metric {
    Metric { verl, ..metric }
}

/// All metrics, in the order of the documentation.
#[rustfmt::skip] // a row is a line
pub const METRICS: &[Metric] = &[
    metric("step", "", "", "The training step, counted from 1."),
    metric("train/accuracy", "share", "", "Share of the step's responses that are correct: the mean of the reward `outcome`."),
    metric("train/boxed_share", "share", "", "Share of the step's responses with a complete `\\boxed{}`: the mean of the reward `format`."),
    as_in_verl(metric("reward/mean", "", NOT_OUTCOME, "Mean reward of the step's responses, before any KL penalty."), "critic/score/mean"),
    as_in_verl(metric("reward/max", "", NOT_OUTCOME, "Highest reward of a response."), "critic/score/max"),
    as_in_verl(metric("reward/min", "", NOT_OUTCOME, "Lowest reward of a response."), "critic/score/min"),
    metric("reward/NAME/mean", "", "if the reward is a sum of several", "Mean of one term of the sum, without its weight. The terms `outcome` and `format` are `train/accuracy` and `train/boxed_share`."),
    as_in_verl(metric("reward/with_kl/mean", "", "if `reward.kl` is not 0", "Mean reward of the step's responses minus the KL penalty."), "critic/rewards/mean"),
    metric("reward/zero_std_share", "share", "", "Share of the groups whose rewards are all equal, which have no signal for a group baseline."),
    metric("val/PASS", "share", AT_EVALUATIONS, "Accuracy of an evaluation pass such as `tiny-greedy`; only boxed answers count."),
    metric("saturation_step", "step", "in the line of the step that detects saturation", "The step at which the mean training accuracy reached 99%."),
    metric("actor/loss", "", UPDATES_POLICY, "The loss that the step minimized, with all its terms."),
    metric("actor/pg_loss", "", UPDATES_POLICY, "The policy loss."),
    metric("actor/kl_loss", "nats", UPDATES_POLICY, "The KL divergence from the reference model that the loss contains, without its coefficient."),
    metric("actor/entropy", "nats/token", UPDATES_POLICY, "Mean entropy of the policy's distribution over response tokens, at the rollout temperature."),
    metric("actor/entropy_coeff", "", UPDATES_POLICY, "Coefficient of the entropy bonus, which schedules change."),
    metric("actor/pg_clipfrac", "share", UPDATES_POLICY, "Share of the response tokens whose ratio was clipped."),
    metric("actor/ppo_kl", "nats/token", UPDATES_POLICY, "Estimate of the KL divergence of the policy from the one that sampled; 0 at the first update of a step."),
    metric("actor/grad_norm", "", UPDATES_POLICY, "Norm of the gradient before clipping; `null` if an update was skipped."),
    metric("actor/lr", "", UPDATES_POLICY, "Learning rate."),
    metric("critic/vf_loss", "", HAS_CRITIC, "Loss of the value function."),
    metric("critic/vf_clipfrac", "share", HAS_CRITIC, "Share of the response tokens whose value was clipped."),
    metric("critic/vpred_mean", "", "with a critic and several updates per step", "Mean value that the critic predicted during its updates."),
    metric("critic/grad_norm", "", HAS_CRITIC, "Norm of the critic's gradient before clipping."),
    metric("critic/lr", "", HAS_CRITIC, "Learning rate of the critic."),
    metric("critic/vf_explained_var", "share", HAS_CRITIC, "Share of the returns' variance that the values explain; negative if they are worse than a constant."),
    metric("critic/values/mean", "", HAS_CRITIC, "Mean value from which advantages were computed."),
    metric("critic/values/max", "", HAS_CRITIC, "Highest value."),
    metric("critic/values/min", "", HAS_CRITIC, "Lowest value."),
    metric("critic/returns/mean", "", HAS_CRITIC, "Mean return, the target of the values."),
    metric("critic/returns/max", "", HAS_CRITIC, "Highest return."),
    metric("critic/returns/min", "", HAS_CRITIC, "Lowest return."),
    metric("critic/advantages/mean", "", HAS_CRITIC, "Mean advantage of a response token."),
    metric("critic/advantages/max", "", HAS_CRITIC, "Highest advantage."),
    metric("critic/advantages/min", "", HAS_CRITIC, "Lowest advantage."),
    metric("response_length/mean", "tokens", "", "Mean length of the step's responses."),
    metric("response_length/max", "tokens", "", "Length of the longest response."),
    metric("response_length/clip_ratio", "share", "", "Share of the responses that reached the token limit."),
    metric("prompt_length/mean", "tokens", "", "Mean length of the step's prompts, counted once per response."),
    metric("rollout/temperature", "", "", "Sampling temperature, which a schedule changes."),
    metric("rollout/further_batches", "batches", "", "Extra batches that dynamic sampling used to replace groups without signal."),
    metric("rollout/logprob_gap_max", "nats", UPDATES_POLICY, "Largest difference between a token's log-probability in sampler and trainer; 0 on the CPU."),
    metric("rollout/logprob_gap_mean", "nats", UPDATES_POLICY, "Mean of these differences."),
    metric("watch/garbled_share", "share", "", "Share of the responses that are not readable text."),
    metric("watch/skipped", "0 or 1", "", "1 if an update was skipped because its loss or gradient was not finite."),
    metric("watch/warnings", "checks", "", "Number of active health checks."),
    metric("watch/CHECK", "1", "while the check is active", "1 while this health check is active."),
    metric("perf/elapsed_s", "s", "", "Time since the run started, without pauses between an interruption and its resumption."),
    as_in_verl(metric("perf/step_s", "s", "", "Time of the step up to its last update, without evaluation and writing."), "perf/time_per_step"),
    as_in_verl(metric("perf/response_tokens_per_s", "tokens/s", "", "Response tokens of the step divided by `perf/step_s`."), "perf/throughput, which also counts prompt tokens"),
    metric("perf/phase/sample_s", "s", "", "Time since the previous line spent on sampling responses."),
    metric("perf/phase/reward_s", "s", "", "Time spent on grading responses and computing rewards."),
    metric("perf/phase/reference_s", "s", "", "Time spent on the reference model."),
    metric("perf/phase/critic_s", "s", "", "Time spent on the critic and its updates; 0 without one."),
    metric("perf/phase/update_s", "s", "", "Time spent on the policy's loss and gradients."),
    metric("perf/phase/optimizer_s", "s", "", "Time spent on clipping, AdamW and checks of the new weights."),
    metric("perf/phase/evaluate_s", "s", "", "Time spent on answering and grading held-out problems."),
    metric("perf/phase/save_s", "s", "", "Time spent on writing records, checkpoints and the best model."),
];

/// Returns the row of a key; `None` if no row matches. An exact row has precedence over a pattern.
pub fn find(key: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.key == key).or_else(|| METRICS.iter().find(|metric| matches(metric.key, key)))
}

/// True if each part of the pattern equals the key's part, or is a placeholder in capitals.
fn matches(pattern: &str, key: &str) -> bool {
    let is_placeholder = |part: &str| part.chars().all(|c| c.is_ascii_uppercase());
    // The name of a pass may contain a slash if a benchmark is a file.
    let (pattern, key): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), key.splitn(pattern.split('/').count(), '/').collect());
    pattern.len() == key.len() && pattern.iter().zip(&key).all(|(part, found)| part == found || (is_placeholder(part) && !found.is_empty()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn find_prefers_exact_rows_to_patterns() {
        let check = |key: &str, expected: Option<&str>| assert_eq!(find(key).map(|metric| metric.key), expected, "{key}");
        check("train/accuracy", Some("train/accuracy"));
        check("val/tiny-t0.6x1", Some("val/PASS"));
        check("val/folder/problems.jsonl-greedy", Some("val/PASS"));
        check("watch/garbled", Some("watch/CHECK"));
        check("watch/skipped", Some("watch/skipped"));
        check("reward/length/mean", Some("reward/NAME/mean"));
        check("reward/with_kl/mean", Some("reward/with_kl/mean"));
        check("reward/length/max", None);
        check("val/", None);
        check("critic/score/mean", None);
    }

    #[test]
    fn metrics_have_unique_names_and_complete_sentences() {
        let keys: BTreeSet<&str> = METRICS.iter().map(|metric| metric.key).collect();
        assert_eq!(keys.len(), METRICS.len(), "two rows have the same key");
        for metric in METRICS {
            assert!(metric.about.ends_with('.') && metric.about.len() > 10, "{}: {}", metric.key, metric.about);
        }
    }

    /// A name that ends in a unit has this unit in its row.
    #[test]
    fn metrics_end_in_their_unit() {
        for (ending, unit) in [("_s", "s"), ("_share", "share"), ("_tokens", "tokens"), ("_tokens_per_s", "tokens/s")] {
            for metric in METRICS.iter().filter(|metric| metric.key.ends_with(ending)) {
                assert!(metric.unit == unit || (ending == "_s" && metric.key.ends_with("_per_s")), "{} has {}", metric.key, metric.unit);
            }
        }
        let without = METRICS.iter().filter(|metric| metric.unit == "s" && !metric.key.ends_with("_s"));
        assert_eq!(without.count(), 0);
    }
}
