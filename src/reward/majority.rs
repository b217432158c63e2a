//! Labels from the group's own vote (TTRL, arXiv 2504.16084): the answer that most of its responses gave is taken for right. It must never
//! look at the label.

use anyhow::Result;

use super::{Batch, Graded, Reward, RewardSettings};
use crate::verify::{self, Verifier, majority_vote};

/// Votes by the equality of the reward's grader.
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
    /// 1 for every response whose answer equals the chosen one; of answers with as many votes the first counts, and no answer is no vote.
    fn of_group(&self, group: &[Graded]) -> Vec<f32> {
        // Extraction may look at the kind of a reference answer; none is given, so that the vote is the responses' alone.
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
    fn the_group_votes_by_value() {
        // The label is wrong and counts for nothing; 0.5 and 1/2 are two votes for one answer.
        check("majority", "3", &[r"\boxed{3}", r"\boxed{0.5}", "nothing", r"\boxed{\frac12}"], &[0.0, 1.0, 0.0, 1.0]);
        check("majority", "3", &[r"\boxed{4}", r"\boxed{5}"], &[1.0, 0.0]);
        check("majority", "3", &["nothing", "3"], &[0.0, 0.0]);
        check("majority", "", &[r"\boxed{4}", r"\boxed{4}"], &[1.0, 1.0]);
    }

    #[test]
    fn each_group_votes_by_itself() {
        let rewards = Rewards::new(&RewardSettings { name: "majority".into(), ..RewardSettings::default() }, 100).unwrap();
        let rollouts = group("3", &[r"\boxed{4}", r"\boxed{4}", r"\boxed{5}", r"\boxed{4}", r"\boxed{5}", r"\boxed{5}"]);
        let found: Vec<f32> = rewarded(&rewards, &rollouts, 3, None).into_iter().map(|one| one.total).collect();
        assert_eq!(found, [1.0, 1.0, 0.0, 0.0, 1.0, 1.0]);
    }
}
