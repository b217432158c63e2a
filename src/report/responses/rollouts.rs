//! The rollouts of the training example by step, packed for a page: an index of steps, and a block of texts for each step.

use std::collections::{BTreeMap, HashMap};

use rayon::prelude::*;
use serde::Serialize;

use super::ResponseLimit;
use super::readability::{Readability, gibberish_from};
use super::reason_sentence::reason_sentence;
use super::shown::{safe, text};
use super::steps;
use crate::input::Lines;
use crate::report::KnownProblems;
use crate::report::run_record::RolloutRecord;
use crate::report::{DataBlock, RunRecord};
use crate::verify::{self, Mode};

/// The maximum number of steps that are shown.
const STEPS: usize = 40;
/// The number of steps shown after the one from which most responses are unreadable.
const AFTER_GIBBERISH: usize = 2;
/// The maximum number of responses per step, without and with a limit.
const PER_STEP: (usize, usize) = (64, 8);
/// The share of the limit that rollouts may take.
const SHARE: f64 = 0.25;

/// The packed rollouts of a run.
#[derive(Debug, Default)]
pub struct PackedRollouts {
    /// The index and the texts; empty without rollouts.
    pub data: Vec<DataBlock>,
    /// The steps that are shown, in order.
    pub steps: Vec<StepSummary>,
    /// The number of steps whose rollouts are recorded.
    pub recorded: usize,
    /// The number of responses shown per step, at most.
    pub per_step: usize,
    /// The step from which most responses are unreadable.
    pub gibberish: Option<u64>,
    /// What cannot be read, one sentence each.
    pub missing: Vec<String>,
}

/// What a page says about a step.
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

/// A training response as the page shows it. All texts have their control characters escaped.
#[derive(Debug, Serialize)]
struct ShownRollout<'a> {
    group: usize,
    sample: usize,
    example: &'a str,
    text: String,
    reward: f64,
    correct: bool,
    boxed: bool,
    finish: &'a str,
    chars: usize,
    /// The number of responses of the step with the same text.
    copies: usize,
    /// Empty if the reward does not depend on the answer, or the example is not at hand.
    reason: String,
}

/// A training example as the page shows it.
#[derive(Debug, Serialize)]
struct ShownExample {
    question: String,
    gold: String,
    /// The label that replaces the gold answer in training.
    label: Option<String>,
}

/// The rollouts of one step.
struct Step {
    summary: StepSummary,
    /// The responses that may be shown, with different texts.
    picked: Vec<Distinct>,
}

/// A response, and the number of responses of the step with the same text and verdict.
#[derive(Clone)]
struct Distinct {
    record: RolloutRecord,
    copies: usize,
}

/// Chooses steps and responses and packs them into their share of the limit.
pub fn pack(run: &RunRecord, known: &KnownProblems, limit: ResponseLimit) -> PackedRollouts {
    let recorded = run.rollout_steps();
    let every = run.settings.eval.every;
    let chosen = steps::choose(&recorded, run.saturation_step(), STEPS, |step| every > 0 && step.is_multiple_of(every));
    let mut missing = Vec::new();
    let (per_step, limit_bytes) = match limit {
        ResponseLimit::All => (PER_STEP.0, usize::MAX),
        ResponseLimit::Bytes(bytes) => (PER_STEP.1, (bytes as f64 * SHARE) as usize),
    };
    let first = chosen.first().map(|step| records(run, *step, &mut missing)).unwrap_or_default();
    let readability = Readability::of_base(first.iter().map(|record| record.text.as_str()));
    drop(first);
    let read = |steps: &[u64], missing: &mut Vec<String>| read_steps(run, steps, readability, per_step, missing);
    let mut shown = read(&chosen, &mut missing);
    let gibberish = mark_gibberish(&recorded, &mut shown, |step| read(&[step], &mut Vec::new()).pop());
    missing.dedup();
    let mut packed = PackedRollouts { recorded: recorded.len(), gibberish, missing, ..Default::default() };
    fit(run, known, shown, per_step, limit_bytes, &mut packed);
    packed
}

/// Finds the step from which most responses are unreadable, and removes later steps except a few. `read` reads further steps, to find the
/// step exactly.
fn mark_gibberish(recorded: &[u64], shown: &mut Vec<Step>, read: impl Fn(u64) -> Option<Step>) -> Option<u64> {
    let shares = |shown: &[Step]| shown.iter().map(|step| step.summary.unreadable_share()).collect::<Vec<_>>();
    let mut first = gibberish_from(&shares(shown)).filter(|first| *first > 0)?;
    loop {
        let (before, after) = (shown[first - 1].summary.step, shown[first].summary.step);
        let between = &recorded[recorded.partition_point(|step| *step <= before)..recorded.partition_point(|step| *step < after)];
        let Some(middle) = between.get(between.len() / 2).and_then(|step| read(*step)) else { break };
        let is_unreadable = middle.summary.unreadable_share() >= 0.5;
        shown.insert(first, middle);
        first += usize::from(!is_unreadable);
    }
    shown.truncate(first + 1 + AFTER_GIBBERISH);
    Some(shown[first].summary.step)
}

/// Packs as many responses per step as fit; if one per step is too much, packs fewer steps.
fn fit(run: &RunRecord, known: &KnownProblems, mut shown: Vec<Step>, per_step: usize, limit_bytes: usize, packed: &mut PackedRollouts) {
    packed.per_step = per_step;
    while !shown.is_empty() {
        let data = blocks(run, known, &shown, packed);
        if data.iter().map(DataBlock::size_bytes).sum::<usize>() <= limit_bytes {
            packed.steps = shown.into_iter().map(|step| step.summary).collect();
            packed.data = data;
            return;
        }
        if packed.per_step > 1 {
            packed.per_step /= 2;
        } else {
            let mut number = 0;
            shown.retain(|_| {
                number += 1;
                number % 2 == 0
            });
        }
    }
}

fn blocks(run: &RunRecord, known: &KnownProblems, shown: &[Step], packed: &PackedRollouts) -> Vec<DataBlock> {
    let picked: Vec<Vec<&Distinct>> = shown.iter().map(|step| pick(&step.picked, packed.per_step)).collect();
    let ids = picked.iter().flatten().map(|one| one.record.example.as_str());
    let examples: BTreeMap<String, ShownExample> = ids.filter_map(|id| Some((safe(id).into_owned(), shown_example(known, id)?))).collect();
    let summaries: Vec<&StepSummary> = shown.iter().map(|step| &step.summary).collect();
    let index = serde_json::json!({
        "steps": summaries,
        "gibberish": packed.gibberish,
        "saturation": run.saturation_step(),
        "examples": examples,
    });
    let text = |(step, records): (&Step, &Vec<&Distinct>)| {
        let rollouts: Vec<ShownRollout> = records.iter().map(|one| shown_rollout(run, known, one)).collect();
        // Serializing plain records never fails.
        DataBlock::new(format!("rollouts-{}", step.summary.step), &serde_json::to_vec(&rollouts).unwrap_or_default())
    };
    let texts: Vec<DataBlock> = shown.par_iter().zip(&picked).map(text).collect();
    std::iter::once(DataBlock::new("rollouts-index", index.to_string().as_bytes())).chain(texts).collect()
}

fn pick(records: &[Distinct], count: usize) -> Vec<&Distinct> {
    let kinds: Vec<(usize, bool)> = records.iter().map(|one| (one.record.group, one.record.correct)).collect();
    steps::pick(&kinds, count).into_iter().map(|index| &records[index]).collect()
}

fn shown_example(known: &KnownProblems, id: &str) -> Option<ShownExample> {
    let problem = known.example(id)?;
    Some(ShownExample {
        question: safe(&problem.question).into_owned(),
        gold: safe(&problem.answer).into_owned(),
        label: known.label(id).map(|label| safe(label).into_owned()),
    })
}

fn shown_rollout<'a>(run: &RunRecord, known: &KnownProblems, distinct: &'a Distinct) -> ShownRollout<'a> {
    let Distinct { record, copies } = distinct;
    let settings =
        verify::Settings { mode: Mode::Reward, grader: run.settings.reward.grader, after_think: run.settings.reward.after_think };
    let problem = known.example_as_graded(&record.example);
    let explained = problem.map(|problem| verify::explain_problem(&problem, &record.text, &settings));
    // Another reward may decide without the label.
    let explained = explained.filter(|(verdict, _)| verdict.correct == record.correct);
    ShownRollout {
        group: record.group,
        sample: record.sample,
        example: &record.example,
        text: text(&record.text, true),
        reward: record.reward,
        correct: record.correct,
        boxed: record.boxed,
        finish: &record.finish,
        chars: record.text.chars().count(),
        copies: *copies,
        reason: explained.map_or(String::new(), |(verdict, trace)| safe(&reason_sentence(&verdict, &trace)).into_owned()),
    }
}

fn read_steps(run: &RunRecord, steps: &[u64], readability: Readability, per_step: usize, missing: &mut Vec<String>) -> Vec<Step> {
    let lengths: BTreeMap<u64, f64> = run.metrics.points("response_length/mean").into_iter().collect();
    let read = |step: &u64| {
        let mut missing = Vec::new();
        let records = records(run, *step, &mut missing);
        let count = |is_counted: &dyn Fn(&RolloutRecord) -> bool| records.iter().filter(|record| is_counted(record)).count();
        let summary = StepSummary {
            step: *step,
            responses: records.len(),
            correct: count(&|record| record.correct),
            unreadable: count(&|record| readability.is_unreadable(&record.text)),
            reward: records.iter().map(|record| record.reward).sum::<f64>() / records.len().max(1) as f64,
            tokens: lengths.get(step).copied(),
        };
        let picked = pick(&distinct(records), per_step).into_iter().cloned().collect();
        ((summary.responses > 0).then_some(Step { summary, picked }), missing)
    };
    let (found, notes): (Vec<_>, Vec<_>) = steps.par_iter().map(read).collect::<Vec<_>>().into_iter().unzip();
    missing.extend(notes.into_iter().flatten());
    found.into_iter().flatten().collect()
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

/// Reads the rollouts of a step. Skips lines that are not rollouts, and stops where the file cannot be read.
fn records(run: &RunRecord, step: u64, missing: &mut Vec<String>) -> Vec<RolloutRecord> {
    let path = run.folder.rollouts(step);
    let lines = match Lines::open(&path) {
        Ok(lines) => lines,
        Err(error) => {
            missing.push(format!("{error:#}"));
            return Vec::new();
        }
    };
    let (mut found, mut invalid) = (Vec::new(), 0);
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
    found
}

impl StepSummary {
    /// Returns the share of unreadable responses.
    pub fn unreadable_share(&self) -> f64 {
        self.unreadable as f64 / self.responses.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: u64, unreadable: usize) -> Step {
        let summary = StepSummary { step, responses: 10, correct: 0, unreadable, reward: 0.0, tokens: None };
        Step { summary, picked: Vec::new() }
    }

    #[test]
    fn mark_gibberish_finds_the_step_exactly_and_stops_after_it() {
        let recorded: Vec<u64> = (1..=100).collect();
        let check = |chosen: &[u64], from: u64, expected: Option<u64>, last: u64| {
            let unreadable = |number: u64| step(number, if number >= from { 9 } else { 1 });
            let mut shown: Vec<Step> = chosen.iter().map(|number| unreadable(*number)).collect();
            assert_eq!(mark_gibberish(&recorded, &mut shown, |number| Some(unreadable(number))), expected);
            assert!(shown.is_sorted_by(|a, b| a.summary.step < b.summary.step));
            assert_eq!(shown.last().map(|step| step.summary.step), Some(last));
        };
        check(&[1, 20, 60, 80, 90, 100], 37, Some(37), 40);
        check(&[1, 20, 60, 80, 90, 100], 60, Some(60), 90);
        check(&[1, 20, 60], 100, None, 60);
        // The first step is as unreadable as all others, so there is no such step.
        check(&[1, 20, 60], 1, None, 60);
    }
}
