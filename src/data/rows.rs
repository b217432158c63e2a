//! Rows of text files: JSON objects that know where they stand, so that every complaint names file and line. It owns the spellings that files
//! of users may have; it must never know which set a file belongs to.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Map, Value};

use super::choices::Choices;
use super::unit;
use crate::flow::Problem;

/// What a file of problems looks like, for messages.
const EXPECTED: &str = r#"expected {"question": "...", "answer": "..."}"#;

/// What users' files call the answer.
const ANSWER: [&str; 2] = ["answer", "answerKey"];

/// One JSON object of a file.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) fields: Map<String, Value>,
    /// `FILE, line 3`.
    pub(super) place: String,
    /// Its number in the file, from 0.
    pub(super) number: usize,
}

impl Row {
    /// The text of the first of the given fields that is there.
    pub(super) fn text(&self, names: &[&str]) -> Result<String> {
        match names.iter().find_map(|name| self.fields.get(*name).filter(|value| !value.is_null()).map(|value| (name, value))) {
            Some((name, value)) => self.as_text(name, value),
            None => bail!("{}: no `{}`; {EXPECTED}", self.place, names.join("` or `")),
        }
    }

    /// The text of a field that need not be there; empty then.
    pub(super) fn optional_text(&self, name: &str) -> Result<String> {
        match self.fields.get(name) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(value) => self.as_text(name, value),
        }
    }

    /// The unit of the answer, as LaTeX that can follow it; empty where the row has none.
    pub(super) fn unit(&self) -> Result<String> {
        Ok(unit::spelled(&self.optional_text("unit")?))
    }

    /// How far off a right answer may be, from a field that need not be there: a positive number, `0.1` or `"1e-1"`.
    pub(super) fn tolerance(&self, name: &str) -> Result<Option<f64>> {
        let text = self.optional_text(name)?;
        if text.is_empty() {
            return Ok(None);
        }
        match text.trim().parse() {
            Ok(tolerance) if tolerance > 0.0 && f64::is_finite(tolerance) => Ok(Some(tolerance)),
            _ => bail!("{}: `{name}` is {text:?}, expected a positive number, the distance at which an answer is still right", self.place),
        }
    }

    fn as_text(&self, name: &str, value: &Value) -> Result<String> {
        text_of(value).ok_or_else(|| anyhow!("{}: `{name}` is {}, expected text or a number", self.place, kind(value)))
    }

    /// The row as a problem in the spelling of users' files: `question` or `problem`, `answer`, and where wanted `id`, `unit`, `tolerance`,
    /// `subject`, `level`, and `choices`, which stand below the question by their letters.
    pub(super) fn problem(&self, default_id: &str) -> Result<Problem> {
        let problem = self.question(default_id)?;
        self.text(&ANSWER)?;
        self.checked(problem)
    }

    /// As [`Row::problem`], where the answer may be missing: it is empty then.
    pub(super) fn question(&self, default_id: &str) -> Result<Problem> {
        let id = self.optional_text("id")?;
        let stem = self.fields.get("question").and_then(|question| question.get("stem")).and_then(text_of);
        let mut question = stem.map_or_else(|| self.text(&["question", "problem"]), Ok)?;
        ensure!(!question.trim().is_empty(), "{}: the question is empty; {EXPECTED}", self.place);
        let has_answer = ANSWER.iter().any(|name| self.fields.get(*name).is_some_and(|answer| !answer.is_null()));
        let mut answer = if has_answer { self.text(&ANSWER)? } else { String::new() };
        if let Some(choices) = Choices::of(self)? {
            question = choices.below(&question);
            answer = if has_answer { choices.letter(answer.trim(), &self.place)? } else { answer };
        }
        Ok(Problem {
            id: if id.is_empty() { default_id.to_owned() } else { id },
            question,
            answer,
            unit: self.unit()?,
            tolerance: self.tolerance("tolerance")?,
            subject: self.optional_text("subject")?,
            level: self.optional_text("level")?,
        })
    }

    /// A problem needs a question and an answer.
    pub(super) fn checked(&self, problem: Problem) -> Result<Problem> {
        for (name, text) in [("question", &problem.question), ("answer", &problem.answer)] {
            if text.trim().is_empty() {
                bail!("{}: the {name} is empty; {EXPECTED}", self.place);
            }
        }
        Ok(problem)
    }
}

/// Text as it is, numbers as people write them: 27.0 is `27`.
pub(super) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => match number.as_f64() {
            // Below 2^53 every whole float is that integer.
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 9e15 => Some((float as i64).to_string()),
            _ => Some(number.to_string()),
        },
        _ => None,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The rows of a JSONL file, blank lines left out.
pub(super) fn read_jsonl(path: &Path) -> Result<Vec<Row>> {
    let text = read_text(path)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let rows: Vec<Row> = lines
        .enumerate()
        .map(|(number, (line_number, line))| {
            let place = format!("{}, line {}", path.display(), line_number + 1);
            row(serde_json::from_str(line).map_err(|error| anyhow!("{place}: not JSON: {error}"))?, place, number)
        })
        .collect::<Result<_>>()?;
    some(rows, path)
}

/// One object that is written out where a name could stand.
pub(super) fn read_inline(text: &str) -> Result<Row> {
    row(serde_json::from_str(text).map_err(|error| anyhow!("{text}: not JSON: {error}"))?, "the example".to_owned(), 0)
}

/// The rows of a `.json` file (one object, or a list of them) or a `.toml` file (one table).
pub(super) fn read_document(path: &Path) -> Result<Vec<Row>> {
    let text = read_text(path)?;
    let place = path.display().to_string();
    let value: Value = if path.extension().is_some_and(|extension| extension == "toml") {
        toml::from_str(&text).map_err(|error| anyhow!("{place}: not TOML: {}", error.message()))?
    } else {
        serde_json::from_str(&text).map_err(|error| anyhow!("{place}: not JSON: {error}"))?
    };
    let rows = match value {
        Value::Array(items) => {
            let item = |(number, value)| row(value, format!("{place}, item {}", number + 1), number);
            items.into_iter().enumerate().map(item).collect::<Result<_>>()?
        }
        value => vec![row(value, place, 0)?],
    };
    some(rows, path)
}

fn read_text(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = String::from_utf8(bytes).map_err(|_| anyhow!("{} is not UTF-8 text", path.display()))?;
    Ok(text.strip_prefix('\u{FEFF}').map(str::to_owned).unwrap_or(text))
}

fn row(value: Value, place: String, number: usize) -> Result<Row> {
    match value {
        Value::Object(fields) => Ok(Row { fields, place, number }),
        other => bail!("{place}: {}, {EXPECTED}", kind(&other)),
    }
}

fn some(rows: Vec<Row>, path: &Path) -> Result<Vec<Row>> {
    if rows.is_empty() {
        bail!("{} has no problems in it; {EXPECTED}, one a line", path.display());
    }
    Ok(rows)
}
