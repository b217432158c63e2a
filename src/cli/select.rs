//! `rlvr select`: ranks training examples.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use super::arguments::DataArgs;
use super::numbers::{COUNT_FROM_1, within};
use crate::data::pinned::ACCURACY_HISTORY;
use crate::data::{rank_by_std, read_history, sha256_of};
use crate::metrics::table;
use crate::train::selection;
use crate::usage::usage;

/// Maximum number of rows in the table on stderr; stdout gets all examples.
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
    /// Print only the first N examples
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = within::<usize>(COUNT_FROM_1))]
    top: Option<usize>,
    #[command(flatten)]
    data: DataArgs,
}

pub fn run(args: SelectArgs) -> Result<()> {
    let top = args.top.unwrap_or(usize::MAX);
    if let Some(root) = &args.run {
        return show(&usage(selection::history(root))?, top, |_, example| json!({"example": example}));
    }
    let path = match args.history {
        Some(path) => path,
        None => args.data.store()?.path(&ACCURACY_HISTORY)?,
    };
    let history = usage(read_history(&path))?;
    let is_published = sha256_of(&path)? == ACCURACY_HISTORY.sha256;
    // The names pi1, pi2, ... are ranks in the published history only.
    let names = |rank: usize, index: &u64| match is_published {
        true => json!({"example": format!("pi{rank}"), "index": index}),
        false => json!({"index": index}),
    };
    show(&history, top, names)
}

/// Prints a line for each example to stdout, and a table of the first ones to stderr.
fn show<K>(history: &[(K, Vec<f64>)], top: usize, names: impl Fn(usize, &K) -> Value) -> Result<()> {
    let ranking = rank_by_std(history);
    let (mut rows, mut out) = (Vec::new(), std::io::stdout().lock());
    for (rank, ranked) in (1..).zip(&ranking).take(top) {
        let mut line = json!({"rank": rank, "deviation": ranked.deviation, "mean": ranked.mean, "epochs": ranked.epochs});
        let names = names(rank, ranked.example);
        if rows.len() < TABLE_ROWS {
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let name = names.as_object().map(|names| names.values().map(text).collect::<Vec<_>>().join(", ")).unwrap_or_default();
            let (deviation, mean) = (format!("{:.4}", ranked.deviation), format!("{:.4}", ranked.mean));
            rows.push(vec![rank.to_string(), name, deviation, mean, ranked.epochs.to_string()]);
        }
        if let (Value::Object(line), Value::Object(names)) = (&mut line, names) {
            line.extend(names);
        }
        writeln!(out, "{line}")?;
    }
    message!("{}", table(&["rank", "example", "deviation", "mean accuracy", "epochs"], &rows));
    message!("{} of {} examples, ranked by the standard deviation of their accuracy", ranking.len().min(top), ranking.len());
    Ok(())
}
