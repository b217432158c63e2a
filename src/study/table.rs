//! Summarizes the runs of a study in tables: for each pass and arm, means over seeds with their spread, next to the paper's figures. Tables
//! contain no times, so the same runs result in the same tables, however often the study was stopped.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Value, json};

use super::experiment::experiment_of;
use super::file::AxisLabels;
use crate::checkpoint::write_file;
use crate::eval::Score;
use crate::eval::published::{Experiment, PublishedValue, accuracy_of, mean_of, published};
use crate::eval::score::Mean;
use crate::eval::statistics::student_interval;
use crate::train::RunSettings;
use crate::train::history::{BY_MEAN, EvaluationSummary, Summary, set_of};

/// The results of an arm.
#[derive(Debug)]
pub struct ArmResults {
    /// The arm's name.
    pub label: String,
    /// The name of its folder.
    pub folder: String,
    /// Its complete settings, with the seed of the first run.
    pub settings: RunSettings,
    /// `(seed, summary)` in the order of the seeds; the summary is `None` for an unfinished run.
    pub runs: Vec<(u64, Option<Summary>)>,
}

/// A mean over seeds of accuracies or other shares (0 to 1), or of differences between shares.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SeedStatistics {
    /// The mean.
    pub mean: f64,
    /// Number of seeds.
    pub seeds: usize,
    /// The sample standard deviation over seeds (n - 1 in the denominator); `None` for one seed.
    pub deviation: Option<f64>,
    /// Lower end of Student's 95% interval of the mean; `None` for one seed. It covers the variation over seeds only, not over problems.
    pub low: Option<f64>,
    /// Upper end of the interval; `None` for one seed.
    pub high: Option<f64>,
}

impl SeedStatistics {
    /// Computes the mean and its interval, clamped to `floor..=1`. `None` if there are no values.
    pub fn of(values: &[f64], floor: f64) -> Option<Self> {
        let estimate = student_interval(values, floor, 1.0)?;
        let several = values.len() > 1;
        let squares: f64 = values.iter().map(|value| (value - estimate.mean).powi(2)).sum();
        Some(Self {
            mean: estimate.mean,
            seeds: values.len(),
            deviation: several.then(|| (squares / (values.len() - 1) as f64).sqrt()),
            low: several.then_some(estimate.low),
            high: several.then_some(estimate.high),
        })
    }

    /// Formats as `67.4 ± 3.2 [59.4, 75.4]`, in percent or points.
    pub fn cell(&self) -> String {
        let mut cell = format!("{:.1}", self.mean * 100.0);
        if let (Some(deviation), Some(low), Some(high)) = (self.deviation, self.low, self.high) {
            let _ = write!(cell, " ± {:.1} [{:.1}, {:.1}]", deviation * 100.0, low * 100.0, high * 100.0);
        }
        cell
    }
}

/// The tables of a study.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// All tables in Markdown.
    pub markdown: String,
    /// The same numbers, and each run's scores, in JSON.
    pub json: Value,
}

/// The row of an arm in the table of a pass.
#[derive(Debug)]
pub struct Row<'a> {
    /// The arm.
    pub arm: &'a ArmResults,
    /// Accuracy of the base model.
    pub base: Option<SeedStatistics>,
    /// Accuracy at the last evaluation.
    pub last: Option<SeedStatistics>,
    /// Accuracy at the best step.
    pub best: Option<SeedStatistics>,
    /// Accuracy at the best step, including unboxed answers, as in the paper.
    pub best_with_fallback: Option<SeedStatistics>,
    /// Accuracy of the last evaluation minus that of the first one after saturation.
    pub gain: Option<SeedStatistics>,
    /// Share of boxed answers at the last evaluation; `None` for the mean over benchmarks.
    pub boxed: Option<SeedStatistics>,
    /// Accuracy at the last evaluation, including unboxed answers, as in the paper.
    pub with_fallback: Option<SeedStatistics>,
    /// The paper's accuracy before and after training.
    pub paper: (Option<PublishedValue>, Option<PublishedValue>),
}

/// Returns the rows of the arms for each of `passes`; if empty, for each pass of any run, and for the mean over benchmarks if a run has
/// one.
pub fn rows<'a>(passes: &[String], arms: &'a [ArmResults]) -> Vec<(String, Vec<Row<'a>>)> {
    let known: BTreeSet<String> = arms.iter().flat_map(|arm| arm.runs.iter()).filter_map(|(_, run)| run.as_ref()).flat_map(names).collect();
    let has_mean = arms.iter().flat_map(|arm| &arm.runs).any(|(_, run)| run.as_ref().is_some_and(has_mean));
    let all = || known.into_iter().chain(has_mean.then(|| BY_MEAN.to_owned())).collect();
    let passes: Vec<String> = if passes.is_empty() { all() } else { passes.to_vec() };
    let of_pass = |pass: String| {
        let rows = arms.iter().map(|arm| Row::of(arm, &pass)).collect();
        (pass, rows)
    };
    passes.into_iter().map(of_pass).collect()
}

impl Table {
    /// Makes a table for each of `passes`; if empty, for each pass of any run, and for the mean over benchmarks if a run has one.
    pub fn of(title: &str, axes: &[AxisLabels], passes: &[String], arms: &[ArmResults]) -> Self {
        let tables = rows(passes, arms);
        let json = json!({"title": title, "axes": axes, "arms": json_arms(&tables, arms)});
        Self { markdown: markdown(title, &tables, arms), json }
    }

    /// Writes `study.md` and `study.json` to a folder.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        write_file(&folder.join("study.md"), self.markdown.as_bytes())?;
        let text = serde_json::to_string_pretty(&self.json).context("cannot convert the table to JSON")?;
        write_file(&folder.join("study.json"), (text + "\n").as_bytes())
    }
}

fn has_mean(summary: &Summary) -> bool {
    summary.last.as_ref().is_some_and(|last| last.mean().is_some())
}

fn names(summary: &Summary) -> Vec<String> {
    summary.last.iter().chain(&summary.base).flat_map(|evaluation| evaluation.passes.keys().cloned()).collect()
}

impl<'a> Row<'a> {
    fn of(arm: &'a ArmResults, pass: &str) -> Self {
        let summaries = || arm.runs.iter().filter_map(|(_, run)| run.as_ref());
        let over =
            |evaluation_of: fn(&Summary) -> &Option<EvaluationSummary>, metric: fn(&Score) -> Option<f64>, of_mean: fn(&Mean) -> f64| {
                let value = |evaluation: &EvaluationSummary| match pass {
                    BY_MEAN => evaluation.mean().as_ref().map(of_mean),
                    pass => metric(evaluation.passes.get(pass)?),
                };
                let values: Vec<f64> = summaries().filter_map(|summary| value(evaluation_of(summary).as_ref()?)).collect();
                SeedStatistics::of(&values, 0.0)
            };
        let accuracy = |score: &Score| score.accuracy.map(|accuracy| accuracy.mean);
        let fallback = |score: &Score| score.accuracy_with_fallback.map(|accuracy| accuracy.mean);
        let (mean, mean_fallback) = (|mean: &Mean| mean.accuracy.mean, |mean: &Mean| mean.accuracy_with_fallback.mean);
        let gains: Vec<f64> =
            summaries().filter_map(|run| Some(run.gain_after_saturation.as_ref()?.by_pass.get(pass)?.difference.mean)).collect();
        let set = pass.rsplit_once('-').map_or(pass, |(set, _)| set);
        let sets: BTreeSet<&str> =
            summaries().filter_map(|run| run.last.as_ref()).flat_map(|last| last.passes.keys()).map(|pass| set_of(pass)).collect();
        let max_new_tokens = arm.settings.eval.max_new_tokens;
        let figure = |experiment: &Experiment| match pass {
            BY_MEAN => mean_of(experiment, &sets, max_new_tokens),
            _ => accuracy_of(experiment, set, max_new_tokens),
        };
        Self {
            arm,
            base: over(|run| &run.base, accuracy, mean),
            last: over(|run| &run.last, accuracy, mean),
            best: over(|run| &run.best, accuracy, mean),
            best_with_fallback: over(|run| &run.best, fallback, mean_fallback),
            gain: SeedStatistics::of(&gains, -1.0),
            boxed: if pass == BY_MEAN { None } else { over(|run| &run.last, |score| Some(score.boxed), mean) },
            with_fallback: over(|run| &run.last, fallback, mean_fallback),
            paper: (figure(&Experiment::base(&arm.settings.model)), figure(&experiment_of(&arm.settings))),
        }
    }

    /// Formats the paper's accuracy as `36.0 to 72.8 (T8)`, with the id of its table; `None` if the paper does not report it.
    pub fn paper_cell(&self) -> Option<String> {
        let after = self.paper.1.as_ref()?;
        let before = self.paper.0.as_ref().map_or_else(|| "–".to_owned(), |figure| format!("{:.1}", figure.value));
        Some(format!("{before} to {:.1} ({})", after.value, after.table.id))
    }

    fn cells(&self) -> Vec<String> {
        let cell = |statistics: &Option<SeedStatistics>| statistics.as_ref().map_or_else(|| "–".to_owned(), SeedStatistics::cell);
        let done = self.arm.runs.iter().filter(|(_, run)| run.is_some()).count();
        let mut cells = vec![self.arm.label.clone(), format!("{done} of {}", self.arm.runs.len())];
        cells
            .extend([&self.base, &self.last, &self.best, &self.gain, &self.boxed, &self.with_fallback, &self.best_with_fallback].map(cell));
        cells.push(self.paper_cell().unwrap_or_else(|| "–".to_owned()));
        cells
    }

    fn json(&self) -> Value {
        let figure = |figure: &Option<PublishedValue>| {
            figure.as_ref().map(|figure| json!({"accuracy": figure.value / 100.0, "table": figure.table.id}))
        };
        json!({
            "base": self.base, "last": self.last, "best": self.best, "gain_after_saturation": self.gain,
            "boxed": self.boxed, "with_fallback": self.with_fallback, "best_with_fallback": self.best_with_fallback,
            "published": {"base": figure(&self.paper.0), "trained": figure(&self.paper.1)},
        })
    }
}

const HEADER: [&str; 10] = [
    "arm",
    "runs",
    "base",
    "last",
    "best",
    "gain after saturation",
    "boxed, last",
    "last incl. unboxed",
    "best incl. unboxed",
    "paper: base to trained",
];

fn markdown(title: &str, tables: &[(String, Vec<Row>)], arms: &[ArmResults]) -> String {
    let mut text = format!("# {title}\n\n");
    text += "Accuracy in percent, gain in percentage points. With several seeds: mean ± standard deviation over seeds [95% interval of the mean].\n";
    text += "The glossary of rlvr (docs/glossary.md) defines the terms.\n";
    for (pass, rows) in tables {
        let mut cells: Vec<Vec<String>> = vec![HEADER.map(str::to_owned).to_vec()];
        cells.extend(rows.iter().map(Row::cells));
        if rows.iter().all(|row| row.paper.1.is_none()) {
            cells.iter_mut().for_each(|row| drop(row.pop()));
        }
        let _ = write!(text, "\n## {pass}\n\n{}", grid(&cells));
    }
    if tables.iter().flat_map(|(_, rows)| rows).any(|row| row.paper.1.is_some()) {
        let _ = write!(text, "\nPaper: {}, including unboxed answers; at the best checkpoint if its table says so.\n", published().source);
    }
    let missing: Vec<String> = arms
        .iter()
        .flat_map(|arm| arm.runs.iter().filter(|(_, run)| run.is_none()).map(|(seed, _)| format!("{} seed {seed}", arm.label)))
        .collect();
    if !missing.is_empty() {
        let _ = write!(text, "\nUnfinished runs: {}.\n", missing.join("; "));
    }
    for (arm, seed, run) in arms.iter().flat_map(|arm| arm.runs.iter().map(move |(seed, run)| (arm, seed, run))) {
        for record in run.iter().flat_map(|run| &run.missing) {
            let _ = write!(text, "\n{} seed {seed} lost a record: {record}.\n", arm.label);
        }
    }
    text
}

/// Formats a Markdown table with aligned columns. The first row is the header.
fn grid(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    let mut text = line(&rows[0]) + &line(&rule);
    rows[1..].iter().for_each(|row| text += &line(row));
    text
}

fn json_arms(tables: &[(String, Vec<Row>)], arms: &[ArmResults]) -> Vec<Value> {
    let run = |(seed, summary): &(u64, Option<Summary>)| {
        let scores =
            |evaluation: &Option<EvaluationSummary>| evaluation.as_ref().map(|one| json!({"step": one.step, "passes": one.passes}));
        summary.as_ref().map_or_else(
            || json!({"seed": seed}),
            |summary| {
                json!({
                    "seed": seed, "steps": summary.steps, "saturation_step": summary.saturation_step,
                    "base": scores(&summary.base), "last": scores(&summary.last), "best": scores(&summary.best),
                })
            },
        )
    };
    let arm = |(index, arm): (usize, &ArmResults)| {
        let passes: serde_json::Map<String, Value> = tables.iter().map(|(pass, rows)| (pass.clone(), rows[index].json())).collect();
        let runs: Vec<Value> = arm.runs.iter().map(run).collect();
        json!({"label": arm.label, "folder": arm.folder, "passes": passes, "runs": runs})
    };
    arms.iter().enumerate().map(arm).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::eval::statistics::wilson;

    fn evaluation(step: u64, right: usize) -> EvaluationSummary {
        let score = Score { problems: 10, samples: 1, accuracy: wilson(right, 10), boxed: 1.0, ..Score::default() };
        EvaluationSummary {
            step,
            greedy: None,
            sampled: None,
            by_subject: BTreeMap::new(),
            passes: BTreeMap::from([("math500-greedy".to_owned(), score)]),
        }
    }

    fn summary(right: usize) -> Summary {
        let empty = json!({"base": null, "last": null, "best": null, "saturation_step": null, "post_saturation_gain": null,
            "post_saturation_gain_greedy": null, "steps": 4, "elapsed_s": 9.0});
        Summary {
            base: Some(evaluation(0, 1)),
            last: Some(evaluation(4, right)),
            best: Some(evaluation(2, 9)),
            ..serde_json::from_value(empty).unwrap()
        }
    }

    #[test]
    fn table_has_means_over_seeds_and_published_figures() {
        let arm = |label: &str, settings: RunSettings, runs| ArmResults { label: label.into(), folder: label.into(), settings, runs };
        let mut without = RunSettings::published();
        without.loss.entropy = 0.0;
        let arms = [
            arm("all", RunSettings::published(), vec![(0, Some(summary(6))), (1, Some(summary(8)))]),
            arm("none", without, vec![(0, Some(summary(5))), (1, None)]),
        ];
        let table = Table::of("Terms", &[], &[], &arms);
        // The standard deviation of 0.6 and 0.8 is 0.1414 and the standard error 0.1. With t(1) = 12.7 the interval covers the whole range.
        let row = |label: &str| table.markdown.lines().find(|line| line.starts_with(&format!("| {label} "))).unwrap().to_owned();
        let cells = |label: &str| row(label).split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
        assert_eq!(cells("all")[2..6], ["2 of 2", "10.0 ± 0.0 [10.0, 10.0]", "70.0 ± 14.1 [0.0, 100.0]", "90.0 ± 0.0 [90.0, 90.0]"]);
        assert_eq!(cells("all")[10], "36.0 to 72.8 (T8)");
        assert_eq!(
            (cells("none")[2].as_str(), cells("none")[4].as_str(), cells("none")[10].as_str()),
            ("1 of 2", "50.0", "36.0 to 68.2 (T14)")
        );
        assert!(table.markdown.contains("Unfinished runs: none seed 1."));
        let all = &table.json["arms"][0]["passes"]["math500-greedy"];
        assert_eq!((all["last"]["seeds"].as_u64(), all["published"]["trained"]["accuracy"].as_f64()), (Some(2), Some(0.728)));
        assert!(!table.json.to_string().contains("elapsed"), "tables of the same runs would differ");
    }

    #[test]
    fn table_omits_the_column_of_missing_published_figures() {
        let arm = ArmResults { label: "a".into(), folder: "a".into(), settings: RunSettings::demonstration(), runs: vec![(0, None)] };
        let table = Table::of("Tiny", &[], &["tiny-greedy".to_owned()], &[arm]);
        assert!(!table.markdown.contains("paper") && table.markdown.contains("| a   | 0 of 1 | –"), "{}", table.markdown);
    }
}
