//! Sequences in packed micro-batches: which stand together, which lane computes them, and which share of the results is each one's. Owns that
//! division; must never know what is computed.

use std::collections::HashMap;

use anyhow::Result;

use crate::flow::{Completion, Kept};
use crate::interrupt::Interrupt;
use crate::lanes::Lanes;
use crate::model::Packed;
use crate::model::decoder::Recompute;

/// A prompt with a response to it, in tokens; the response's are scored.
#[derive(Clone, Copy, Debug)]
pub struct Sequence<'a> {
    /// Comes first. At least one token.
    pub prompt: &'a [u32],
    /// Follows it.
    pub response: &'a [u32],
    /// The tokens that count in the distribution of each response token; none where the whole vocabulary does.
    pub kept: Option<&'a Kept>,
}

impl<'a> Sequence<'a> {
    /// A prompt with what was sampled after it.
    pub fn of(prompt: &'a [u32], completion: &'a Completion) -> Self {
        Self { prompt, response: &completion.ids, kept: completion.truncated.as_ref().map(|truncated| &truncated.kept) }
    }
}

/// How sequences are computed: in micro-batches of some tokens, which lanes take in turn. No result depends on the division but by rounding in
/// sums over micro-batches.
#[derive(Clone, Copy)]
pub struct Packing<'a> {
    /// Compute side by side.
    pub lanes: &'a Lanes,
    /// Most tokens in a micro-batch; a response that exceeds it with its prompt is alone.
    pub micro_batch_tokens: usize,
    /// Which activations a gradient's pass recomputes; a pass without a gradient keeps none.
    pub recompute: Recompute,
    /// Looked at before every micro-batch.
    pub interrupt: &'a Interrupt,
}

impl Packing<'_> {
    /// Does `work(state, lane, numbers, packed)` for every micro-batch, with the numbers of its sequences. A lane has one state, which its
    /// micro-batches change one after the other. Gives the lanes' states.
    ///
    /// # Errors
    /// What `work` fails with, and [`Interrupted`](crate::interrupt::Interrupted).
    pub fn on_lanes<S: Default + Send>(
        &self,
        sequences: &[Sequence],
        work: impl Fn(&mut S, usize, &[usize], Packed) -> Result<()> + Sync,
    ) -> Result<Vec<S>> {
        let micro_batches = self.micro_batches(sequences);
        self.lanes.run(|lane| {
            let mut state = S::default();
            for numbers in micro_batches.iter().skip(lane).step_by(self.lanes.count()) {
                self.interrupt.check()?;
                work(&mut state, lane, numbers, pack(sequences, numbers))?;
            }
            Ok(state)
        })
    }

    /// The numbers of the sequences in each micro-batch.
    ///
    /// Responses to one prompt are dealt to micro-batches in turn: enough of them that none exceeds the token budget by more than the prompt and
    /// the unevenness of lengths, and at least one a lane. Responses to several prompts are cut prompt after prompt.
    pub fn micro_batches(&self, sequences: &[Sequence]) -> Vec<Vec<usize>> {
        let (mut prompts, mut numbers) = (Vec::<PromptRows>::new(), HashMap::<&[u32], usize>::new());
        for (index, sequence) in sequences.iter().enumerate() {
            let number = *numbers.entry(sequence.prompt).or_insert_with(|| {
                prompts.push(PromptRows { rows: sequence.prompt.len(), responses: Vec::new() });
                prompts.len() - 1
            });
            prompts[number].responses.push((index, sequence.response.len()));
        }
        if prompts.len() > 1 {
            return cut(&prompts, self.micro_batch_tokens, self.lanes.count());
        }
        let tokens: usize = sequences.iter().map(|sequence| sequence.response.len()).sum();
        let count = micro_batch_count(self.micro_batch_tokens, self.lanes.count(), sequences.len(), tokens);
        (0..count).map(|first| (first..sequences.len()).step_by(count).collect()).collect()
    }
}

/// Micro-batches of `budget` tokens for so many responses of `tokens` tokens together: at least one a lane.
pub fn micro_batch_count(budget: usize, lanes: usize, responses: usize, tokens: usize) -> usize {
    tokens.div_ceil(budget).max(lanes).clamp(1, responses.max(1))
}

/// A prompt with its responses, `(number, tokens)`.
struct PromptRows {
    rows: usize,
    responses: Vec<(usize, usize)>,
}

/// Micro-batches of at most `budget` rows, each prompt counted once in each that has responses to it; a response that exceeds it with its prompt
/// is alone. Smaller ones where a lane would have nothing to do.
fn cut(prompts: &[PromptRows], budget: usize, lanes: usize) -> Vec<Vec<usize>> {
    let all = |prompt: &PromptRows| prompt.rows + prompt.responses.iter().map(|(_, tokens)| tokens).sum::<usize>();
    let budget = budget.min(prompts.iter().map(all).sum::<usize>().div_ceil(lanes));
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

/// Packs the numbered sequences, each distinct run of equal prompts once.
pub fn pack(sequences: &[Sequence], numbers: &[usize]) -> Packed {
    let mut groups: Vec<(&[u32], Vec<&[u32]>)> = Vec::new();
    for number in numbers {
        let Sequence { prompt, response, .. } = sequences[*number];
        match groups.last_mut() {
            Some((same, responses)) if *same == prompt => responses.push(response),
            _ => groups.push((prompt, vec![response])),
        }
    }
    Packed { kept: kept(sequences, numbers), ..Packed::of_responses(groups) }
}

/// The tokens that count at each response token of a micro-batch; none at all where the whole vocabulary counts everywhere.
fn kept(sequences: &[Sequence], numbers: &[usize]) -> Kept {
    let packed = || numbers.iter().map(|number| sequences[*number]);
    let mut kept = Kept::default();
    if packed().all(|sequence| sequence.kept.is_none_or(Kept::is_whole)) {
        return kept;
    }
    for sequence in packed() {
        match sequence.kept {
            Some(of_one) => kept.append(of_one),
            None => sequence.response.iter().for_each(|_| kept.push_whole()),
        }
    }
    kept
}

/// Splits the numbers of a micro-batch's response tokens, which lie end to end, and gives each sequence its own by its number.
pub fn deal(flat: &[f32], sequences: &[Sequence], numbers: &[usize], mut take: impl FnMut(usize, &[f32])) {
    let mut rest = flat;
    for number in numbers {
        let (own, after) = rest.split_at(sequences[*number].response.len());
        take(*number, own);
        rest = after;
    }
}

/// A number for each response token, sequence by sequence, from those of micro-batches.
pub fn by_sequence(sequences: &[Sequence], micro_batches: impl IntoIterator<Item = (Vec<usize>, Vec<f32>)>) -> Vec<Vec<f32>> {
    let mut all = vec![Vec::new(); sequences.len()];
    for (numbers, flat) in micro_batches {
        deal(&flat, sequences, &numbers, |number, own| all[number] = own.to_vec());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_to_several_prompts_are_cut_within_the_budget() {
        let prompt = |rows, responses: &[(usize, usize)]| PromptRows { rows, responses: responses.to_vec() };
        // Prompts that take turns in the batch stand together in their micro-batches.
        let prompts = [prompt(10, &[(0, 5), (2, 5), (4, 5)]), prompt(20, &[(1, 5), (3, 90), (5, 5)])];
        assert_eq!(cut(&prompts, 50, 1), [vec![0, 2, 4, 1], vec![3], vec![5]]);
        assert_eq!(cut(&prompts, 1000, 1), [[0, 2, 4, 1, 3, 5]]);
        assert_eq!(cut(&prompts[..1], 1000, 2), [[0], [2], [4]]);
    }
}
