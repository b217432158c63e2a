//! The answer verifier: is the final answer of a response the reference answer?
//!
//! It owns extraction, reading and comparison of answers, and must never know where a response came from: no I/O, no clock, no threads, no
//! global state. Every function is total: hostile input costs a bounded number of steps and is then simply "not equal". Nothing recurses on
//! input, and the same pair gets the same verdict on every machine.
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
//! [`verify`] takes these steps, and a reader may follow them from file to file:
//!
//! 1. `extract` finds the answer in the response (`extract::fallback`: without a box, for evaluation). The reference is an answer already.
//! 2. `grader` compares the two answers by the notion of equality that the settings name. Ours is `grader::strict`: it compares normalised `text`,
//!    then the letters of options (`choice`), and has both sides read for all the rest.
//! 3. `read` turns a text into a `tree` of nodes, or refuses it; what is refused is compared as text.
//! 4. `compare` keeps the work list. For each pair of nodes `compare::goal` says what remains to be shown: nothing, or that pairs of smaller parts
//!    are equal. The rules stand with their subjects: words and units (`quantity`), notations, relations (`chain`, `relation`, `label`), sets of real
//!    numbers (`reals`, `subject`), lists and matrices (`structure`), letters (`rename`).
//! 5. `compare::scalar` decides two expressions by the first of these that can: exact rationals; identity of rational functions in a prime field;
//!    constants with error bounds, in double precision to part them and to 384 bits to hold them together; expressions in variables at seeded points
//!    (`sampled`); rounded decimals. `value` computes the numbers.
//!
//! Every step is paid from a budget (`fuel`) and can be told (`trace`): [`Verifier::explain`] shows which stages were tried, why they gave no
//! verdict and which one did. [`Method`] names the one that decided.
//!
//! # Policies
//!
//! *Extraction.* The last `\boxed{...}` or `\fbox{...}` of the response; unclosed, it is no answer, even when an earlier box was right. A box
//! before the last `</think>` is a thought, not an answer. Where the reference is a list, as many boxes on one line are one answer of several
//! parts, and all must be right. Only [`Mode::Eval`] falls back to "the answer is ...", the last formula and the last number, and says so.
//!
//! *Text.* What does not parse whole is compared as text only: no number is ever picked out of something that was not understood. Words are
//! equal but for case, articles, plural and punctuation.
//!
//! *Lists.* Bare lists and sets have no order, and every item counts once: extra, missing or hedged items are wrong. Tuples, vectors and matrices
//! have an order; against a tuple, a bare list must be in the tuple's. A vector is a tuple. `±` is both values, never one of them.
//!
//! *Intervals.* Ends are strict. Inequalities in one variable, set-builders over the reals and `x ∈` are intervals. A set of whole numbers is
//! none. Bounds on a function, `2 < g(x) < 5`, are the interval of its values; bounds on another variable are another answer.
//!
//! *Equations.* `x = 5` is 5, and `5` is `x = 5`. Another left side is another answer: `x = 5` is not `y = 5`, `\sin y = 3/7` not `\tan y = 3/7`,
//! `AB = 5` not `CD = 5`. A plain name and a function's (`y` and `f(x)`), a length's or words may be one. Computations such as
//! `2 · 3 = 6` must be right in every step of the answer, and stand for their last member; what follows `≈` does not count. Other equations are
//! equal up to a constant factor, inequalities up to a positive one.
//!
//! *Decimals.* A decimal against an exact value: right when it is that value rounded, from four significant digits on. A reference that is a
//! decimal stands for everything that rounds to it (to three digits at least), or from four digits on is cut off to it, but never for another
//! short decimal: 12.75 is not 12.8, and 2 is not 2.0001. Thirteen digits and more are a computer's, whose last ones are noise.
//!
//! *Proof.* Two constants that agree to the last digit are equal only where every part of them counts in those digits: nothing shows that
//! `2^{1/2^{900}}` is 1, or that `1 + e^{-1000}` is, so they are not.
//!
//! *Times.* `6:15 p.m.` is 18:15. `a.m.` or `p.m.` on one side only is ignored as a unit is: 6:15 is either. `06:15` is in the morning.
//!
//! *Signs.* `15%` is 15 and 0.15; without the sign nothing is a hundredth of anything. `60°` is 60 and π/3. Money signs do not count. A logarithm
//! without a base is natural or decimal, the same on both sides.
//!
//! *Units.* A unit on one side only is ignored; on both sides they must measure the same, and their sizes count. Other words beside a number are
//! decoration, but for those that change it ("at least", "not"). A base on one side only is ignored, on both it must be the same. Where a set names
//! unit or tolerance beside its reference ([`Reference`]), they count as if the reference had them.
//!
//! *Options.* Where both sides are options, the letters decide, whatever text stands beside one of them; two letters are no option. Circled
//! numbers are numbers, and side by side a list.
//!
//! *Letters.* Parameters of a periodic family (`kπ`, `nπ`), bound variables of functions, and letters said to be any integer may have any name; the
//! case of an otherwise unused letter does not count.
//!
//! # Published graders
//!
//! [`Grader::Deepscaler`] follows the published training reward step by step; [`Grader::Qwen`] the published evaluation, with our reader in
//! place of its algebra. On 2,533 answers of real models the first gave the published verdict on all, the second on 2,519.
mod choice;
mod compare;
mod extract;
mod fuel;
mod grader;
mod read;
mod reference;
mod text;
mod trace;
mod tree;
mod value;
mod vote;
mod words;

pub use extract::{Boxed, Extraction, last_boxed, until_box};
pub use grader::Grader;
pub use reference::{Reference, verify_problem, verify_reference};
pub use trace::{Line, Stage, Trace};
pub use vote::majority_vote;

use serde::{Deserialize, Serialize};

/// Which verdicts the graders give: raised with every change after which a pair of answers may be judged in another way.
pub const VERSION: u32 = 2;

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

/// What decided, for either verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// There was no answer to compare.
    NoAnswer,
    /// Normalised text.
    Text,
    /// The letter of an option.
    Choice,
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
    /// Close enough by the set's own measure.
    Tolerance,
    /// Different kinds, or lists of different length.
    Structure,
    /// The budget of steps or digits ended before a decision.
    Exhausted,
}

impl Method {
    /// What it looks at, in words.
    pub fn describe(self) -> &'static str {
        match self {
            Method::NoAnswer => "the want of an answer",
            Method::Text => "the text",
            Method::Choice => "letters of options",
            Method::Exact => "exact rational values",
            Method::Identity => "identity of rational functions",
            Method::Numeric => "values with error bounds",
            Method::Sampled => "values at seeded points",
            Method::Rounded => "rounded decimals",
            Method::Tolerance => "the set's tolerance",
            Method::Structure => "the kinds and numbers of parts",
            Method::Exhausted => "the budget of steps and digits",
        }
    }
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
    /// What decided.
    pub method: Method,
}

/// What [`equal`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// Whether the two are equal.
    pub equal: bool,
    /// What decided.
    pub method: Method,
}

/// Extracts the answer of `response` and compares it with `gold`.
pub fn verify(gold: &str, response: &str, settings: &Settings) -> Verdict {
    verify_traced(gold, response, settings, &mut Trace::off())
}

/// Compares two answers by our own policies, without extraction.
pub fn equal(gold: &str, answer: &str) -> Comparison {
    Grader::Strict.equal(gold, answer, &mut Trace::off())
}

/// Whether an answer is understood as more than text; for statistics over reference answers.
pub fn reads(answer: &str) -> bool {
    let (mut tree, mut fuel) = (tree::Tree::default(), fuel::Fuel::new(fuel::Fuel::COMPARISON));
    read::read(&text::clean(answer), read::Commas::Group, &mut tree, &mut fuel).is_some()
}

/// [`verify`] with its settings at hand, for those who use only this part of the library.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verifier {
    /// How responses are verified.
    pub settings: Settings,
}

impl Verifier {
    /// A verifier with these settings.
    pub fn new(settings: Settings) -> Self {
        Verifier { settings }
    }

    /// Extracts the answer of `response` and compares it with `gold`.
    pub fn check(&self, gold: &str, response: &str) -> Verdict {
        verify(gold, response, &self.settings)
    }

    /// Compares two answers under the verifier's grader, without extraction.
    pub fn equal(&self, gold: &str, answer: &str) -> Comparison {
        self.settings.grader.equal(gold, answer, &mut Trace::off())
    }

    /// [`Verifier::check`], and what it tried on its way to the verdict.
    pub fn explain(&self, gold: &str, response: &str) -> (Verdict, Trace) {
        let mut trace = Trace::on();
        (verify_traced(gold, response, &self.settings, &mut trace), trace)
    }

    /// [`Verifier::equal`], and what it tried on its way to the verdict.
    pub fn explain_equal(&self, gold: &str, answer: &str) -> (Comparison, Trace) {
        let mut trace = Trace::on();
        (self.settings.grader.equal(gold, answer, &mut trace), trace)
    }
}

/// The one way to a verdict on a pair, told to `trace` where that is on. What a set says besides (units, tolerance, other answers) is `reference`'s:
/// it asks for verdicts on several pairs.
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
