//! Training files as verl has them: Parquet with `prompt` (a list of `role` and `content`), `reward_model.ground_truth` and
//! `extra_info.index`. It owns that format; it must never know which examples are wanted.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;

use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::{Field, Row as Record};
use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Map, Value};

use super::rows::{Row, text_of};
use crate::flow::Problem;

/// What the published files append to every question.
pub const PUBLISHED_INSTRUCTION: &str = r" Let's think step by step and output the final answer within \boxed{}.";

/// A problem with its `extra_info.index`, where the row has one.
pub(super) type Indexed = (Option<u64>, Problem);

/// The distinct problems of a file, in its order; 128 copies of a row are one problem. The published instruction is taken off the question.
///
/// # Errors
/// When it is not such a file, or a row has no question or no answer.
pub(super) fn read(path: &Path) -> Result<Vec<Indexed>> {
    distinct(path, Row::checked)
}

/// The same for the published subset, as it is: one of its rows has an empty label, which no answer can match.
pub(super) fn read_published(path: &Path) -> Result<Vec<Indexed>> {
    distinct(path, |_, problem| Ok(problem))
}

fn distinct(path: &Path, checked: fn(&Row, Problem) -> Result<Problem>) -> Result<Vec<Indexed>> {
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let mut problems: Vec<Indexed> = Vec::new();
    let mut seen = HashSet::new();
    let mut ids = HashSet::new();
    for row in read_rows(path)? {
        let (index, mut problem) = problem(&row, &name)?;
        // Rows of different index are different examples even where their texts agree, as three of the subset's do.
        if !seen.insert((index, problem.question.clone(), problem.answer.clone())) {
            continue;
        }
        if !ids.insert(problem.id.clone()) {
            problem.id = format!("{name}/row{}", row.number);
        }
        problems.push((index, checked(&row, problem)?));
    }
    if problems.is_empty() {
        bail!("{} has no rows", path.display());
    }
    Ok(problems)
}

fn problem(row: &Row, name: &str) -> Result<Indexed> {
    let turns = row.fields.get("prompt").and_then(Value::as_array).ok_or_else(|| {
        let columns: Vec<&String> = row.fields.keys().collect();
        anyhow!("{}: no list `prompt` among the columns {columns:?}; expected verl's prompt, reward_model, extra_info", row.place)
    })?;
    let of_the_user = |turn: &&Value| turn.get("role").and_then(Value::as_str) == Some("user");
    let content = turns.iter().rfind(of_the_user).and_then(|turn| turn.get("content")?.as_str());
    let content = content.ok_or_else(|| anyhow!("{}: `prompt` has no turn of the user", row.place))?;
    let truth = row.fields.get("reward_model").and_then(|model| model.get("ground_truth"));
    let answer = truth.and_then(text_of).ok_or_else(|| anyhow!("{}: no text `reward_model.ground_truth`", row.place))?;
    let index = row.fields.get("extra_info").and_then(|extra| extra.get("index")?.as_u64());
    let problem = Problem {
        id: format!("{name}/{}", index.map_or_else(|| format!("row{}", row.number), |index| index.to_string())),
        question: content.strip_suffix(PUBLISHED_INSTRUCTION).unwrap_or(content).to_owned(),
        answer,
        ..Problem::default()
    };
    Ok((index, problem))
}

/// The rows of a Parquet file as JSON objects.
fn read_rows(path: &Path) -> Result<Vec<Row>> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let broken = |error| anyhow!("{} is not a Parquet file that can be read: {error}", path.display());
    let reader = SerializedFileReader::new(file).map_err(broken)?;
    let records = reader.get_row_iter(None).map_err(broken)?;
    records
        .enumerate()
        .map(|(number, record)| {
            let place = format!("{}, row {}", path.display(), number + 1);
            Ok(Row { fields: object(record.map_err(broken)?), place, number })
        })
        .collect()
}

fn object(record: Record) -> Map<String, Value> {
    record.into_columns().into_iter().map(|(name, field)| (name, value(field))).collect()
}

fn value(field: Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(truth) => truth.into(),
        Field::Byte(number) => number.into(),
        Field::Short(number) => number.into(),
        Field::Int(number) => number.into(),
        Field::Long(number) => number.into(),
        Field::UByte(number) => number.into(),
        Field::UShort(number) => number.into(),
        Field::UInt(number) => number.into(),
        Field::ULong(number) => number.into(),
        Field::Float(number) => number.into(),
        Field::Double(number) => number.into(),
        Field::Str(text) => text.into(),
        Field::Bytes(bytes) => String::from_utf8_lossy(bytes.data()).into_owned().into(),
        Field::Group(record) => Value::Object(object(record)),
        Field::ListInternal(list) => list.elements().iter().cloned().map(value).collect(),
        other => other.to_string().into(),
    }
}
