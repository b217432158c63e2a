//! What training does where the sampler draws from part of the vocabulary: the setting `rollout.truncated`, and what it refuses and warns about.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::RolloutSettings;

/// How a sampler that leaves out tokens goes with the trainer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Truncation {
    /// It does not: top_k, top_p and min_p must be off.
    Refuse,
    /// The kept tokens are recorded, and sampler and trainer use the distribution among them.
    Renormalise,
    /// The trainer uses the distribution over the whole vocabulary, which is not the one that was sampled from.
    Mismatch,
}

impl Truncation {
    /// What runs did that were recorded without this setting.
    pub(super) fn before_it_was_a_setting() -> Self {
        Self::Mismatch
    }
}

impl RolloutSettings {
    /// Refuses filters that nothing is said about.
    pub(super) fn refuse_truncation(&self) -> Result<()> {
        let filters = self.filters();
        ensure!(
            self.truncated != Truncation::Refuse || filters.is_empty(),
            "{}, so the sampler leaves out tokens, while training computes log-probabilities over the whole vocabulary: set rollout.truncated=renormalise \
             to record the tokens that were kept and train on the distribution among them, or rollout.truncated=mismatch to train on the whole \
             distribution all the same (biased, for studies), or turn the filters off (top_k=0, top_p=1, min_p=0)",
            filters.join(" and ")
        );
        Ok(())
    }

    /// What a person should know before a run whose sampler and trainer use two distributions.
    pub fn truncation_warning(&self) -> Option<String> {
        let filters = self.filters();
        (self.truncated == Truncation::Mismatch && !filters.is_empty()).then(|| {
            format!(
                "rollout.truncated is mismatch and {}: responses are drawn from part of the vocabulary, and log-probabilities, ratios, entropy \
                 and KL are of all of it, so the gradient is biased. rollout.truncated=renormalise uses one distribution for both",
                filters.join(" and ")
            )
        })
    }

    /// The filters that are on, in words.
    fn filters(&self) -> Vec<String> {
        let filters = [
            (self.top_k > 0, format!("rollout.top_k is {}", self.top_k)),
            (self.top_p < 1.0, format!("rollout.top_p is {}", self.top_p)),
            (self.min_p > 0.0, format!("rollout.min_p is {}", self.min_p)),
        ];
        filters.into_iter().filter(|(is_on, _)| *is_on).map(|(_, text)| text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::RunSettings;

    fn with(set: impl Fn(&mut RolloutSettings)) -> RolloutSettings {
        let mut rollout = RunSettings::demonstration().rollout;
        set(&mut rollout);
        rollout
    }

    #[test]
    fn truncation_is_refused_by_default_and_says_how_to_go_on() {
        let check = |set: &dyn Fn(&mut RolloutSettings), expected: &str| {
            let mut rollout = with(set);
            let message = rollout.refuse_truncation().unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
            assert!(message.contains("rollout.truncated=renormalise") && message.contains("rollout.truncated=mismatch"), "{message}");
            assert_eq!(rollout.truncation_warning(), None);
            rollout.truncated = Truncation::Renormalise;
            assert!(rollout.refuse_truncation().is_ok() && rollout.truncation_warning().is_none());
            rollout.truncated = Truncation::Mismatch;
            assert!(rollout.refuse_truncation().is_ok());
            assert!(rollout.truncation_warning().unwrap().contains(expected));
        };
        check(&|rollout| rollout.top_p = 0.9, "rollout.top_p is 0.9");
        check(&|rollout| rollout.top_k = 5, "rollout.top_k is 5");
        check(&|rollout| rollout.min_p = 0.05, "rollout.min_p is 0.05");
        check(&|rollout| (rollout.top_k, rollout.top_p) = (5, 0.5), "rollout.top_k is 5 and rollout.top_p is 0.5");
    }

    #[test]
    fn a_sampler_that_keeps_all_needs_no_word() {
        for truncated in [Truncation::Refuse, Truncation::Renormalise, Truncation::Mismatch] {
            let rollout = with(|rollout| rollout.truncated = truncated);
            assert!(rollout.refuse_truncation().is_ok() && rollout.truncation_warning().is_none());
        }
    }

    #[test]
    fn a_run_recorded_before_the_setting_goes_on_as_it_was() {
        let settings = with(|rollout| rollout.top_p = 0.9);
        let text = toml::to_string(&settings).unwrap().replace("truncated = \"refuse\"\n", "");
        assert_eq!(toml::from_str::<RolloutSettings>(&text).unwrap().truncated, Truncation::Mismatch);
    }
}
