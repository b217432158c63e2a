//! Says in a few sentences what a comparison found, and what it cannot show.

use super::group::Groups;
use super::matrix::Matrix;
use super::pictures::names;
use crate::eval::statistics::Estimate;
use crate::report::page::numbers::{count, percent, points, points_with_interval};
use crate::study::ArmResults;
use crate::study::table::{SeedStatistics, rows};
use crate::train::history::BY_MEAN;

/// With fewer runs than this in a group, intervals over seeds are too wide to tell small differences from chance.
const ENOUGH_SEEDS: usize = 5;

/// The numbers that the sentences need.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The settings in which the groups differ.
    pub different: Vec<String>,
    /// True if the groups are the combinations of a study's axes, each of which varies on its own.
    pub is_grid: bool,
    /// The number of runs of each group.
    pub seeds: Vec<usize>,
    /// The lowest and the highest step of the last evaluations.
    pub last_steps: Option<(u64, u64)>,
    /// The pass that the sentences are about.
    pub pass: String,
    /// `(group, mean accuracy over its runs)` at the last evaluations, the highest first.
    pub last: Vec<(String, f64)>,
    /// The difference in accuracy between the first and the last of these, with its 95% interval over problems, and the number of problems;
    /// `None` if they have no problem in common.
    pub apart: Option<(Estimate, usize)>,
}

impl Facts {
    /// Collects the numbers. `matrix` is the comparison on the pass.
    pub fn of(groups: &Groups, arms: &[ArmResults], pass: &str, matrix: Option<&Matrix>, is_grid: bool) -> Self {
        let rows = rows(&[pass.to_owned()], arms).pop().map(|(_, rows)| rows).unwrap_or_default();
        let mean = |last: SeedStatistics| last.mean;
        let mut last: Vec<(String, f64)> = rows.iter().filter_map(|row| Some((row.arm.label.clone(), row.last.map(mean)?))).collect();
        last.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        let index = |name: &str| groups.groups.iter().position(|group| group.name == name);
        let short = |name: &String| index(name).map_or_else(|| name.clone(), |index| groups.groups[index].short.clone());
        let apart = || {
            let (highest, lowest) = (index(&last.first()?.0)?, index(&last.last()?.0)?);
            let find = |pair: (usize, usize)| matrix?.pairs.iter().find(|(first, second, _)| (*first, *second) == pair);
            let swapped = |one: Estimate| Estimate { mean: -one.mean, low: -one.high, high: -one.low };
            match (find((lowest, highest)), find((highest, lowest))) {
                (Some((_, _, one)), _) => Some((one.difference, one.problems)),
                (None, Some((_, _, one))) => Some((swapped(one.difference), one.problems)),
                (None, None) => None,
            }
        };
        let steps = || groups.groups.iter().flat_map(|group| &group.runs).filter_map(|run| Some(run.evaluations.last()?.step));
        Self {
            different: groups.different.clone(),
            is_grid,
            seeds: groups.groups.iter().map(|group| group.seeds()).filter(|seeds| *seeds > 0).collect(),
            last_steps: steps().min().zip(steps().max()),
            pass: pass.to_owned(),
            apart: apart(),
            last: last.iter().map(|(name, mean)| (short(name), *mean)).collect(),
        }
    }
}

/// Says what differs between the groups, and which of them ends highest.
pub fn found(facts: &Facts) -> String {
    let settings = match facts.different.as_slice() {
        [] => "All runs have the same settings except the seed.".to_owned(),
        few @ ([_] | [_, _] | [_, _, _]) => format!("The groups differ in {}.", names(few.iter().map(String::as_str))),
        [one, two, rest @ ..] => format!("The groups differ in {one}, {two} and {} more settings.", rest.len()),
    };
    let pass = if facts.pass == BY_MEAN { "the mean over benchmarks" } else { &facts.pass };
    let result = match facts.last.as_slice() {
        [] => "No run has an evaluation yet.".to_owned(),
        [(_, mean)] => format!("At the last evaluations, the mean accuracy on {pass} is {}.", percent(*mean)),
        [(highest, high), .., (lowest, low)] => {
            format!(
                "At the last evaluations on {pass}, “{highest}” has the highest mean accuracy and “{lowest}” the lowest: {} and {}, {}.",
                percent(*high),
                percent(*low),
                apart(facts, high - low)
            )
        }
    };
    format!("{settings} {result}")
}

/// Describes the difference between the highest and the lowest group.
fn apart(facts: &Facts, difference: f64) -> String {
    match facts.apart {
        Some((apart, problems)) => {
            let zero = if apart.low > 0.0 || apart.high < 0.0 { "" } else { ", which includes 0" };
            format!("a difference of {} on the {} problems that both answered{zero}", points_with_interval(&apart), count(problems))
        }
        None => format!("a difference of {}", points(difference)),
    }
}

/// Says what cannot be concluded, one sentence each.
pub fn limits(facts: &Facts) -> Vec<String> {
    let mut limits = Vec::new();
    let several_groups = facts.seeds.len() > 1;
    match facts.seeds.iter().min() {
        Some(1) if several_groups => {
            let single = facts.seeds.iter().filter(|seeds| **seeds == 1).count();
            let whose = if single == facts.seeds.len() {
                "Each group has".to_owned()
            } else {
                if single == 1 { "One of the groups has".to_owned() } else { format!("{single} of the groups have") }
            };
            limits.push(format!("{whose} only one run: a difference from another group may come from the seed alone."));
        }
        Some(fewest) if several_groups && *fewest < ENOUGH_SEEDS => limits.push(format!(
            "With {fewest} runs per group, intervals over seeds are wide: a difference inside them may be chance, and so may a small \
             difference outside them."
        )),
        _ => {}
    }
    if several_groups && facts.apart.is_some() {
        limits.push(
            "Intervals of paired differences cover the choice of problems, not the seed: training the same groups again can move them."
                .to_owned(),
        );
    }
    if facts.seeds.len() > 2 {
        limits.push(
            "The highest and the lowest of several groups are chosen after the fact, so their difference overstates the effect.".to_owned(),
        );
    }
    if facts.different.len() > 1 && !facts.is_grid {
        limits.push("Groups that differ in several settings do not show which of them matters.".to_owned());
    }
    if let Some((low, high)) = facts.last_steps.filter(|(low, high)| low != high) {
        limits.push(format!(
            "The last evaluations are at different steps ({low} to {high}), so last values are not from equally long training."
        ));
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(seeds: &[usize], last: &[(&str, f64)], apart: Option<Estimate>) -> Facts {
        Facts {
            different: vec!["loss.entropy".to_owned()],
            is_grid: false,
            seeds: seeds.to_vec(),
            last_steps: Some((60, 60)),
            pass: "tiny-greedy".to_owned(),
            last: last.iter().map(|(name, mean)| ((*name).to_owned(), *mean)).collect(),
            apart: apart.map(|apart| (apart, 1200)),
        }
    }

    #[test]
    fn found_says_which_group_is_highest() {
        let check = |facts: &Facts, expected: &str| assert_eq!(found(facts), expected);
        let both = [("A", 0.584), ("B", 0.569)];
        check(
            &facts(&[3, 3], &both, Some(Estimate { mean: 0.015, low: 0.003, high: 0.027 })),
            "The groups differ in loss.entropy. At the last evaluations on tiny-greedy, “A” has the highest mean accuracy and “B” the lowest: \
             58.4% and 56.9%, a difference of +1.5 points [+0.3, +2.7] on the 1,200 problems that both answered.",
        );
        check(
            &facts(&[1, 1], &both, Some(Estimate { mean: 0.015, low: -0.003, high: 0.033 })),
            "The groups differ in loss.entropy. At the last evaluations on tiny-greedy, “A” has the highest mean accuracy and “B” the lowest: \
             58.4% and 56.9%, a difference of +1.5 points [−0.3, +3.3] on the 1,200 problems that both answered, which includes 0.",
        );
        let same = Facts { different: Vec::new(), ..facts(&[2], &both[..1], None) };
        check(
            &same,
            "All runs have the same settings except the seed. At the last evaluations, the mean accuracy on tiny-greedy is 58.4%.",
        );
        let many = Facts { different: ["a", "b", "c", "d"].map(str::to_owned).to_vec(), last: Vec::new(), ..same };
        check(&many, "The groups differ in a, b and 2 more settings. No run has an evaluation yet.");
    }

    #[test]
    fn limits_depend_on_seeds_settings_and_steps() {
        let check = |facts: &Facts, expected: &[&str]| {
            let found = limits(facts);
            assert_eq!(found.len(), expected.len(), "{found:?}");
            found.iter().zip(expected).for_each(|(found, expected)| assert!(found.contains(expected), "{found}"));
        };
        check(&facts(&[5, 5], &[], None), &[]);
        check(&facts(&[1, 3], &[], None), &["One of the groups has only one run"]);
        check(&facts(&[1, 1], &[], Some(Estimate { mean: 0.0, low: 0.0, high: 0.0 })), &["Each group has only one run", "not the seed"]);
        check(&facts(&[3, 4, 5], &[], None), &["With 3 runs per group", "after the fact"]);
        check(&facts(&[2], &[], None), &[]);
        let several = Facts { different: vec!["a".into(), "b".into()], last_steps: Some((40, 60)), ..facts(&[9, 9], &[], None) };
        check(&several, &["do not show which of them matters", "(40 to 60)"]);
        check(&Facts { is_grid: true, last_steps: None, ..several }, &[]);
    }
}
