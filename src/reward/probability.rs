//! The probability of the gold answer after the response's own reasoning, without a verifier (RLPR, arXiv 2506.18254; VeriFree, arXiv
//! 2505.21493). Independent of the model: a [`Scorer`] computes the probabilities.

use anyhow::{Context, Result};

use super::{Batch, Graded, Reward, Scorer};
use crate::verify::text_before_boxed;

/// The mean probability of the gold answer's tokens in the last complete box of the response, in place of the model's own answer. 0 without
/// such a box, or if the result exceeds the context length.
pub(super) struct Probability;

impl Reward for Probability {
    fn of_batch(&self, batch: &Batch) -> Result<Vec<f32>> {
        let scorer = batch.scorer.context("this reward needs the policy's probabilities, but the batch has no scorer")?;
        let mut rewards = vec![0.0; batch.responses.len()];
        let (mut places, mut answers, mut continuations) = (Vec::new(), Vec::new(), Vec::new());
        for (place, graded) in batch.responses.iter().enumerate() {
            if let Some((ids, answer)) = answer_in_box(graded, scorer)? {
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

/// Returns the tokens of the reasoning with the gold answer in its box, and the number of last tokens that belong to the answer. A token
/// counts for the answer unless the reasoning alone has it too, so a token across the border counts. The closing brace is left out. `None`
/// if there is nothing to score.
fn answer_in_box(graded: &Graded, scorer: &dyn Scorer) -> Result<Option<(Vec<u32>, usize)>> {
    let rollout = graded.rollout;
    let (Some(reasoning), true) = (text_before_boxed(&rollout.text), graded.verdict.extracted.is_some()) else { return Ok(None) };
    // A given beginning of the answer is part of the prompt.
    let Some(reasoning) = reasoning.strip_prefix(rollout.prompt.problem.prefill.as_str()) else { return Ok(None) };
    let before = scorer.encode(reasoning)?;
    let ids = scorer.encode(&format!("{reasoning}{}", rollout.prompt.problem.answer.trim()))?;
    let common = before.iter().zip(&ids).take_while(|(one, other)| one == other).count();
    let answer = ids.len() - common;
    let fits = rollout.prompt.ids.len() + ids.len() <= scorer.context_length();
    Ok((answer > 0 && fits).then_some((ids, answer)))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{group, rewarded};
    use super::super::{RewardSettings, Rewards};
    use super::*;
    use crate::flow::Prompt;

    /// One token per character. Digits have a tenth of their value as probability, all other characters one half.
    struct ByCharacter;

    impl Scorer for ByCharacter {
        fn encode(&self, text: &str) -> Result<Vec<u32>> {
            Ok(text.chars().map(u32::from).collect())
        }

        fn context_length(&self) -> usize {
            21
        }

        fn logprobs(&self, continuations: &[(&Prompt, Vec<u32>)]) -> Result<Vec<Vec<f32>>> {
            let probability = |id: &u32| char::from_u32(*id).and_then(|c| c.to_digit(10)).map_or(0.5, |digit| digit as f32 / 10.0);
            Ok(continuations.iter().map(|(_, ids)| ids.iter().map(|id| probability(id).ln()).collect()).collect())
        }
    }

    #[test]
    fn probability_reward_scores_the_gold_answer_in_the_box() {
        let rewards = Rewards::new(&RewardSettings { name: "probability".into(), ..RewardSettings::default() }, 100).unwrap();
        assert!(rewards.needs_scorer() && rewards.needs_label());
        // The gold answer is 36: (0.3 + 0.6) / 2, whatever the response has in its box.
        let responses =
            [r"9 \boxed{36}", r"9 \boxed{12345}", r"9 \boxed{}", r"\boxed{4} \boxed{5}", "36", r"\boxed{36", r"0123456789 \boxed{36}"];
        let found: Vec<f32> = rewarded(&rewards, &group(" 36 ", &responses), 7, Some(&ByCharacter)).iter().map(|one| one.total).collect();
        for (found, expected) in found.iter().zip([0.45, 0.45, 0.45, 0.45, 0.0, 0.0, 0.0]) {
            assert!((found - expected).abs() < 1e-6, "{found} instead of {expected}");
        }
    }
}
