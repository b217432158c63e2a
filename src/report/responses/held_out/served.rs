//! Responses to held-out problems as JSON for a served page, which asks for one problem at a time and so can show all of them.

use anyhow::{Result, ensure};
use serde::Serialize;

use super::recorded::{Outcome, Recorded, answers_of};
use super::shown::{ShownProblem, ShownResponse};
use super::{graders, index_entry, order};
use crate::report::responses::shown_text::safe;
use crate::report::responses::{index_head, milestone_steps};
use crate::report::{KnownProblems, RunRecord};

/// One problem's responses at all evaluations.
#[derive(Debug, Serialize)]
struct ServedProblem {
    #[serde(flatten)]
    problem: ShownProblem,
    /// The evaluated steps, in order.
    steps: Vec<u64>,
    /// The responses with each sample index.
    samples: Vec<ServedSample>,
}

/// The responses with one sample index.
#[derive(Debug, Serialize)]
struct ServedSample {
    sample: usize,
    /// The response at each step; `None` where there is none.
    responses: Vec<Option<ShownResponse>>,
}

/// Returns the index of all held-out problems as JSON, in the format of the index inside a page. Its problems have the verdicts at the
/// base, at saturation and at the end. Also lists what cannot be read.
///
/// # Errors
/// If the index cannot be serialized.
pub fn index_json(run: &RunRecord) -> Result<String> {
    let recorded = Recorded::read(run, &milestone_steps(run));
    let order = order(&recorded, run.settings.seed);
    let lines = order.iter().map(|index| serde_json::to_string(&index_entry(&recorded.entries[*index])));
    let lines: Vec<String> = lines.collect::<Result<_, _>>()?;
    let missing: Vec<_> = recorded.missing.iter().map(|sentence| safe(sentence)).collect();
    let missing = serde_json::to_string(&missing)?;
    Ok(format!("{},\"missing\":{missing},\"problems\":[{}]}}", index_head(run, &recorded), lines.join(",")))
}

/// Returns one problem's responses at all evaluations as JSON.
///
/// # Errors
/// If the run has no such pass, or no response to the problem.
pub fn problem_json(run: &RunRecord, pass: &str, id: &str) -> Result<String> {
    ensure!(run.passes().contains(&pass), "the run has no pass {pass:?}; expected one of {}", run.passes().join(", "));
    let passes = [pass.to_owned()];
    let known = KnownProblems::held_out(run, &passes);
    let steps: Vec<u64> = run.evaluations.iter().filter(|one| one.scores.contains_key(pass)).map(|one| one.step).collect();
    let (mut problem, mut samples) = (None, Vec::<ServedSample>::new());
    for (at, step) in steps.iter().enumerate() {
        // The file of an evaluation may be missing; the others are shown.
        let answers = answers_of(&run.folder.eval(*step).join(format!("{pass}.jsonl")), id).unwrap_or_default();
        let grader = graders(run, *step, &passes)[0];
        for answer in answers {
            problem = Some(ShownProblem::of(&answer, &known));
            let served = samples.iter().position(|sample| sample.sample == answer.sample);
            let index = served.unwrap_or_else(|| {
                samples.push(ServedSample { sample: answer.sample, responses: vec![None; steps.len()] });
                samples.len() - 1
            });
            let response = ShownResponse::of(&answer, Outcome::of(&answer), grader, &known, false);
            samples[index].responses[at].get_or_insert(response);
        }
    }
    samples.sort_by_key(|sample| sample.sample);
    ensure!(problem.is_some(), "the pass {pass} has no response to a problem with the id {id:?}");
    let problem = problem.unwrap_or_default();
    Ok(serde_json::to_string(&ServedProblem { problem, steps, samples })?)
}
