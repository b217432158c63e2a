//! The setting `rollout.truncated`: how to train if top-k, top-p or min-p exclude tokens from sampling.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::RolloutSettings;

/// How to train on tokens that were sampled from part of the vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Truncation {
    /// Refuse to train: top_k, top_p and min_p must be off.
    Refuse,
    /// Record each token's sampling mask, and use the distribution renormalized over it in sampler and trainer.
    Renormalise,
    /// Train on the distribution over the whole vocabulary, which differs from the sampled one. The gradient is biased.
    Mismatch,
}

impl Truncation {
    /// The behavior of runs that were recorded before this setting existed.
    pub(super) fn default_for_old_runs() -> Self {
        Self::Mismatch
    }
}

impl RolloutSettings {
    /// Checks that no filter is on unless `rollout.truncated` allows it.
    ///
    /// # Errors
    /// If a filter is on and `rollout.truncated` is `refuse`.
    pub(super) fn refuse_truncation(&self) -> Result<()> {
        let filters = self.filters();
        ensure!(
            self.truncated != Truncation::Refuse || filters.is_empty(),
            "{}, so the sampler excludes tokens, but training computes log-probabilities over the whole vocabulary: set rollout.truncated=renormalise to \
             train on the distribution over the remaining tokens, or rollout.truncated=mismatch to train on the full distribution anyway (biased, for \
             studies), or turn the filters off (top_k=0, top_p=1, min_p=0)",
            filters.join(" and ")
        );
        Ok(())
    }

    /// Returns a warning if sampler and trainer will use different distributions.
    pub fn truncation_warning(&self) -> Option<String> {
        let filters = self.filters();
        (self.truncated == Truncation::Mismatch && !filters.is_empty()).then(|| {
            format!(
                "rollout.truncated is mismatch and {}: responses are sampled from part of the vocabulary, but log-probabilities, ratios, entropy \
                 and KL cover all of it, so the gradient is biased; rollout.truncated=renormalise uses one distribution for both",
                filters.join(" and ")
            )
        })
    }

    /// Describes the filters that are on.
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
    fn refuse_truncation_names_the_filters_and_remedies() {
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
    fn truncation_warning_is_none_without_filters() {
        for truncated in [Truncation::Refuse, Truncation::Renormalise, Truncation::Mismatch] {
            let rollout = with(|rollout| rollout.truncated = truncated);
            assert!(rollout.refuse_truncation().is_ok() && rollout.truncation_warning().is_none());
        }
    }

    #[test]
    fn truncation_defaults_to_mismatch_in_old_runs() {
        let settings = with(|rollout| rollout.top_p = 0.9);
        let text = toml::to_string(&settings).unwrap().replace("truncated = \"refuse\"\n", "");
        assert_eq!(toml::from_str::<RolloutSettings>(&text).unwrap().truncated, Truncation::Mismatch);
    }
}
