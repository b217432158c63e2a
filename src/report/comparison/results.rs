//! The tables of a comparison: the groups with the settings in which they differ, and the results of each pass.

use maud::{Markup, html};

use super::group::{Group, Groups, Saturation};
use super::table::{Cells, table};
use crate::eval::statistics::Estimate;
use crate::report::{RunRecord, RunState};
use crate::study::ArmResults;
use crate::study::table::{Row, SeedStatistics, rows};
use crate::train::history::{BY_MEAN, EvaluationSummary, Summary};

/// Says what the intervals in the tables of results are.
const INTERVALS: &str = "Accuracy in percent, gain in percentage points. Several runs: mean ± standard deviation over runs [Student's 95% \
                         interval of the mean over seeds]. One run: value (95% interval over problems). The gain is the last evaluation \
                         minus the first one at or after saturation.";

/// Returns the results of each group that has runs, for [`rows`]. Uses the newest numbers of unfinished runs.
pub fn arms_of(groups: &Groups) -> Vec<ArmResults> {
    let arm = |group: &Group| {
        let first = group.runs.first()?;
        let runs = group.runs.iter().map(|run| (run.settings.seed, summary_of(run))).collect();
        Some(ArmResults { label: group.name.clone(), folder: String::new(), settings: first.settings.clone(), runs })
    };
    groups.groups.iter().filter_map(arm).collect()
}

/// Returns the contents of `summary.json`, or as much of them as follows from the scores; `None` without evaluations.
fn summary_of(run: &RunRecord) -> Option<Summary> {
    let of_scores = || (!run.evaluations.is_empty()).then(|| run.history().summary(run.metrics.last_step().unwrap_or(0), 0.0));
    run.summary.clone().or_else(of_scores)
}

/// Returns the table of the groups: the settings in which they differ, their runs, steps and saturation.
pub fn groups_table(groups: &Groups) -> Markup {
    let different = groups.different.iter().map(String::as_str);
    let header: Vec<&str> = std::iter::once("group").chain(different).chain(["runs (seed)", "steps", "saturation step"]).collect();
    let row = |group: &Group| {
        let values = group.values.iter().map(|value| if value.is_empty() { "–".to_owned() } else { value.clone() });
        let saturation = Saturation::of(group).map_or_else(|| "none".to_owned(), |found| found.text());
        let cells = values.chain([runs_cell(group), steps_cell(group), saturation]).collect();
        Cells { name: group.short.clone(), cells }
    };
    let rows: Vec<Cells> = groups.groups.iter().map(row).collect();
    let about = if groups.different.is_empty() {
        "All runs have the same settings except the seed."
    } else {
        "A group has the runs with the same settings except the seed. The columns after its name are the settings in which groups differ."
    };
    html! { (table("Groups", &header, &rows)) p.detail { (about) } }
}

/// Lists the runs by their seeds, with their names unless these are the seeds too, as in a study.
fn runs_cell(group: &Group) -> String {
    let is_named_by_seed = |run: &&RunRecord| run.name == format!("seed-{}", run.settings.seed);
    let named = |run: &&RunRecord| match is_named_by_seed(run) {
        true => run.settings.seed.to_string(),
        false => format!("{} ({})", run.name, run.settings.seed),
    };
    let names: Vec<String> = group.runs.iter().map(named).collect();
    match names.len() {
        0 => "none yet".to_owned(),
        1 if is_named_by_seed(&group.runs[0]) => format!("seed {}", names[0]),
        _ if group.runs.iter().all(is_named_by_seed) => format!("seeds {}", names.join(", ")),
        _ => names.join(", "),
    }
}

/// Returns the number of steps done, or their range: `60`, or `40 to 60 of 60` for a group with unfinished runs.
fn steps_cell(group: &Group) -> String {
    let steps = || group.runs.iter().map(|run| run.metrics.last_step().unwrap_or(0));
    let (Some(low), Some(high)) = (steps().min(), steps().max()) else { return "–".to_owned() };
    let range = if low == high { high.to_string() } else { format!("{low} to {high}") };
    match group.runs.iter().map(|run| run.settings.train.steps).max() {
        Some(planned) if group.runs.iter().any(|run| run.state != RunState::Finished) => format!("{range} of {planned}"),
        _ => range,
    }
}

/// Returns the tables of results, one for each of `passes` (all if empty), with a row for each group. `arms` are those of the groups that
/// have runs, by the group's name.
pub fn result_tables(groups: &Groups, arms: &[ArmResults], passes: &[String]) -> Markup {
    let tables = rows(passes, arms);
    html! {
        p.detail { (INTERVALS) }
        @if tables.is_empty() { p { "No run has an evaluation yet." } }
        @for (pass, rows) in &tables { (result_table(groups, pass, rows)) }
    }
}

fn result_table(groups: &Groups, pass: &str, rows: &[Row]) -> Markup {
    let has_paper = rows.iter().any(|row| row.paper_cell().is_some());
    let mut header = vec!["group", "runs", "base", "last", "best", "gain after saturation", "boxed, last"];
    header.extend(has_paper.then_some("paper: base to trained"));
    let line = |group: &Group| {
        let row = rows.iter().find(|row| row.arm.label == group.name);
        let cells = row.map_or_else(|| vec!["–".to_owned(); header.len() - 1], |row| cells(pass, row, has_paper));
        Cells { name: group.short.clone(), cells }
    };
    let lines: Vec<Cells> = groups.groups.iter().map(line).collect();
    let title = if pass == BY_MEAN { "Mean over benchmarks" } else { pass };
    html! { h3 { (title) } (table(title, &header, &lines)) }
}

fn cells(pass: &str, row: &Row, has_paper: bool) -> Vec<String> {
    let runs = &row.arm.runs;
    let done = runs.iter().filter(|(_, run)| run.is_some()).count();
    let accuracy = move |evaluation: &Option<EvaluationSummary>| accuracy_of(evaluation.as_ref()?, pass);
    let gain = |run: &Summary| Some(run.gain_after_saturation.as_ref()?.by_pass.get(pass)?.difference);
    let mut cells = vec![
        if done == runs.len() { done.to_string() } else { format!("{done} of {}", runs.len()) },
        cell(&row.base, row, |run| accuracy(&run.base)),
        cell(&row.last, row, |run| accuracy(&run.last)),
        cell(&row.best, row, |run| accuracy(&run.best)),
        cell(&row.gain, row, gain),
        row.boxed.as_ref().map_or_else(|| "–".to_owned(), SeedStatistics::cell),
    ];
    cells.extend(has_paper.then(|| row.paper_cell().unwrap_or_else(|| "–".to_owned())));
    cells
}

fn accuracy_of(evaluation: &EvaluationSummary, pass: &str) -> Option<Estimate> {
    if pass == BY_MEAN { Some(evaluation.mean()?.accuracy) } else { evaluation.passes.get(pass)?.accuracy }
}

/// Returns the mean over runs with its interval over seeds, or the value of the only run with its interval over problems.
fn cell(statistics: &Option<SeedStatistics>, row: &Row, of_run: impl Fn(&Summary) -> Option<Estimate>) -> String {
    let Some(statistics) = statistics else { return "–".to_owned() };
    let only = row.arm.runs.iter().filter_map(|(_, run)| of_run(run.as_ref()?)).next().filter(|_| statistics.seeds == 1);
    match only {
        Some(one) => format!("{:.1} ({:.1} to {:.1})", one.mean * 100.0, one.low * 100.0, one.high * 100.0),
        None => statistics.cell(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::comparison::testing::record;

    #[test]
    fn result_tables_name_the_interval_by_the_number_of_runs() {
        let folder = tempfile::tempdir().unwrap();
        let lines = "{\"step\":1,\"train/accuracy\":1.0}\n{\"step\":2,\"train/accuracy\":1.0}\n";
        let run = |name: &str, seed: u64, entropy: f32, right: usize| {
            let change = |run: &mut crate::train::RunSettings| {
                (run.seed, run.loss.entropy, run.train.steps, run.eval.saturation_window) = (seed, entropy, 2, 2);
            };
            record(&folder.path().join(name), change, lines, &[(0, 1), (2, right)])
        };
        let runs = [run("a0", 0, 0.0, 6), run("a1", 1, 0.0, 8), run("b0", 0, 0.5, 5)];
        let groups = Groups::by_settings(&runs).unwrap();
        let tables = result_tables(&groups, &arms_of(&groups), &[]).into_string();
        // As in the study's table: the standard error of 0.6 and 0.8 is 0.1, and Student's factor for two runs 12.7.
        assert!(tables.contains("<td>70.0 ± 14.1 <span class=\"interval\">[0.0, 100.0]</span></td>"), "{tables}");
        assert!(tables.contains("<td>50.0 <span class=\"interval\">(23.7 to 76.3)</span></td>"), "{tables}");
        assert!(!tables.contains("paper"), "{tables}");
        let table = groups_table(&groups).into_string();
        for part in ["a0 (0), a1 (1)", "<td>b0 (0)</td>", "<th scope=\"col\">loss.entropy</th>", "<td>2</td>", "B: entropy 0.5"] {
            assert!(table.contains(part), "{part}: {table}");
        }
    }
}
