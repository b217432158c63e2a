//! Rewards by majority vote within the group (TTRL, arXiv 2504.16084): the most frequent answer counts as correct. Ignores the label.

use anyhow::Result;

use super::{Batch, Graded, Reward, RewardSettings};
use crate::verify::{self, Verifier, majority_vote};

/// The majority reward, with the verifier that decides which answers are equal.
struct Majority(Verifier);

pub(super) fn make(_: &[f64], settings: &RewardSettings) -> Result<Box<dyn Reward>> {
    Ok(Box::new(Majority(Verifier::new(settings.verifier()))))
}

impl Reward for Majority {
    fn of_batch(&self, batch: &Batch) -> Result<Vec<f32>> {
        Ok(batch.responses.chunks(batch.group_size).flat_map(|group| self.of_group(group)).collect())
    }
}

impl Majority {
    /// Returns 1 for each response whose answer equals the majority answer, else 0. In a tie the first answer wins. A response without an
    /// answer does not vote.
    fn of_group(&self, group: &[Graded]) -> Vec<f32> {
        // Extraction may depend on the kind of gold answer. Pass none, so that the vote depends on the responses alone.
        let extracted = |graded: &Graded| verify::verify("", &graded.rollout.text, &self.0.settings).extracted;
        let answers: Vec<Option<String>> = group.iter().map(extracted).collect();
        let same = |one: &String, other: &String| one == other || self.0.equal(one, other).equal;
        let chosen = majority_vote(&answers, same).and_then(|index| answers[index].as_ref());
        let agrees = |answer: &Option<String>| chosen.zip(answer.as_ref()).is_some_and(|(chosen, answer)| same(chosen, answer));
        answers.iter().map(|answer| f32::from(agrees(answer))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, group, rewarded};
    use super::super::{RewardSettings, Rewards};

    #[test]
    fn majority_reward_votes_by_value() {
        // The label is wrong and has no effect. 0.5 and 1/2 are two votes for the same answer.
        check("majority", "3", &[r"\boxed{3}", r"\boxed{0.5}", "nothing", r"\boxed{\frac12}"], &[0.0, 1.0, 0.0, 1.0]);
        check("majority", "3", &[r"\boxed{4}", r"\boxed{5}"], &[1.0, 0.0]);
        check("majority", "3", &["nothing", "3"], &[0.0, 0.0]);
        check("majority", "", &[r"\boxed{4}", r"\boxed{4}"], &[1.0, 1.0]);
    }

    #[test]
    fn majority_reward_votes_in_each_group() {
        let rewards = Rewards::new(&RewardSettings { name: "majority".into(), ..RewardSettings::default() }, 100).unwrap();
        let rollouts = group("3", &[r"\boxed{4}", r"\boxed{4}", r"\boxed{5}", r"\boxed{4}", r"\boxed{5}", r"\boxed{5}"]);
        let found: Vec<f32> = rewarded(&rewards, &rollouts, 3, None).into_iter().map(|one| one.total).collect();
        assert_eq!(found, [1.0, 1.0, 0.0, 0.0, 1.0, 1.0]);
    }
}
