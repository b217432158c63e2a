//! Sampling masks: which tokens top-k, top-p and min-p left at each position. Plain data; `kernels` computes the masks.

use std::ops::Range;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One set of token ids for each position of a response, or for each row of logits. A position that keeps the whole vocabulary stores no
/// ids.
///
/// Serialized, a position is `null` (the whole vocabulary) or a list of ids, in which `[first, last]` means all ids from `first` to `last`:
/// `[null, [5, [7, 20]], [3]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SamplingMask {
    /// Runs of consecutive ids `[begin, end)` of all positions, concatenated; ascending within a position.
    runs: Vec<[u32; 2]>,
    /// `ends[p]` is the end of position p's runs in `runs`.
    ends: Vec<usize>,
}

impl SamplingMask {
    /// Returns the number of positions.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns true if there are no positions.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns true if every position keeps the whole vocabulary.
    pub fn is_whole(&self) -> bool {
        self.runs.is_empty()
    }

    /// Appends a position that keeps the whole vocabulary.
    pub fn push_whole(&mut self) {
        self.ends.push(self.runs.len());
    }

    /// Appends a position that keeps `ids`, which must ascend. Without ids it keeps the whole vocabulary.
    pub fn push(&mut self, ids: impl IntoIterator<Item = u32>) {
        let begin = self.runs.len();
        for id in ids {
            match self.runs[begin..].last_mut() {
                Some([_, end]) if *end == id => *end += 1,
                _ => self.runs.push([id, id + 1]),
            }
        }
        self.ends.push(self.runs.len());
    }

    /// Appends a position that keeps the ids in `runs`, each `[begin, end)`, ascending. Without runs it keeps the whole vocabulary.
    pub fn push_runs(&mut self, runs: &[[u32; 2]]) {
        self.runs.extend_from_slice(runs);
        self.ends.push(self.runs.len());
    }

    /// Appends all positions of another mask.
    pub fn append(&mut self, other: &Self) {
        let before = self.runs.len();
        self.runs.extend_from_slice(&other.runs);
        self.ends.extend(other.ends.iter().map(|end| before + end));
    }

    /// Returns the ids that a position keeps, as ascending runs `[begin, end)`. No runs mean the whole vocabulary.
    ///
    /// # Panics
    /// If the position is out of range.
    pub fn runs(&self, position: usize) -> &[[u32; 2]] {
        &self.runs[self.begin(position)..self.ends[position]]
    }

    /// Returns a copy of the mask at `positions`.
    ///
    /// # Panics
    /// If a position is out of range.
    pub fn part(&self, positions: Range<usize>) -> Self {
        let begin = self.begin(positions.start);
        let ends: Vec<usize> = self.ends[positions].iter().map(|end| end - begin).collect();
        Self { runs: self.runs[begin..begin + ends.last().copied().unwrap_or(0)].to_vec(), ends }
    }

    /// Returns true if a position keeps the token.
    ///
    /// # Panics
    /// If the position is out of range.
    pub fn contains(&self, position: usize, token: u32) -> bool {
        let runs = self.runs(position);
        runs.is_empty() || runs.iter().any(|[begin, end]| (*begin..*end).contains(&token))
    }

    /// Returns the smallest vocabulary size that contains every stored id; 0 if every position keeps the whole vocabulary.
    pub fn vocabulary(&self) -> usize {
        self.runs.iter().map(|[_, end]| *end as usize).max().unwrap_or(0)
    }

    fn begin(&self, position: usize) -> usize {
        position.checked_sub(1).map_or(0, |before| self.ends[before])
    }
}

/// Ids in serialized form.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Ids {
    One(u32),
    FirstToLast([u32; 2]),
}

impl Serialize for SamplingMask {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ids = |[begin, end]: &[u32; 2]| if end - begin == 1 { Ids::One(*begin) } else { Ids::FirstToLast([*begin, end - 1]) };
        serializer.collect_seq((0..self.len()).map(|position| {
            let runs = self.runs(position);
            (!runs.is_empty()).then(|| runs.iter().map(ids).collect::<Vec<_>>())
        }))
    }
}

impl<'de> Deserialize<'de> for SamplingMask {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut mask = Self::default();
        for (position, ids) in Vec::<Option<Vec<Ids>>>::deserialize(deserializer)?.into_iter().enumerate() {
            let Some(ids) = ids else {
                mask.push_whole();
                continue;
            };
            if ids.is_empty() {
                return Err(D::Error::custom(format!("kept: position {position} keeps no token; write null for the whole vocabulary")));
            }
            let mut runs = Vec::<[u32; 2]>::new();
            for ids in ids {
                let [first, last] = match ids {
                    Ids::One(id) => [id; 2],
                    Ids::FirstToLast(ids) => ids,
                };
                let after = runs.last().map_or(0, |[_, end]| *end);
                if first < after || last < first || last == u32::MAX {
                    let text =
                        format!("kept: position {position} has ids {first} to {last}, expected ids from {after} on: token ids must ascend");
                    return Err(D::Error::custom(text));
                }
                match runs.last_mut() {
                    Some([_, end]) if *end == first => *end = last + 1,
                    _ => runs.push([first, last + 1]),
                }
            }
            mask.push_runs(&runs);
        }
        Ok(mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> SamplingMask {
        let mut mask = SamplingMask::default();
        mask.push_whole();
        mask.push([5, 7, 8, 9, 20]);
        mask.push([3]);
        mask.push_whole();
        mask.push_runs(&[[0, 290]]);
        mask
    }

    #[test]
    fn sampling_mask_serializes_compactly_and_reads_back() {
        let mask = sample();
        let text = serde_json::to_string(&mask).unwrap();
        assert_eq!(text, "[null,[5,[7,9],20],[3],null,[[0,289]]]");
        assert_eq!(serde_json::from_str::<SamplingMask>(&text).unwrap(), mask);
        assert_eq!(serde_json::from_str::<SamplingMask>("[[1,2,[3,4]]]").unwrap().runs(0), [[1, 5]], "adjacent ids must form one run");
        assert_eq!((mask.len(), mask.vocabulary(), mask.is_whole()), (5, 290, false));
    }

    #[test]
    fn sampling_mask_rejects_empty_and_unordered_lists() {
        let check = |text: &str, expected: &str| {
            let message = serde_json::from_str::<SamplingMask>(text).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        };
        check("[null, []]", "position 1 keeps no token; write null for the whole vocabulary");
        check("[[4, 4]]", "position 0 has ids 4 to 4, expected ids from 5 on: token ids must ascend");
        check("[[[9, 7]]]", "9 to 7");
        check("[[-1]]", "did not match");
    }

    #[test]
    fn part_and_append_preserve_positions() {
        let mask = sample();
        let mut again = mask.part(0..2);
        again.append(&mask.part(2..2));
        again.append(&mask.part(2..5));
        assert_eq!(again, mask);
        assert!(mask.part(3..4).is_whole() && mask.part(0..0).is_empty());
        let found: Vec<bool> = [4, 5, 6, 7, 9, 10, 20].map(|token| mask.contains(1, token)).to_vec();
        assert_eq!(found, [false, true, false, true, true, false, true]);
        assert!(mask.contains(0, 1_000_000) && !mask.contains(4, 290));
    }
}
