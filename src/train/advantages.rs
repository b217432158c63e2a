//! From a step's rewards to the advantage of each token.

use super::settings::RunSettings;
use crate::flow::Scored;
use crate::objective::group_advantages;

/// The advantage of every token of every response.
pub fn advantages(settings: &RunSettings, scored: &[Scored]) -> Vec<Vec<f32>> {
    let of_group = |group: &[Scored]| {
        let rewards: Vec<f32> = group.iter().map(|scored| scored.reward).collect();
        group_advantages(&rewards, settings.loss.advantage_std)
    };
    let advantages = scored.chunks(settings.rollout.group_size).flat_map(of_group);
    scored.iter().zip(advantages).map(|(scored, advantage)| vec![advantage; scored.rollout.completion.ids.len()]).collect()
}
