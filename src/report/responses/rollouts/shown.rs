//! Rollouts and training examples as a page shows them. All texts have their control characters escaped.

use std::collections::BTreeMap;

use serde::Serialize;

use super::step::Distinct;
use crate::report::responses::reason_sentence::reason_sentence;
use crate::report::responses::shown_text::{safe, text};
use crate::report::{KnownProblems, RunRecord};
use crate::verify::{self, Mode};

/// A training response.
#[derive(Debug, Serialize)]
pub struct ShownRollout {
    group: usize,
    sample: usize,
    example: String,
    text: String,
    reward: f64,
    correct: bool,
    boxed: bool,
    finish: String,
    chars: usize,
    /// The number of responses of the step with the same text.
    copies: usize,
    /// Empty if the reward does not depend on the answer, or the example is not at hand.
    reason: String,
}

/// A training example.
#[derive(Debug, Serialize)]
pub struct ShownExample {
    question: String,
    gold: String,
    /// The label that replaces the gold answer in training.
    label: Option<String>,
}

impl ShownRollout {
    /// Describes a recorded response, and runs the verifier for the reason. With `shorten`, leaves out the middle of a very long text.
    pub fn of(run: &RunRecord, known: &KnownProblems, distinct: &Distinct, shorten: bool) -> Self {
        let Distinct { record, copies } = distinct;
        let settings =
            verify::Settings { mode: Mode::Reward, grader: run.settings.reward.grader, after_think: run.settings.reward.after_think };
        let problem = known.example_as_graded(&record.example);
        let explained = problem.map(|problem| verify::explain_problem(&problem, &record.text, &settings));
        // Another reward may decide without the label.
        let explained = explained.filter(|(verdict, _)| verdict.correct == record.correct);
        Self {
            group: record.group,
            sample: record.sample,
            example: safe(&record.example).into_owned(),
            text: text(&record.text, shorten),
            reward: record.reward,
            correct: record.correct,
            boxed: record.boxed,
            finish: safe(&record.finish).into_owned(),
            chars: record.text.chars().count(),
            copies: *copies,
            reason: explained.map_or(String::new(), |(verdict, trace)| safe(&reason_sentence(&verdict, &trace)).into_owned()),
        }
    }
}

/// Returns the examples that are at hand, by their ids.
pub fn shown_examples<'a>(known: &KnownProblems, ids: impl Iterator<Item = &'a str>) -> BTreeMap<String, ShownExample> {
    ids.filter_map(|id| {
        let problem = known.example(id)?;
        let example = ShownExample {
            question: safe(&problem.question).into_owned(),
            gold: safe(&problem.answer).into_owned(),
            label: known.label(id).map(|label| safe(label).into_owned()),
        };
        Some((safe(id).into_owned(), example))
    })
    .collect()
}
