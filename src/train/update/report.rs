//! Measurements of updates: the terms of the loss, the gradient norm, and the gap between the trainer's and the sampler's
//! log-probabilities.

use serde::{Deserialize, Serialize};

use crate::objective::Terms;

/// The measurements of an update.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct UpdateReport {
    /// The terms of the loss.
    pub terms: Terms,
    /// The gradient's global norm before clipping; NaN if the update was skipped.
    pub grad_norm: f64,
    /// The learning rate; the mean over updates if there are several.
    pub lr: f64,
    /// The largest absolute difference between the trainer's and the sampler's log-probability of a token, in nats.
    pub gap_max: f64,
    /// The mean absolute difference over all response tokens, in nats.
    pub gap_mean: f64,
}

impl UpdateReport {
    /// Combines the reports of a step's updates: per-token counts and sums are added, loss terms, gradient norms and learning rates are
    /// averaged, and the gap is that of the first update.
    pub fn mean(reports: &[Self]) -> Self {
        let n = reports.len().max(1) as f64;
        let mut mean = Self::default();
        for report in reports {
            mean.terms.add(&report.terms);
            mean.grad_norm += report.grad_norm / n;
            mean.lr += report.lr / n;
        }
        let terms = &mut mean.terms;
        [&mut terms.policy, &mut terms.kl, &mut terms.entropy].into_iter().for_each(|term| *term /= n);
        // After the first update, the policy is no longer the one that sampled.
        if let Some(first) = reports.first() {
            (mean.gap_max, mean.gap_mean) = (first.gap_max, first.gap_mean);
        }
        mean
    }

    /// Combines the sums of all workers or shards over `tokens` response tokens. Gradient norm and learning rate remain 0.
    pub(super) fn of_sums(all: &[TokenSums], tokens: usize) -> Self {
        let mut report = Self::default();
        let mut gap_sum = 0.0;
        for sums in all {
            report.terms.add(&sums.terms);
            report.gap_max = report.gap_max.max(sums.gap_max);
            gap_sum += sums.gap_sum;
        }
        report.gap_mean = gap_sum / tokens.max(1) as f64;
        report
    }
}

/// The sums over the tokens of some micro-batches: those of one worker, or of one shard.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct TokenSums {
    terms: Terms,
    gap_max: f64,
    gap_sum: f64,
}

impl TokenSums {
    /// Adds the loss terms of some tokens, and the gaps between their log-probabilities from the trainer and from the sampler.
    pub(super) fn add(&mut self, terms: &Terms, trained: &[f32], sampled: &[f32]) {
        self.terms.add(terms);
        for (trained, sampled) in trained.iter().zip(sampled) {
            let gap = f64::from((trained - sampled).abs());
            self.gap_max = self.gap_max.max(gap);
            self.gap_sum += gap;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_takes_the_gap_of_the_first_update() {
        let report = |grad_norm: f64, gap_max: f64| UpdateReport { grad_norm, gap_max, gap_mean: gap_max / 2.0, ..Default::default() };
        let mean = UpdateReport::mean(&[report(1.0, 0.25), report(3.0, 8.0)]);
        assert_eq!((mean.grad_norm, mean.gap_max, mean.gap_mean), (2.0, 0.25, 0.125));
        assert_eq!(UpdateReport::mean(&[]), UpdateReport::default());
    }

    #[test]
    fn of_sums_averages_gaps_over_all_tokens() {
        let (mut one, mut other) = (TokenSums::default(), TokenSums::default());
        one.add(&Terms::default(), &[-1.0, -2.0], &[-1.5, -2.0]);
        other.add(&Terms::default(), &[-1.0], &[-0.0]);
        let report = UpdateReport::of_sums(&[one, other], 3);
        assert_eq!((report.gap_max, report.gap_mean), (1.0, 0.5));
    }
}
