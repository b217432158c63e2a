//! Matches a run to the paper's experiments, to look up their figures.

use crate::data::example;
use crate::eval::published::Experiment;
use crate::train::RunSettings;

/// The id of the paper's simplified example, which asks only for the last step of pi1.
pub const CUBE_ROOT: &str = "pi1-cube-root";

/// Returns the experiment that a run repeats: the key for the published tables.
pub fn experiment_of(settings: &RunSettings) -> Experiment {
    let simplified = example::title(&settings.example) == CUBE_ROOT;
    Experiment {
        model: settings.model.clone(),
        example: if simplified { "pi1".to_owned() } else { settings.example.clone() },
        algorithm: settings.algo.clone(),
        variant: variant(settings, simplified),
    }
}

/// Describes how a run differs from the headline experiment; empty if it does not.
fn variant(settings: &RunSettings, simplified: bool) -> String {
    let example = if simplified { "only its cube root".to_owned() } else { String::new() };
    let parts = [example, reward(settings), terms(settings), temperature(settings)];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

/// Describes a reward other than the outcome.
fn reward(settings: &RunSettings) -> String {
    if settings.loss.policy == 0.0 {
        return String::new(); // the reward has no effect
    }
    let (label, noise) = (&settings.reward.label, settings.reward.label_noise);
    match settings.reward.name.as_str() {
        "outcome" if noise > 0.0 => format!("{:.0}% wrong labels", noise * 100.0),
        "outcome" if label.is_empty() => String::new(),
        "outcome" => format!("label {label}"),
        name => format!("{name} reward"),
    }
}

/// Describes a combination of loss terms other than all four.
fn terms(settings: &RunSettings) -> String {
    let (has_policy, has_decay) = (settings.loss.policy > 0.0, settings.optim.weight_decay > 0.0);
    let (has_kl, has_entropy) = (settings.has_reference(), settings.loss.entropy > 0.0);
    let terms = match (has_policy, has_decay, has_kl, has_entropy) {
        (true, true, true, true) if settings.loss.entropy == 0.003 => "all terms, entropy 0.003",
        (true, true, true, true) => "",
        (true, true, true, false) => "no entropy",
        (true, true, false, false) => "policy loss, weight decay",
        (true, false, false, false) => "policy loss alone",
        (true, false, false, true) => "policy loss, entropy",
        (false, true, true, false) => "weight decay, KL",
        (false, true, true, true) => "weight decay, KL, entropy",
        (false, false, false, true) => "entropy alone",
        _ => "other terms",
    };
    terms.to_owned()
}

fn temperature(settings: &RunSettings) -> String {
    let published = RunSettings::published().rollout.temperature;
    let temperature = settings.rollout.temperature;
    if temperature == published { String::new() } else { format!("temperature {temperature:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::published::accuracy_of;

    fn check(change: fn(&mut RunSettings), expected: Option<f64>) {
        let mut settings = RunSettings::published();
        change(&mut settings);
        let found = accuracy_of(&experiment_of(&settings), "math500", 3072).map(|figure| figure.value);
        assert_eq!(found, expected, "{:?}", experiment_of(&settings));
    }

    #[test]
    fn experiment_of_finds_published_variants() {
        check(|_| {}, Some(72.8));
        check(|settings| settings.loss.entropy = 0.0, Some(68.2));
        check(|settings| settings.loss.entropy = 0.003, Some(73.6));
        check(|settings| (settings.loss.kl, settings.loss.entropy) = (0.0, 0.0), Some(71.4));
        check(|settings| (settings.loss.policy, settings.loss.entropy) = (0.0, 0.0), Some(39.0));
        check(|settings| settings.reward.label = "12.7".into(), Some(73.4));
        check(|settings| (settings.reward.name, settings.example) = ("format".into(), "dsr-sub".into()), Some(65.0));
        check(|settings| settings.example = r#"{"id": "pi1-cube-root", "question": "q", "answer": "a"}"#.into(), Some(65.4));
        check(|settings| settings.rollout.temperature = 1.0, None);
        check(|settings| *settings = RunSettings::demonstration(), None);
    }

    #[test]
    fn experiment_of_ignores_the_reward_without_a_policy_loss() {
        let mut settings = RunSettings::published();
        (settings.loss.policy, settings.loss.kl, settings.optim.weight_decay) = (0.0, 0.0, 0.0);
        for reward in ["outcome", "format"] {
            settings.reward.name = reward.into();
            assert_eq!(experiment_of(&settings).variant, "entropy alone");
        }
    }
}
