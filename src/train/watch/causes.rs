//! What is watched: each cause with its rule, its patience and its words, a row of a table each.

use super::{Shown, WINDOW, Watch};

/// A cause of warnings.
pub struct Cause {
    /// Names it in the metrics: `watch/KEY`.
    pub key: &'static str,
    /// Whether a step is bad.
    pub(super) is_bad: fn(&Watch, &Shown) -> bool,
    /// Bad steps in a row before it is told.
    pub(super) patience: fn(&Watch) -> usize,
    /// What was found.
    pub(super) found: fn(&Watch, &Shown) -> String,
    /// What to try.
    pub(super) remedy: &'static str,
}

/// A collapsed entropy is at most this share of the first steps', and this many nats.
const COLLAPSED: (f64, f64) = (0.02, 0.02);
/// An exploded entropy is at least this share of a uniform choice's.
const EXPLODED: f64 = 0.5;
/// An exploded gradient is at least this many times the largest of the first steps.
const GRADIENT_FACTOR: f64 = 30.0;
/// A collapsed reward has lost this share of what it had gained, and this share of the range of rewards.
const REWARD_LOST: (f64, f64) = (0.5, 0.2);
/// Short responses have at most this share of the first ones' length.
const SHORT: f64 = 0.1;
/// From this share on, responses count as all truncated.
const TRUNCATED: f64 = 0.95;
/// Shares of garbled responses above this are no accident.
const GARBLED: f64 = 0.3;
/// Steps in a row without any box, or any signal, after which a run is held to learn nothing.
const NOTHING_LEARNED: usize = 20;

const LOWER_RATE: &str = "Try a lower optim.lr";

/// All causes, in the order in which they are told.
pub const CAUSES: [Cause; 10] = [
    Cause {
        // Half of the entropy of a uniform choice: text is noise long before that. Published runs stay below a tenth.
        key: "entropy_explosion",
        is_bad: |watch, shown| shown.entropy.is_some_and(|entropy| entropy.is_nan() || entropy >= EXPLODED * watch.subject.most_entropy),
        patience: |_| 2,
        found: |watch, shown| {
            let entropy = shown.entropy.unwrap_or(f64::NAN);
            format!(
                "the policy's entropy is {entropy:.2} nats a token, {:.0}% of a uniform choice among all tokens",
                100.0 * entropy / watch.subject.most_entropy
            )
        },
        remedy: "Try a lower optim.lr or loss.entropy; a model with random weights begins like this",
    },
    Cause {
        // Saturated runs of the demonstration still have a tenth of their first entropy; satisfied ones may have less.
        key: "entropy_collapse",
        is_bad: |watch, shown| {
            let first = watch.at_first(|shown| shown.entropy);
            let collapsed = |first: f64| shown.entropy.is_some_and(|entropy| entropy <= COLLAPSED.1.min(COLLAPSED.0 * first));
            !watch.is_satisfied() && first.is_some_and(collapsed)
        },
        patience: |_| 3,
        found: |watch, shown| {
            let (now, first) = (shown.entropy.unwrap_or(f64::NAN), watch.at_first(|shown| shown.entropy).unwrap_or(f64::NAN));
            format!(
                "the policy's entropy fell to {now:.5} nats a token, from {first:.3}, without a high reward: it says the same every time"
            )
        },
        remedy: "Try a lower optim.lr, a larger loss.entropy or a higher rollout.temperature",
    },
    Cause {
        // Exactly 0 in f32: the policy is so sure that no probability moves. With signal or an entropy term a gradient is due.
        key: "gradient_zero",
        is_bad: |watch, shown| {
            let is_due = watch.subject.has_entropy_term || (watch.subject.learns_from_reward && shown.without_signal < 1.0);
            is_due && !watch.is_satisfied() && shown.grad_norm == Some(0.0)
        },
        patience: |_| 3,
        found: |_, _| "the gradient is exactly 0: no update changes the policy any more".to_owned(),
        remedy: LOWER_RATE,
    },
    Cause {
        // Clipping bounds each update's size, not its direction: gradients of this size point anywhere.
        key: "gradient_explosion",
        is_bad: |watch, shown| {
            let first = watch.at_first(|shown| shown.grad_norm).filter(|first| *first > 0.0);
            first.is_some_and(|first| shown.grad_norm.is_some_and(|norm| norm >= GRADIENT_FACTOR * first))
        },
        patience: |_| 3,
        found: |_, shown| {
            let norm = shown.grad_norm.unwrap_or(f64::NAN);
            format!("the gradient's norm is {norm:.3e}, more than {GRADIENT_FACTOR} times that of the first {WINDOW} steps")
        },
        remedy: "Try a lower optim.lr, or a lower optim.clip_norm",
    },
    Cause {
        // Lost beyond chance: with `n` independent responses in a window, 4 standard deviations of a difference of two means.
        key: "reward_collapse",
        is_bad: |watch, _| {
            let (Some(best), Some((low, _))) = (watch.best_reward, watch.range) else { return false };
            let (now, width) = (watch.now(|shown| shown.reward), watch.reward_width());
            let n = (watch.subject.independent * WINDOW).max(1) as f64;
            let chance = 4.0 * (2.0_f64).sqrt() * 0.5 / n.sqrt();
            best - now > REWARD_LOST.0 * (best - low) && best - now > REWARD_LOST.1.max(chance) * width
        },
        patience: |_| 1,
        found: |watch, _| {
            let (now, best) = (watch.now(|shown| shown.reward), watch.best_reward.unwrap_or(f64::NAN));
            format!("the mean reward of the last {WINDOW} steps is {now:.3}, it was {best:.3} before")
        },
        remedy: "Go back to a checkpoint from before, with a lower optim.lr or a larger loss.kl",
    },
    Cause {
        key: "short_responses",
        is_bad: |watch, shown| {
            !watch.is_satisfied() && watch.at_first(|shown| Some(shown.length)).is_some_and(|first| shown.length <= SHORT * first)
        },
        patience: |_| 3,
        found: |watch, shown| {
            let first = watch.at_first(|shown| Some(shown.length)).unwrap_or(f64::NAN);
            format!("responses have {:.1} tokens on average, {first:.1} at the beginning", shown.length)
        },
        remedy: "Try a lower optim.lr; look at the responses in rollouts/",
    },
    Cause {
        key: "all_truncated",
        is_bad: |watch, shown| !watch.is_satisfied() && shown.truncated >= TRUNCATED,
        patience: |_| 3,
        found: |watch, shown| {
            let (share, limit) = (100.0 * shown.truncated, watch.subject.max_new);
            format!("{share:.0}% of the responses do not end within rollout.max_new = {limit} tokens")
        },
        remedy: "If they are good text, raise rollout.max_new; if they run on without sense, lower optim.lr",
    },
    Cause {
        key: "garbled",
        is_bad: |_, shown| shown.garbled >= GARBLED,
        patience: |_| 1,
        found: |_, shown| {
            format!("{:.0}% of the responses are not readable text (broken characters, one token without end)", 100.0 * shown.garbled)
        },
        remedy: "Look at the responses in rollouts/; if they were readable before, go back to a checkpoint and lower optim.lr",
    },
    Cause {
        // Satisfied: a sum in which the box weighs little can be near its best.
        key: "no_box",
        is_bad: |watch, shown| watch.subject.reads_boxes && !watch.is_satisfied() && shown.boxed == 0.0,
        patience: steps_without_box,
        found: |watch, _| {
            let steps = steps_without_box(watch);
            format!("no response of the last {steps} steps has an answer in \\boxed{{}}, which is where the reward looks for it")
        },
        remedy: "Ask for it in the question or with prompt.instruction, look at the responses in rollouts/, and see whether rollout.max_new cuts \
                 them off before their answer",
    },
    Cause {
        key: "no_signal",
        is_bad: |watch, shown| watch.subject.learns_from_reward && !watch.is_satisfied() && shown.without_signal >= 1.0,
        patience: |_| NOTHING_LEARNED,
        found: |watch, _| {
            let reward = watch.now(|shown| shown.reward);
            format!(
                "for {NOTHING_LEARNED} steps all responses of a group had the same reward ({reward:.3} on average): nothing can be learned from them"
            )
        },
        remedy: "Try an example that the model solves now and then, more responses (rollout.group_size, rollout.groups), a higher \
                 rollout.temperature, or check the answer and reward.grader",
    },
];

/// Boxes are missed soon where there were many.
fn steps_without_box(watch: &Watch) -> usize {
    if watch.had_boxes { 3 } else { NOTHING_LEARNED }
}
