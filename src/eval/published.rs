//! The paper's tables as data (`published.toml`), and functions to look up their numbers by model, training example and algorithm.
//! Independent of how this program computes scores.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use serde::Deserialize;

/// The value of [`Row::on`] for a model before training.
pub const BASE: &str = "base";

/// The column with the mean over the other columns.
const MEAN: &str = "mean";

/// The paper's tables.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// The source of the numbers.
    pub source: String,
    /// The tables, in the file's order.
    #[serde(rename = "table")]
    pub tables: Vec<Table>,
}

/// A model's rows under one algorithm.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Its number in the paper, `T8`.
    pub id: String,
    /// How checkpoints were selected, and other conditions of all rows.
    pub about: String,
    /// The model's name on the hub, without its owner and in lower case.
    pub model: String,
    /// The algorithm's name in settings.
    pub algorithm: String,
    /// True if lookups prefer this table.
    #[serde(default)]
    pub headline: bool,
    /// What the values measure: `accuracy`, `boxed` and other shares in percent, `length` in tokens.
    #[serde(default = "accuracy")]
    pub measure: String,
    /// Maximum number of tokens in a response; `None` for 3072.
    pub max_new_tokens: Option<usize>,
    /// The columns: benchmarks, `mean`, or a subject of a benchmark (`math500/Algebra`).
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<Row>,
}

/// One row of a table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The training examples, as given to `--example`, or [`BASE`].
    pub on: String,
    /// How the experiment differs from the headline experiment; empty if it does not.
    #[serde(default)]
    pub variant: String,
    /// The step of the checkpoint, if the paper reports it.
    pub step: Option<u64>,
    /// One value per column.
    pub values: Vec<f64>,
}

fn accuracy() -> String {
    "accuracy".to_owned()
}

/// An experiment of the paper: the key for looking up figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Experiment {
    /// The model's name on the hub, or the path of its folder.
    pub model: String,
    /// The training examples, or [`BASE`].
    pub example: String,
    /// The algorithm; empty for a base model.
    pub algorithm: String,
    /// How the experiment differs from the headline experiment; empty if it does not.
    pub variant: String,
}

impl Experiment {
    /// Makes the key of a model before training.
    pub fn base(model: &str) -> Self {
        Self { model: model.to_owned(), example: BASE.to_owned(), algorithm: String::new(), variant: String::new() }
    }
}

/// One number of the paper, with its table and row.
#[derive(Clone, Copy, Debug)]
pub struct PublishedValue {
    /// The value in percent or tokens, depending on the table's measure.
    pub value: f64,
    /// The table that the value is in.
    pub table: &'static Table,
    /// The row that the value is in.
    pub row: &'static Row,
}

/// Returns the paper's tables, parsed on the first call.
pub fn published() -> &'static Published {
    static TABLES: OnceLock<Published> = OnceLock::new();
    TABLES.get_or_init(|| toml::from_str(include_str!("published.toml")).expect("the embedded published.toml is valid"))
}

/// Returns every number of the paper for a model and training examples on a benchmark, of any measure and variant. Headline tables come
/// first, then the file's order.
pub fn values_of(experiment: &Experiment, benchmark: &str) -> Vec<PublishedValue> {
    let (model, example) = (short_name(&experiment.model), members(&experiment.example));
    let is_base = experiment.example == BASE;
    let tables = published().tables.iter().filter(|table| table.model == model && (is_base || table.algorithm == experiment.algorithm));
    let mut found: Vec<PublishedValue> = tables
        .flat_map(|table| table.rows.iter().map(move |row| (table, row)))
        .filter(|(_, row)| members(&row.on) == example)
        .filter_map(|(table, row)| {
            let column = table.columns.iter().position(|column| column == benchmark)?;
            Some(PublishedValue { value: *row.values.get(column)?, table, row })
        })
        .collect();
    found.sort_by_key(|figure| !figure.table.headline);
    found
}

/// Returns the paper's accuracy in percent, including unboxed answers, for exactly this variant; `None` if the paper does not report it.
/// Prefers a table with the same maximum response length.
pub fn accuracy_of(experiment: &Experiment, benchmark: &str, max_new_tokens: usize) -> Option<PublishedValue> {
    let mut found = values_of(experiment, benchmark);
    found.retain(|figure| figure.table.measure == accuracy() && figure.row.variant == experiment.variant);
    found.sort_by_key(|figure| figure.table.max_new_tokens.is_some_and(|published| published != max_new_tokens));
    found.into_iter().next()
}

/// Returns the paper's mean accuracy in percent, if it is the mean over exactly the given sets.
pub fn mean_of(experiment: &Experiment, sets: &BTreeSet<&str>, max_new_tokens: usize) -> Option<PublishedValue> {
    let figure = accuracy_of(experiment, MEAN, max_new_tokens)?;
    let of_paper: BTreeSet<&str> = figure.table.columns.iter().map(String::as_str).filter(|column| *column != MEAN).collect();
    (of_paper == *sets).then_some(figure)
}

/// Converts a hub name (`Qwen/Qwen2.5-Math-1.5B@main`) or a folder of that name to the name in the tables.
fn short_name(model: &str) -> String {
    let name = model.trim_end_matches('/').rsplit('/').next().unwrap_or(model);
    name.split('@').next().unwrap_or(name).to_lowercase()
}

/// Returns the comma-separated names of training examples as a set, since their order does not matter.
fn members(example: &str) -> BTreeSet<&str> {
    example.split(',').map(str::trim).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn experiment(model: &str, example: &str, algorithm: &str, variant: &str) -> Experiment {
        Experiment { model: model.into(), example: example.into(), algorithm: algorithm.into(), variant: variant.into() }
    }

    fn check(experiment: &Experiment, benchmark: &str, expected: Option<(f64, &str)>) {
        let found = accuracy_of(experiment, benchmark, 3072).map(|figure| (figure.value, figure.table.id.as_str()));
        assert_eq!(found, expected, "{experiment:?} {benchmark}");
    }

    #[test]
    fn accuracy_of_finds_figures() {
        check(&Experiment::base("Qwen/Qwen2.5-Math-1.5B"), "math500", Some((36.0, "T8")));
        check(&Experiment::base("models/Qwen2.5-Math-7B/"), "aime24", Some((12.1, "T4")));
        check(&Experiment::base("tiny"), "math500", None);
        let of = |example: &str, algorithm: &str, variant: &str| experiment("Qwen/Qwen2.5-Math-1.5B@main", example, algorithm, variant);
        check(&of("pi1", "grpo", ""), "math500", Some((72.8, "T8")));
        check(&of("pi1", "grpo", ""), "mean", Some((35.0, "T8")));
        check(&of("pi1", "ppo", ""), "minerva_math", Some((26.8, "T4")));
        check(&of("pi13, pi1", "grpo", ""), "olympiadbench", Some((36.7, "T8")));
        check(&of("pi1..pi16", "grpo", ""), "math500", Some((71.6, "T3")));
        check(&of("pi7", "grpo", ""), "math500/Geometry", Some((51.2, "T3")));
        check(&of("pi1", "grpo", ""), "arc_challenge", Some((32.2, "T1")));
        check(&of("pi1", "grpo", "label 4"), "math500", Some((57.0, "T5")));
        check(&of("dsr-sub", "grpo", "format reward"), "aime25", Some((5.4, "T8")));
        check(&of("dsr-sub", "ppo", "90% wrong labels"), "mean", Some((32.9, "T17")));
        check(&of("pi2", "ppo", ""), "math500", None);
        check(&of("pi1", "grpo", ""), "gsm8k", None);
    }

    #[test]
    fn accuracy_of_prefers_the_same_response_length() {
        let distilled = experiment("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", "pi1", "grpo", "");
        let at = |max_new_tokens| accuracy_of(&distilled, "math500", max_new_tokens).map(|figure| figure.value);
        assert_eq!([at(8192), at(32768), at(3072)], [Some(80.5), Some(83.9), Some(80.5)]);
        let lengths: Vec<f64> = values_of(&experiment("qwen2.5-math-1.5b", "pi1", "grpo", ""), "mean")
            .into_iter()
            .filter(|figure| figure.table.measure == "length")
            .map(|figure| figure.value)
            .collect();
        assert_eq!(lengths, [978.0, 1054.0]);
    }

    #[test]
    fn mean_of_requires_the_same_sets() {
        let base = Experiment::base("Qwen2.5-Math-1.5B");
        let of_sets = |sets: &[&str]| mean_of(&base, &sets.iter().copied().collect(), 3072).map(|figure| figure.value);
        let six = ["aime24", "aime25", "amc23", "math500", "minerva_math", "olympiadbench"];
        assert_eq!((of_sets(&six), of_sets(&six[..5])), (Some(17.6), None));
    }

    /// Catches transcription errors: the paper's means must match the other columns of their row, up to rounding.
    #[test]
    fn published_rows_are_complete_and_means_match() {
        let separate_checkpoints = "best checkpoint for each benchmark";
        for table in &published().tables {
            for row in &table.rows {
                assert_eq!(row.values.len(), table.columns.len(), "{} {row:?}", table.id);
                let (Some(mean), Some("mean")) = (row.values.last(), table.columns.last().map(String::as_str)) else { continue };
                let others = &row.values[..row.values.len() - 1];
                let found = others.iter().sum::<f64>() / others.len() as f64;
                // Shares of boxed answers are rounded to whole percents, but their published means are not computed from the rounded
                // values.
                let rounding = if matches!(table.measure.as_str(), "boxed" | "length") { 1.6 } else { 0.11 };
                assert!(table.about.starts_with(separate_checkpoints) || (found - mean).abs() < rounding, "{} {row:?}: {found}", table.id);
            }
        }
        assert!(published().source.contains("2504.20571"));
    }
}
