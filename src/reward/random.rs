//! A reward that is independent of the response, as a control.

use anyhow::{Result, ensure};

use super::{Batch, Reward, RewardSettings};
use crate::rng::{CounterRng, Purpose};

/// A reward of 1 with a fixed probability, else 0. Random numbers are addressed by seed, step, group and sample, so a resumed run repeats
/// them.
struct Random(f64);

pub(super) fn make(parameters: &[f64], _: &RewardSettings) -> Result<Box<dyn Reward>> {
    let p = parameters[0];
    ensure!((0.0..=1.0).contains(&p), "random({p}) is not a probability; it must be between 0 and 1");
    Ok(Box::new(Random(p)))
}

impl Reward for Random {
    fn of_batch(&self, batch: &Batch) -> Result<Vec<f32>> {
        let rewards = batch.responses.iter().map(|graded| {
            let (group, sample) = (graded.rollout.group as u32, graded.rollout.sample as u32);
            let uniform = CounterRng::uniform(batch.seed, Purpose::Control, batch.step as u32, group, sample, 0);
            f32::from(f64::from(uniform) < self.0)
        });
        Ok(rewards.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{group, rewarded};
    use super::super::{Rewards, testing};
    use super::*;

    #[test]
    fn random_reward_depends_only_on_its_address() {
        testing::check("random(0)", "", &["a", "b"], &[0.0, 0.0]);
        testing::check("random(1)", "", &["a", "b"], &[1.0, 1.0]);
        let rewards = Rewards::new(&RewardSettings { name: "random(0.25)".into(), ..RewardSettings::default() }, 100).unwrap();
        let whole = group("", &["x"; 2000]);
        let totals = |rollouts| rewarded(&rewards, rollouts, 8, None).into_iter().map(|one| one.total).collect::<Vec<_>>();
        let all = totals(&whole);
        // 500 expected, with a standard deviation of 19.
        assert!((420.0..580.0).contains(&all.iter().sum::<f32>()));
        // Part of a batch gets the same rewards as in the whole batch.
        assert_eq!(totals(&whole[700..800]), all[700..800]);
    }
}
