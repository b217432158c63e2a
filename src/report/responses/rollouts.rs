//! The rollouts of the training example by step, packed for a page: an index of steps, and a block of texts for each step.

mod choice;
mod gibberish;
mod readability;
mod served;
mod shown;
mod step;

use rayon::prelude::*;

use super::ResponseLimit;
use crate::report::{DataBlock, KnownProblems, RunRecord};
use gibberish::find_gibberish;
use shown::{ShownRollout, shown_examples};
use step::{Distinct, StepReader, StepRollouts};

pub use served::{StepSummaries, rollouts_json, steps_json};
pub use step::StepSummary;

/// The maximum number of steps that a page includes, or that stand out among those that a server has.
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

/// Chooses steps and responses and packs them into their share of the limit.
pub fn pack(run: &RunRecord, known: &KnownProblems, limit: ResponseLimit) -> PackedRollouts {
    let recorded = run.rollout_steps();
    let (per_step, limit_bytes, shorten) = match limit {
        ResponseLimit::All => (PER_STEP.0, usize::MAX, false),
        ResponseLimit::Bytes(bytes) => (PER_STEP.1, (bytes as f64 * SHARE) as usize, true),
    };
    let reader = StepReader::new(run, recorded.first().copied());
    let read = |step: u64| reader.read(step).keep(per_step);
    let mut shown: Vec<StepRollouts> = chosen(run, &recorded).into_par_iter().map(read).collect();
    let missing = shown.iter_mut().flat_map(|step| std::mem::take(&mut step.missing)).collect();
    let has_responses = |step: &StepRollouts| step.summary.responses > 0;
    shown.retain(has_responses);
    let first = find_gibberish(&recorded, &mut shown, |step| &step.summary, |step| Some(read(step)).filter(has_responses));
    let gibberish = first.map(|first| shown[first].summary.step);
    first.iter().for_each(|first| shown.truncate(first + 1 + AFTER_GIBBERISH));
    let mut packed = PackedRollouts { recorded: recorded.len(), gibberish, missing, per_step, ..Default::default() };
    Packing { run, known, limit_bytes, shorten }.fit(shown, &mut packed);
    packed
}

/// Returns the steps that a page shows of the recorded ones. Steps with an evaluation have large files, which also record the tokens.
fn chosen(run: &RunRecord, recorded: &[u64]) -> Vec<u64> {
    let every = run.settings.eval.every;
    choice::choose(recorded, run.saturation_step(), STEPS, |step| every > 0 && step.is_multiple_of(every))
}

struct Packing<'a> {
    run: &'a RunRecord,
    known: &'a KnownProblems,
    limit_bytes: usize,
    shorten: bool,
}

impl Packing<'_> {
    /// Packs as many responses per step as fit; if one per step is too much, packs fewer steps.
    fn fit(&self, mut shown: Vec<StepRollouts>, packed: &mut PackedRollouts) {
        while !shown.is_empty() {
            let data = self.blocks(&shown, packed);
            if data.iter().map(DataBlock::size_bytes).sum::<usize>() <= self.limit_bytes {
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

    fn blocks(&self, shown: &[StepRollouts], packed: &PackedRollouts) -> Vec<DataBlock> {
        let picked: Vec<Vec<&Distinct>> =
            shown.iter().map(|step| step.pick(packed.per_step).into_iter().map(|index| &step.distinct[index]).collect()).collect();
        let index = serde_json::json!({
            "steps": shown.iter().map(|step| &step.summary).collect::<Vec<_>>(),
            "gibberish": packed.gibberish,
            "saturation": self.run.saturation_step(),
            "examples": shown_examples(self.known, picked.iter().flatten().map(|one| one.record.example.as_str())),
        });
        let text = |(step, picked): (&StepRollouts, &Vec<&Distinct>)| {
            let rollouts: Vec<_> = picked.iter().map(|one| ShownRollout::of(self.run, self.known, one, self.shorten)).collect();
            // Serializing plain records never fails.
            DataBlock::new(format!("rollouts-{}", step.summary.step), &serde_json::to_vec(&rollouts).unwrap_or_default())
        };
        let texts: Vec<DataBlock> = shown.par_iter().zip(&picked).map(text).collect();
        std::iter::once(DataBlock::new("rollouts-index", index.to_string().as_bytes())).chain(texts).collect()
    }
}
