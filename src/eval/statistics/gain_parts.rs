//! Splits the gain between two evaluations of the same problems into parts that add up to it: format, choice among answer styles, broken
//! responses, and the rest.

use std::collections::BTreeMap;

use super::interval::{Estimate, jackknife};

/// What the split needs to know about one response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GradedResponse {
    /// True if the boxed answer is correct.
    pub correct: bool,
    /// True if the answer is correct when unboxed answers count too.
    pub correct_with_fallback: bool,
    /// The answer style; `None` if it was not classified.
    pub style: Option<String>,
    /// True if the response was cut off by the token limit or ends in a repeated block.
    pub broken: bool,
}

/// The parts of a gain. `format + styles + broken + rest` is the gain.
#[derive(Clone, Debug, PartialEq)]
pub struct GainParts {
    /// The number of problems.
    pub problems: usize,
    /// The change of the accuracy of boxed answers.
    pub gain: Estimate,
    /// The change of the share of answers that are right only when unboxed answers count, with the opposite sign: `gain` minus the change
    /// of the accuracy that counts unboxed answers. The other parts split that change.
    pub format: Estimate,
    /// `Σ_s (p1(s) - p0(s)) q0(s)`: styles `s` change their shares `p` and keep their first accuracy `q0`; 0 without styles.
    pub styles: Estimate,
    /// `Σ_s p1(s) (d1(s) - d0(s)) (b0(s) - a0(s))`: within each style, the share `d` of broken responses changes, and the accuracies of
    /// broken (`b0`) and complete (`a0`) responses stay.
    pub broken: Estimate,
    /// What remains: within each style, complete and broken responses become more or less often right.
    pub rest: Estimate,
    /// The styles in order of their names; empty if no response has one.
    pub by_style: Vec<StyleChange>,
}

/// A style's share of the responses, and their accuracy when unboxed answers count, before and after.
#[derive(Clone, Debug, PartialEq)]
pub struct StyleChange {
    /// The style.
    pub name: String,
    /// The share before and after.
    pub share: [f64; 2],
    /// The accuracy before and after; `None` without such responses.
    pub accuracy: [Option<f64>; 2],
    /// The accuracy before that the split uses: the first of `accuracy`, or that of the same model's other responses; `None` without any, where the
    /// split uses the accuracy of all responses.
    pub assumed: Option<f64>,
}

/// Splits the gain from `before` to `after`, whose items are the responses to the same problems. `elsewhere` are other responses of the
/// first model to these problems, such as those of another pass: they give the accuracy of styles that `before` does not have. A style that
/// occurs in neither counts with the first accuracy of all responses.
///
/// Each problem has the same weight. The intervals are 95% jackknife intervals over problems (Tukey 1958). `None` if the lists have
/// different lengths, are empty, or have a problem without responses.
pub fn gain_parts(before: &[Vec<GradedResponse>], after: &[Vec<GradedResponse>], elsewhere: &[GradedResponse]) -> Option<GainParts> {
    let is_paired = before.len() == after.len() && !before.is_empty() && before.iter().chain(after).all(|problem| !problem.is_empty());
    if !is_paired {
        return None;
    }
    let responses = || before.iter().chain(after).flatten().chain(elsewhere);
    let mut styles: BTreeMap<&str, usize> = responses().map(|response| (style(response), 0)).collect();
    styles.values_mut().enumerate().for_each(|(index, value)| *value = index);
    let tally = |responses: &Vec<GradedResponse>| Tally::of(responses, &styles);
    let (before, after): (Vec<Tally>, Vec<Tally>) = (before.iter().map(tally).collect(), after.iter().map(tally).collect());
    let [first, second] = [&before, &after].map(|tallies| tallies.iter().fold(Tally::empty(styles.len()), |sum, one| sum.plus(one, 1.0)));
    let elsewhere = Tally::of(elsewhere, &styles);
    let whole = split(&first, &second, &elsewhere);
    let without = |(one, other)| split(&first.plus(one, -1.0), &second.plus(other, -1.0), &elsewhere);
    let without: Vec<[f64; PARTS]> = before.iter().zip(&after).map(without).collect();
    let part = |index: usize| jackknife(whole[index], &without.iter().map(|parts| parts[index]).collect::<Vec<_>>());
    let has_styles = responses().any(|response| response.style.is_some());
    Some(GainParts {
        problems: before.len(),
        gain: part(0),
        format: part(1),
        styles: part(2),
        broken: part(3),
        rest: part(4),
        by_style: if has_styles { by_style(&styles, &first, &second, &elsewhere) } else { Vec::new() },
    })
}

/// The gain and its four parts.
const PARTS: usize = 5;

/// Weights below this are rounding errors of sums from which a problem was subtracted.
const NONE: f64 = 1e-9;

fn style(response: &GradedResponse) -> &str {
    response.style.as_deref().unwrap_or("")
}

/// Sums over problems, each with weight 1.
#[derive(Clone, Debug)]
struct Tally {
    problems: f64,
    /// Responses with a correct boxed answer.
    boxed: f64,
    cells: Vec<Cell>,
}

/// Responses in one style: their weight, and the weight of those that are right when unboxed answers count.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    complete: f64,
    right_complete: f64,
    broken: f64,
    right_broken: f64,
}

impl Tally {
    fn empty(styles: usize) -> Self {
        Self { problems: 0.0, boxed: 0.0, cells: vec![Cell::default(); styles] }
    }

    /// Counts the responses to one problem.
    fn of(responses: &[GradedResponse], styles: &BTreeMap<&str, usize>) -> Self {
        let mut tally = Self::empty(styles.len());
        tally.problems = 1.0;
        let weight = 1.0 / responses.len().max(1) as f64;
        for response in responses {
            tally.boxed += weight * f64::from(u8::from(response.correct));
            let cell = &mut tally.cells[styles[style(response)]];
            let (all, right) = match response.broken {
                false => (&mut cell.complete, &mut cell.right_complete),
                true => (&mut cell.broken, &mut cell.right_broken),
            };
            *all += weight;
            *right += weight * f64::from(u8::from(response.correct_with_fallback));
        }
        tally
    }

    fn plus(&self, other: &Self, sign: f64) -> Self {
        let add = |one: &Cell, other: &Cell| Cell {
            complete: one.complete + sign * other.complete,
            right_complete: one.right_complete + sign * other.right_complete,
            broken: one.broken + sign * other.broken,
            right_broken: one.right_broken + sign * other.right_broken,
        };
        Self {
            problems: self.problems + sign * other.problems,
            boxed: self.boxed + sign * other.boxed,
            cells: self.cells.iter().zip(&other.cells).map(|(one, other)| add(one, other)).collect(),
        }
    }
}

impl Cell {
    fn all(&self) -> f64 {
        self.complete + self.broken
    }

    fn right(&self) -> f64 {
        self.right_complete + self.right_broken
    }

    /// The accuracy; `None` without responses.
    fn accuracy(&self) -> Option<f64> {
        share(self.right(), self.all())
    }
}

fn share(part: f64, all: f64) -> Option<f64> {
    (all > NONE).then(|| part / all)
}

/// Returns the gain, and its parts format, styles, broken and rest.
fn split(before: &Tally, after: &Tally, elsewhere: &Tally) -> [f64; PARTS] {
    if before.problems < NONE {
        return [0.0; PARTS]; // the only problem was left out
    }
    let right = |tally: &Tally| tally.cells.iter().map(Cell::right).sum::<f64>() / tally.problems;
    let gain = (after.boxed - before.boxed) / before.problems;
    let format = gain - (right(after) - right(before));
    let (mut styles, mut broken, mut rest) = (0.0, 0.0, 0.0);
    for ((before_cell, after_cell), other) in before.cells.iter().zip(&after.cells).zip(&elsewhere.cells) {
        let (first_share, second_share) = (before_cell.all() / before.problems, after_cell.all() / after.problems);
        // The style's first accuracy, from another pass if this one does not have the style.
        let first = if before_cell.all() > NONE { before_cell } else { other };
        let first_accuracy = first.accuracy().unwrap_or(right(before));
        styles += (second_share - first_share) * first_accuracy;
        let [within_broken, within_rest] = match first.accuracy() {
            Some(_) => within_style(first, after_cell),
            None => [0.0, after_cell.accuracy().unwrap_or(first_accuracy) - first_accuracy],
        };
        broken += second_share * within_broken;
        rest += second_share * within_rest;
    }
    [gain, format, styles, broken, rest]
}

/// Splits the change of a style's accuracy into the part of the share of broken responses and the rest. Where the accuracy of complete or
/// of broken responses is known only after, it is taken for both: then the change of the share explains all.
fn within_style(before: &Cell, after: &Cell) -> [f64; 2] {
    let Some(second_broken) = share(after.broken, after.all()) else { return [0.0, 0.0] };
    let first_broken = before.broken / before.all();
    let known = |first: Option<f64>, second: Option<f64>| {
        let first = first.or(second).unwrap_or(0.0);
        (first, second.unwrap_or(first))
    };
    let complete = known(share(before.right_complete, before.complete), share(after.right_complete, after.complete));
    let broken = known(share(before.right_broken, before.broken), share(after.right_broken, after.broken));
    [
        (second_broken - first_broken) * (broken.0 - complete.0),
        (1.0 - second_broken) * (complete.1 - complete.0) + second_broken * (broken.1 - broken.0),
    ]
}

fn by_style(styles: &BTreeMap<&str, usize>, before: &Tally, after: &Tally, elsewhere: &Tally) -> Vec<StyleChange> {
    let change = |(name, index): (&&str, &usize)| {
        let cells = [&before.cells[*index], &after.cells[*index]];
        StyleChange {
            name: (*name).to_owned(),
            share: [cells[0].all() / before.problems, cells[1].all() / after.problems],
            accuracy: cells.map(Cell::accuracy),
            assumed: cells[0].accuracy().or_else(|| elsewhere.cells[*index].accuracy()),
        }
    };
    styles.iter().map(change).filter(|style| style.share != [0.0, 0.0]).collect()
}

#[cfg(test)]
mod tests;
