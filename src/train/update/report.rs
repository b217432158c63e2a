//! What updates report: the terms of the loss, the gradient's norm, and how far the trainer's log-probabilities are from the sampler's.

use crate::objective::Terms;

/// What an update reports.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct UpdateReport {
    /// The terms of the loss.
    pub terms: Terms,
    /// The gradient's global norm before clipping.
    pub grad_norm: f64,
    /// The learning rate.
    pub lr: f64,
    /// Largest distance between the trainer's log-probability of a token and the sampler's.
    pub gap_max: f64,
    /// Mean distance over all response tokens.
    pub gap_mean: f64,
}

impl UpdateReport {
    /// The mean over the updates of one rollout batch; the gap is the first one's.
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
        // After the first update the policy is not the one that sampled.
        if let Some(first) = reports.first() {
            (mean.gap_max, mean.gap_mean) = (first.gap_max, first.gap_mean);
        }
        mean
    }

    /// The report of a gradient from the sums of each lane, over `tokens` response tokens; norm and learning rate are still to come.
    pub(super) fn of_lanes(lanes: &[LaneSums], tokens: usize) -> Self {
        let mut report = Self::default();
        let mut gap_sum = 0.0;
        for sums in lanes {
            report.terms.add(&sums.terms);
            report.gap_max = report.gap_max.max(sums.gap_max);
            gap_sum += sums.gap_sum;
        }
        report.gap_mean = gap_sum / tokens.max(1) as f64;
        report
    }
}

/// What one lane adds up over its micro-batches.
#[derive(Default)]
pub(super) struct LaneSums {
    terms: Terms,
    gap_max: f64,
    gap_sum: f64,
}

impl LaneSums {
    /// Takes in some tokens: their terms of the loss, and their log-probabilities from the trainer and from the sampler.
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
    fn the_gap_is_that_of_the_first_update() {
        let report = |grad_norm: f64, gap_max: f64| UpdateReport { grad_norm, gap_max, gap_mean: gap_max / 2.0, ..Default::default() };
        let mean = UpdateReport::mean(&[report(1.0, 0.25), report(3.0, 8.0)]);
        assert_eq!((mean.grad_norm, mean.gap_max, mean.gap_mean), (2.0, 0.25, 0.125));
        assert_eq!(UpdateReport::mean(&[]), UpdateReport::default());
    }

    #[test]
    fn gaps_are_means_over_all_lanes() {
        let (mut one, mut other) = (LaneSums::default(), LaneSums::default());
        one.add(&Terms::default(), &[-1.0, -2.0], &[-1.5, -2.0]);
        other.add(&Terms::default(), &[-1.0], &[-0.0]);
        let report = UpdateReport::of_lanes(&[one, other], 3);
        assert_eq!((report.gap_max, report.gap_mean), (1.0, 0.5));
    }
}
