//! The rollouts of a step: chooses an example for each group, builds the requests, and decodes, grades and rewards the responses.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::settings::{RunSettings, Truncation};
use crate::checkpoint::Model;
use crate::dist::World;
use crate::flow::{Completion, Prompt, Rollout, ScoredRollout};
use crate::interrupt::Interrupt;
use crate::kernels::Filter;
use crate::reward::{self, Batch, Graded, RewardBreakdown, Rewards, Scorer};
use crate::rng::{Purpose, Stream};
use crate::rollout::{Request, SamplingSettings};
use crate::verify::Verdict;

/// Returns the index of the example that each group of a step answers, where `count` is the number of examples and `step` counts from 1.
///
/// A run goes through all examples in a random order, then through all of them in another order, and so on. A batch may end in the middle
/// of an order; the next batch continues there.
pub fn examples(settings: &RunSettings, count: usize, step: u64) -> Vec<usize> {
    let groups = settings.rollout.groups as u64;
    let first = step.saturating_sub(1) * groups;
    let mut order: (u64, Vec<usize>) = (u64::MAX, Vec::new());
    let example = |index: u64| {
        let (round, index) = (index / count as u64, (index % count as u64) as usize);
        if order.0 != round {
            order = (round, (0..count).collect());
            Stream::new(settings.seed, Purpose::Order, round).shuffle(&mut order.1);
        }
        order.1[index]
    };
    (first..first + groups).map(example).collect()
}

/// Returns the requests of a step, group by group. Group `i` has the prompt of example `examples[i]`.
pub fn requests(settings: &RunSettings, prompts: &[Prompt], examples: &[usize], step: u64) -> Vec<Request> {
    let group = |(group, example): (usize, &usize)| {
        let ids = &prompts[*example].ids;
        (0..settings.rollout.group_size).map(move |sample| Request {
            ids: ids.clone(),
            max_new_tokens: settings.rollout.max_new_tokens,
            purpose: Purpose::Sampling,
            step: step as u32,
            prompt: group as u32,
            sample: sample as u32,
        })
    };
    examples.iter().enumerate().flat_map(group).collect()
}

/// Returns the sampling settings of a training step.
pub fn sampling(settings: &RunSettings) -> SamplingSettings {
    let rollout = &settings.rollout;
    let filter = Filter { top_k: rollout.top_k, top_p: rollout.top_p, min_p: rollout.min_p };
    let records_sampling_mask = rollout.truncated == Truncation::Renormalise;
    SamplingSettings { temperature: rollout.temperature, filter, records_sampling_mask, seed: settings.seed }
}

/// Decodes completions into rollouts.
///
/// Requests are in order of groups, and `examples` has the example of each group. The group and sample numbers of a rollout are those of
/// its request.
///
/// # Errors
/// If a completion's token ids cannot be decoded.
pub fn decode(
    model: &Model,
    prompts: &[Prompt],
    examples: &[usize],
    requests: &[Request],
    completions: Vec<Completion>,
) -> Result<Vec<Rollout>> {
    let group_size = requests.len() / examples.len().max(1);
    let rollouts = completions.into_iter().zip(requests).enumerate().map(|(index, (completion, request))| {
        let prompt = prompts[examples[index / group_size]].clone();
        let text = format!("{}{}", prompt.problem.prefill, model.text.decode(&completion.ids)?);
        Ok(Rollout { group: request.prompt as usize, sample: request.sample as usize, prompt, completion, text })
    });
    rollouts.collect()
}

/// The grade and the reward of a response.
pub type GradedReward = (Verdict, RewardBreakdown);

/// The inputs of rewards besides the responses.
pub struct Sources<'a> {
    /// Scores text with the policy that sampled the responses.
    pub scorer: &'a dyn Scorer,
    /// Checked while waiting for a reward program.
    pub interrupt: &'a Interrupt,
    /// See [`Batch::guard`].
    pub guard: Option<&'a Path>,
    /// The ranks, which deal the grading among themselves. Each gets all grades and rewards.
    pub world: &'a World,
}

/// Grades and rewards the responses of a step, in order.
///
/// # Errors
/// If a reward program fails, is too slow or prints something other than a number, if scoring fails, or if the run is interrupted.
pub fn grade(settings: &RunSettings, rewards: &Rewards, from: &Sources, step: u64, rollouts: &[Rollout]) -> Result<Vec<GradedReward>> {
    let verdict = |rollout: &Rollout| reward::grade(&settings.reward, &rollout.prompt.problem, &rollout.text);
    let own = from.world.share(rollouts.len()).map(|index| verdict(&rollouts[index])).collect();
    let verdicts = from.world.collect(rollouts.len(), own)?;
    let responses: Vec<Graded> = rollouts.iter().zip(verdicts).map(|(rollout, verdict)| Graded { rollout, verdict }).collect();
    let scorer = rewards.needs_scorer().then_some(from.scorer);
    let (group_size, seed) = (settings.rollout.group_size, settings.seed);
    let Sources { interrupt, guard, world, .. } = *from;
    let rewarded = rewards.of_batch(&Batch { responses: &responses, group_size, seed, step, scorer, interrupt, guard, world })?;
    Ok(responses.into_iter().map(|graded| graded.verdict).zip(rewarded).collect())
}

/// Combines rollouts with their grades and rewards.
pub fn scored(rollouts: Vec<Rollout>, graded: Vec<GradedReward>) -> Vec<ScoredRollout> {
    let scored = rollouts.into_iter().zip(graded).map(|(rollout, (verdict, rewarded))| ScoredRollout {
        rollout,
        reward: rewarded.total,
        rewards: rewarded.parts,
        correct: verdict.correct,
        boxed: verdict.extracted.is_some(),
    });
    scored.collect()
}

/// Returns the JSON line of a rollout. `with_tokens` adds what a replay needs: token ids, log-probabilities, any sampling masks, and the
/// temperature.
pub fn line(settings: &RunSettings, step: u64, scored: &ScoredRollout, with_tokens: bool) -> Value {
    let Rollout { group, sample, prompt, completion, text } = &scored.rollout;
    let mut line = json!({
        "step": step,
        "group": group,
        "sample": sample,
        "example": prompt.problem.id,
        "reward": scored.reward,
        "correct": scored.correct,
        "boxed": scored.boxed,
        "finish": completion.finish,
        "text": text,
    });
    if scored.rewards.len() > 1 {
        line["rewards"] = json!(scored.rewards);
    }
    if with_tokens {
        line["prompt_ids"] = json!(*prompt.ids);
        line["completion_ids"] = json!(completion.ids);
        line["logprobs"] = json!(completion.logprobs);
        if let Some(truncated) = &completion.masked {
            line["logprobs_sampled"] = json!(truncated.logprobs);
            line["kept"] = json!(truncated.mask);
        }
        line["temperature"] = json!(settings.rollout.temperature);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(groups: usize, count: usize, steps: u64) -> Vec<Vec<usize>> {
        let mut settings = RunSettings::demonstration();
        settings.rollout.groups = groups;
        (1..=steps).map(|step| examples(&settings, count, step)).collect()
    }

    #[test]
    fn examples_visits_every_example_once_before_repeating_any() {
        assert_eq!(check(4, 1, 2), [[0; 4]; 2]);
        let steps = check(8, 20, 5);
        let all = steps.concat();
        for round in all.chunks(20) {
            let mut seen = round.to_vec();
            seen.sort_unstable();
            assert_eq!(seen, (0..20).collect::<Vec<_>>());
        }
        assert_ne!(all[..20], all[20..], "the second round has another order");
        // Two examples divide a batch equally.
        assert_eq!(check(8, 2, 1)[0].iter().sum::<usize>(), 4);
    }
}
