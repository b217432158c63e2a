//! A step's batch: which example each group answers, the responses, and their rewards.

use anyhow::Result;
use serde_json::{Value, json};

use super::settings::RunSettings;
use crate::checkpoint::Model;
use crate::draw::Purpose;
use crate::flow::{Completion, Prompt, Rollout, Scored};
use crate::kernels::sample::Filter;
use crate::reward::{self, Graded, Reward};
use crate::rollout::{Request, SamplingSettings};

/// The requests of a step, group after group; the examples take turns over the groups.
pub fn requests(settings: &RunSettings, prompts: &[Prompt], step: u64) -> Vec<Request> {
    let group = |group: usize| {
        let ids = &prompts[group % prompts.len()].ids;
        (0..settings.rollout.group_size).map(move |sample| Request {
            ids: ids.clone(),
            max_new: settings.rollout.max_new,
            purpose: Purpose::Sampling,
            step: step as u32,
            prompt: group as u32,
            sample: sample as u32,
        })
    };
    (0..settings.rollout.groups).flat_map(group).collect()
}

/// How tokens are chosen in training.
pub fn sampling(settings: &RunSettings) -> SamplingSettings {
    let rollout = &settings.rollout;
    let filter = Filter { top_k: rollout.top_k, top_p: rollout.top_p, min_p: rollout.min_p };
    SamplingSettings { temperature: rollout.temperature, filter, seed: settings.seed }
}

/// Puts text and reward to each completion.
pub fn score(
    settings: &RunSettings,
    reward: &Reward,
    model: &Model,
    prompts: &[Prompt],
    completions: Vec<Completion>,
) -> Result<Vec<Scored>> {
    let scored = completions.into_iter().enumerate().map(|(index, completion)| {
        let (group, sample) = (index / settings.rollout.group_size, index % settings.rollout.group_size);
        let prompt = prompts[group % prompts.len()].clone();
        let text = model.text.decode(&completion.ids)?;
        let verdict = reward::grade(&settings.reward, &prompt.problem.answer, &text);
        let reward = (reward.compute)(&Graded { response: &text, verdict: &verdict });
        let (correct, boxed) = (verdict.correct, verdict.extracted.is_some());
        Ok(Scored { rollout: Rollout { group, sample, prompt, completion, text }, reward, correct, boxed })
    });
    scored.collect()
}

/// A rollout's line on disk; token ids and log-probabilities only where `with_tokens`.
pub fn line(step: u64, scored: &Scored, with_tokens: bool) -> Value {
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
    if with_tokens {
        line["prompt_ids"] = json!(*prompt.ids);
        line["completion_ids"] = json!(completion.ids);
        line["logprobs"] = json!(completion.logprobs);
    }
    line
}
