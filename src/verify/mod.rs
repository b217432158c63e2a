//! The answer verifier: is the final answer of a response the reference answer?
//!
//! It owns extraction, reading and comparison of answers, and must never know where a response came from: no I/O, no clock, no threads, no
//! global state. Every function is total: hostile input costs a bounded number of steps and is then simply "not equal".
//!
//! # Policies
//!
//! - **Extraction.** The last `\boxed{...}` or `\fbox{...}` of the response; unclosed, it is no answer, even when an earlier box was right.
//!   A box before the last `</think>` is a thought, not an answer. Only [`Mode::Eval`] falls back to "the answer is ..." and the last number.
//! - **What does not parse whole is text.** No number is ever picked out of something that was not understood.
mod approx;
mod ball;
mod choice;
mod compare;
mod decimal;
mod deepscaler;
mod evaluate;
mod exact;
mod extract;
mod fallback;
mod field;
mod frame;
mod fuel;
mod goal;
mod ladder;
mod lex;
mod lex_command;
mod lex_number;
mod operator;
mod quantity;
mod qwen;
mod read;
mod read_items;
mod read_number;
mod reals;
mod relation;
mod rename;
mod rewrite;
mod scalar;
mod series;
mod text;
mod token;
mod tree;
mod words;

pub use extract::{Boxed, last_boxed};
use serde::{Deserialize, Serialize};

/// Where an answer may be found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Training: the last box or nothing.
    #[default]
    Reward,
    /// Evaluation: without a box also "the answer is ..." and the last number, as published evaluations do.
    Eval,
}

/// Whose notion of equality decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grader {
    /// Ours.
    #[default]
    Strict,
    /// The published training reward's, for comparable rewards.
    Deepscaler,
    /// The published evaluation's, for comparable scores.
    Qwen,
}

/// How a response is verified. The default is what training uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Where an answer may be found.
    pub mode: Mode,
    /// Whose notion of equality decides.
    pub grader: Grader,
    /// Require a `</think>` and read only what follows the last one (R1-style models).
    pub after_think: bool,
}

/// How the answer was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extraction {
    /// In the last box.
    Boxed,
    /// After "the answer is" or its like (evaluation only).
    AnswerIs,
    /// The last number of the response (evaluation only).
    LastNumber,
    /// Not at all.
    None,
}

/// The rung of the ladder that decided, for either verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// There was no answer to compare.
    NoAnswer,
    /// Normalised text.
    Text,
    /// Exact rational arithmetic.
    Exact,
    /// An identity of polynomials or rational functions.
    Identity,
    /// Numbers with error bounds, to hundreds of digits.
    Numeric,
    /// Agreement wherever both are defined, at seeded points.
    Sampled,
    /// One side is the other, rounded.
    Rounded,
    /// The letter of an option.
    Choice,
    /// Different kinds, or lists of different length.
    Structure,
    /// The budget ended before a decision.
    Exhausted,
}

/// What [`verify`] found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether the answer equals the reference.
    pub correct: bool,
    /// The answer as the response gives it, where there is one.
    pub extracted: Option<String>,
    /// How it was found.
    pub extraction: Extraction,
    /// The rung that decided.
    pub method: Method,
}

/// What [`equal`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// Whether the two are equal.
    pub equal: bool,
    /// The rung that decided.
    pub method: Method,
}

/// Extracts the answer of `response` and compares it with `gold`.
pub fn verify(gold: &str, response: &str, settings: &Settings) -> Verdict {
    let (extracted, extraction) = extract::answer(gold, response, settings);
    let Comparison { equal, method } = match (&extracted, settings.grader) {
        (None, _) => Comparison { equal: false, method: Method::NoAnswer },
        (Some(answer), Grader::Strict) => self::equal(gold, answer),
        (Some(answer), Grader::Deepscaler) => deepscaler::equal(gold, answer),
        (Some(answer), Grader::Qwen) => qwen::equal(gold, answer),
    };
    Verdict { correct: equal, extracted, extraction, method }
}

/// Compares two answers by our own policies, without extraction.
pub fn equal(gold: &str, answer: &str) -> Comparison {
    ladder::equal(gold, answer)
}

/// For people: how each side was read, the rung that decided, and why.
pub fn explain(gold: &str, answer: &str) -> String {
    let Comparison { equal, method } = equal(gold, answer);
    let verdict = if equal { "equal" } else { "not equal" };
    format!("gold    {}\nanswer  {}\nverdict {verdict}, by {method:?}\n", text::normalise(gold), text::normalise(answer))
}

/// Whether an answer is understood as more than text; for statistics over reference answers.
pub fn reads(answer: &str) -> bool {
    ladder::reads(answer)
}
