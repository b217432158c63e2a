//! Checks a recording against the policy that will learn from it: where its responses end, and how far its log-probabilities are from the
//! policy's.

use anyhow::{Result, bail, ensure};

use super::Replay;
use crate::flow::FinishReason;
use crate::model::Decoder;
use crate::train::update::{Packing, Sequence, logprobs};

/// More end tokens than this at the start of a prompt are padding; chat templates write one or two.
const MAX_LEADING_END_TOKENS: usize = 2;

/// The absolute difference between recorded log-probabilities and the policy's, in nats.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gap {
    /// The mean over all response tokens.
    pub mean: f64,
    /// The largest difference.
    pub max: f32,
}

impl Replay {
    /// Cuts the padding that other programs add after a response's end token. Returns the number of responses that were cut. The remaining
    /// log-probabilities stay valid, because no token depends on later ones.
    ///
    /// # Errors
    /// If something other than padding follows an end token, or a prompt starts with padding. The message names step, group and sample.
    pub fn cut_padding(&mut self, end_tokens: &[u32]) -> Result<usize> {
        let mut count = 0;
        for (number, scored) in
            self.steps.iter_mut().enumerate().flat_map(|(step, scored)| scored.iter_mut().map(move |one| (step + 1, one)))
        {
            let rollout = &mut scored.rollout;
            let location = format!("sample {} of group {} in the recorded step number {number}", rollout.sample, rollout.group);
            let padding = rollout.prompt.ids.iter().take_while(|id| end_tokens.contains(id)).count();
            ensure!(
                padding <= MAX_LEADING_END_TOKENS,
                "{location}: `prompt_ids` starts with {padding} end tokens ({}), which is padding: record prompts without padding",
                rollout.prompt.ids[0]
            );
            let completion = &mut rollout.completion;
            let Some(end) = completion.ids.iter().position(|id| end_tokens.contains(id)) else { continue };
            let (ended, rest) = completion.ids.split_at(end + 1);
            let Some(first) = rest.first() else { continue };
            if let Some(other) = rest.iter().find(|id| *id != first) {
                bail!(
                    "{location}: `completion_ids` continues after its end token {} (at index {end}) with {first} and {other}, which is not padding: end it there",
                    ended[end]
                );
            }
            // A response that reached its length limit has no end token, so its first end token is padding.
            let length = if completion.finish == FinishReason::Length { end } else { end + 1 };
            ensure!(length > 0, "{location}: `completion_ids` contains only padding ({first})");
            completion.ids.truncate(length);
            completion.logprobs.truncate(length);
            if let Some(truncated) = &mut completion.masked {
                truncated.mask = truncated.mask.part(0..length);
                truncated.logprobs.truncate(length);
            }
            count += 1;
        }
        Ok(count)
    }

    /// Computes the gap between the first step's recorded log-probabilities and the policy's at `temperature`. With shards, the ranks deal
    /// the responses among themselves.
    ///
    /// # Errors
    /// If a kernel fails, or the connection of the ranks does.
    pub fn gap(&self, packing: &Packing, policy: &Decoder, temperature: f32) -> Result<Gap> {
        let rollouts = || self.step(1).iter().map(|scored| &scored.rollout);
        let sequences: Vec<Sequence> =
            rollouts().map(|rollout| Sequence { prompt: &rollout.prompt.ids, response: &rollout.completion.ids, mask: None }).collect();
        let computed = logprobs(packing, policy, temperature, &sequences)?.concat();
        let recorded = rollouts().flat_map(|rollout| &rollout.completion.logprobs);
        let gaps: Vec<f32> = computed.iter().zip(recorded).map(|(computed, recorded)| (computed - recorded).abs()).collect();
        Ok(Gap {
            mean: gaps.iter().map(|gap| f64::from(*gap)).sum::<f64>() / gaps.len().max(1) as f64,
            max: gaps.iter().copied().fold(0.0, f32::max),
        })
    }

    /// Describes a gap; `None` if it is no larger than rounding errors.
    ///
    /// # Errors
    /// If the gap exceeds `limit` (`rollout.replay_gap`), because the recording is of another policy or temperature. The message suggests
    /// the cause.
    pub fn check_gap(&self, gap: Gap, limit: f32, temperature: f32) -> Result<Option<String>> {
        let Gap { mean, max } = gap;
        let likely_cause = match self.temperature(1) {
            None => format!(
                "the recording does not state its temperature, and {temperature} was assumed (rollout.temperature): set the temperature it was sampled at, or add \"temperature\" to its lines"
            ),
            Some(_) => {
                "is --model the recorded policy, and are the log-probabilities those of its softmax before top-k and top-p?".to_owned()
            }
        };
        let gap = format!("the recorded log-probabilities differ from the policy's by up to {max:.2} nats, {mean:.4} on average");
        ensure!(max <= limit, "{gap}; the limit is {limit} (rollout.replay_gap): {likely_cause}");
        Ok((max > ROUNDING_GAP).then(|| if self.temperature(1).is_none() { format!("{gap}; {likely_cause}") } else { gap }))
    }
}

/// With the same weights, different kernels or dtypes cause smaller differences than this, in nats.
const ROUNDING_GAP: f32 = 0.01;

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn replay(prompt: &str, ids: &str) -> Result<Replay> {
        finished(prompt, ids, "stop")
    }

    fn finished(prompt: &str, ids: &str, finish: &str) -> Result<Replay> {
        let count = ids.split(',').count();
        let logprobs = (0..count).map(|number| format!("-{number}.5")).collect::<Vec<_>>().join(",");
        let line = |sample: usize| {
            format!(
                r#"{{"step": 1, "group": 0, "sample": {sample}, "prompt_ids": [{prompt}], "completion_ids": [{ids}], "logprobs": [{logprobs}], "reward": {sample}, "finish": "{finish}"}}"#
            )
        };
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("r.jsonl");
        std::fs::write(&path, format!("{}\n{}\n", line(0), line(1)))?;
        Replay::read(Path::new(&path))
    }

    #[test]
    fn cut_padding_cuts_after_the_first_end_token() {
        let check = |ids: &str, count: usize, expected: &[u32]| {
            let mut replay = replay("9", ids).unwrap();
            assert_eq!(replay.cut_padding(&[0, 1]).unwrap(), count, "{ids}");
            let completion = &replay.step(1)[1].rollout.completion;
            let logprobs: Vec<f32> = (0..expected.len()).map(|number| -(number as f32) - 0.5).collect();
            assert_eq!((completion.ids.as_slice(), &completion.logprobs), (expected, &logprobs), "{ids}");
        };
        check("5, 6, 0, 0, 0", 2, &[5, 6, 0]);
        check("5, 0, 3, 3", 2, &[5, 0]);
        check("5, 1, 0", 2, &[5, 1]);
        check("5, 6, 0", 0, &[5, 6, 0]);
        check("5, 6", 0, &[5, 6]);
        let mut cut_off = finished("9", "5, 6, 0, 0", "length").unwrap();
        assert_eq!((cut_off.cut_padding(&[0]).unwrap(), &cut_off.step(1)[0].rollout.completion.ids[..]), (2, &[5, 6][..]));
        assert!(finished("9", "0, 0", "length").unwrap().cut_padding(&[0]).unwrap_err().to_string().contains("only padding"));
    }

    #[test]
    fn cut_padding_refuses_other_tokens_after_the_end() {
        let error = |prompt: &str, ids: &str| replay(prompt, ids).unwrap().cut_padding(&[0]).unwrap_err().to_string();
        let found = error("9", "5, 0, 6, 7, 0");
        assert!(
            found.contains("sample 0 of group 0") && found.contains("continues after its end token 0 (at index 1) with 6 and 7"),
            "{found}"
        );
        let found = error("0, 0, 0, 9", "5");
        assert!(found.contains("`prompt_ids` starts with 3 end tokens (0), which is padding"), "{found}");
        assert_eq!(replay("0, 0, 9", "5").unwrap().cut_padding(&[0]).unwrap(), 0);
    }

    #[test]
    fn check_gap_describes_or_refuses_a_gap() {
        let replay = replay("9", "5").unwrap();
        assert_eq!(replay.check_gap(Gap { mean: 0.0, max: 1e-5 }, 12.0, 1.0).unwrap(), None);
        let message = replay.check_gap(Gap { mean: 0.05, max: 0.98 }, 12.0, 1.0).unwrap().unwrap();
        assert!(
            message.contains("by up to 0.98 nats, 0.0500 on average; the recording does not state its temperature, and 1 was assumed"),
            "{message}"
        );
        let error = replay.check_gap(Gap { mean: 0.4, max: 13.0 }, 12.0, 1.0).unwrap_err().to_string();
        assert!(error.contains("by up to 13.00 nats") && error.contains("the limit is 12"), "{error}");
    }
}
