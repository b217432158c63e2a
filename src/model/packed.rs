//! Packed batches: the tokens of many sequences concatenated without padding, with prompts shared by their responses.

use crate::flow::SamplingMask;
use crate::kernels::Segment;

/// A packed batch. Row `i` of the decoder's input is token `tokens[i]` at `positions[i]` of its sequence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Packed {
    /// The token id of each row.
    pub tokens: Vec<u32>,
    /// The position of each row in its sequence, from 0.
    pub positions: Vec<u32>,
    /// Which rows attend to which.
    pub segments: Vec<Segment>,
    /// `rows[j]` is the row whose output predicts `targets[j]`. The last row of a shared prompt appears once for each of its responses.
    pub rows: Vec<u32>,
    /// The response tokens, response by response.
    pub targets: Vec<u32>,
    /// The sampling mask of each target; empty if every target was sampled from the whole vocabulary.
    pub mask: SamplingMask,
    /// Response `s` is `targets[offsets[s]..offsets[s + 1]]`.
    pub offsets: Vec<usize>,
}

impl Packed {
    /// Creates an empty batch.
    pub fn new() -> Self {
        Self { offsets: vec![0], ..Self::default() }
    }

    /// Packs groups, `(prompt, responses)`. A prompt appears once, before its responses, and must not be empty. Only response tokens are
    /// targets; the last token of a response is not an input.
    pub fn of_responses<'a>(groups: impl IntoIterator<Item = (&'a [u32], Vec<&'a [u32]>)>) -> Self {
        let mut packed = Self::new();
        for (prompt, responses) in groups {
            let prefix = packed.push_segment(prompt, 0, 0..0);
            for response in responses {
                packed.push_response(&prefix, response);
            }
        }
        packed
    }

    /// Appends `tokens` that start at `position` of their sequence. Each attends to the rows `prefix` and to the new rows up to its own.
    /// Returns the new rows.
    pub fn push_segment(&mut self, tokens: &[u32], position: usize, prefix: std::ops::Range<usize>) -> std::ops::Range<usize> {
        let rows = self.tokens.len()..self.tokens.len() + tokens.len();
        self.tokens.extend_from_slice(tokens);
        self.positions.extend((position..position + tokens.len()).map(|p| p as u32));
        if !tokens.is_empty() {
            self.segments.push(Segment { tokens: rows.clone(), prefix });
        }
        rows
    }

    fn push_response(&mut self, prefix: &std::ops::Range<usize>, response: &[u32]) {
        let Some((_, inputs)) = response.split_last() else {
            self.offsets.push(self.targets.len());
            return;
        };
        let rows = self.push_segment(inputs, prefix.len(), prefix.clone());
        self.rows.push(prefix.end as u32 - 1);
        self.rows.extend(rows.map(|row| row as u32));
        self.targets.extend_from_slice(response);
        self.offsets.push(self.targets.len());
    }

    /// Returns the number of rows that the decoder computes.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Returns true if there are no rows.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_responses_packs_a_prompt_once_for_all_its_responses() {
        let packed = Packed::of_responses([(&[7u32, 8, 9][..], vec![&[1u32, 2, 3][..], &[4], &[5, 6]])]);
        assert_eq!(packed.tokens, [7, 8, 9, 1, 2, 5]);
        assert_eq!(packed.positions, [0, 1, 2, 3, 4, 3]);
        assert_eq!(packed.rows, [2, 3, 4, 2, 2, 5]);
        assert_eq!(packed.targets, [1, 2, 3, 4, 5, 6]);
        assert_eq!(packed.offsets, [0, 3, 4, 6]);
        let segments = [(0..3, 0..0), (3..5, 0..3), (5..6, 0..3)].map(|(tokens, prefix)| Segment { tokens, prefix });
        assert_eq!(packed.segments, segments);
    }
}
