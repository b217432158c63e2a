//! From a step's rewards to the advantage of each token.

use super::settings::RunSettings;
use crate::flow::Scored;
use crate::objective::{ResponseRewards, Scale, token_advantages, whiten};

/// The advantage of every token of every response. `penalties` are what tokens are rewarded besides the response's reward (KL in the
/// reward, as `penalties` has it), for every response and token; none are zeros.
pub fn advantages(settings: &RunSettings, scored: &[Scored], penalties: Option<&[Vec<f32>]>) -> Vec<Vec<f32>> {
    let zeros = |scored: &Scored| vec![0.0; scored.rollout.completion.ids.len()];
    let penalties = penalties.map_or_else(|| scored.iter().map(zeros).collect(), <[_]>::to_vec);
    let responses = scored.iter().zip(&penalties).map(|(scored, tokens)| ResponseRewards { outcome: scored.reward, tokens });
    let responses: Vec<ResponseRewards> = responses.collect();
    let mut advantages = token_advantages(&settings.advantage, settings.rollout.group_size, &responses);
    if settings.advantage.scale == Scale::Batch {
        whiten(&mut advantages);
    }
    advantages
}

/// What KL in the reward takes from each token: `-reward.kl` times the estimate between its log-probabilities under policy and reference.
pub fn penalties(settings: &RunSettings, policy: &[Vec<f32>], reference: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let estimator = settings.reward.kl_estimator;
    let of_response = |(policy, reference): (&Vec<f32>, &Vec<f32>)| {
        estimator.values(policy, reference).into_iter().map(|estimate| -settings.reward.kl * estimate).collect()
    };
    policy.iter().zip(reference).map(of_response).collect()
}
