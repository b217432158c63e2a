//! A response as a report shows it: its text made safe to look at, its verdict, and the reason for it.

use anyhow::Result;
use serde::Serialize;

use super::recorded::Outcome;
use crate::eval::Answer;
use crate::flow::{FinishReason, Problem};
use crate::report::KnownProblems;
use crate::report::responses::reason_sentence::reason_sentence;
use crate::report::responses::shown_text::{safe, text};
use crate::verify::{self, Extraction, Grader, Mode};

/// One graded response. All texts have their control characters escaped.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShownResponse {
    /// The response.
    pub text: String,
    /// The answer that was graded; `None` if none was found.
    pub answer: Option<String>,
    /// The recorded verdict.
    pub outcome: Outcome,
    /// Why the verifier decided so.
    pub reason: String,
    /// The length in tokens; 0 if it is unknown.
    pub tokens: usize,
    /// Why generation ended: `stop`, `length`, or empty if it was not recorded.
    pub finish: &'static str,
    /// The answer style; empty if the set has no style classifier.
    pub style: String,
}

/// What the responses to a problem share.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ShownProblem {
    /// The question; `None` if it is not on this machine.
    pub question: Option<String>,
    /// The gold answer.
    pub gold: String,
}

impl ShownProblem {
    /// Describes the problem of a recorded answer.
    pub fn of(answer: &Answer, known: &KnownProblems) -> Self {
        let question = known.of_answer(answer).map(|problem| safe(&problem.question).into_owned());
        Self { question, gold: safe(&answer.gold).into_owned() }
    }
}

impl ShownResponse {
    /// Describes a recorded answer, and runs the verifier for the reason. With `shorten`, leaves out the middle of a very long text.
    pub fn of(answer: &Answer, outcome: Outcome, grader: Grader, known: &KnownProblems, shorten: bool) -> Self {
        let bare = || Problem { id: answer.id.clone(), answer: answer.gold.clone(), ..Problem::default() };
        let problem = known.of_answer(answer).map_or_else(bare, |problem| (*problem).clone());
        let settings = verify::Settings { mode: Mode::Eval, grader, after_think: false };
        let (verdict, trace) = verify::explain_problem(&problem, &answer.response, &settings);
        let is_boxed = verdict.extraction == Extraction::Boxed;
        let agrees = (verdict.correct, verdict.correct && is_boxed) == (answer.correct_with_fallback, answer.correct);
        let reason = match outcome {
            Outcome::TooLong => "The prompt did not fit the context length, so there is no response".to_owned(),
            _ if agrees => reason_sentence(&verdict, &trace),
            _ => format!(
                "The record has another verdict than the verifier of this version, which says: {}",
                reason_sentence(&verdict, &trace)
            ),
        };
        Self {
            text: text(&answer.response, shorten),
            answer: verdict.extracted.map(|answer| safe(&answer).into_owned()),
            outcome,
            reason: safe(&reason).into_owned(),
            tokens: answer.tokens,
            finish: match answer.finish {
                Some(FinishReason::Stop) => "stop",
                Some(FinishReason::Length) => "length",
                None => "",
            },
            style: answer.style.clone().unwrap_or_default(),
        }
    }

    /// Stands for a record that cannot be read.
    pub fn unreadable(error: &anyhow::Error, outcome: Outcome) -> Self {
        let reason = safe(&format!("{error:#}")).into_owned();
        Self { text: String::new(), answer: None, outcome, reason, tokens: 0, finish: "", style: String::new() }
    }

    /// Describes a record that may not be readable.
    pub fn of_record(answer: &Result<Answer>, outcome: Outcome, grader: Grader, known: &KnownProblems, shorten: bool) -> Self {
        match answer {
            Ok(answer) => Self::of(answer, outcome, grader, known, shorten),
            Err(error) => Self::unreadable(error, outcome),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(gold: &str, response: &str, correct: bool, correct_with_fallback: bool) -> ShownResponse {
        let answer = Answer {
            id: "own/1".into(),
            subject: String::new(),
            level: String::new(),
            sample: 0,
            gold: gold.into(),
            response: response.into(),
            extracted: None,
            correct,
            correct_strict: None,
            correct_with_fallback,
            tokens: 3,
            finish: None,
            style: None,
        };
        let outcome = if correct { Outcome::Correct } else { Outcome::NoAnswer };
        ShownResponse::of(&answer, outcome, Grader::Strict, &KnownProblems::default(), true)
    }

    #[test]
    fn shown_response_has_a_reason_and_no_control_characters() {
        let found = shown("7", "\u{1b}[2J\u{202e}\\boxed{7}", true, true);
        assert_eq!(found.text, "\\u{1b}[2J\\u{202e}\\boxed{7}");
        assert_eq!((found.answer.as_deref(), found.finish), (Some("7"), ""));
        assert_eq!(found.reason, "Equal: both are `7` when normalized (decided by the text)");
        assert_eq!(shown("7", "", false, false).reason, "No answer: no box, no stated answer and no number");
    }

    #[test]
    fn shown_response_reports_a_record_that_disagrees() {
        let found = shown("7", "\\boxed{7}", false, false);
        assert!(found.reason.starts_with("The record has another verdict"), "{}", found.reason);
        assert_eq!(found.outcome, Outcome::NoAnswer);
    }
}
