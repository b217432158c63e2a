//! Replays recorded rollouts instead of sampling: reads the files that a run writes to `rollouts/`. Owns the requirements that a recording
//! must meet. Neither samples nor grades. `replay/checks` compares a recording with the policy.

mod checks;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::settings::Truncation;
use crate::flow::{Completion, FinishReason, MaskedSample, Problem, Prompt, Rollout, SamplingMask, ScoredRollout};
use crate::metrics::jsonl;
pub use checks::Gap;

/// The recorded rollouts of one or more steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Replay {
    /// The responses of each step, group by group.
    steps: Vec<Vec<ScoredRollout>>,
    /// The number of groups in each step.
    pub groups: usize,
    /// The number of responses in each group.
    pub group_size: usize,
    /// The temperature of each step's log-probabilities; `None` if the recording does not state it.
    temperatures: Vec<Option<f32>>,
}

/// A line of a recording. `correct` and `boxed` only affect metrics; if `correct` is missing, a positive reward counts as correct.
#[derive(Deserialize)]
struct Line {
    step: u64,
    group: usize,
    sample: usize,
    #[serde(default)]
    example: String,
    prompt_ids: Option<Vec<u32>>,
    completion_ids: Option<Vec<u32>>,
    logprobs: Option<Vec<f32>>,
    logprobs_sampled: Option<Vec<f32>>,
    kept: Option<SamplingMask>,
    reward: f32,
    #[serde(default)]
    rewards: BTreeMap<String, f32>,
    correct: Option<bool>,
    #[serde(default)]
    boxed: bool,
    finish: Option<FinishReason>,
    temperature: Option<f32>,
    #[serde(default)]
    text: String,
}

impl Replay {
    /// Reads a recording: JSON lines in any order, gzipped (`.gz`) or plain.
    ///
    /// # Errors
    /// If the file cannot be read, a line lacks tokens or log-probabilities or has an invalid value, or steps or groups differ in size. The
    /// message names the file and the line, or the step.
    pub fn read(path: &Path) -> Result<Self> {
        let file = path.display();
        let mut steps: BTreeMap<u64, BTreeMap<(usize, usize), ScoredRollout>> = BTreeMap::new();
        let mut temperatures: BTreeMap<u64, Option<f32>> = BTreeMap::new();
        let lines = jsonl::read_input::<Line>(path)?;
        let count = lines.len();
        for (at_line, line) in lines {
            let (step, at) = (line.step, (line.group, line.sample));
            for (name, number) in [("group", at.0), ("sample", at.1)] {
                ensure!(number < count, "{at_line}: `{name}` is {number}, expected a number below {count}, the number of lines");
            }
            let known = temperatures.entry(step).or_default();
            *known = known.or(line.temperature);
            ensure!(*known == line.temperature || line.temperature.is_none(), "{at_line}: step {step} has responses at two temperatures");
            let scored = scored(line).with_context(|| at_line.clone())?;
            let previous = steps.entry(step).or_default().insert(at, scored);
            ensure!(previous.is_none(), "{at_line}: step {step} has sample {} of group {} twice", at.1, at.0);
        }
        let (groups, group_size) = match steps.values().next() {
            Some(first) => {
                let groups = first.keys().map(|(group, _)| group + 1).max().unwrap_or(0);
                (groups, first.len() / groups)
            }
            None => anyhow::bail!("{file} has no rollouts"),
        };
        for (step, rollouts) in &steps {
            let expected = (0..groups).flat_map(|group| (0..group_size).map(move |sample| (group, sample)));
            ensure!(
                rollouts.keys().copied().eq(expected),
                "{file}: step {step} has {} rollouts, expected {groups} groups of {group_size}, both numbered from 0, in every step",
                rollouts.len()
            );
        }
        Ok(Self {
            steps: steps.into_values().map(|rollouts| rollouts.into_values().collect()).collect(),
            groups,
            group_size,
            temperatures: temperatures.into_values().collect(),
        })
    }

    /// True if a recorded sampling mask excludes any token.
    pub fn has_sampling_masks(&self) -> bool {
        let mut truncated = self.steps.iter().flatten().filter_map(|scored| scored.rollout.completion.masked.as_ref());
        truncated.any(|truncated| !truncated.mask.is_whole())
    }

    /// Applies `rollout.truncated` to the recording: `renormalise` requires sampling masks, `refuse` requires that they exclude no token,
    /// and `mismatch` removes them.
    ///
    /// # Errors
    /// If the recording lacks required sampling masks, or has masks that the setting refuses.
    pub fn with_truncation(mut self, truncated: Truncation) -> Result<Self> {
        let lacks_mask = |scored: &&ScoredRollout| scored.rollout.completion.masked.is_none();
        match truncated {
            Truncation::Renormalise => {
                if let Some(ScoredRollout { rollout, .. }) = self.steps.iter().flatten().find(lacks_mask) {
                    let (sample, group) = (rollout.sample, rollout.group);
                    anyhow::bail!(
                        "rollout.truncated is renormalise, but the recorded sample {sample} of group {group} has no `kept` and `logprobs_sampled`: record \
                         the run with rollout.truncated=renormalise, or set rollout.truncated=mismatch to train on the distribution over the whole vocabulary"
                    );
                }
            }
            Truncation::Refuse => ensure!(
                !self.has_sampling_masks(),
                "the recording was sampled from part of the vocabulary (it has `kept`), but rollout.truncated is refuse: set it to renormalise, as in the recorded run"
            ),
            Truncation::Mismatch => {
                self.steps.iter_mut().flatten().for_each(|scored| scored.rollout.completion.masked = None);
            }
        }
        Ok(self)
    }

    /// Returns the lengths in tokens of the first step's distinct prompts, and the length of the longest response of all steps.
    pub fn lengths(&self) -> (Vec<usize>, usize) {
        let first = self.steps.first().map_or(&[][..], Vec::as_slice);
        let prompts: std::collections::BTreeSet<&[u32]> = first.iter().map(|scored| &*scored.rollout.prompt.ids).collect();
        let responses = self.steps.iter().flatten().map(|scored| scored.rollout.completion.ids.len());
        (prompts.into_iter().map(<[u32]>::len).collect(), responses.max().unwrap_or(0))
    }

    /// Returns the number of recorded steps.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// True if no steps are recorded.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Returns the rollouts of `step`, counted from 1. After the last recorded step, the recording repeats from the first.
    ///
    /// # Panics
    /// If the recording is empty; [`Replay::read`] never returns an empty one.
    pub fn step(&self, step: u64) -> &[ScoredRollout] {
        &self.steps[(step.max(1) - 1) as usize % self.steps.len()]
    }

    /// Returns the temperature of the log-probabilities of `step`, counted as in [`step`](Self::step); `None` if the recording does not
    /// state it.
    ///
    /// # Panics
    /// If the recording is empty; [`Replay::read`] never returns an empty one.
    pub fn temperature(&self, step: u64) -> Option<f32> {
        self.temperatures[(step.max(1) - 1) as usize % self.temperatures.len()]
    }

    /// Checks that the recorded tokens are in the model's vocabulary and that the sequences fit its context length.
    ///
    /// # Errors
    /// If a token id is not below `vocabulary`, or a sequence is longer than `context_length` + 1 tokens (the last token is not an input).
    /// The message names group and sample.
    pub fn check(&self, vocabulary: usize, context_length: usize) -> Result<()> {
        for ScoredRollout { rollout, .. } in self.steps.iter().flatten() {
            let (prompt, completion) = (&rollout.prompt.ids, &rollout.completion.ids);
            let location = || format!("the recorded sample {} of group {}", rollout.sample, rollout.group);
            let tokens = prompt.len() + completion.len();
            ensure!(tokens <= context_length + 1, "{}: {tokens} tokens exceed the model's context length of {context_length}", location());
            let mask_size = mask_vocabulary(&rollout.completion);
            ensure!(
                mask_size <= vocabulary,
                "{}: token {} in `kept` is outside the model's vocabulary of {vocabulary}",
                location(),
                mask_size - 1
            );
            if let Some(token) = prompt.iter().chain(completion).find(|token| **token as usize >= vocabulary) {
                anyhow::bail!("{}: token {token} is outside the model's vocabulary of {vocabulary}", location());
            }
        }
        Ok(())
    }
}

/// Returns one more than the largest token id in the sampling mask; 0 without a mask.
fn mask_vocabulary(completion: &Completion) -> usize {
    completion.masked.as_ref().map_or(0, |truncated| truncated.mask.vocabulary())
}

/// Checks the sampling mask of a line; `None` if the line has none.
fn masked_sample(ids: &[u32], kept: Option<SamplingMask>, logprobs: Option<Vec<f32>>) -> Result<Option<MaskedSample>> {
    let (kept, logprobs) = match (kept, logprobs) {
        (None, None) => return Ok(None),
        (Some(kept), Some(logprobs)) => (kept, logprobs),
        (Some(_), None) => anyhow::bail!("`kept` without `logprobs_sampled`: a run records both"),
        (None, Some(_)) => anyhow::bail!("`logprobs_sampled` without `kept`: a run records both"),
    };
    let counts = (kept.len(), logprobs.len());
    ensure!(
        counts == (ids.len(), ids.len()),
        "{} `kept` and {} `logprobs_sampled` for {} `completion_ids`: expected one of each per token",
        counts.0,
        counts.1,
        ids.len()
    );
    ensure!(logprobs.iter().all(|logprob| logprob.is_finite()), "`logprobs_sampled` must be finite numbers");
    if let Some(position) = (0..ids.len()).find(|position| !kept.contains(*position, ids[*position])) {
        anyhow::bail!(
            "token {} at position {position} of `completion_ids` is not in `kept`, so it cannot have been sampled",
            ids[position]
        );
    }
    Ok(Some(MaskedSample { mask: kept, logprobs }))
}

/// Checks a line and converts it to a scored rollout.
fn scored(line: Line) -> Result<ScoredRollout> {
    let missing = "a run records token ids and log-probabilities only at its evaluation steps (eval.every)";
    let prompt_ids = line.prompt_ids.with_context(|| format!("no `prompt_ids`: {missing}"))?;
    let ids = line.completion_ids.with_context(|| format!("no `completion_ids`: {missing}"))?;
    let logprobs = line.logprobs.with_context(|| format!("no `logprobs`: {missing}"))?;
    ensure!(!prompt_ids.is_empty(), "`prompt_ids` is empty: scoring the first response token needs at least one prompt token");
    ensure!(logprobs.len() == ids.len(), "{} `logprobs` for {} `completion_ids`: expected one per token", logprobs.len(), ids.len());
    ensure!(!ids.is_empty(), "`completion_ids` is empty: there is nothing to train on");
    // Log-probabilities above 0 are accepted here, because test recordings shift them beyond the clip in both directions. `check_gap`
    // limits their distance from the policy's.
    for (index, logprob) in logprobs.iter().enumerate() {
        ensure!(logprob.is_finite(), "`logprobs[{index}]` is {logprob}, expected a finite number");
    }
    let rewards = line.rewards.iter().map(|(name, reward)| (format!("rewards.{name}"), reward));
    for (name, reward) in rewards.chain([("reward".to_owned(), &line.reward)]) {
        ensure!(reward.is_finite(), "`{name}` is {reward}, expected a finite number");
    }
    if let Some(temperature) = line.temperature {
        ensure!(temperature > 0.0 && temperature.is_finite(), "`temperature` is {temperature}, expected a finite number above 0");
    }
    let problem = Problem { id: line.example, ..Problem::default() };
    let prompt = Prompt { problem: Arc::new(problem), text: String::new(), ids: prompt_ids.into() };
    let masked = masked_sample(&ids, line.kept, line.logprobs_sampled)?;
    let completion = Completion { ids, logprobs, finish: line.finish.unwrap_or(FinishReason::Stop), masked };
    Ok(ScoredRollout {
        rollout: Rollout { group: line.group, sample: line.sample, prompt, completion, text: line.text },
        reward: line.reward,
        rewards: line.rewards,
        correct: line.correct.unwrap_or(line.reward > 0.0),
        boxed: line.boxed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(step: u64, group: usize, sample: usize) -> String {
        format!(
            r#"{{"step": {step}, "group": {group}, "sample": {sample}, "prompt_ids": [1, 2], "completion_ids": [{}], "logprobs": [-0.5], "reward": 1}}"#,
            10 * step as usize + sample
        )
    }

    fn read(lines: &[String]) -> Result<Replay> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rollouts.jsonl");
        std::fs::write(&path, lines.join("\n")).unwrap();
        Replay::read(&path)
    }

    #[test]
    fn step_returns_steps_in_order_and_repeats() {
        let replay = read(&[line(40, 0, 1), line(20, 0, 0), line(40, 0, 0), line(20, 0, 1)]).unwrap();
        assert_eq!((replay.len(), replay.groups, replay.group_size), (2, 1, 2));
        assert!(replay.step(1)[0].rewards.is_empty());
        let parts = line(1, 0, 1).replace("\"reward\": 1", "\"reward\": 1.5, \"rewards\": {\"outcome\": 1, \"format\": 0.5}");
        let scored = read(&[line(1, 0, 0), parts]).unwrap().step(1)[1].clone();
        assert_eq!((scored.reward, scored.rewards["format"]), (1.5, 0.5));
        let first = |step| replay.step(step)[0].rollout.completion.ids[0];
        assert_eq!([first(1), first(2), first(3)], [200, 400, 200]);
        assert!(replay.check(402, 3).is_ok());
        assert!(replay.check(401, 3).unwrap_err().to_string().contains("sample 1 of group 0: token 401 is outside"));
        assert!(replay.check(402, 1).unwrap_err().to_string().contains("3 tokens exceed"));
    }

    #[test]
    fn read_rejects_lines_that_cannot_be_trained_on() {
        let check = |lines: &[String], expected: &str| {
            let message = format!("{:#}", read(lines).unwrap_err());
            assert!(message.contains(expected), "{message}");
        };
        check(&[], "has no lines");
        check(&[line(1, 0, 0), line(1, 0, 1), line(1, 0, 1)], "line 3: step 1 has sample 1 of group 0 twice");
        check(&[line(1, 0, 0), line(1, 0, 1), line(2, 0, 0)], "step 2 has 1 rollouts, expected 1 groups of 2");
        check(&[line(1, 0, 0), line(1, 0, 1), line(2, 0, 0), "{\"step\": 2".into()], "line 4: EOF");
        check(&[r#"{"step": 1, "group": 0, "sample": 0, "reward": 1, "text": "x"}"#.into()], "line 1: no `prompt_ids`: a run records");
        check(&[line(1, 0, 0).replace("[-0.5]", "[]")], "0 `logprobs` for 1 `completion_ids`");
        let two = |from: &str, to: &str| [line(1, 0, 0), line(1, 0, 1).replace(from, to)];
        check(
            &two("\"group\": 0", "\"group\": 18446744073709551615"),
            "line 2: `group` is 18446744073709551615, expected a number below 2",
        );
        check(&two("\"sample\": 1", "\"sample\": 9223372036854775807"), "line 2: `sample` is 9223372036854775807, expected");
        check(&two("\"group\": 0", "\"group\": -1"), "line 2: `group`: invalid value: integer `-1`");
        check(&two("\"step\": 1", "\"step\": 1e30"), "line 2: `step`: invalid type: floating point");
        check(&two("\"prompt_ids\": [1", "\"prompt_ids\": [4294967296"), "line 2: `prompt_ids[0]`: invalid value");
        check(&two("[-0.5]", "[-1e39]"), "line 2: `logprobs[0]`: number out of range");
        check(&two("\"reward\": 1", "\"reward\": 1e39"), "line 2: `reward`: number out of range");
        check(&two("\"reward\": 1", "\"reward\": 1, \"rewards\": {\"a\": -1e39}"), "line 2: `rewards.a`: number out of range");
        check(&two("\"reward\": 1", "\"reward\": 1, \"temperature\": 0"), "line 2: `temperature` is 0, expected");
        check(&two("\"reward\": 1", "\"reward\": 1, \"finish\": \"eos\""), "line 2: `finish`: unknown variant `eos`");
        check(&[line(1, 0, 0).replace("[10]", "[]").replace("[-0.5]", "[]")], "line 1: `completion_ids` is empty");
        let with = |kept: &str, sampled: &str| line(1, 0, 0).replace("\"reward\"", &format!("{kept}{sampled}\"reward\""));
        check(&[with("\"kept\": [[10]], ", "")], "line 1: `kept` without `logprobs_sampled`");
        check(&[with("", "\"logprobs_sampled\": [0], ")], "line 1: `logprobs_sampled` without `kept`");
        check(&[with("\"kept\": [[10]], ", "\"logprobs_sampled\": [0, 0], ")], "1 `kept` and 2 `logprobs_sampled` for 1 `completion_ids`");
        check(
            &[with("\"kept\": [[9, 11]], ", "\"logprobs_sampled\": [0], ")],
            "token 10 at position 0 of `completion_ids` is not in `kept`",
        );
        check(&[with("\"kept\": [[]], ", "\"logprobs_sampled\": [0], ")], "position 0 keeps no token");
    }

    #[test]
    fn with_truncation_applies_or_removes_sampling_masks() {
        let kept = line(1, 0, 0).replace("\"reward\"", "\"kept\": [[3, [10, 12]]], \"logprobs_sampled\": [-0.25], \"reward\"");
        let (with, without) = (read(&[kept]).unwrap(), read(&[line(1, 0, 0)]).unwrap());
        let sampled = |replay: Result<Replay>| replay.unwrap().step(1)[0].rollout.completion.sampled_logprobs().to_vec();
        assert_eq!(sampled(with.clone().with_truncation(Truncation::Renormalise)), [-0.25]);
        assert_eq!(sampled(with.clone().with_truncation(Truncation::Mismatch)), [-0.5]);
        assert_eq!(sampled(without.clone().with_truncation(Truncation::Refuse)), [-0.5]);
        let check = |replay: Replay, truncated, expected: &str| {
            let message = replay.with_truncation(truncated).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        };
        check(without, Truncation::Renormalise, "sample 0 of group 0 has no `kept` and `logprobs_sampled`: record the run with");
        check(with.clone(), Truncation::Refuse, "rollout.truncated is refuse: set it to renormalise");
        assert!(with.check(12, 9).unwrap_err().to_string().contains("token 12 in `kept` is outside the model's vocabulary of 12"));
    }
}
