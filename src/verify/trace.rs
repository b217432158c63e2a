//! A record of a comparison: what each stage found, in order, and why it did or did not decide. The comparison itself writes it, so a trace
//! always matches the verdict. A disabled trace costs one test of a flag per stage.

use std::fmt;

use crate::verify::Method;
use crate::verify::fuel::Fuel;

/// Maximum number of lines recorded. Further lines are only counted, so that an explanation stays readable.
const MAX_LINES: usize = 400;
/// Maximum length of a quoted text in characters.
const MAX_SHOWN: usize = 120;

/// A stage of verification. The order is the usual order of the stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// A unit or an alternative of the gold answer (`gold_answer`).
    Gold,
    /// Finds the answer in the response (`extract`).
    Extract,
    /// Normalized text, or the text comparison of an answer that could not be read (`text`).
    Text,
    /// Letters of options (`choice`).
    Choice,
    /// Turns text into a tree (`read`).
    Read,
    /// Start of the comparison of two parts (`compare`).
    Pair,
    /// Units and words next to a value (`compare::quantity`).
    Words,
    /// Times of day, numerals with a base, ratios (`compare::notation`).
    Notation,
    /// Assignments, computations, equations, inequalities (`compare::chain`, `label`, `relation`).
    Relation,
    /// Sets of real numbers, such as intervals and inequalities (`compare::reals`).
    Reals,
    /// Lists, tuples, sets, matrices, and both values of a ± (`compare::structure`).
    Members,
    /// A letter whose choice does not matter (`compare::rename`).
    Letters,
    /// A sign with a second reading: `%`, `°`, `log` (`compare::scalar`, like the next three stages).
    Signs,
    /// Exact rational values.
    Exact,
    /// Identity of rational functions, in a prime field.
    Identity,
    /// Values with error bounds.
    Numeric,
    /// Values at seeded points (`compare::sampled`).
    Sampled,
    /// Rounded decimals (`compare::scalar`).
    Rounded,
    /// The tolerance of the data set (`gold_answer`).
    Tolerance,
    /// A limit was reached: steps, nodes or digits (`fuel`).
    Budget,
    /// The verdict.
    Verdict,
}

impl Stage {
    /// Returns the name of the stage in an explanation.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Gold => "gold",
            Stage::Extract => "extract",
            Stage::Text => "text",
            Stage::Choice => "choice",
            Stage::Read => "read",
            Stage::Pair => "pair",
            Stage::Words => "words",
            Stage::Notation => "notation",
            Stage::Relation => "relation",
            Stage::Reals => "reals",
            Stage::Members => "members",
            Stage::Letters => "letters",
            Stage::Signs => "signs",
            Stage::Exact => "exact",
            Stage::Identity => "identity",
            Stage::Numeric => "numeric",
            Stage::Sampled => "sampled",
            Stage::Rounded => "rounded",
            Stage::Tolerance => "tolerance",
            Stage::Budget => "budget",
            Stage::Verdict => "verdict",
        }
    }
}

/// One finding of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Nesting depth: 0 for the answers themselves, 1 for their parts, and so on.
    pub depth: usize,
    /// The stage that found it.
    pub stage: Stage,
    /// The finding, as one line of text.
    pub text: String,
}

/// The findings of all stages of one verification. `Display` prints one line per finding, indented by depth.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    on: bool,
    depth: usize,
    lines: Vec<Line>,
    /// Number of lines dropped beyond the maximum.
    dropped: usize,
    steps: u64,
}

impl Trace {
    /// Creates a disabled trace.
    pub(super) fn off() -> Self {
        Trace::default()
    }

    /// Creates an enabled trace.
    pub(super) fn on() -> Self {
        Trace { on: true, ..Trace::default() }
    }

    /// Returns the findings, in order.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Returns the finding that decided, as one line of text: the last one of the stage that `method` names, or else the last one about the
    /// whole answers. Empty if nothing was recorded.
    pub fn reason(&self, method: Method) -> &str {
        let findings = || self.lines.iter().rev().filter(|line| line.stage != Stage::Verdict);
        let decided = findings().find(|line| decides(line.stage, method) && !line.text.starts_with("no verdict"));
        decided.or_else(|| findings().find(|line| line.depth == 0)).map_or("", |line| line.text.as_str())
    }

    /// Returns the number of steps that the comparison requested, including refused ones. One step is a few nanoseconds of work.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Notes a finding. `text` is called only if the trace is on.
    #[inline]
    pub(super) fn note<T: Into<String>>(&mut self, stage: Stage, text: impl FnOnce() -> T) {
        if self.on {
            self.push(stage, text().into());
        }
    }

    /// Sets the nesting depth of the following notes.
    pub(super) fn set_depth(&mut self, depth: usize) {
        self.depth = depth;
    }

    /// Adds the number of steps requested from one budget.
    pub(super) fn count(&mut self, fuel: &Fuel) {
        self.steps += fuel.requested();
    }

    #[cold]
    fn push(&mut self, stage: Stage, text: String) {
        // The verdict is always recorded, however long the trace is.
        if self.lines.len() >= MAX_LINES && stage != Stage::Verdict {
            self.dropped += 1;
        } else {
            self.lines.push(Line { depth: self.depth, stage, text });
        }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            if line.stage == Stage::Verdict && self.dropped > 0 {
                writeln!(f, "… and {} more lines", self.dropped)?;
            }
            writeln!(f, "{:indent$}{:<10}{}", "", line.stage.name(), line.text, indent = 2 * line.depth)?;
        }
        Ok(())
    }
}

/// True if a method stands for the finding of a stage. No stage has a finding for [`Method::Structure`], which several stages share.
fn decides(stage: Stage, method: Method) -> bool {
    match method {
        // An empty answer is missing, too.
        Method::NoAnswer => matches!(stage, Stage::Extract | Stage::Text),
        Method::Text => stage == Stage::Text,
        Method::Choice => stage == Stage::Choice,
        Method::Exact => stage == Stage::Exact,
        Method::Identity => stage == Stage::Identity,
        Method::Numeric => stage == Stage::Numeric,
        Method::Sampled => stage == Stage::Sampled,
        Method::Rounded => stage == Stage::Rounded,
        Method::Tolerance => stage == Stage::Tolerance,
        Method::Exhausted => stage == Stage::Budget,
        Method::Structure => false,
    }
}

/// Shortens a text to at most `MAX_SHOWN` characters and an ellipsis, and replaces white space with spaces.
pub(super) fn short(text: impl fmt::Display) -> String {
    let text = text.to_string();
    let mut shown: String = text.chars().take(MAX_SHOWN).map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// Puts a shortened text in quotes.
pub(super) fn quoted(text: &str) -> String {
    format!("`{}`", short(text))
}

/// Formats a number to ten significant digits; later digits may differ between machines.
pub(super) fn digits(value: f64) -> String {
    let rounded: f64 = format!("{value:.9e}").parse().unwrap_or(value);
    if rounded == 0.0 || (1e-4..1e15).contains(&rounded.abs()) { rounded.to_string() } else { format!("{rounded:e}") }
}

#[cfg(test)]
mod tests;
