//! The policy's probability of the gold answer after the response's own reasoning, instead of a verdict (RLPR, arXiv 2506.18254; VeriFree,
//! arXiv 2505.21493). Independent of the model: a [`Scorer`] computes the probabilities.

use anyhow::{Context, Result};

use super::{Batch, Graded, Reward, Scorer};
use crate::verify::text_before_boxed;

/// The mean probability of the gold answer's tokens, placed in the last complete box of the response instead of the model's own answer. 0
/// without such a box, or if the result exceeds the context length.
pub(super) struct Probability;

impl Reward for Probability {
    fn of_batch(&self, batch: &Batch) -> Result<Vec<f32>> {
        let scorer = batch.scorer.context("this reward needs the policy's probabilities, but the batch has no scorer")?;
        let mut rewards = vec![0.0; batch.responses.len()];
        let (mut indices, mut answer_lengths, mut continuations) = (Vec::new(), Vec::new(), Vec::new());
        for (index, graded) in batch.responses.iter().enumerate() {
            if let Some((ids, answer_length)) = answer_in_box(graded, scorer)? {
                indices.push(index);
                answer_lengths.push(answer_length);
                continuations.push((&graded.rollout.prompt, ids));
            }
        }
        if continuations.is_empty() {
            return Ok(rewards);
        }
        let logprobs = scorer.logprobs(&continuations)?;
        for ((index, answer_length), logprobs) in indices.into_iter().zip(answer_lengths).zip(logprobs) {
            let probabilities = logprobs[logprobs.len() - answer_length..].iter().map(|logprob| f64::from(*logprob).exp());
            rewards[index] = (probabilities.sum::<f64>() / answer_length as f64) as f32;
        }
        Ok(rewards)
    }
}

/// Returns the tokens of the reasoning followed by the gold answer, without the closing brace, and the number of tokens at the end that
/// belong to the answer. These are the tokens after the common prefix with the tokens of the reasoning alone, so a token across the
/// boundary counts. `None` if there is nothing to score.
fn answer_in_box(graded: &Graded, scorer: &dyn Scorer) -> Result<Option<(Vec<u32>, usize)>> {
    let rollout = graded.rollout;
    let (Some(reasoning), true) = (text_before_boxed(&rollout.text), graded.verdict.extracted.is_some()) else { return Ok(None) };
    // The prefill is part of the prompt.
    let Some(reasoning) = reasoning.strip_prefix(rollout.prompt.problem.prefill.as_str()) else { return Ok(None) };
    let reasoning_ids = scorer.encode(reasoning)?;
    let ids = scorer.encode(&format!("{reasoning}{}", rollout.prompt.problem.answer.trim()))?;
    let common = reasoning_ids.iter().zip(&ids).take_while(|(one, other)| one == other).count();
    let answer_length = ids.len() - common;
    let fits = rollout.prompt.ids.len() + ids.len() <= scorer.context_length();
    Ok((answer_length > 0 && fits).then_some((ids, answer_length)))
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
        // The gold answer is 36: (0.3 + 0.6) / 2, regardless of what is in the response's box.
        let responses =
            [r"9 \boxed{36}", r"9 \boxed{12345}", r"9 \boxed{}", r"\boxed{4} \boxed{5}", "36", r"\boxed{36", r"0123456789 \boxed{36}"];
        let found: Vec<f32> = rewarded(&rewards, &group(" 36 ", &responses), 7, Some(&ByCharacter)).iter().map(|one| one.total).collect();
        for (found, expected) in found.iter().zip([0.45, 0.45, 0.45, 0.45, 0.0, 0.0, 0.0]) {
            assert!((found - expected).abs() < 1e-6, "{found} instead of {expected}");
        }
    }
}
