//! What a comparison tried: each stage in order, what it found, and why that was or was not the verdict. The comparison writes it down as it goes,
//! so a trace never tells of another comparison than the one that gave the verdict. A trace that is off costs one test of a flag for each stage.

use std::fmt;

use crate::verify::fuel::Fuel;

/// Further lines are only counted: an explanation is for reading.
const MAX_LINES: usize = 400;
/// Longer texts are cut, in characters.
const MAX_SHOWN: usize = 120;

/// What gave, or failed to give, a verdict. In the order in which a reader meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Finds the answer in the response (`extract`).
    Extract,
    /// Normalised text, or what is left to do with text that could not be read (`text`).
    Text,
    /// Letters of options (`choice`).
    Choice,
    /// Turns text into a tree (`read`).
    Read,
    /// Two parts whose comparison begins (`compare`).
    Pair,
    /// Units and words beside a value (`compare::quantity`).
    Words,
    /// Times of day, numerals with a base, ratios (`compare::notation`).
    Notation,
    /// Assignments, computations, equations, inequalities (`compare::chain`, `label`, `relation`).
    Relation,
    /// Sets of real numbers: intervals, and whatever describes them (`compare::reals`).
    Reals,
    /// Lists, tuples, sets, matrices, and both values of a ± (`compare::structure`).
    Members,
    /// A letter whose name does not count (`compare::rename`).
    Letters,
    /// A sign with a second reading: `%`, `°`, `log` (`compare::scalar`, and so are the next three).
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
    /// Something ran out: steps, nodes, digits (`fuel`).
    Budget,
    /// The verdict.
    Verdict,
}

impl Stage {
    /// The stage's name in an explanation.
    pub fn name(self) -> &'static str {
        match self {
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
            Stage::Budget => "budget",
            Stage::Verdict => "verdict",
        }
    }
}

/// One thing that a comparison found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Pairs that wait for this one: 0 for the answers themselves, 1 for their parts, and so on.
    pub depth: usize,
    /// Where it was found.
    pub stage: Stage,
    /// What was found, as one line of text.
    pub text: String,
}

/// The stages of one verdict. It is shown as a line for each, indented by its depth.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    on: bool,
    depth: usize,
    lines: Vec<Line>,
    /// Lines beyond the most that are kept.
    left_out: usize,
    steps: u64,
}

impl Trace {
    /// Keeps nothing.
    pub(super) fn off() -> Self {
        Trace::default()
    }

    /// Keeps what the comparison notes.
    pub(super) fn on() -> Self {
        Trace { on: true, ..Trace::default() }
    }

    /// What was found, in order.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Steps of work that the comparison asked for, those that it did not get included. A step is a few nanoseconds.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Notes what a stage found. `text` is called only where somebody wants to know.
    #[inline]
    pub(super) fn note<T: Into<String>>(&mut self, stage: Stage, text: impl FnOnce() -> T) {
        if self.on {
            self.push(stage, text().into());
        }
    }

    /// How many pairs wait for what is noted from here on.
    pub(super) fn set_depth(&mut self, depth: usize) {
        self.depth = depth;
    }

    /// Counts the work of one budget.
    pub(super) fn count(&mut self, fuel: &Fuel) {
        self.steps += fuel.requested();
    }

    #[cold]
    fn push(&mut self, stage: Stage, text: String) {
        // The verdict is told however long the way to it was.
        if self.lines.len() >= MAX_LINES && stage != Stage::Verdict {
            self.left_out += 1;
        } else {
            self.lines.push(Line { depth: self.depth, stage, text });
        }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            if line.stage == Stage::Verdict && self.left_out > 0 {
                writeln!(f, "… and {} more lines", self.left_out)?;
            }
            writeln!(f, "{:indent$}{:<10}{}", "", line.stage.name(), line.text, indent = 2 * line.depth)?;
        }
        Ok(())
    }
}

/// A text as a line of an explanation: cut where it is long, line ends as spaces.
pub(super) fn short(text: impl fmt::Display) -> String {
    let text = text.to_string();
    let mut shown: String = text.chars().take(MAX_SHOWN).map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// A text in quotes.
pub(super) fn quoted(text: &str) -> String {
    format!("`{}`", short(text))
}

/// A number to ten significant digits: what follows may differ from machine to machine.
pub(super) fn digits(value: f64) -> String {
    let rounded: f64 = format!("{value:.9e}").parse().unwrap_or(value);
    if rounded == 0.0 || (1e-4..1e15).contains(&rounded.abs()) { rounded.to_string() } else { format!("{rounded:e}") }
}

#[cfg(test)]
mod tests;
