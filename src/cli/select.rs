//! `rlvr select`: ranks training examples.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use super::arguments::{DataArgs, JsonArgs};
use super::numbers::{COUNT_FROM_1, within};
use crate::data::pinned::ACCURACY_HISTORY;
use crate::data::{Ranked, rank_by_std, read_history, sha256_of};
use crate::metrics::table;
use crate::train::selection;
use crate::usage::usage;

/// Number of rows in the table without `--top`.
const TABLE_ROWS: usize = 20;

/// Ranks examples by the standard deviation of their accuracy while a model was trained on all of them, largest first.
#[derive(Debug, Args)]
pub struct SelectArgs {
    /// JSON file with the accuracies of each example by epoch: {"124": [0.0, 0.125, ...], ...}
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Run folder; ranks by the accuracies in its recorded rollouts, one for each step that sampled the example
    #[arg(long, value_name = "DIR", conflicts_with = "history")]
    run: Option<PathBuf>,
    /// Print only the first N examples (default: 20 in the table, all with --json)
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = within::<usize>(COUNT_FROM_1))]
    top: Option<usize>,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    json: JsonArgs,
}

pub fn run(args: SelectArgs) -> Result<()> {
    if let Some(root) = &args.run {
        return show(&usage(selection::history(root))?, args.top, args.json, |_, example| json!({"example": example}));
    }
    let path = match &args.history {
        Some(path) => path.clone(),
        None => args.data.store()?.path(&ACCURACY_HISTORY)?,
    };
    let history = usage(read_history(&path))?;
    let is_published = sha256_of(&path)? == ACCURACY_HISTORY.sha256;
    // The names pi1, pi2, ... are ranks in the published history only.
    let names = |rank: usize, index: &u64| match is_published {
        true => json!({"example": format!("pi{rank}"), "index": index}),
        false => json!({"index": index}),
    };
    show(&history, args.top, args.json, names)
}

/// Prints the ranking in the requested form: a table, or `{"examples": [...]}`.
fn show<K>(history: &[(K, Vec<f64>)], top: Option<usize>, form: JsonArgs, names: impl Fn(usize, &K) -> Value) -> Result<()> {
    let ranking = rank_by_std(history);
    let ranked = || (1..).zip(&ranking).map(|(rank, ranked)| (rank, ranked, names(rank, ranked.example)));
    let document = || {
        let record = |(rank, ranked, names): (usize, &Ranked<K>, Value)| {
            let mut record = json!({"rank": rank, "deviation": ranked.deviation, "mean": ranked.mean, "epochs": ranked.epochs});
            if let (Value::Object(record), Value::Object(names)) = (&mut record, names) {
                record.extend(names);
            }
            record
        };
        Ok(json!({"examples": ranked().take(top.unwrap_or(usize::MAX)).map(record).collect::<Vec<_>>()}))
    };
    let tables = || {
        let shown = top.unwrap_or(TABLE_ROWS).min(ranking.len());
        let row = |(rank, ranked, names): (usize, &Ranked<K>, Value)| {
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let name = names.as_object().map(|names| names.values().map(text).collect::<Vec<_>>().join(", ")).unwrap_or_default();
            let (deviation, mean) = (format!("{:.4}", ranked.deviation), format!("{:.4}", ranked.mean));
            vec![rank.to_string(), name, deviation, mean, ranked.epochs.to_string()]
        };
        let rows: Vec<Vec<String>> = ranked().take(shown).map(row).collect();
        print_result!("{}", table(&["rank", "example", "deviation", "mean accuracy", "epochs"], &rows));
        let more = if shown < ranking.len() { "; --top N shows more" } else { "" };
        message!("{shown} of {} examples, ranked by the standard deviation of their accuracy{more}", ranking.len());
    };
    form.print(document, tables)
}
