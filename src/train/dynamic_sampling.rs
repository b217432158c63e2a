//! Dynamic sampling (DAPO, Yu et al. 2025): replaces groups whose rewards are all equal, which teach the policy nothing, with newly sampled
//! ones. Decides which groups to replace and which example each new group answers. Does not sample.

use anyhow::Result;

use super::rollouts;
use super::settings::RunSettings;
use crate::flow::{Prompt, ScoredRollout};
use crate::objective::has_signal;
use crate::rng::{CounterRng, Purpose};
use crate::rollout::Request;

/// Returns the indices of the groups whose rewards are all equal, up to rounding.
pub fn without_signal(scored: &[ScoredRollout], group_size: usize) -> Vec<usize> {
    let groups = scored.chunks(group_size).enumerate();
    groups.filter(|(_, group)| !has_signal(group.iter().map(|one| one.reward))).map(|(number, _)| number).collect()
}

/// Replaces groups without signal with the responses that `sample(attempt, groups)` returns for them, group by group. Attempts count from 1
/// to at most `rollout.dynamic_sampling`; groups that still lack signal after the last one are not replaced again. Returns the step's
/// responses and the number of attempts.
///
/// # Errors
/// If `sample` fails.
pub fn replace_groups(
    settings: &RunSettings,
    mut scored: Vec<ScoredRollout>,
    mut sample: impl FnMut(usize, &[usize]) -> Result<Vec<ScoredRollout>>,
) -> Result<(Vec<ScoredRollout>, usize)> {
    let size = settings.rollout.group_size;
    for attempt in 1..=settings.rollout.dynamic_sampling {
        let groups = without_signal(&scored, size);
        if groups.is_empty() {
            return Ok((scored, attempt - 1));
        }
        for (index, mut one) in sample(attempt, &groups)?.into_iter().enumerate() {
            let group = groups[index / size];
            one.rollout.group = group;
            scored[group * size + index % size] = one;
        }
    }
    Ok((scored, settings.rollout.dynamic_sampling))
}

/// Returns the index of an example for each group to replace, chosen uniformly from `count` examples.
pub fn examples(settings: &RunSettings, count: usize, step: u64, attempt: usize, groups: &[usize]) -> Vec<usize> {
    let sample =
        |group: &usize| CounterRng::uniform(settings.seed, Purpose::DynamicSampling, step as u32, *group as u32, attempt as u32, 0);
    groups.iter().map(|group| (f64::from(sample(group)) * count as f64) as usize).collect()
}

/// Returns the requests that replace `groups`; group `groups[i]` gets the prompt of example `examples[i]`. No other group of the step has
/// the same random numbers.
pub fn requests(
    settings: &RunSettings,
    prompts: &[Prompt],
    examples: &[usize],
    step: u64,
    attempt: usize,
    groups: &[usize],
) -> Vec<Request> {
    let mut requests = rollouts::requests(settings, prompts, examples, step);
    for request in &mut requests {
        request.prompt = (attempt * settings.rollout.groups + groups[request.prompt as usize]) as u32;
    }
    requests
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::flow::{Completion, FinishReason, Problem, Rollout};

    fn scored(group: usize, rewards: &[f32]) -> Vec<ScoredRollout> {
        let prompt = Prompt { problem: Arc::new(Problem::default()), text: String::new(), ids: vec![1].into() };
        let completion = Completion { ids: vec![1], logprobs: vec![0.0], finish: FinishReason::Stop, masked: None };
        let one = |(sample, reward): (usize, &f32)| ScoredRollout {
            rollout: Rollout { group, sample, prompt: prompt.clone(), completion: completion.clone(), text: String::new() },
            reward: *reward,
            rewards: Default::default(),
            correct: false,
            boxed: false,
        };
        rewards.iter().enumerate().map(one).collect()
    }

    fn settings(dynamic_sampling: usize) -> RunSettings {
        let mut settings = RunSettings::demonstration();
        (settings.rollout.group_size, settings.rollout.groups, settings.rollout.dynamic_sampling) = (2, 3, dynamic_sampling);
        settings
    }

    #[test]
    fn replace_groups_replaces_only_groups_without_signal() -> Result<()> {
        let first = || [scored(0, &[1.0, 1.0]), scored(1, &[0.0, 1.0]), scored(2, &[0.0, 0.0])].concat();
        assert_eq!(without_signal(&first(), 2), [0, 2]);
        let rounded = [scored(0, &[100.1, f32::from_bits(100.1f32.to_bits() + 1)]), scored(1, &[100.1, 100.2])].concat();
        assert_eq!(without_signal(&rounded, 2), [0]);
        // The first attempt gives group 0 a signal, the second group 2.
        let mut calls = Vec::new();
        let sample = |attempt: usize, groups: &[usize]| {
            calls.push((attempt, groups.to_vec()));
            Ok(if attempt == 1 { [scored(0, &[0.0, 1.0]), scored(1, &[1.0, 1.0])].concat() } else { scored(0, &[1.0, 0.0]) })
        };
        let (replaced, attempts) = replace_groups(&settings(5), first(), sample)?;
        assert_eq!((attempts, calls), (2, vec![(1, vec![0, 2]), (2, vec![2])]));
        assert_eq!(replaced.iter().map(|one| one.reward).collect::<Vec<_>>(), [0.0, 1.0, 0.0, 1.0, 1.0, 0.0]);
        assert_eq!(replaced.iter().map(|one| one.rollout.group).collect::<Vec<_>>(), [0, 0, 1, 1, 2, 2]);
        // Without attempts, nothing is sampled. After the last attempt, a group without signal stays.
        assert_eq!(replace_groups(&settings(0), first(), |_, _| unreachable!())?.1, 0);
        let (_, attempts) =
            replace_groups(&settings(1), first(), |_, groups| Ok(groups.iter().flat_map(|_| scored(0, &[0.5, 0.5])).collect()))?;
        assert_eq!(attempts, 1);
        Ok(())
    }

    #[test]
    fn requests_of_replaced_groups_share_no_random_numbers() {
        let prompt = Prompt { problem: Arc::new(Problem::default()), text: String::new(), ids: vec![1].into() };
        let numbers = |attempt: usize| -> Vec<u32> {
            let requests = requests(&settings(9), std::slice::from_ref(&prompt), &[0, 0], 4, attempt, &[0, 2]);
            requests.iter().map(|request| request.prompt).collect()
        };
        assert_eq!([numbers(1), numbers(2)].concat(), [3, 3, 5, 5, 6, 6, 8, 8]);
        let examples: Vec<usize> = (1..50).flat_map(|step| examples(&settings(9), 4, step, 1, &[0, 1, 2])).collect();
        assert!((0..4).all(|example| examples.contains(&example)) && examples.iter().all(|example| *example < 4));
    }
}
