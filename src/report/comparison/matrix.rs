//! The paired comparison of the groups' last evaluations, problem by problem.

use std::collections::{BTreeMap, HashMap};

use maud::{Markup, html};

use super::group::{Group, Groups};
use super::table::{Cells, table};
use crate::eval::Conditions;
use crate::eval::paired::{ProblemScores, compare, read_scores};
use crate::eval::statistics::Comparison;
use crate::report::page::numbers::points_with_interval;
use crate::report::{RunRecord, RunState};

/// The largest number of groups in a matrix.
pub const MOST_GROUPS: usize = 8;

/// Conditions that may differ between compared evaluations: what the groups are compared for, and the machine.
const MAY_DIFFER: [&str; 4] = ["model: ", "revision: ", "device: ", "kernels: "];

/// The paired comparisons of all groups on one pass.
#[derive(Debug)]
pub struct Matrix {
    /// The pass.
    pub pass: String,
    /// `(first group, second group, the second compared with the first)`, for groups that have problems in common.
    pub pairs: Vec<(usize, usize, Comparison)>,
    /// What limits the comparison, one sentence each.
    pub notes: Vec<String>,
}

impl Matrix {
    /// Compares each two groups on a pass. The score of a problem is its mean over the runs of a group. With `only_finished`, leaves out
    /// unfinished runs.
    pub fn of(groups: &Groups, pass: &str, only_finished: bool) -> Self {
        let mut notes = Vec::new();
        let is_compared = |run: &RunRecord| !only_finished || run.state == RunState::Finished;
        let mut of = |group: &Group| mean_scores(group.runs.iter().copied().filter(|run| is_compared(run)), pass, &mut notes);
        let scores: Vec<Option<ProblemScores>> = groups.groups.iter().map(&mut of).collect();
        let (mut pairs, mut most_unpaired) = (Vec::new(), 0);
        for (second, of_second) in scores.iter().enumerate() {
            for (first, of_first) in scores.iter().enumerate().take(second) {
                let (Some(of_first), Some(of_second)) = (of_first, of_second) else { continue };
                match compare(of_first, of_second) {
                    Ok((comparison, unpaired)) => {
                        most_unpaired = most_unpaired.max(unpaired);
                        pairs.push((first, second, comparison));
                    }
                    Err(error) => {
                        notes.push(format!("{} and {}: {error:#}.", groups.groups[first].short, groups.groups[second].short));
                    }
                }
            }
        }
        if most_unpaired > 0 {
            notes.push(format!("Up to {most_unpaired} problems are in only one of two compared evaluations, and are left out."));
        }
        notes.extend(different_conditions(groups, pass));
        Self { pass: pass.to_owned(), pairs, notes }
    }

    /// Returns the comparison of two groups.
    fn pair(&self, first: usize, second: usize) -> Option<&Comparison> {
        self.pairs.iter().find(|(one, other, _)| (*one, *other) == (first, second)).map(|(_, _, comparison)| comparison)
    }

    /// Returns the matrix as a table, or a table with one row if there are two groups.
    pub fn markup(&self, groups: &Groups) -> Markup {
        let names: Vec<&str> = groups.groups.iter().map(|group| group.short.as_str()).collect();
        html! {
            h3 { (self.pass) }
            @if self.pairs.is_empty() {
                p { "No two groups have problems in common." }
            } @else if names.len() == 2 {
                (self.row(&names))
            } @else {
                (self.matrix(&names))
            }
            @for note in &self.notes { p.detail { (note) } }
        }
    }

    fn row(&self, names: &[&str]) -> Markup {
        let header = ["second minus first", "difference in points [95%]", "problems", "won", "lost", "sign test p"];
        let row = |(first, second, compared): &(usize, usize, Comparison)| Cells {
            name: format!("{} minus {}", names[*second], names[*first]),
            cells: vec![
                difference(compared),
                compared.problems.to_string(),
                compared.won.to_string(),
                compared.lost.to_string(),
                format!("{:.2e}", compared.p_value),
            ],
        };
        table(&format!("Paired comparison on {}", self.pass), &header, &self.pairs.iter().map(row).collect::<Vec<_>>())
    }

    fn matrix(&self, names: &[&str]) -> Markup {
        let columns: Vec<String> = names[..names.len() - 1].iter().map(|name| format!("minus {name}")).collect();
        let header: Vec<&str> = std::iter::once("row minus column, in points [95%]").chain(columns.iter().map(String::as_str)).collect();
        let cell = |row: usize, column: usize| match self.pair(column, row) {
            Some(compared) => difference(compared),
            None if column < row => "–".to_owned(),
            None => String::new(),
        };
        let row = |row: usize| Cells { name: names[row].to_owned(), cells: (0..names.len() - 1).map(|column| cell(row, column)).collect() };
        table(&format!("Paired comparison on {}", self.pass), &header, &(1..names.len()).map(row).collect::<Vec<_>>())
    }
}

/// Formats a difference with its interval; a star marks an interval without 0.
fn difference(compared: &Comparison) -> String {
    let estimate = compared.difference;
    let star = if estimate.low > 0.0 || estimate.high < 0.0 { " *" } else { "" };
    points_with_interval(&estimate).replace(" points", "") + star
}

/// Returns the mean score of each problem over the last evaluations of runs, for the problems that all of them have. `None` if no
/// run has the pass. Notes files that cannot be read.
fn mean_scores<'a>(of_group: impl Iterator<Item = &'a RunRecord>, pass: &str, notes: &mut Vec<String>) -> Option<ProblemScores> {
    let mut runs: Vec<ProblemScores> = Vec::new();
    for run in of_group {
        let Some(last) = run.evaluations.last().filter(|last| last.scores.contains_key(pass)) else { continue };
        match read_scores(&run.folder.eval(last.step).join(format!("{pass}.jsonl")), false) {
            Ok(scores) => runs.push(scores),
            Err(error) => notes.push(format!("{}: {error:#}.", run.name)),
        }
    }
    let others: Vec<HashMap<&String, f64>> =
        runs.iter().skip(1).map(|scores| scores.iter().map(|(id, score)| (id, *score)).collect()).collect();
    let mean = |(id, score): &(String, f64)| {
        let rest: Vec<f64> = others.iter().map(|scores| scores.get(id).copied()).collect::<Option<_>>()?;
        Some((id.clone(), (score + rest.iter().sum::<f64>()) / (rest.len() + 1) as f64))
    };
    runs.first().map(|scores| scores.iter().filter_map(mean).collect())
}

/// Describes how the conditions of the last evaluations differ from those of the first run.
fn different_conditions(groups: &Groups, pass: &str) -> Option<String> {
    let conditions = |run: &RunRecord| run.conditions(run.evaluations.last()?.step).ok()?.remove(pass);
    let all: Vec<Conditions> = groups.groups.iter().flat_map(|group| &group.runs).filter_map(|run| conditions(run)).collect();
    let first = all.first()?;
    let mut different: BTreeMap<String, usize> = BTreeMap::new();
    for one in all.iter().flat_map(|other| other.differences(first)).filter(|one| !MAY_DIFFER.iter().any(|name| one.starts_with(name))) {
        *different.entry(one).or_default() += 1;
    }
    let different: Vec<String> = different.into_keys().collect();
    (!different.is_empty()).then(|| format!("The evaluations were measured under different conditions: {}.", different.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::comparison::testing::record;

    #[test]
    fn matrix_compares_means_over_seeds() {
        let folder = tempfile::tempdir().unwrap();
        let run = |name: &str, seed: u64, entropy: f32, right: usize| {
            record(&folder.path().join(name), |run| (run.seed, run.loss.entropy) = (seed, entropy), "", &[(0, 1), (2, right)])
        };
        let runs = [run("a0", 0, 0.0, 2), run("a1", 1, 0.0, 4), run("b", 0, 0.5, 9), run("c", 0, 0.7, 3)];
        let groups = Groups::by_settings(&runs).unwrap();
        let matrix = Matrix::of(&groups, "tiny-greedy", false);
        let found: Vec<(usize, usize, f64, usize, usize)> = matrix
            .pairs
            .iter()
            .map(|(first, second, one)| (*first, *second, (one.difference.mean * 10.0).round(), one.won, one.lost))
            .collect();
        // Group A solves problems 0 and 1 in both runs, 2 and 3 in one of them. B solves problems 0 to 8, and C 0 to 2.
        assert_eq!(found, [(0, 1, 6.0, 7, 0), (0, 2, 0.0, 1, 1), (1, 2, -6.0, 0, 6)]);
        let markup = matrix.markup(&groups).into_string();
        assert!(markup.contains("minus A: entropy 0") && markup.contains("<td>−60.0 * <span"), "{markup}");
        assert!(matrix.notes.is_empty(), "{:?}", matrix.notes);
        std::fs::remove_file(runs[2].folder.eval(2).join("tiny-greedy.jsonl")).unwrap();
        let matrix = Matrix::of(&groups, "tiny-greedy", false);
        assert_eq!((matrix.pairs.len(), matrix.notes.len()), (1, 1), "{:?}", matrix.notes);
        assert!(
            Matrix::of(&groups, "math500-greedy", false).markup(&groups).into_string().contains("No two groups have problems in common")
        );
    }
}
