//! The responses to held-out problems, packed for a page: an index, and blocks of texts that the page unpacks when one is opened.

mod recorded;
mod selection;
mod served;
mod shown;

use std::collections::HashMap;

use rayon::prelude::*;
use serde::Serialize;

use super::ResponseLimit;
use super::shown_text::safe;
use crate::report::{DataBlock, KnownProblems, RunRecord};
use crate::verify::Grader;
use selection::Candidate;
use shown::ShownProblem;

pub use recorded::{Entry, Outcome, Recorded};
pub use served::{index_json, problem_json};
pub use shown::ShownResponse;

/// The number of problems in a block.
pub const BLOCK: usize = 32;
/// The number of blocks that are packed at the same time.
const BATCH: usize = 8;

/// What the list shows of a problem.
#[derive(Debug, Serialize)]
pub struct IndexEntry<'a> {
    pass: usize,
    id: std::borrow::Cow<'a, str>,
    sample: usize,
    subject: std::borrow::Cow<'a, str>,
    level: std::borrow::Cow<'a, str>,
    /// The recorded verdict at each step; `None` where the problem was not evaluated.
    outcomes: Vec<Option<Outcome>>,
}

/// A problem with its response at each milestone.
#[derive(Debug, Serialize)]
pub struct OpenedEntry {
    /// The question and the gold answer.
    #[serde(flatten)]
    pub problem: ShownProblem,
    /// The responses.
    pub responses: Vec<Option<ShownResponse>>,
}

/// The packed responses of a run.
#[derive(Debug)]
pub struct Packed {
    /// The index and the texts.
    pub data: Vec<DataBlock>,
    /// The included entries, by their indices in [`Recorded::entries`].
    pub included: Vec<usize>,
}

/// Grades and describes entries.
pub struct Reader<'a> {
    recorded: &'a Recorded,
    known: &'a KnownProblems,
    /// The grader of each pass at each milestone.
    graders: Vec<Vec<Grader>>,
    shorten: bool,
}

impl<'a> Reader<'a> {
    /// Reads entries of `recorded`. With `shorten`, leaves out the middle of very long texts.
    pub fn new(run: &RunRecord, recorded: &'a Recorded, known: &'a KnownProblems, shorten: bool) -> Self {
        let graders = recorded.steps.iter().map(|step| graders(run, *step, &recorded.passes)).collect();
        Self { recorded, known, graders, shorten }
    }

    /// Reads and grades all responses of an entry.
    pub fn open(&self, entry: &Entry) -> OpenedEntry {
        let mut problem = ShownProblem::default();
        let mut responses = Vec::with_capacity(entry.at.len());
        for (milestone, location) in entry.at.iter().enumerate() {
            responses.push(location.map(|location| {
                let answer = self.recorded.answer(entry, milestone, location);
                if let Ok(answer) = &answer {
                    problem = ShownProblem::of(answer, self.known);
                }
                let grader = self.graders[milestone][entry.pass];
                ShownResponse::of_record(&answer, location.outcome, grader, self.known, self.shorten)
            }));
        }
        OpenedEntry { problem, responses }
    }
}

/// Returns the graders of an evaluation's passes: the recorded ones, or the setting where none is recorded.
pub fn graders(run: &RunRecord, step: u64, passes: &[String]) -> Vec<Grader> {
    let conditions = run.conditions(step).unwrap_or_default();
    passes.iter().map(|pass| conditions.get(pass).map_or(run.settings.eval.grader, |conditions| conditions.grader)).collect()
}

/// Returns what the list shows of an entry.
pub fn index_entry(entry: &Entry) -> IndexEntry<'_> {
    IndexEntry {
        pass: entry.pass,
        id: safe(&entry.id),
        sample: entry.sample,
        subject: safe(&entry.subject),
        level: safe(&entry.level),
        outcomes: entry.at.iter().map(|location| location.map(|location| location.outcome)).collect(),
    }
}

/// Returns the indices of all entries in the order of inclusion.
pub fn order(recorded: &Recorded, seed: u64) -> Vec<usize> {
    let mut strata: HashMap<(usize, &str), usize> = HashMap::new();
    let candidates: Vec<Candidate> = recorded
        .entries
        .iter()
        .map(|entry| {
            let next = strata.len();
            let stratum = *strata.entry((entry.pass, entry.subject.as_str())).or_insert(next);
            Candidate { changed: entry.changed(), stratum }
        })
        .collect();
    selection::order(&candidates, seed)
}

/// Packs entries in order until the limit is reached. `head` is the start of the index, a JSON object without its closing brace.
pub fn pack(reader: &Reader, order: &[usize], limit: ResponseLimit, head: &str) -> Packed {
    let mut packing = Packing { reader, blocks: Vec::new(), lines: Vec::new(), text_bytes: 0, index_bytes: 0 };
    let limit_bytes = match limit {
        ResponseLimit::Bytes(bytes) => bytes,
        ResponseLimit::All => usize::MAX,
    };
    let mut included = packing.fill(order, limit_bytes);
    loop {
        let index = DataBlock::new("responses-index", format!("{head},\"problems\":[{}]}}", packing.lines.join(",")).as_bytes());
        if packing.text_bytes + index.size_bytes() <= limit_bytes {
            let data = std::iter::once(index).chain(packing.blocks).collect();
            return Packed { data, included: order[..included].to_vec() };
        }
        // The index is larger than estimated, so the last block does not fit.
        if !packing.drop_last() {
            return Packed { data: Vec::new(), included: Vec::new() };
        }
        included = packing.lines.len();
    }
}

struct Packing<'a> {
    reader: &'a Reader<'a>,
    blocks: Vec<DataBlock>,
    /// The index entry of each included problem as JSON.
    lines: Vec<String>,
    text_bytes: usize,
    /// An estimate of the size of the index.
    index_bytes: usize,
}

impl Packing<'_> {
    /// Adds blocks until the limit is reached, and returns the number of entries in them.
    fn fill(&mut self, order: &[usize], limit_bytes: usize) -> usize {
        let chunks: Vec<&[usize]> = order.chunks(BLOCK).collect();
        for batch in chunks.chunks(BATCH) {
            let packed: Vec<_> = batch.par_iter().enumerate().map(|(at, chunk)| self.block(self.blocks.len() + at, chunk)).collect();
            for (chunk, (block, lines)) in batch.iter().zip(packed) {
                if !self.add(block, lines, limit_bytes) {
                    self.add_part(chunk, limit_bytes);
                    return self.lines.len();
                }
            }
        }
        self.lines.len()
    }

    /// Adds as much of a block as fits, by halving it.
    fn add_part(&mut self, chunk: &[usize], limit_bytes: usize) {
        let mut count = chunk.len() / 2;
        while count > 0 {
            let (block, lines) = self.block(self.blocks.len(), &chunk[..count]);
            if self.add(block, lines, limit_bytes) {
                return;
            }
            count /= 2;
        }
    }

    fn block(&self, number: usize, chunk: &[usize]) -> (DataBlock, Vec<String>) {
        let entries = chunk.iter().map(|index| &self.reader.recorded.entries[*index]);
        let opened: Vec<OpenedEntry> = entries.clone().map(|entry| self.reader.open(entry)).collect();
        // Serializing plain records never fails.
        let text = serde_json::to_vec(&opened).unwrap_or_default();
        let lines = entries.map(|entry| serde_json::to_string(&index_entry(entry)).unwrap_or_default()).collect();
        (DataBlock::new(format!("responses-{number}"), &text), lines)
    }

    /// Adds a block if it fits.
    fn add(&mut self, block: DataBlock, lines: Vec<String>, limit_bytes: usize) -> bool {
        let index_bytes = self.index_bytes + DataBlock::new("", lines.join(",").as_bytes()).size_bytes();
        if self.text_bytes + block.size_bytes() + index_bytes > limit_bytes {
            return false;
        }
        self.index_bytes = index_bytes;
        self.text_bytes += block.size_bytes();
        self.blocks.push(block);
        self.lines.extend(lines);
        true
    }

    /// Removes the last block; returns false if there is none.
    fn drop_last(&mut self) -> bool {
        let Some(block) = self.blocks.pop() else { return false };
        self.text_bytes -= block.size_bytes();
        self.lines.truncate(self.blocks.len() * BLOCK);
        true
    }
}
