//! Builds batches by hand for the tests of rewards.

use std::sync::Arc;

use super::{Batch, Graded, RewardBreakdown, RewardSettings, Rewards, Scorer, grade};
use crate::dist::World;
use crate::flow::{Completion, FinishReason, Problem, Prompt, Rollout};
use crate::interrupt::Interrupt;

/// Creates one group of responses, with one token per character.
pub(super) fn group(label: &str, responses: &[&str]) -> Vec<Rollout> {
    let problem = Problem { id: "p".into(), question: "What?".into(), answer: label.into(), ..Problem::default() };
    let prompt = Prompt { problem: Arc::new(problem), text: "What?".into(), ids: vec![1, 2].into() };
    let rollout = |(sample, text): (usize, &&str)| {
        let tokens = text.chars().count();
        let completion = Completion { ids: vec![7; tokens], logprobs: vec![0.0; tokens], finish: FinishReason::Stop, masked: None };
        Rollout { group: 0, sample, prompt: prompt.clone(), completion, text: (*text).to_owned() }
    };
    responses.iter().enumerate().map(rollout).collect()
}

/// Computes the rewards of step 3 for rollouts in groups of `group_size`, with seed 5.
pub(super) fn rewarded(rewards: &Rewards, rollouts: &[Rollout], group_size: usize, scorer: Option<&dyn Scorer>) -> Vec<RewardBreakdown> {
    let settings = RewardSettings::default();
    let verdict = |rollout: &Rollout| grade(&settings, &rollout.prompt.problem, &rollout.text);
    let responses: Vec<Graded> = rollouts.iter().map(|rollout| Graded { rollout, verdict: verdict(rollout) }).collect();
    rewards
        .of_batch(&Batch {
            responses: &responses,
            group_size,
            seed: 5,
            step: 3,
            scorer,
            interrupt: &Interrupt::default(),
            guard: None,
            world: World::solo(),
        })
        .unwrap()
}

/// Compares the rewards of one group with expected values.
pub(super) fn check(name: &str, label: &str, responses: &[&str], expected: &[f32]) {
    let rewards = Rewards::new(&RewardSettings { name: name.into(), ..RewardSettings::default() }, 100).unwrap();
    let found: Vec<f32> = rewarded(&rewards, &group(label, responses), responses.len(), None).iter().map(|one| one.total).collect();
    assert_eq!(found.len(), expected.len());
    for ((found, expected), response) in found.iter().zip(expected).zip(responses) {
        assert!((found - expected).abs() < 1e-6, "{name}: {found} instead of {expected} for {response}");
    }
}
