//! The rollouts that a run recorded at one step: their different texts, and what a page says about all of them.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::choice;
use super::readability::Readability;
use crate::input::Lines;
use crate::report::{RolloutRecord, RunRecord};

/// What a page says about the rollouts of a step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepSummary {
    /// The step.
    pub step: u64,
    /// The number of responses.
    pub responses: usize,
    /// The number of correct ones.
    pub correct: usize,
    /// The number of unreadable ones.
    pub unreadable: usize,
    /// The mean reward.
    pub reward: f64,
    /// The mean length in tokens; `None` if it was not recorded.
    pub tokens: Option<f64>,
}

/// The rollouts of one step.
#[derive(Debug)]
pub struct StepRollouts {
    /// What a page says about all of them.
    pub summary: StepSummary,
    /// The responses with different texts, in the order of the records.
    pub distinct: Vec<Distinct>,
    /// What cannot be read, one sentence each.
    pub missing: Vec<String>,
}

/// A response, and the number of responses of the step with the same text and verdict.
#[derive(Clone, Debug)]
pub struct Distinct {
    /// The first of these responses.
    pub record: RolloutRecord,
    /// The number of responses.
    pub copies: usize,
}

/// Reads the rollouts of a run.
#[derive(Debug)]
pub struct StepReader<'a> {
    run: &'a RunRecord,
    readability: Readability,
    /// The mean length in tokens at each step.
    lengths: BTreeMap<u64, f64>,
}

impl<'a> StepReader<'a> {
    /// Reads rollouts of a run. Measures their readability in comparison with those of the first recorded step.
    pub fn new(run: &'a RunRecord, first: Option<u64>) -> Self {
        let base = first.map(|step| records(run, step).0).unwrap_or_default();
        Self::with_readability(run, Readability::of_base(base.iter().map(|record| record.text.as_str())))
    }

    /// Reads rollouts of a run whose first step has been measured.
    pub fn with_readability(run: &'a RunRecord, readability: Readability) -> Self {
        Self { run, readability, lengths: run.metrics.points("response_length/mean").into_iter().collect() }
    }

    /// Returns the run.
    pub fn run(&self) -> &'a RunRecord {
        self.run
    }

    /// Returns the measure that the reader uses.
    pub fn readability(&self) -> Readability {
        self.readability
    }

    /// Reads the rollouts of a step; as many as can be read.
    pub fn read(&self, step: u64) -> StepRollouts {
        let (records, missing) = records(self.run, step);
        let count = |is_counted: &dyn Fn(&RolloutRecord) -> bool| records.iter().filter(|record| is_counted(record)).count();
        let summary = StepSummary {
            step,
            responses: records.len(),
            correct: count(&|record| record.correct),
            unreadable: count(&|record| self.readability.is_unreadable(&record.text)),
            reward: records.iter().map(|record| record.reward).sum::<f64>() / records.len().max(1) as f64,
            tokens: self.tokens(step),
        };
        StepRollouts { summary, distinct: distinct(records), missing }
    }

    /// Returns the mean length of a step's responses in tokens; `None` if it is not recorded.
    pub fn tokens(&self, step: u64) -> Option<f64> {
        self.lengths.get(&step).copied()
    }
}

impl StepSummary {
    /// Returns the share of unreadable responses.
    pub fn unreadable_share(&self) -> f64 {
        self.unreadable as f64 / self.responses.max(1) as f64
    }
}

impl StepRollouts {
    /// Returns the indices of up to `count` responses: half of them right and half wrong where there are enough of both.
    pub fn pick(&self, count: usize) -> Vec<usize> {
        let kinds: Vec<(usize, bool)> = self.distinct.iter().map(|one| (one.record.group, one.record.correct)).collect();
        choice::pick(&kinds, count)
    }

    /// Drops all responses except up to `count`, chosen as by [`pick`](Self::pick).
    pub fn keep(mut self, count: usize) -> Self {
        self.distinct = self.pick(count).into_iter().map(|index| self.distinct[index].clone()).collect();
        self
    }
}

/// Joins responses with the same text and verdict.
fn distinct(records: Vec<RolloutRecord>) -> Vec<Distinct> {
    let mut known: HashMap<(String, bool), usize> = HashMap::new();
    let mut found: Vec<Distinct> = Vec::new();
    for record in records {
        match known.get(&(record.text.clone(), record.correct)) {
            Some(index) => found[*index].copies += 1,
            None => {
                known.insert((record.text.clone(), record.correct), found.len());
                found.push(Distinct { record, copies: 1 });
            }
        }
    }
    found
}

/// Reads the records of a step, and says what cannot be read. Skips lines that are not rollouts, and stops where the file cannot be read, as
/// in a file that is being written.
fn records(run: &RunRecord, step: u64) -> (Vec<RolloutRecord>, Vec<String>) {
    let path = run.folder.rollouts(step);
    let lines = match Lines::open(&path) {
        Ok(lines) => lines,
        Err(error) => return (Vec::new(), vec![format!("{error:#}")]),
    };
    let (mut found, mut invalid, mut missing) = (Vec::new(), 0, Vec::new());
    for line in lines {
        match line {
            Ok(line) => match serde_json::from_str(&line.text) {
                Ok(record) => found.push(record),
                Err(_) => invalid += 1,
            },
            Err(error) => {
                missing.push(format!("{error:#}"));
                break;
            }
        }
    }
    if invalid > 0 {
        missing.push(format!("{} has {invalid} lines that are not rollouts, which are left out", path.display()));
    }
    (found, missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinct_counts_responses_with_the_same_text_and_verdict() {
        let record = |text: &str, correct: bool| RolloutRecord { text: text.into(), correct, ..RolloutRecord::default() };
        let found = distinct(vec![record("7", true), record("8", false), record("7", true), record("7", false)]);
        let found: Vec<_> = found.iter().map(|one| (one.record.text.as_str(), one.record.correct, one.copies)).collect();
        assert_eq!(found, [("7", true, 2), ("8", false, 1), ("7", false, 1)]);
    }
}
