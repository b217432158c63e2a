//! Packs sequences into micro-batches. Decides which sequences share a micro-batch and which worker computes it, and assigns the results to
//! the sequences. Independent of the computation.

use std::collections::HashMap;

use anyhow::Result;

use crate::flow::{Completion, SamplingMask};
use crate::interrupt::Interrupt;
use crate::model::Packed;
use crate::model::decoder::ActivationCheckpointing;
use crate::output::Progress;
use crate::train::shards::Shards;
use crate::workers::Workers;

/// The tokens of a prompt and a response; only the response is scored.
#[derive(Clone, Copy, Debug)]
pub struct Sequence<'a> {
    /// The prompt; at least one token.
    pub prompt: &'a [u32],
    /// The response.
    pub response: &'a [u32],
    /// The sampling mask of each response token; `None` for the whole vocabulary.
    pub mask: Option<&'a SamplingMask>,
}

impl<'a> Sequence<'a> {
    /// Creates the sequence of a prompt and a sampled completion.
    pub fn of(prompt: &'a [u32], completion: &'a Completion) -> Self {
        Self { prompt, response: &completion.ids, mask: completion.masked.as_ref().map(|truncated| &truncated.mask) }
    }
}

/// How sequences are divided into micro-batches for the workers. The division changes sums over micro-batches only by rounding.
#[derive(Clone, Copy)]
pub struct Packing<'a> {
    /// The workers.
    pub workers: &'a Workers,
    /// The maximum number of tokens in a micro-batch; a response that exceeds it together with its prompt has its own micro-batch.
    pub micro_batch_tokens: usize,
    /// The activation checkpointing of a training pass; a pass without a gradient saves no activations.
    pub checkpointing: ActivationCheckpointing,
    /// Checked before every micro-batch.
    pub interrupt: &'a Interrupt,
    /// Counts the micro-batches; `None` to count nothing.
    pub progress: Option<&'a Progress>,
    /// The shards of a run with `train.shards`, which may have several ranks; `None` without.
    pub shards: Option<Shards<'a>>,
}

impl Packing<'_> {
    /// Runs `work(state, worker, numbers, packed)` for every micro-batch, where `worker` is the index of the worker and `numbers` are the
    /// indices of the sequences. Each worker has one state, which all its micro-batches update. Returns the states in worker order.
    ///
    /// # Errors
    /// If `work` fails, or [`Interrupted`](crate::interrupt::Interrupted) if a stop is requested.
    pub fn on_workers<S: Default + Send>(
        &self,
        sequences: &[Sequence],
        work: impl Fn(&mut S, usize, &[usize], Packed) -> Result<()> + Sync,
    ) -> Result<Vec<S>> {
        let micro_batches = self.micro_batches(sequences);
        self.progress.iter().for_each(|progress| progress.expect(micro_batches.len()));
        self.workers.run(|worker| {
            let mut state = S::default();
            for numbers in micro_batches.iter().skip(worker).step_by(self.workers.count()) {
                self.interrupt.check()?;
                work(&mut state, worker, numbers, pack(sequences, numbers))?;
                self.progress.iter().for_each(|progress| progress.add());
            }
            Ok(state)
        })
    }

    /// Computes one list of numbers for each sequence. `work(packed)` returns the concatenated numbers of a micro-batch. The ranks deal the
    /// sequences among themselves, and each gets all results.
    ///
    /// # Errors
    /// If `work` fails, or [`Interrupted`](crate::interrupt::Interrupted) if a stop is requested. With shards, as [`Shards::agree`].
    pub fn score(&self, sequences: &[Sequence], work: impl Fn(Packed) -> Result<Vec<f32>> + Sync) -> Result<Vec<Vec<f32>>> {
        self.dealt(sequences, |own| {
            let workers = self.on_workers(own, |scored: &mut Vec<(Vec<usize>, Vec<f32>)>, _, numbers, packed| {
                scored.push((numbers.to_vec(), work(packed)?));
                Ok(())
            })?;
            Ok(by_sequence(own, workers.into_iter().flatten()))
        })
    }

    /// Calls `score` with this rank's share of the sequences, and returns the results for all of them to every rank.
    ///
    /// # Errors
    /// As `score`, and with shards as [`Shards::agree`].
    pub fn dealt(&self, sequences: &[Sequence], score: impl FnOnce(&[Sequence]) -> Result<Vec<Vec<f32>>>) -> Result<Vec<Vec<f32>>> {
        let Some(shards) = self.shards.filter(|shards| shards.world.size() > 1) else { return score(sequences) };
        let own: Vec<Sequence> = shards.world.share(sequences.len()).map(|index| sequences[index]).collect();
        shards.world.collect(sequences.len(), shards.agree(score(&own))?)
    }

    /// Returns the indices of the sequences in each micro-batch.
    ///
    /// Responses to a single prompt are distributed round-robin over at least one micro-batch per worker. Their number is chosen so that a
    /// micro-batch exceeds the token budget only by the prompt and by uneven lengths. Responses to several prompts are split prompt by
    /// prompt.
    pub fn micro_batches(&self, sequences: &[Sequence]) -> Vec<Vec<usize>> {
        self.micro_batches_for(sequences, self.workers.count())
    }

    /// Returns the micro-batches for this number of workers.
    pub(super) fn micro_batches_for(&self, sequences: &[Sequence], workers: usize) -> Vec<Vec<usize>> {
        let (mut prompts, mut numbers) = (Vec::<PromptRows>::new(), HashMap::<&[u32], usize>::new());
        for (index, sequence) in sequences.iter().enumerate() {
            let number = *numbers.entry(sequence.prompt).or_insert_with(|| {
                prompts.push(PromptRows { rows: sequence.prompt.len(), responses: Vec::new() });
                prompts.len() - 1
            });
            prompts[number].responses.push((index, sequence.response.len()));
        }
        if prompts.len() > 1 {
            return split_within_budget(&prompts, self.micro_batch_tokens, workers);
        }
        let tokens: usize = sequences.iter().map(|sequence| sequence.response.len()).sum();
        let count = micro_batch_count(self.micro_batch_tokens, workers, sequences.len(), tokens);
        (0..count).map(|first| (first..sequences.len()).step_by(count).collect()).collect()
    }
}

/// Returns the number of micro-batches of `budget` tokens for `responses` responses with `tokens` tokens in total: at least one per worker,
/// but at most one per response.
pub fn micro_batch_count(budget: usize, workers: usize, responses: usize, tokens: usize) -> usize {
    tokens.div_ceil(budget).max(workers).clamp(1, responses.max(1))
}

/// A prompt's length in rows (tokens), and its responses as `(index, tokens)`.
struct PromptRows {
    rows: usize,
    responses: Vec<(usize, usize)>,
}

/// Splits responses into micro-batches of at most `budget` rows, counting each prompt once per micro-batch. A response that exceeds the
/// budget together with its prompt has its own micro-batch. Lowers the budget if there would be fewer micro-batches than workers.
fn split_within_budget(prompts: &[PromptRows], budget: usize, workers: usize) -> Vec<Vec<usize>> {
    let all = |prompt: &PromptRows| prompt.rows + prompt.responses.iter().map(|(_, tokens)| tokens).sum::<usize>();
    let budget = budget.min(prompts.iter().map(all).sum::<usize>().div_ceil(workers));
    let (mut batches, mut rows) = (vec![Vec::new()], 0);
    for prompt in prompts {
        let mut packed = false;
        for (index, tokens) in &prompt.responses {
            if rows > 0 && rows + tokens + if packed { 0 } else { prompt.rows } > budget {
                batches.push(Vec::new());
                (rows, packed) = (0, false);
            }
            rows += tokens + if packed { 0 } else { prompt.rows };
            packed = true;
            if let Some(batch) = batches.last_mut() {
                batch.push(*index);
            }
        }
    }
    batches
}

/// Packs the sequences with indices `numbers`; consecutive sequences with equal prompts share one copy of the prompt.
pub fn pack(sequences: &[Sequence], numbers: &[usize]) -> Packed {
    let mut groups: Vec<(&[u32], Vec<&[u32]>)> = Vec::new();
    for number in numbers {
        let Sequence { prompt, response, .. } = sequences[*number];
        match groups.last_mut() {
            Some((same, responses)) if *same == prompt => responses.push(response),
            _ => groups.push((prompt, vec![response])),
        }
    }
    Packed { mask: sampling_mask(sequences, numbers), ..Packed::of_responses(groups) }
}

/// Returns the sampling masks of a micro-batch's response tokens; empty if no mask excludes a token.
fn sampling_mask(sequences: &[Sequence], numbers: &[usize]) -> SamplingMask {
    let packed = || numbers.iter().map(|number| sequences[*number]);
    let mut mask = SamplingMask::default();
    if packed().all(|sequence| sequence.mask.is_none_or(SamplingMask::is_whole)) {
        return mask;
    }
    for sequence in packed() {
        match sequence.mask {
            Some(of_one) => mask.append(of_one),
            None => sequence.response.iter().for_each(|_| mask.push_whole()),
        }
    }
    mask
}

/// Splits a flat per-token slice by response, and calls `take` with the index and the part of each of the sequences `numbers`.
///
/// # Panics
/// If `flat` has fewer numbers than the responses have tokens.
pub fn split_by_sequence(flat: &[f32], sequences: &[Sequence], numbers: &[usize], mut take: impl FnMut(usize, &[f32])) {
    let mut rest = flat;
    for number in numbers {
        let (own, after) = rest.split_at(sequences[*number].response.len());
        take(*number, own);
        rest = after;
    }
}

/// Converts per-token results of micro-batches into one list per sequence. Each micro-batch has the indices of its sequences and their
/// concatenated results.
pub fn by_sequence(sequences: &[Sequence], micro_batches: impl IntoIterator<Item = (Vec<usize>, Vec<f32>)>) -> Vec<Vec<f32>> {
    let mut all = vec![Vec::new(); sequences.len()];
    for (numbers, flat) in micro_batches {
        split_by_sequence(&flat, sequences, &numbers, |number, own| all[number] = own.to_vec());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_within_budget_keeps_prompts_together() {
        let prompt = |rows, responses: &[(usize, usize)]| PromptRows { rows, responses: responses.to_vec() };
        // The prompts alternate in the batch, but each micro-batch groups its responses by prompt.
        let prompts = [prompt(10, &[(0, 5), (2, 5), (4, 5)]), prompt(20, &[(1, 5), (3, 90), (5, 5)])];
        assert_eq!(split_within_budget(&prompts, 50, 1), [vec![0, 2, 4, 1], vec![3], vec![5]]);
        assert_eq!(split_within_budget(&prompts, 1000, 1), [[0, 2, 4, 1, 3, 5]]);
        assert_eq!(split_within_budget(&prompts[..1], 1000, 2), [[0], [2], [4]]);
    }
}
