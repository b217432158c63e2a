//! How probable the policy finds the reference answer after its own reasoning: no verifier is asked (RLPR, arXiv 2506.18254; VeriFree,
//! arXiv 2505.21493). It knows no model: a [`Scorer`] gives the probabilities.

use anyhow::{Context, Result};

use super::{Batch, Graded, Reward, Scorer};
use crate::verify::until_box;

/// The mean probability of the reference answer's tokens when it stands in the last complete box of the response, in place of what the model
/// put there. 0 without such a box, and where the two together exceed the model's window.
pub(super) struct Probability;

impl Reward for Probability {
    fn of_batch(&self, batch: &Batch) -> Result<Vec<f32>> {
        let scorer = batch.scorer.context("this reward needs the policy's probabilities, and nobody passed them in")?;
        let mut rewards = vec![0.0; batch.responses.len()];
        let (mut places, mut answers, mut continuations) = (Vec::new(), Vec::new(), Vec::new());
        for (place, graded) in batch.responses.iter().enumerate() {
            if let Some((ids, answer)) = answered(graded, scorer)? {
                places.push(place);
                answers.push(answer);
                continuations.push((&graded.rollout.prompt, ids));
            }
        }
        if continuations.is_empty() {
            return Ok(rewards);
        }
        let logprobs = scorer.logprobs(&continuations)?;
        for ((place, answer), logprobs) in places.into_iter().zip(answers).zip(logprobs) {
            let probabilities = logprobs[logprobs.len() - answer..].iter().map(|logprob| f64::from(*logprob).exp());
            rewards[place] = (probabilities.sum::<f64>() / answer as f64) as f32;
        }
        Ok(rewards)
    }
}

/// The tokens of the reasoning with the reference answer in its box, and how many of the last ones are the answer's: those that are not the
/// reasoning's alone, so that one across the border counts. The closing brace is left out. None where there is nothing to score.
fn answered(graded: &Graded, scorer: &dyn Scorer) -> Result<Option<(Vec<u32>, usize)>> {
    let rollout = graded.rollout;
    let (Some(reasoning), true) = (until_box(&rollout.text), graded.verdict.extracted.is_some()) else { return Ok(None) };
    // The answer's beginning is part of the prompt.
    let Some(reasoning) = reasoning.strip_prefix(rollout.prompt.problem.prefill.as_str()) else { return Ok(None) };
    let before = scorer.encode(reasoning)?;
    let ids = scorer.encode(&format!("{reasoning}{}", rollout.prompt.problem.answer.trim()))?;
    let common = before.iter().zip(&ids).take_while(|(one, other)| one == other).count();
    let answer = ids.len() - common;
    let fits = rollout.prompt.ids.len() + ids.len() <= scorer.window();
    Ok((answer > 0 && fits).then_some((ids, answer)))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{group, rewarded};
    use super::super::{RewardSettings, Rewards};
    use super::*;
    use crate::flow::Prompt;

    /// A token for each character; digits have a tenth of their value as probability, all else one half.
    struct ByCharacter;

    impl Scorer for ByCharacter {
        fn encode(&self, text: &str) -> Result<Vec<u32>> {
            Ok(text.chars().map(u32::from).collect())
        }

        fn window(&self) -> usize {
            21
        }

        fn logprobs(&self, continuations: &[(&Prompt, Vec<u32>)]) -> Result<Vec<Vec<f32>>> {
            let probability = |id: &u32| char::from_u32(*id).and_then(|c| c.to_digit(10)).map_or(0.5, |digit| digit as f32 / 10.0);
            Ok(continuations.iter().map(|(_, ids)| ids.iter().map(|id| probability(id).ln()).collect()).collect())
        }
    }

    #[test]
    fn the_reference_is_scored_in_the_box() {
        let rewards = Rewards::new(&RewardSettings { name: "probability".into(), ..RewardSettings::default() }, 100).unwrap();
        assert!(rewards.needs_scorer() && rewards.needs_label());
        // The reference is 36: (0.3 + 0.6) / 2, whatever the response put into its box.
        let responses =
            [r"9 \boxed{36}", r"9 \boxed{12345}", r"9 \boxed{}", r"\boxed{4} \boxed{5}", "36", r"\boxed{36", r"0123456789 \boxed{36}"];
        let found: Vec<f32> = rewarded(&rewards, &group(" 36 ", &responses), 7, Some(&ByCharacter)).iter().map(|one| one.total).collect();
        for (found, expected) in found.iter().zip([0.45, 0.45, 0.45, 0.45, 0.0, 0.0, 0.0]) {
            assert!((found - expected).abs() < 1e-6, "{found} instead of {expected}");
        }
    }
}
