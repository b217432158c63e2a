//! Rollouts as JSON for a served page, which asks for one step at a time and so can show all of them.

use std::collections::BTreeMap;
use std::time::SystemTime;

use anyhow::{Result, ensure};
use serde_json::json;

use super::chosen;
use super::gibberish::find_gibberish;
use super::readability::Readability;
use super::shown::{ShownRollout, shown_examples};
use super::step::{StepReader, StepSummary};
use crate::report::responses::shown_text::safe;
use crate::report::{KnownProblems, RunRecord};

/// The number of responses of a step that a page shows before a reader asks for all.
const FIRST_SHOWN: usize = 8;

/// Summaries of steps that have been read. Recorded rollouts do not change, unless a run is resumed from an earlier step.
#[derive(Debug, Default)]
pub struct StepSummaries {
    readability: Option<(Version, Readability)>,
    summaries: BTreeMap<u64, (Version, StepSummary)>,
}

/// The step, size and time of change of a file.
type Version = (u64, u64, Option<SystemTime>);

/// Returns the recorded steps as JSON, those that stand out with their summaries, and the steps of saturation and gibberish.
///
/// # Errors
/// If the JSON cannot be written.
pub fn steps_json(run: &RunRecord, summaries: &mut StepSummaries) -> Result<String> {
    let recorded = run.rollout_steps();
    let reader = summaries.reader(run, &recorded);
    let has_responses = |summary: &StepSummary| summary.responses > 0;
    let mut read = |step: u64| Some(summaries.get(&reader, step)).filter(has_responses);
    let mut shown: Vec<StepSummary> = chosen(run, &recorded).into_iter().filter_map(&mut read).collect();
    let first = find_gibberish(&recorded, &mut shown, |step| step, read);
    let steps = json!({
        "steps": recorded,
        "chosen": shown,
        "gibberish": first.map(|first| shown[first].step),
        "saturation": run.saturation_step(),
    });
    Ok(steps.to_string())
}

/// Returns all different rollouts of a step as JSON. As many as can be read: the file may be being written.
///
/// # Errors
/// If the run has no rollouts of this step.
pub fn rollouts_json(run: &RunRecord, summaries: &mut StepSummaries, step: u64) -> Result<String> {
    let recorded = run.rollout_steps();
    let nearest = recorded.iter().min_by_key(|one| one.abs_diff(step)).map(|nearest| format!("; the nearest recorded step is {nearest}"));
    ensure!(recorded.contains(&step), "the run has no rollouts of step {step}{}", nearest.unwrap_or_default());
    let read = summaries.reader(run, &recorded).read(step);
    let known = KnownProblems::examples(run);
    let rollouts: Vec<ShownRollout> = read.distinct.iter().map(|one| ShownRollout::of(run, &known, one, false)).collect();
    let rollouts = json!({
        "summary": read.summary,
        "examples": shown_examples(&known, read.distinct.iter().map(|one| one.record.example.as_str())),
        "rollouts": rollouts,
        "first": read.pick(FIRST_SHOWN),
        "missing": read.missing.iter().map(|sentence| safe(sentence)).collect::<Vec<_>>(),
    });
    Ok(rollouts.to_string())
}

impl StepSummaries {
    /// Returns a reader of the run's rollouts. Measures the readability of the first step only if that has changed.
    fn reader<'a>(&mut self, run: &'a RunRecord, recorded: &[u64]) -> StepReader<'a> {
        let Some(first) = recorded.first() else { return StepReader::new(run, None) };
        let version = version(run, *first);
        if let Some((_, readability)) = self.readability.filter(|(known, _)| *known == version) {
            return StepReader::with_readability(run, readability);
        }
        let reader = StepReader::new(run, Some(*first));
        (self.readability, self.summaries) = (Some((version, reader.readability())), BTreeMap::new());
        reader
    }

    fn get(&mut self, reader: &StepReader, step: u64) -> StepSummary {
        let version = version(reader.run(), step);
        match self.summaries.get(&step) {
            // The metrics of a step are recorded after its rollouts.
            Some((known, summary)) if *known == version => StepSummary { tokens: reader.tokens(step), ..summary.clone() },
            _ => {
                let summary = reader.read(step).summary;
                self.summaries.insert(step, (version, summary.clone()));
                summary
            }
        }
    }
}

fn version(run: &RunRecord, step: u64) -> Version {
    let metadata = std::fs::metadata(run.folder.rollouts(step)).ok();
    (step, metadata.as_ref().map_or(0, std::fs::Metadata::len), metadata.and_then(|metadata| metadata.modified().ok()))
}
