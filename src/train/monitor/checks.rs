//! The health checks: a table with the rule, the patience and the message of each.

use super::{Monitor, StepMetrics, WINDOW};

/// A health check.
pub struct HealthCheck {
    /// The check's key; its metric is `watch/KEY`.
    pub key: &'static str,
    /// True if a step is bad.
    pub(super) is_bad: fn(&Monitor, &StepMetrics) -> bool,
    /// Returns the number of consecutive bad steps after which the check warns.
    pub(super) patience: fn(&Monitor) -> usize,
    /// Describes the finding.
    pub(super) found: fn(&Monitor, &StepMetrics) -> String,
    /// The advice on what to try.
    pub(super) remedy: &'static str,
}

/// Entropy has collapsed at or below this fraction of its initial value, if it is also at most this many nats.
const COLLAPSED: (f64, f64) = (0.02, 0.02);
/// Entropy has exploded at or above this fraction of the uniform distribution's entropy.
const EXPLODED: f64 = 0.5;
/// The gradient has exploded at or above this multiple of its initial norm.
const GRADIENT_FACTOR: f64 = 30.0;
/// The reward has collapsed if it has lost more than this fraction of its gain and more than this fraction of the range of rewards.
const REWARD_LOST: (f64, f64) = (0.5, 0.2);
/// Responses are short at or below this fraction of their initial length.
const SHORT: f64 = 0.1;
/// Responses count as all truncated if at least this fraction is truncated.
const TRUNCATED: f64 = 0.95;
/// Too many responses are garbled at or above this fraction.
const GARBLED: f64 = 0.3;
/// A run learns nothing if this many consecutive steps have no boxed answer, or no signal.
const NOTHING_LEARNED: usize = 20;

const LOWER_RATE: &str = "Try a lower optim.lr";

/// All checks, in the order in which their warnings are printed.
pub const HEALTH_CHECKS: [HealthCheck; 10] = [
    HealthCheck {
        // At half of the uniform entropy, text is noise. Published runs stay below a tenth.
        key: "entropy_explosion",
        is_bad: |monitor, metrics| {
            metrics.entropy.is_some_and(|entropy| entropy.is_nan() || entropy >= EXPLODED * monitor.traits.max_entropy)
        },
        patience: |_| 2,
        found: |monitor, metrics| {
            let entropy = metrics.entropy.unwrap_or(f64::NAN);
            format!(
                "the policy's entropy is {entropy:.2} nats per token, {:.0}% of the uniform distribution's",
                100.0 * entropy / monitor.traits.max_entropy
            )
        },
        remedy: "Try a lower optim.lr or loss.entropy; models with random weights start like this",
    },
    HealthCheck {
        // Saturated runs of the demonstration retain a tenth of their initial entropy. Other runs may retain less when their reward is near
        // its best.
        key: "entropy_collapse",
        is_bad: |monitor, metrics| {
            let first = monitor.initial_max(|metrics| metrics.entropy);
            let collapsed = |first: f64| metrics.entropy.is_some_and(|entropy| entropy <= COLLAPSED.1.min(COLLAPSED.0 * first));
            !monitor.is_reward_near_best() && first.is_some_and(collapsed)
        },
        patience: |_| 3,
        found: |monitor, metrics| {
            let (now, first) = (metrics.entropy.unwrap_or(f64::NAN), monitor.initial_max(|metrics| metrics.entropy).unwrap_or(f64::NAN));
            format!(
                "the policy's entropy fell from {first:.3} to {now:.5} nats per token without a high reward: it repeats the same response"
            )
        },
        remedy: "Try a lower optim.lr, a larger loss.entropy or a higher rollout.temperature",
    },
    HealthCheck {
        // If the gradient is exactly 0 in f32 despite signal or an entropy term, the policy is too certain for any probability to change.
        key: "gradient_zero",
        is_bad: |monitor, metrics| {
            let expects_gradient = monitor.traits.has_entropy_term || (monitor.traits.learns_from_reward && metrics.without_signal < 1.0);
            expects_gradient && !monitor.is_reward_near_best() && metrics.grad_norm == Some(0.0)
        },
        patience: |_| 3,
        found: |_, _| "the gradient is exactly 0: updates no longer change the policy".to_owned(),
        remedy: LOWER_RATE,
    },
    HealthCheck {
        // Clipping bounds the size of an update but keeps its direction, which is arbitrary for gradients this large.
        key: "gradient_explosion",
        is_bad: |monitor, metrics| {
            let first = monitor.initial_max(|metrics| metrics.grad_norm).filter(|first| *first > 0.0);
            first.is_some_and(|first| metrics.grad_norm.is_some_and(|norm| norm >= GRADIENT_FACTOR * first))
        },
        patience: |_| 3,
        found: |_, metrics| {
            let norm = metrics.grad_norm.unwrap_or(f64::NAN);
            format!("the gradient norm is {norm:.3e}, at least {GRADIENT_FACTOR} times the largest of the first {WINDOW} steps")
        },
        remedy: "Try a lower optim.lr, or a lower optim.clip_norm",
    },
    HealthCheck {
        // The drop must exceed chance: 4 standard deviations of the difference between two means over `n` independent responses each.
        key: "reward_collapse",
        is_bad: |monitor, _| {
            let (Some(best), Some((low, _))) = (monitor.best_reward, monitor.reward_range) else { return false };
            let (now, width) = (monitor.recent_mean(|metrics| metrics.reward), monitor.reward_width());
            let n = (monitor.traits.independent_samples * WINDOW).max(1) as f64;
            let chance = 4.0 * (2.0_f64).sqrt() * 0.5 / n.sqrt();
            best - now > REWARD_LOST.0 * (best - low) && best - now > REWARD_LOST.1.max(chance) * width
        },
        patience: |_| 1,
        found: |monitor, _| {
            let (now, best) = (monitor.recent_mean(|metrics| metrics.reward), monitor.best_reward.unwrap_or(f64::NAN));
            format!("the mean reward of the last {WINDOW} steps fell to {now:.3}, from {best:.3} at its best")
        },
        remedy: "Go back to an earlier checkpoint with a lower optim.lr or a larger loss.kl",
    },
    HealthCheck {
        key: "short_responses",
        is_bad: |monitor, metrics| {
            !monitor.is_reward_near_best()
                && monitor.initial_max(|metrics| Some(metrics.length)).is_some_and(|first| metrics.length <= SHORT * first)
        },
        patience: |_| 3,
        found: |monitor, metrics| {
            let first = monitor.initial_max(|metrics| Some(metrics.length)).unwrap_or(f64::NAN);
            format!("responses have {:.1} tokens on average, down from {first:.1} in the first steps", metrics.length)
        },
        remedy: "Try a lower optim.lr; look at the responses in rollouts/",
    },
    HealthCheck {
        key: "all_truncated",
        is_bad: |monitor, metrics| !monitor.is_reward_near_best() && metrics.truncated >= TRUNCATED,
        patience: |_| 3,
        found: |monitor, metrics| {
            let (share, limit) = (100.0 * metrics.truncated, monitor.traits.max_new_tokens);
            format!("{share:.0}% of the responses do not end within rollout.max_new_tokens = {limit} tokens")
        },
        remedy: "If they make sense, raise rollout.max_new_tokens; if they ramble, lower optim.lr",
    },
    HealthCheck {
        key: "garbled",
        is_bad: |_, metrics| metrics.garbled >= GARBLED,
        patience: |_| 1,
        found: |_, metrics| {
            format!("{:.0}% of the responses are not readable text (broken characters, or one token repeated)", 100.0 * metrics.garbled)
        },
        remedy: "Look at the responses in rollouts/; if they were readable before, go back to a checkpoint and lower optim.lr",
    },
    HealthCheck {
        // A run without boxes is fine if its reward, such as a weighted sum, is near its best.
        key: "no_box",
        is_bad: |monitor, metrics| monitor.traits.reads_boxes && !monitor.is_reward_near_best() && metrics.boxed == 0.0,
        patience: steps_without_box,
        found: |monitor, _| {
            let steps = steps_without_box(monitor);
            format!("no response of the last {steps} steps has an answer in \\boxed{{}}, where the reward looks for it")
        },
        remedy: "Ask for \\boxed{} in the question or with prompt.instruction, look at the responses in rollouts/, and check whether \
                 rollout.max_new_tokens cuts them off before their answer",
    },
    HealthCheck {
        key: "no_signal",
        is_bad: |monitor, metrics| monitor.traits.learns_from_reward && !monitor.is_reward_near_best() && metrics.without_signal >= 1.0,
        patience: |_| NOTHING_LEARNED,
        found: |monitor, _| {
            let reward = monitor.recent_mean(|metrics| metrics.reward);
            format!(
                "for {NOTHING_LEARNED} steps, all responses of each group had the same reward ({reward:.3} on average), so nothing can be learned"
            )
        },
        remedy: "Try an example that the model sometimes solves, more responses (rollout.group_size, rollout.groups), a higher \
                 rollout.temperature, or check the answer and reward.grader",
    },
];

/// Returns the patience of `no_box`, which is shorter after a step with many boxed answers.
fn steps_without_box(monitor: &Monitor) -> usize {
    if monitor.had_boxes { 3 } else { NOTHING_LEARNED }
}
