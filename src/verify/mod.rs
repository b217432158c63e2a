//! The answer verifier: decides whether the final answer of a response matches the gold answer.
//!
//! Extracts, parses and compares answers. Does not know where a response comes from: no I/O, no clock, no threads, no global state. Every
//! function is total: hostile input uses up a bounded number of steps and is then "not equal". Nothing recurses on input, and the same pair
//! gets the same verdict on every machine.
//!
//! ```
//! use rlvr::verify::{self, Settings, Verifier};
//!
//! let verdict = verify::verify("12.8", r"so $V = \boxed{\frac{64}{5}}$", &Settings::default());
//! assert!(verdict.correct);
//! assert_eq!(verdict.extracted.as_deref(), Some(r"\frac{64}{5}"));
//!
//! assert!(verify::equal("(2,\\infty)", "x > 2").equal);
//! assert!(!verify::equal("(2,\\infty)", "x >= 2").equal);
//! assert!(Verifier::default().check("3", r"\boxed{3} or so").correct);
//! ```
//!
//! # From a response to a verdict
//!
//! [`verify`] takes these steps, each in its own file or folder:
//!
//! 1. `extract` finds the answer in the response (`extract::fallback`: without a box, for evaluation only). The gold answer needs no
//!    extraction.
//! 2. `grader` compares the two answers by the notion of equality that the settings select. Ours is `grader::strict`: it compares
//!    normalized `text`, then the letters of options (`choice`), and otherwise parses both sides.
//! 3. `read` parses a text into a `tree` of nodes. If it cannot, the answer is compared as text.
//! 4. `compare` owns the work list. For each pair of nodes, `compare::goal` returns a verdict, or the pairs of smaller parts that must be
//!    equal. Each subject has a file with its rules: words and units (`quantity`), notations (`notation`), relations (`chain`, `relation`,
//!    `label`), sets of real numbers (`reals`, `subject`), lists and matrices (`structure`), letters (`rename`).
//! 5. `compare::scalar` compares two expressions by the first stage that can decide: exact rationals; identity of rational functions in a
//!    prime field; constants with error bounds, where double precision shows differences and 384 bits show equality; expressions in
//!    variables at seeded points (`sampled`); rounded decimals. `value` computes the numbers.
//!
//! Every step costs fuel from a limited budget (`fuel`) and can be recorded (`trace`): [`Verifier::explain`] returns which stages were
//! tried, why they gave no verdict, and which one decided. [`Method`] is the stage that decided.
//!
//! # Policies
//!
//! *Extraction.* The answer is the content of the last `\boxed{...}` or `\fbox{...}` of the response. If that box is never closed, there is
//! no answer, even if an earlier box was right. Boxes before the last `</think>` belong to the reasoning and are ignored. If the gold
//! answer is a list, its parts may be in several boxes on one line, and all must be right. Only [`Mode::Eval`] falls back to "the answer is
//! ...", the last formula and the last number, and [`Extraction`] records it.
//!
//! *Text.* An answer that cannot be parsed completely is compared as text only: no number is ever taken from it. Words are compared without
//! case, articles, plurals and punctuation.
//!
//! *Lists.* Bare lists and sets have no order, and every item must have a match: an extra or missing item makes the answer wrong. Tuples,
//! vectors and matrices are ordered; a bare list compared with a tuple must have the tuple's order. A vector is a tuple. `±` means both
//! values, never one of them.
//!
//! *Intervals.* Open and closed endpoints differ. Inequalities in one variable, set-builders over the reals and `x ∈` are intervals. A set
//! of integers is not. Bounds on a function, `2 < g(x) < 5`, are the interval of its values; bounds on a different variable are a different
//! answer.
//!
//! *Equations.* `x = 5` matches `5`, in both directions. A different left side is a different answer: `x = 5` is not `y = 5`,
//! `\sin y = 3/7` is not `\tan y = 3/7`, and `AB = 5` is not `CD = 5`. A plain name can match a function (`y` and `f(x)`), a length or
//! words. In computations such as `2 · 3 = 6`, every step of the answer must be right, and the last member is the value. Anything after `≈`
//! is ignored. Other equations are equal up to a constant factor, inequalities up to a positive one.
//!
//! *Decimals.* A decimal matches an exact gold answer if it is that value rounded to at least four significant digits. A gold answer that
//! is a decimal matches every value that rounds to it (to at least three digits) or truncates to it (with at least four digits), but never
//! another short decimal: 12.75 is not 12.8, and 2 is not 2.0001. Decimals with thirteen or more digits are treated as computer output,
//! whose last digits are noise.
//!
//! *Proof.* Two constants that agree to the last digit are equal only if every part of them affects those digits. Nothing shows that
//! `2^{1/2^{900}}` or `1 + e^{-1000}` is 1, so they are not equal to 1.
//!
//! *Times.* `6:15 p.m.` is 18:15. `a.m.` or `p.m.` on one side only is ignored, like a unit: 6:15 matches both. `06:15` is in the morning.
//!
//! *Signs.* `15%` matches both 15 and 0.15; without the sign nothing is scaled by 100. `60°` matches both 60 and π/3. Currency signs are
//! ignored. A logarithm without a base may be natural or decimal, but must be the same on both sides.
//!
//! *Units.* A unit on one side only is ignored. If both sides have one, the units must measure the same quantity, and the answer is
//! converted. Other words next to a number are ignored, unless they change its meaning ("at least", "not"). A base on one side only is
//! ignored; on both sides it must be the same. If a data set gives a unit or a tolerance with its gold answer ([`GoldAnswer`]), they are
//! part of that answer.
//!
//! *Options.* If both sides are options and at least one is a bare letter, the letters decide. Two letters are not an option. Circled
//! numbers are numbers; several in a row are a list.
//!
//! *Letters.* Parameters of a periodic family (`kπ`, `nπ`), bound variables of functions, and letters described as any integer may have any
//! name. The case of a letter is ignored unless the answer uses both cases.
//!
//! # Published graders
//!
//! [`Grader::Deepscaler`] follows the published training reward step by step. [`Grader::Qwen`] follows the published evaluation, with our
//! parser and arithmetic in place of its algebra system. On 2,533 answers of real models, the first agreed with the published verdict on
//! all of them, and the second on 2,519.

mod choice;
mod compare;
mod extract;
mod fuel;
mod gold_answer;
mod grader;
mod read;
mod text;
mod trace;
mod tree;
mod value;
mod vote;
mod words;

pub use extract::{Boxed, Extraction, last_boxed, text_before_boxed};
pub use gold_answer::{GoldAnswer, explain_problem, verify_gold_answer, verify_problem};
pub use grader::Grader;
pub use trace::{Line, Stage, Trace};
pub use vote::majority_vote;

use serde::{Deserialize, Serialize};

/// The version of the graders' verdicts, recorded with every score. Every change that can alter a verdict increments it.
pub const VERSION: u32 = 2;

/// Where to look for an answer in a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Training: only the last box.
    #[default]
    Reward,
    /// Evaluation: if there is no box, also "the answer is ..." and the last number, as in published evaluations.
    Eval,
}

/// Settings of the verifier. The default is for training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Where to look for an answer.
    pub mode: Mode,
    /// The grader, which defines equality.
    pub grader: Grader,
    /// Requires a `</think>` and reads only the text after the last one (R1-style models).
    pub after_think: bool,
}

/// The stage that decided, for either verdict, from the strongest to the weakest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// There was no answer to compare.
    NoAnswer,
    /// Normalized text.
    Text,
    /// The letter of an option.
    Choice,
    /// Exact rational arithmetic.
    Exact,
    /// An identity of polynomials or rational functions.
    Identity,
    /// Numbers with error bounds, up to 384 bits.
    Numeric,
    /// Values at seeded points, wherever both sides are defined.
    Sampled,
    /// One side is the rounded form of the other.
    Rounded,
    /// Within the tolerance of the data set.
    Tolerance,
    /// Different kinds, or lists of different lengths.
    Structure,
    /// The budget of steps or digits ran out before a decision.
    Exhausted,
}

impl Method {
    /// Describes the evidence, to complete "decided by ...".
    pub fn describe(self) -> &'static str {
        match self {
            Method::NoAnswer => "a missing answer",
            Method::Text => "the text",
            Method::Choice => "option letters",
            Method::Exact => "exact rational values",
            Method::Identity => "identity of rational functions",
            Method::Numeric => "values with error bounds",
            Method::Sampled => "values at seeded points",
            Method::Rounded => "rounded decimals",
            Method::Tolerance => "the data set's tolerance",
            Method::Structure => "the structure of the answers",
            Method::Exhausted => "the limit on steps and digits",
        }
    }
}

/// Result of [`verify`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// True if the answer matches the gold answer.
    pub correct: bool,
    /// The answer as written in the response, with the contents of several boxes joined by commas; `None` if none was found.
    pub extracted: Option<String>,
    /// How the answer was found.
    pub extraction: Extraction,
    /// The stage that decided.
    pub method: Method,
}

/// Result of [`equal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// True if the two answers are equal.
    pub equal: bool,
    /// The stage that decided.
    pub method: Method,
}

/// Extracts the answer of `response` and compares it with `gold`.
pub fn verify(gold: &str, response: &str, settings: &Settings) -> Verdict {
    verify_traced(gold, response, settings, &mut Trace::off())
}

/// Compares two answers with our own grader, without extraction.
pub fn equal(gold: &str, answer: &str) -> Comparison {
    Grader::Strict.equal(gold, answer, &mut Trace::off())
}

/// True if an answer can be parsed, so that it is not only compared as text. For statistics on gold answers.
pub fn can_parse(answer: &str) -> bool {
    let (mut tree, mut fuel) = (tree::Tree::default(), fuel::Fuel::new(fuel::Fuel::COMPARISON));
    read::read(&text::clean(answer), read::Commas::Group, &mut tree, &mut fuel).is_some()
}

/// A verifier with fixed settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verifier {
    /// Extraction mode and grader.
    pub settings: Settings,
}

impl Verifier {
    /// Creates a verifier with these settings.
    pub fn new(settings: Settings) -> Self {
        Verifier { settings }
    }

    /// Extracts the answer of `response` and compares it with `gold`.
    pub fn check(&self, gold: &str, response: &str) -> Verdict {
        verify(gold, response, &self.settings)
    }

    /// Compares two answers with the verifier's grader, without extraction.
    pub fn equal(&self, gold: &str, answer: &str) -> Comparison {
        self.settings.grader.equal(gold, answer, &mut Trace::off())
    }

    /// Like [`Verifier::check`], but also returns a record of the stages tried.
    pub fn explain(&self, gold: &str, response: &str) -> (Verdict, Trace) {
        let mut trace = Trace::on();
        (verify_traced(gold, response, &self.settings, &mut trace), trace)
    }

    /// Like [`Verifier::equal`], but also returns a record of the stages tried.
    pub fn explain_equal(&self, gold: &str, answer: &str) -> (Comparison, Trace) {
        let mut trace = Trace::on();
        (self.settings.grader.equal(gold, answer, &mut trace), trace)
    }
}

/// Verifies one pair and notes the stages in `trace` if it is on. `gold_answer` handles the units, tolerances and alternative answers of a
/// data set.
fn verify_traced(gold: &str, response: &str, settings: &Settings, trace: &mut Trace) -> Verdict {
    let (extracted, extraction) = extract::answer(gold, response, settings, trace);
    let Comparison { equal, method } = match &extracted {
        Some(answer) => settings.grader.equal(gold, answer, trace),
        None => {
            trace.note(Stage::Verdict, || format!("not equal, decided by {}", Method::NoAnswer.describe()));
            Comparison { equal: false, method: Method::NoAnswer }
        }
    };
    Verdict { correct: equal, extracted, extraction, method }
}
