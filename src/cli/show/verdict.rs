//! A response with its verdict and the reason for it, as lines on a page.

use console::Style;

use super::page::Page;
use crate::eval::Answer;
use crate::flow::{FinishReason, Problem};
use crate::output::escape_controls;
use crate::report::RolloutRecord;
use crate::verify::{self, Mode, Settings};

/// A response as recorded.
pub struct Graded<'a> {
    /// The response's text.
    pub text: &'a str,
    /// The recorded verdict.
    pub outcome: Outcome,
    /// Facts to show in the heading, such as the length.
    pub facts: Vec<String>,
}

/// A recorded verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Right,
    /// Right only if answers without a box count too.
    RightUnboxed,
    Wrong,
}

impl Outcome {
    /// Returns the verdict in words.
    pub fn words(self) -> &'static str {
        match self {
            Outcome::Right => "right",
            Outcome::RightUnboxed => "wrong, right if unboxed answers count",
            Outcome::Wrong => "wrong",
        }
    }

    /// Returns the style of its verdict; only colors, because the words tell the verdict too.
    pub fn style(self) -> Style {
        match self {
            Outcome::Right => Style::new().green(),
            Outcome::RightUnboxed => Style::new().yellow(),
            Outcome::Wrong => Style::new().red(),
        }
    }

    fn mark(self) -> &'static str {
        if self == Outcome::Right { "✓" } else { "✗" }
    }
}

impl<'a> Graded<'a> {
    /// Describes a response to a held-out problem.
    pub fn of_answer(answer: &'a Answer) -> Self {
        let outcome = match (answer.correct, answer.correct_with_fallback) {
            (true, _) => Outcome::Right,
            (false, true) => Outcome::RightUnboxed,
            (false, false) => Outcome::Wrong,
        };
        let finish = match answer.finish {
            Some(FinishReason::Stop) => "stop",
            Some(FinishReason::Length) => "cut off",
            None => "the prompt did not fit the context",
        };
        let tokens = (answer.tokens > 0).then(|| format!("{} tokens", answer.tokens));
        let style = answer.style.clone();
        Self { text: &answer.response, outcome, facts: tokens.into_iter().chain([finish.to_owned()]).chain(style).collect() }
    }

    /// Describes a response to a training example.
    pub fn of_rollout(rollout: &'a RolloutRecord) -> Self {
        let outcome = if rollout.correct { Outcome::Right } else { Outcome::Wrong };
        let finish = if rollout.finish == "length" { "cut off".to_owned() } else { rollout.finish.clone() };
        let place = format!("group {} sample {}", rollout.group, rollout.sample);
        Self { text: &rollout.text, outcome, facts: vec![place, format!("reward {}", rollout.reward), finish] }
    }

    /// Adds the response to a page: a heading with the verdict, the text, and the reason.
    pub fn show(&self, page: &mut Page, title: &str, problem: &Problem, settings: &Settings) {
        let (style, dim) = (self.outcome.style(), Style::new().dim());
        let facts: Vec<String> = self.facts.iter().filter(|fact| !fact.is_empty()).map(|fact| escape_controls(fact).into_owned()).collect();
        let verdict = style.clone().bold().apply_to(format!("{} {}", self.outcome.mark(), self.outcome.words()));
        let title = if title.is_empty() { String::new() } else { format!("{}  ", Style::new().bold().apply_to(title)) };
        page.line(format!("{title}{verdict}  {}", dim.apply_to(facts.join(", "))));
        page.response(4, &style.bold(), self.text);
        page.wrapped(2, &dim, &reason(self, problem, settings));
    }
}

/// Returns the extracted and the gold answer with the verifier's reason. Says so if the record has another verdict, as after a change of
/// the data or the grader.
fn reason(graded: &Graded, problem: &Problem, settings: &Settings) -> String {
    let is_unboxed = graded.outcome == Outcome::RightUnboxed;
    let settings = if is_unboxed { &Settings { mode: Mode::Eval, ..*settings } } else { settings };
    let (verdict, trace) = verify::explain_problem(problem, graded.text, settings);
    let differs = verdict.correct != (graded.outcome != Outcome::Wrong);
    let differs = if differs { "; the run recorded another verdict, from data that is not at hand or another version" } else { "" };
    let (finding, gold) = (trace.reason(verdict.method), &problem.answer);
    let found = match verdict.extracted {
        Some(answer) => format!("{} {answer}, gold {gold}: {finding}", if is_unboxed { "unboxed answer" } else { "answer" }),
        // The missing answer is the reason.
        None => format!("gold {gold}: {finding}"),
    };
    format!("{found}{differs}").replace('\n', " ")
}

/// Returns a problem that has only the recorded gold answer, for a problem that is not at hand.
pub fn problem_of(answer: &Answer) -> Problem {
    Problem { id: answer.id.clone(), answer: answer.gold.clone(), ..Problem::default() }
}

/// Returns the share of right responses as text: `3 of 8 right`, or the verdict of a single one.
pub fn share(answers: &[&Answer]) -> String {
    match answers {
        [one] => Graded::of_answer(one).outcome.words().to_owned(),
        several => format!("{} of {} right", several.iter().filter(|answer| answer.correct).count(), several.len()),
    }
}

/// Returns the verifier's settings for the boxed answers of an evaluation with this grader.
pub fn grading(grader: verify::Grader) -> Settings {
    Settings { grader, ..Settings::default() }
}
