//! What an evaluation's answers add up to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::record::Answer;
use super::statistics::{Estimate, clustered_mean, wilson};
use crate::flow::Finish;

/// The score of one pass over one set. Shares are of responses, between 0 and 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Problems.
    pub problems: usize,
    /// Responses to each.
    pub samples: usize,
    /// Right in the box, with its 95% interval.
    pub accuracy: Option<Estimate>,
    /// Right when unboxed answers count too, as in the published evaluation.
    pub accuracy_with_fallback: Option<Estimate>,
    /// Responses with a complete box.
    pub boxed: f64,
    /// Responses cut off by the token limit.
    pub cut_off: f64,
    /// Mean length in tokens.
    pub mean_tokens: f64,
    /// Problems whose prompt did not fit the model's window (they count as wrong).
    pub too_long: usize,
    /// Accuracy by subject, where there is more than one.
    pub by_subject: BTreeMap<String, f64>,
    /// Share of each way of answering, where the set has a classifier of ways.
    pub ways: BTreeMap<String, f64>,
}

impl Score {
    /// Adds up the answers to one set, all samples of a problem together.
    pub fn of(answers: &[Answer], samples: usize) -> Self {
        let share = |count: usize| count as f64 / answers.len().max(1) as f64;
        let count = |test: fn(&Answer) -> bool| answers.iter().filter(|answer| test(answer)).count();
        let mut subjects: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        let mut ways: BTreeMap<&str, usize> = BTreeMap::new();
        for answer in answers {
            let (right, all) = subjects.entry(&answer.subject).or_default();
            *right += usize::from(answer.correct);
            *all += 1;
            answer.way.iter().for_each(|way| *ways.entry(way).or_default() += 1);
        }
        let by_subject = if subjects.len() > 1 { subjects } else { BTreeMap::new() };
        Self {
            problems: answers.len() / samples.max(1),
            samples,
            accuracy: estimate(answers, samples, |answer| answer.correct),
            accuracy_with_fallback: estimate(answers, samples, |answer| answer.correct_with_fallback),
            boxed: share(count(|answer| answer.extracted.is_some())),
            cut_off: share(count(|answer| answer.finish == Some(Finish::Length))),
            mean_tokens: answers.iter().map(|answer| answer.tokens).sum::<usize>() as f64 / answers.len().max(1) as f64,
            too_long: count(|answer| answer.finish.is_none()) / samples.max(1),
            by_subject: by_subject.into_iter().map(|(subject, (right, all))| (subject.to_owned(), right as f64 / all as f64)).collect(),
            ways: ways.into_iter().map(|(way, count)| (way.to_owned(), share(count))).collect(),
        }
    }

    /// Accuracy in the box, 0 without problems.
    pub fn mean(&self) -> f64 {
        self.accuracy.map_or(0.0, |accuracy| accuracy.mean)
    }
}

/// Each problem's mean over its samples.
pub fn per_problem(answers: &[Answer], samples: usize, right: impl Fn(&Answer) -> bool) -> Vec<f64> {
    let mean = |answers: &[Answer]| answers.iter().filter(|answer| right(answer)).count() as f64 / samples as f64;
    answers.chunks(samples.max(1)).map(mean).collect()
}

/// Wilson's interval for one response a problem, clustered by problem for several.
fn estimate(answers: &[Answer], samples: usize, right: fn(&Answer) -> bool) -> Option<Estimate> {
    if samples == 1 {
        return wilson(answers.iter().filter(|answer| right(answer)).count(), answers.len());
    }
    clustered_mean(&per_problem(answers, samples, right))
}
