//! Reads training files in Parquet, in two formats: verl's, with `prompt` (a list of `role` and `content`), `reward_model.ground_truth` and
//! `extra_info.index`; and tables with the columns `question` and `answer`. Does not know which examples a run uses.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Result, anyhow, bail};

use super::conversation::Conversation;
use super::gold::{Gold, Tally};
use super::parquet::Table;
use super::rows::{FIELDS, QUESTION, Row};
use super::value::Value;
use crate::flow::Problem;

/// The instruction that the published files append to every question.
pub const PUBLISHED_INSTRUCTION: &str = r" Let's think step by step and output the final answer within \boxed{}.";

/// The columns and fields that are read from a verl file.
const COLUMNS: [&str; 3] = ["prompt", "reward_model.ground_truth", "extra_info.index"];

/// A problem with its `extra_info.index`, if any.
pub(super) type Indexed = (Option<u64>, Problem);

/// The contents of a user's Parquet file.
pub(super) enum Contents {
    /// The distinct problems of a verl file, in file order. The published files repeat a row up to 128 times.
    Problems(Vec<Problem>),
    /// The rows of a table with the columns `question` and `answer`.
    Rows(Vec<Row>),
}

/// Reads a Parquet file. In verl's format, removes the published instruction from the end of each question, skips repeated rows, and prints
/// notes about these and about unusual answers.
///
/// # Errors
/// If the file cannot be read or has neither format, or a row of a verl file lacks a question or, with `needs_answers`, an answer. The
/// message names the file, row and column.
pub(super) fn read(path: &Path, needs_answers: bool) -> Result<Contents> {
    let table = Table::open(path)?;
    let columns = table.columns();
    if columns.contains(&"prompt") {
        let mut tally = Tally::default();
        let problems = distinct_problems(&table, path, |row| {
            let gold = gold_answer(row)?;
            if needs_answers && gold.answer.is_empty() {
                refuse_without_gold_answer(row)?;
            }
            tally.count(&gold, &row.location);
            Ok(gold)
        })?;
        tally.messages().iter().for_each(|message| message!("{}: {message}", path.display()));
        return Ok(Contents::Problems(problems.into_iter().map(|(_, problem)| problem).collect()));
    }
    if QUESTION.iter().any(|name| columns.contains(name)) {
        let mut rows = Vec::new();
        table.each_row(&FIELDS, |row| {
            rows.push(row);
            Ok(())
        })?;
        return Ok(Contents::Rows(rows));
    }
    bail!(
        "{} has the columns {}; expected prompt, reward_model and extra_info (verl), or question and answer",
        path.display(),
        columns.join(", ")
    )
}

/// Reads the published subset, including its one row with an empty label, which no answer matches.
pub(super) fn read_published(path: &Path) -> Result<Vec<Indexed>> {
    distinct_problems(&Table::open(path)?, path, |row| {
        let answer = ground_truth(row)?.and_then(Value::as_text);
        let answer = answer.ok_or_else(|| anyhow!("{}: no text `reward_model.ground_truth`", row.location))?;
        Ok(Gold { answer: answer.to_owned(), ..Gold::default() })
    })
}

/// Reads the distinct problems of a verl file, in file order. `gold` extracts the gold answer from a row.
fn distinct_problems(table: &Table, path: &Path, mut gold: impl FnMut(&Row) -> Result<Gold>) -> Result<Vec<Indexed>> {
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let mut problems: Vec<Indexed> = Vec::new();
    let mut seen = HashSet::new();
    let mut ids = HashSet::new();
    let mut rows = 0;
    table.each_row(&COLUMNS, |row| {
        rows += 1;
        // Rows with different indices are different examples, even if their texts are equal, as in three rows of the subset.
        let distinguishing = ["prompt", "reward_model"].map(|name| row.fields.get(name).cloned());
        let index = index(&row);
        if !seen.insert((index, distinguishing)) {
            return Ok(());
        }
        let (conversation, gold) = (Conversation::of(row.fields.get("prompt"), "prompt", &row.location)?, gold(&row)?);
        let mut problem = problem(conversation, gold);
        problem.id = format!("{name}/{}", index.map_or_else(|| format!("row{}", row.number), |index| index.to_string()));
        if !ids.insert(problem.id.clone()) {
            problem.id = format!("{name}/row{}", row.number);
        }
        problems.push((index, problem));
        Ok(())
    })?;
    if problems.is_empty() {
        bail!("{} has no rows", path.display());
    }
    if problems.len() < rows {
        let repeats = rows - problems.len();
        message!("{}: skipped {repeats} of {rows} rows that repeat others; {} examples remain", path.display(), problems.len());
    }
    Ok(problems)
}

fn problem(conversation: Conversation, gold: Gold) -> Problem {
    let question = conversation.question.strip_suffix(PUBLISHED_INSTRUCTION).map(str::to_owned).unwrap_or(conversation.question);
    Problem {
        question,
        context: conversation.context,
        prefill: conversation.prefill,
        answer: gold.answer,
        alternatives: gold.alternatives,
        ..Problem::default()
    }
}

/// Returns the gold answer of a row; empty if it has none.
fn gold_answer(row: &Row) -> Result<Gold> {
    let Some(value) = ground_truth(row)? else { return Ok(Gold::default()) };
    Gold::of(value).map_err(|found| anyhow!("{}: `reward_model.ground_truth` is {found}", row.location))
}

fn ground_truth(row: &Row) -> Result<Option<&Value>> {
    match row.fields.get("reward_model") {
        None | Some(Value::Null) => Ok(None),
        Some(model @ Value::Object(_)) => Ok(model.get("ground_truth")),
        Some(other) => bail!("{}: `reward_model` is {}, expected an object with `ground_truth`", row.location, other.kind()),
    }
}

fn refuse_without_gold_answer(row: &Row) -> Result<()> {
    let found = match (row.fields.get("reward_model"), ground_truth(row)?) {
        (None, _) => "the column `reward_model` is missing".to_owned(),
        (Some(Value::Null), _) => "`reward_model` is null".to_owned(),
        (Some(model), None) => format!("`reward_model` is {}, without `ground_truth`", model.kind()),
        (_, Some(Value::Text(text))) => format!("`reward_model.ground_truth` is {text:?}"),
        (_, Some(value)) => format!("`reward_model.ground_truth` is {}", value.kind()),
    };
    bail!("{}: {found}, so there is no answer: give the answer or remove the row", row.location)
}

fn index(row: &Row) -> Option<u64> {
    match row.fields.get("extra_info")?.get("index")? {
        Value::Number(number) => number.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
