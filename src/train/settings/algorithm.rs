//! Algorithms by name. Each is a preset: a layer of settings between the defaults and the user's, so that users can override every part of
//! it. Defines what each name means and cites its source. Independent of how losses and advantages are computed.
//!
//! Where a paper leaves a detail open, the preset follows verl. Presets have an entropy bonus only if the published code has one.

use std::fmt::Write;

use anyhow::{Context, Result};
use toml::{Table, Value};

use super::RunSettings;
use crate::config;
use crate::objective::{AdvantageSettings, Aggregation, Baseline, KlEstimator, LossSettings, Ratio, Scale, Surrogate};

/// An algorithm, as a preset of settings.
#[derive(Clone, Copy)]
pub struct Algorithm {
    /// Its name in settings.
    pub name: &'static str,
    /// The paper that defines it.
    pub source: &'static str,
    /// Applies the preset to the defaults. The second argument is the run's maximum response length in tokens.
    apply: fn(&mut RunSettings, usize),
}

/// All algorithms.
pub const ALGORITHMS: &[Algorithm] = &[
    Algorithm { name: "grpo", source: "Shao et al. 2024, arXiv 2402.03300, as in the published run", apply: grpo },
    Algorithm { name: "ppo", source: "Schulman et al. 2017, arXiv 1707.06347, with the defaults of the published code", apply: ppo },
    Algorithm { name: "dr_grpo", source: "Liu et al. 2025, arXiv 2503.20783", apply: dr_grpo },
    Algorithm { name: "rloo", source: "Ahmadian et al. 2024, arXiv 2402.14740", apply: rloo },
    Algorithm { name: "reinforce++", source: "Hu 2025, arXiv 2501.03262", apply: reinforce_plus_plus },
    Algorithm { name: "dapo", source: "Yu et al. 2025, arXiv 2503.14476", apply: dapo },
    Algorithm { name: "gspo", source: "Zheng et al. 2025, arXiv 2507.18071", apply: gspo },
    Algorithm { name: "cispo", source: "MiniMax-M1, 2025, arXiv 2506.13585", apply: cispo },
];

/// The names of all algorithms.
pub const NAMES: [&str; ALGORITHMS.len()] = {
    let mut names = [""; ALGORITHMS.len()];
    let mut number = 0;
    while number < names.len() {
        names[number] = ALGORITHMS[number].name;
        number += 1;
    }
    names
};

/// Settings that the description of a preset always lists.
const ALWAYS_SHOWN: [&str; 10] = [
    "advantage.baseline",
    "advantage.scale",
    "loss.ratio",
    "loss.surrogate",
    "loss.clip_low",
    "loss.clip_high",
    "loss.kl",
    "loss.entropy",
    "loss.aggregation",
    "train.updates_per_rollout",
];
/// Settings that are also listed if they differ from the published run.
const SHOWN_IF_CHANGED: [&str; 7] =
    ["advantage.gamma", "advantage.lambda", "reward.kl", "reward.kl_estimator", "reward.overlong_buffer", "loss.kl_estimator", "critic.lr"];

/// Finds an algorithm by name.
///
/// # Errors
/// If the name is unknown; the message lists the known ones.
pub fn by_name(name: &str) -> Result<Algorithm> {
    let found = ALGORITHMS.iter().find(|algorithm| algorithm.name == name).copied();
    found.with_context(|| format!("unknown algorithm {name:?}; expected one of {}", NAMES.join(", ")))
}

/// Resolves settings: the defaults, then the preset of the layers' `algo`, then the layers.
///
/// # Errors
/// If a layer has an unknown setting, a value of the wrong type or out of range, or an unknown algorithm.
pub fn resolve(defaults: &RunSettings, layers: &[Table]) -> Result<RunSettings> {
    let plain: RunSettings = config::resolve(defaults, layers)?;
    config::resolve(&by_name(&plain.algo)?.apply_to(defaults, plain.rollout.max_new_tokens), layers)
}

impl Algorithm {
    /// Returns the defaults with the preset applied, for responses of up to `max_new_tokens` tokens.
    fn apply_to(&self, defaults: &RunSettings, max_new_tokens: usize) -> RunSettings {
        let mut settings = defaults.clone();
        settings.algo = self.name.to_owned();
        (self.apply)(&mut settings, max_new_tokens);
        settings
    }

    /// Describes the preset in one line by its settings, with the run's value in parentheses where it differs.
    ///
    /// # Errors
    /// If the settings cannot be serialized.
    pub fn expansion(&self, run: &RunSettings) -> Result<String> {
        let defaults = RunSettings::defaults_for(&run.model);
        let [published, preset, run] = [&defaults, &self.apply_to(&defaults, run.rollout.max_new_tokens), run]
            .map(Table::try_from)
            .map(|table| table.map_err(anyhow::Error::from));
        let (published, preset, run) = (published?, preset?, run?);
        let mut text = format!("{} ({}) is", self.name, self.source);
        let is_shown = |key: &&str| {
            let differs = [&preset, &run].iter().any(|table| get(table, key) != get(&published, key));
            // An estimator is relevant if there is a KL term.
            let is_used = key.strip_suffix("_estimator").is_some_and(|kl| get(&run, kl).and_then(Value::as_float) != Some(0.0));
            differs || is_used
        };
        let others = SHOWN_IF_CHANGED.into_iter().filter(is_shown);
        for key in ALWAYS_SHOWN.into_iter().chain(others) {
            let (preset_value, value) = (get(&preset, key), get(&run, key));
            write!(text, " {key}={}", format_value(preset_value))?;
            if preset_value != value {
                write!(text, " (here {})", format_value(value))?;
            }
        }
        if get(&run, "train.updates_per_rollout").and_then(Value::as_integer) == Some(1) {
            text += "; with one update per rollout batch every ratio is 1, so ratio, surrogate and clipping have no effect";
        }
        Ok(text)
    }
}

fn get<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    let (group, name) = key.split_once('.')?;
    table.get(group)?.get(name)
}

fn format_value(value: Option<&Value>) -> String {
    match value {
        // TOML stores f32 settings as f64; print the digits of the f32.
        Some(Value::Float(number)) => (*number as f32).to_string(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => "-".to_owned(),
    }
}

/// Advantages without discounting.
fn undiscounted(baseline: Baseline, scale: Scale) -> AdvantageSettings {
    AdvantageSettings { baseline, scale, ..AdvantageSettings::default() }
}

/// PPO's surrogate without KL and entropy terms.
fn bare_loss() -> LossSettings {
    LossSettings { kl: 0.0, entropy: 0.0, ..LossSettings::default() }
}

/// The published run: advantages within the group divided by its standard deviation, the mean over tokens, KL (k3) and entropy coefficients
/// of 0.001.
fn grpo(run: &mut RunSettings, _: usize) {
    run.advantage = undiscounted(Baseline::Group, Scale::Group);
    let loss = LossSettings { kl: 0.001, kl_estimator: KlEstimator::K3, entropy: 0.001, ..bare_loss() };
    run.loss = LossSettings { aggregation: Aggregation::TokenMean, ..loss };
}

/// A critic, GAE with gamma and lambda 1, whitened advantages, an entropy bonus of 0.001, and KL (k1, 0.001) in the reward. These are the
/// defaults of the published code; the paper gives no script for PPO. The critic's learning rate is ten times the policy's: 1e-5 as
/// published, and 1e-3 for the embedded model, the lowest rate at which its values separated correct from wrong answers early.
fn ppo(run: &mut RunSettings, _: usize) {
    run.advantage = undiscounted(Baseline::Critic, Scale::Batch);
    (run.reward.kl, run.reward.kl_estimator) = (0.001, KlEstimator::K1);
    run.loss = LossSettings { entropy: 0.001, ..bare_loss() };
    run.critic.lr = if run.model == "tiny" { 1e-3 } else { 1e-5 };
}

/// No division by the group's standard deviation, and sums over tokens divided by one constant, so that neither a problem's difficulty
/// nor a response's length biases the gradient. No KL.
fn dr_grpo(run: &mut RunSettings, max_new_tokens: usize) {
    run.advantage = undiscounted(Baseline::Group, Scale::None);
    run.loss = LossSettings { aggregation: Aggregation::SeqMeanTokenSumNorm(max_new_tokens), ..bare_loss() };
}

/// REINFORCE on whole responses, with the mean reward of the group's other responses as the baseline. KL (k1) in the reward with verl's
/// 0.001; the paper uses 0.03 and 0.1 in its preference experiments. The clip is verl's and has no effect with one update per rollout
/// batch.
fn rloo(run: &mut RunSettings, _: usize) {
    run.advantage = undiscounted(Baseline::LeaveOneOut, Scale::None);
    (run.reward.kl, run.reward.kl_estimator) = (0.001, KlEstimator::K1);
    run.loss = LossSettings { aggregation: Aggregation::SeqMeanTokenSum, ..bare_loss() };
}

/// No baseline: the advantages are the returns of rewards with KL (k1, 0.001), whitened over the batch.
fn reinforce_plus_plus(run: &mut RunSettings, _: usize) {
    run.advantage = undiscounted(Baseline::None, Scale::Batch);
    (run.reward.kl, run.reward.kl_estimator) = (0.001, KlEstimator::K1);
    run.loss = LossSettings { aggregation: Aggregation::TokenMean, ..bare_loss() };
}

/// Clip-higher (0.2 and 0.28), the mean over tokens, no KL, and an overlong penalty over the last fifth of the length (4,096 of 20,480
/// tokens in the paper). Dynamic sampling is a separate setting, `rollout.dynamic_sampling`, and is off by default.
fn dapo(run: &mut RunSettings, max_new_tokens: usize) {
    run.advantage = undiscounted(Baseline::Group, Scale::Group);
    run.loss = LossSettings { clip_high: 0.28, aggregation: Aggregation::TokenMean, ..bare_loss() };
    run.reward.overlong_buffer = max_new_tokens / 5;
}

/// The ratio of whole responses, clipped at 3e-4 and 4e-4; the mean over responses of their token means; no KL.
fn gspo(run: &mut RunSettings, _: usize) {
    run.advantage = undiscounted(Baseline::Group, Scale::Group);
    let clip = LossSettings { clip_low: 3e-4, clip_high: 4e-4, ..bare_loss() };
    run.loss = LossSettings { ratio: Ratio::Sequence, aggregation: Aggregation::SeqMeanTokenMean, ..clip };
}

/// The clipped ratio as a constant weight of the log-probability, without a lower bound (1 - 1 = 0). The upper bound is verl's 0.2; the
/// paper tunes it and does not report it. The mean over tokens; no KL.
fn cispo(run: &mut RunSettings, _: usize) {
    run.advantage = undiscounted(Baseline::Group, Scale::Group);
    let clip = LossSettings { clip_low: 1.0, clip_high: 0.2, ..bare_loss() };
    run.loss = LossSettings { surrogate: Surrogate::Cispo, aggregation: Aggregation::TokenMean, ..clip };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(sets: &[&str]) -> Result<RunSettings> {
        let layers = sets.iter().map(|set| config::parse_override(set)).collect::<Result<Vec<_>>>()?;
        resolve(&RunSettings::demonstration(), &layers)
    }

    #[test]
    fn expansion_describes_every_preset() -> Result<()> {
        for algorithm in ALGORITHMS {
            let run = resolved(&[&format!("algo={}", algorithm.name)])?;
            run.validate()?;
            let text = algorithm.expansion(&run)?;
            assert!(text.starts_with(algorithm.name) && !text.contains("(here"), "{text}");
            assert!(!text.contains("=-"), "a key is unknown: {text}");
        }
        assert_eq!(resolved(&[])?, RunSettings::demonstration());
        Ok(())
    }

    fn check(sets: &[&str], expected: &[&str]) {
        let run = resolved(sets).unwrap();
        let text = by_name(&run.algo).unwrap().expansion(&run).unwrap();
        assert!(expected.iter().all(|part| text.contains(part)), "{text}");
    }

    #[test]
    fn resolve_applies_presets_below_user_settings() {
        check(&["algo=grpo"], &["baseline=group", "clip_high=0.2", "loss.kl=0.001", "aggregation=token-mean"]);
        check(&["algo=ppo"], &["baseline=critic", "scale=batch", "loss.kl=0 ", "reward.kl=0.001", "critic.lr=0.001"]);
        check(&["algo=dr_grpo", "rollout.max_new_tokens=70"], &["scale=none", "seq-mean-token-sum-norm(70)", "loss.kl=0 "]);
        check(&["algo=rloo"], &["baseline=leave-one-out", "reward.kl=0.001", "reward.kl_estimator=k1"]);
        check(&["algo=reinforce++"], &["baseline=none", "scale=batch", "reward.kl=0.001"]);
        check(&["algo=dapo", "loss.clip_high=0.3"], &["clip_high=0.28 (here 0.3)", "overlong_buffer=16"]);
        check(&["algo=gspo"], &["ratio=sequence", "clip_low=0.0003", "clip_high=0.0004", "seq-mean-token-mean"]);
        check(&["algo=cispo"], &["surrogate=cispo", "clip_low=1 "]);
    }

    /// The function and the row that docs/extending.md adds.
    #[test]
    fn apply_to_of_the_documented_example_changes_its_settings() {
        fn reinforce(run: &mut RunSettings, _: usize) {
            run.advantage = undiscounted(Baseline::None, Scale::None);
            run.loss = LossSettings { aggregation: Aggregation::SeqMeanTokenSum, ..bare_loss() };
        }
        let algorithm = Algorithm { name: "reinforce", source: "Williams 1992, Machine Learning 8", apply: reinforce };
        let run = algorithm.apply_to(&RunSettings::demonstration(), 80);
        assert_eq!((run.algo.as_str(), run.loss.kl, run.loss.entropy), ("reinforce", 0.0, 0.0));
        let text = algorithm.expansion(&run).unwrap();
        assert!(text.contains("advantage.baseline=none advantage.scale=none"), "{text}");
        assert!(text.contains("loss.aggregation=seq-mean-token-sum"), "{text}");
    }

    #[test]
    fn resolve_lists_algorithms_for_an_unknown_name() {
        let message = resolved(&["algo=gpro"]).unwrap_err().to_string();
        let known = "grpo, ppo, dr_grpo, rloo, reinforce++, dapo, gspo, cispo";
        assert_eq!(message, format!("algo is \"gpro\"; it must be one of {known} (did you mean grpo?)"));
    }
}
