//! Rows of users' files: objects with their location, so that every error gives the file and line. Owns the field names and layouts that
//! users' files may have. Does not know which set a file belongs to.

use std::path::Path;

use anyhow::{Result, anyhow, bail, ensure};

use super::choices::Choices;
use super::gold::Gold;
use super::value::Value;
use crate::flow::Problem;
use crate::input::{self, DOCUMENT_BYTES, Lines};

/// The expected format of a row, for error messages.
const EXPECTED: &str = r#"expected {"question": "...", "answer": "..."}"#;

/// The names of the question field in users' files.
pub(super) const QUESTION: [&str; 2] = ["question", "problem"];
/// All fields that a row of a user's file may have; others are ignored.
pub(super) const FIELDS: [&str; 10] =
    ["id", "question", "problem", "answer", "answerKey", "choices", "unit", "tolerance", "subject", "level"];

/// The names of the answer field in users' files.
const ANSWER: [&str; 2] = ["answer", "answerKey"];

/// One row of a file.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) fields: Value,
    /// The row's location, for error messages, such as `FILE, line 3`.
    pub(super) location: String,
    /// The row's number in the file, from 0.
    pub(super) number: usize,
}

impl Row {
    /// Returns the text of the first field in `names` that is present and not null.
    ///
    /// # Errors
    /// If there is no such field, or it is neither text nor a number.
    pub(super) fn text(&self, names: &[&str]) -> Result<String> {
        match self.first_present(names) {
            Some((name, value)) => self.as_text(name, value),
            None => bail!("{}: no `{}`; {EXPECTED}", self.location, names.join("` or `")),
        }
    }

    /// Returns the text of an optional field; empty if the field is missing or null.
    ///
    /// # Errors
    /// If the field is neither text nor a number.
    pub(super) fn optional_text(&self, name: &str) -> Result<String> {
        match self.fields.get(name) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(value) => self.as_text(name, value),
        }
    }

    /// Returns the name and value of the first field in `names` that is present and not null.
    fn first_present<'a>(&self, names: &[&'a str]) -> Option<(&'a str, &Value)> {
        names.iter().find_map(|name| self.fields.get(name).filter(|value| !value.is_null()).map(|value| (*name, value)))
    }

    /// Returns the answer's unit as LaTeX, to append to the answer; empty if the row has none.
    pub(super) fn unit(&self) -> Result<String> {
        Ok(unit(&self.optional_text("unit")?))
    }

    /// Returns the accepted absolute error, a positive number such as `0.1` or `"1e-1"`. `None` if the row lacks the field.
    ///
    /// # Errors
    /// If the field is not a positive number.
    pub(super) fn tolerance(&self, name: &str) -> Result<Option<f64>> {
        let text = self.optional_text(name)?;
        if text.is_empty() {
            return Ok(None);
        }
        match text.trim().parse() {
            Ok(tolerance) if tolerance > 0.0 && f64::is_finite(tolerance) => Ok(Some(tolerance)),
            _ => bail!("{}: `{name}` is {text:?}, expected a positive number, the largest accepted error of an answer", self.location),
        }
    }

    fn as_text(&self, name: &str, value: &Value) -> Result<String> {
        let text = value.as_text().map(str::to_owned);
        text.ok_or_else(|| anyhow!("{}: `{name}` is {}, expected text or a number", self.location, value.kind()))
    }

    /// Returns the gold answer from the first field in `names` that is present and not null; empty if there is none.
    pub(super) fn gold(&self, names: &[&str]) -> Result<Gold> {
        let Some((name, value)) = self.first_present(names) else { return Ok(Gold::default()) };
        Gold::of(value).map_err(|found| anyhow!("{}: `{name}` is {found}", self.location))
    }

    /// Converts a row of a user's file into a problem. Required: `question` or `problem`, and `answer` or `answerKey`. Optional: `id`,
    /// `unit`, `tolerance`, `subject`, `level`, and `choices`, which are appended to the question with their letters. Also returns the gold
    /// answer as read.
    ///
    /// # Errors
    /// If a required field is missing or empty, or a field is malformed.
    pub(super) fn problem(&self, default_id: &str) -> Result<(Problem, Gold)> {
        let (problem, gold) = self.question(default_id)?;
        if gold.answer.is_empty() {
            self.refuse_without_answer(&ANSWER)?;
        }
        Ok((self.ensure_complete(problem)?, gold))
    }

    /// Returns an error that describes what the row has instead of an answer.
    pub(super) fn refuse_without_answer(&self, names: &[&str]) -> Result<()> {
        match self.first_present(names) {
            None => bail!("{}: no `{}`; {EXPECTED}", self.location, names.join("` or `")),
            Some((_, Value::Text(text))) if text.trim().is_empty() => bail!("{}: the answer is empty; {EXPECTED}", self.location),
            Some((name, Value::Text(text))) => {
                bail!("{}: `{name}` is {text:?}, which is not an answer: give the answer or remove the row", self.location)
            }
            Some((name, _)) => bail!("{}: `{name}` contains no answer: give the answer or remove the row", self.location),
        }
    }

    /// Like [`Row::problem`], but allows a missing answer, which becomes an empty one.
    pub(super) fn question(&self, default_id: &str) -> Result<(Problem, Gold)> {
        let id = self.optional_text("id")?;
        let stem = self.fields.get("question").and_then(|question| question.get("stem")?.as_text());
        let mut question = stem.map_or_else(|| self.text(&QUESTION), |stem| Ok(stem.to_owned()))?;
        ensure!(!question.trim().is_empty(), "{}: the question is empty; {EXPECTED}", self.location);
        let mut gold = self.gold(&ANSWER)?;
        if let Some(choices) = Choices::of(&self.fields, &self.location)? {
            question = choices.append_to(&question);
            for answer in std::iter::once(&mut gold.answer).chain(&mut gold.alternatives).filter(|answer| !answer.is_empty()) {
                *answer = choices.letter(answer.trim(), &self.location)?;
            }
        }
        let problem = Problem {
            id: if id.is_empty() { default_id.to_owned() } else { id },
            question,
            answer: gold.answer.clone(),
            alternatives: gold.alternatives.clone(),
            unit: self.unit()?,
            tolerance: self.tolerance("tolerance")?,
            subject: self.optional_text("subject")?,
            level: self.optional_text("level")?,
            ..Problem::default()
        };
        Ok((problem, gold))
    }

    /// Returns the problem unchanged.
    ///
    /// # Errors
    /// If its question or answer is empty.
    pub(super) fn ensure_complete(&self, problem: Problem) -> Result<Problem> {
        for (name, text) in [("question", &problem.question), ("answer", &problem.answer)] {
            if text.trim().is_empty() {
                bail!("{}: the {name} is empty; {EXPECTED}", self.location);
            }
        }
        Ok(problem)
    }
}

/// Reads the rows of a JSONL file. Skips blank lines.
pub(super) fn read_jsonl(path: &Path) -> Result<Vec<Row>> {
    let rows = Lines::open(path)?.enumerate().map(|(number, line)| {
        let line = line?;
        let value = Value::json(&input::json(&line.text)).map_err(|error| anyhow!("{}: not JSON: {error}", line.location))?;
        row(value, line.location, number)
    });
    non_empty(rows.collect::<Result<_>>()?, path)
}

/// Parses an inline problem, which a user gives instead of a name.
pub(super) fn read_inline(text: &str) -> Result<Row> {
    row(Value::json(&input::json(text)).map_err(|error| anyhow!("{text}: not JSON: {error}"))?, "the example".to_owned(), 0)
}

/// Reads the rows of a `.json` file (one object or a list of objects) or a `.toml` file (one table).
pub(super) fn read_document(path: &Path) -> Result<Vec<Row>> {
    let text = input::read_text(path, DOCUMENT_BYTES)?;
    let location = path.display().to_string();
    let value = if path.extension().is_some_and(|extension| extension == "toml") {
        input::toml(&text, Value::toml).map_err(|error| anyhow!("{location}: not TOML: {error}"))?
    } else {
        Value::json(&input::json(&text)).map_err(|error| anyhow!("{location}: not JSON: {error}"))?
    };
    let rows = match value {
        Value::List(items) => {
            let item = |(number, value)| row(value, format!("{location}, item {}", number + 1), number);
            items.into_iter().enumerate().map(item).collect::<Result<_>>()?
        }
        value => vec![row(value, location, 0)?],
    };
    non_empty(rows, path)
}

fn row(fields: Value, location: String, number: usize) -> Result<Row> {
    match fields {
        Value::Object(_) => Ok(Row { fields, location, number }),
        other => bail!("{location}: {}, {EXPECTED}", other.kind()),
    }
}

fn non_empty(rows: Vec<Row>, path: &Path) -> Result<Vec<Row>> {
    if rows.is_empty() {
        bail!("{} has no problems; {EXPECTED}, one per line", path.display());
    }
    Ok(rows)
}

/// Converts a unit to LaTeX, to append to an answer: `$cm^2$` becomes `\text{ cm}^2`. Drops degree and percent signs, because the grader
/// accepts answers with and without them.
fn unit(written: &str) -> String {
    let written = written.trim().trim_matches('$').trim();
    if written.is_empty() || written.contains(['%', '\\']) {
        return String::new();
    }
    match written.split_once('^') {
        Some((name, power)) => format!("\\text{{ {name}}}^{power}"),
        None => format!("\\text{{ {written}}}"),
    }
}

#[cfg(test)]
mod tests {
    use super::unit;

    #[test]
    fn unit_becomes_latex() {
        let check = |written: &str, expected: &str| assert_eq!(unit(written), expected, "{written}");
        check("minute", r"\text{ minute}");
        check("min", r"\text{ min}");
        check("km/h", r"\text{ km/h}");
        check("$cm^2$", r"\text{ cm}^2");
        check("%", "");
        check(r"^{\circ}", "");
        check(" ", "");
    }
}
