//! Training files in Parquet: verl's, with `prompt` (a list of `role` and `content`), `reward_model.ground_truth` and `extra_info.index`, and
//! tables with the columns `question` and `answer`. It owns these formats; it must never know which examples are wanted.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Result, anyhow, bail};

use super::gold::{Gold, Tally};
use super::parquet::Table;
use super::rows::{FIELDS, QUESTION, Row};
use super::turns::Turns;
use super::value::Value;
use crate::flow::Problem;

/// What the published files append to every question.
pub const PUBLISHED_INSTRUCTION: &str = r" Let's think step by step and output the final answer within \boxed{}.";

/// What is read of a row of verl's.
const COLUMNS: [&str; 3] = ["prompt", "reward_model.ground_truth", "extra_info.index"];

/// A problem with its `extra_info.index`, where the row has one.
pub(super) type Indexed = (Option<u64>, Problem);

/// What a Parquet file of a user's has.
pub(super) enum Contents {
    /// The distinct problems of a verl file, in its order; 128 copies of a row are one problem.
    Problems(Vec<Problem>),
    /// The rows of a table with questions and answers.
    Rows(Vec<Row>),
}

/// The problems of a file. The published instruction is taken off the question. What a user must know of the answers, and how many rows repeat
/// others, is said.
///
/// # Errors
/// When it is not such a file, or a row has no question or, where they are needed, no answer; file, row and column are named.
pub(super) fn read(path: &Path, needs_answers: bool) -> Result<Contents> {
    let table = Table::open(path)?;
    let columns = table.columns();
    if columns.contains(&"prompt") {
        let mut tally = Tally::default();
        let problems = distinct(&table, path, |row| {
            let gold = truth(row)?;
            if needs_answers && gold.answer.is_empty() {
                refuse_without_truth(row)?;
            }
            tally.count(&gold, &row.place);
            Ok(gold)
        })?;
        tally.messages().iter().for_each(|message| tell!("{}: {message}", path.display()));
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
        "{} has the columns {}; expected verl's prompt, reward_model and extra_info, or question and answer",
        path.display(),
        columns.join(", ")
    )
}

/// The problems of the published subset, as it is: one of its rows has an empty label, which no answer can match.
pub(super) fn read_published(path: &Path) -> Result<Vec<Indexed>> {
    distinct(&Table::open(path)?, path, |row| {
        let answer = ground_truth(row)?.and_then(Value::as_text);
        let answer = answer.ok_or_else(|| anyhow!("{}: no text `reward_model.ground_truth`", row.place))?;
        Ok(Gold { answer: answer.to_owned(), ..Gold::default() })
    })
}

fn distinct(table: &Table, path: &Path, mut gold: impl FnMut(&Row) -> Result<Gold>) -> Result<Vec<Indexed>> {
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let mut problems: Vec<Indexed> = Vec::new();
    let mut seen = HashSet::new();
    let mut ids = HashSet::new();
    let mut rows = 0;
    table.each_row(&COLUMNS, |row| {
        rows += 1;
        // Rows of different index are different examples even where their texts agree, as three of the subset's do.
        let distinguishing = ["prompt", "reward_model"].map(|name| row.fields.get(name).cloned());
        let index = index(&row);
        if !seen.insert((index, distinguishing)) {
            return Ok(());
        }
        let (turns, gold) = (Turns::of(row.fields.get("prompt"), "prompt", &row.place)?, gold(&row)?);
        let mut problem = problem(turns, gold);
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
        tell!("{}: {repeats} of {rows} rows repeat others and are left out: {} examples", path.display(), problems.len());
    }
    Ok(problems)
}

fn problem(turns: Turns, gold: Gold) -> Problem {
    let question = turns.question.strip_suffix(PUBLISHED_INSTRUCTION).map(str::to_owned).unwrap_or(turns.question);
    Problem {
        question,
        context: turns.context,
        prefill: turns.prefill,
        answer: gold.answer,
        alternatives: gold.alternatives,
        ..Problem::default()
    }
}

/// The answer of a row; empty where it has none.
fn truth(row: &Row) -> Result<Gold> {
    let Some(value) = ground_truth(row)? else { return Ok(Gold::default()) };
    Gold::of(value).map_err(|found| anyhow!("{}: `reward_model.ground_truth` is {found}", row.place))
}

fn ground_truth(row: &Row) -> Result<Option<&Value>> {
    match row.fields.get("reward_model") {
        None | Some(Value::Null) => Ok(None),
        Some(model @ Value::Object(_)) => Ok(model.get("ground_truth")),
        Some(other) => bail!("{}: `reward_model` is {}, expected an object with `ground_truth`", row.place, other.kind()),
    }
}

fn refuse_without_truth(row: &Row) -> Result<()> {
    let found = match (row.fields.get("reward_model"), ground_truth(row)?) {
        (None, _) => "there is no column `reward_model`".to_owned(),
        (Some(Value::Null), _) => "`reward_model` is null".to_owned(),
        (Some(model), None) => format!("`reward_model` is {}, without `ground_truth`", model.kind()),
        (_, Some(Value::Text(text))) => format!("`reward_model.ground_truth` is {text:?}"),
        (_, Some(value)) => format!("`reward_model.ground_truth` is {}", value.kind()),
    };
    bail!("{}: {found}, so there is no answer: give it or leave the row out", row.place)
}

fn index(row: &Row) -> Option<u64> {
    match row.fields.get("extra_info")?.get("index")? {
        Value::Number(number) => number.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
