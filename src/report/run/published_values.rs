//! The paper's figures for the experiment that a run repeats.

use std::collections::BTreeSet;

use crate::eval::published::{Experiment, accuracy_of, mean_of, published};
use crate::study::experiment::experiment_of;
use crate::train::RunSettings;

/// The paper's accuracies for one benchmark or a mean over several, between 0 and 1. They count unboxed answers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PublishedEnds {
    /// Before training.
    pub base: Option<f64>,
    /// The published checkpoint of the same experiment.
    pub trained: Option<f64>,
}

impl PublishedEnds {
    /// Looks up a benchmark.
    pub fn of_benchmark(settings: &RunSettings, benchmark: &str) -> Self {
        let of = |experiment: &Experiment| Some(accuracy_of(experiment, benchmark, settings.eval.max_new_tokens)?.value / 100.0);
        Self { base: of(&Experiment::base(&settings.model)), trained: of(&experiment_of(settings)) }
    }

    /// Looks up the mean over benchmarks, which the paper has only for its six.
    pub fn of_mean(settings: &RunSettings, benchmarks: &BTreeSet<&str>) -> Self {
        let of = |experiment: &Experiment| Some(mean_of(experiment, benchmarks, settings.eval.max_new_tokens)?.value / 100.0);
        Self { base: of(&Experiment::base(&settings.model)), trained: of(&experiment_of(settings)) }
    }

    /// Returns the values with their names for a legend.
    pub fn named(&self) -> Vec<(String, f64)> {
        let named = |name: &str, value: Option<f64>| value.map(|value| (name.to_owned(), value));
        named("paper, base", self.base).into_iter().chain(named("paper, trained", self.trained)).collect()
    }

    /// True if the paper has neither value.
    pub fn is_empty(&self) -> bool {
        self.base.is_none() && self.trained.is_none()
    }
}

/// Returns the sentence that says where published values come from and what they count.
pub fn note() -> String {
    format!("Published values are from {}; they count unboxed answers too, and are of its selected checkpoint.", published().source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_ends_are_those_of_the_same_experiment() {
        let settings = RunSettings::published();
        assert_eq!(PublishedEnds::of_benchmark(&settings, "math500"), PublishedEnds { base: Some(0.36), trained: Some(72.8 / 100.0) });
        let names = BTreeSet::from(["math500", "aime24", "amc23", "minerva_math", "olympiadbench", "aime25"]);
        let mean = PublishedEnds::of_mean(&settings, &names);
        assert_eq!(mean, PublishedEnds { base: Some(17.6 / 100.0), trained: Some(0.35) });
        assert_eq!(mean.named(), [("paper, base".to_owned(), 17.6 / 100.0), ("paper, trained".to_owned(), 0.35)]);
        assert!(PublishedEnds::of_benchmark(&RunSettings::demonstration(), "tiny").is_empty());
    }
}
