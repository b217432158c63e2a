//! Rows of text files: JSON objects that know where they stand, so that every complaint names file and line. It owns the spellings that files
//! of users may have; it must never know which set a file belongs to.

use std::path::Path;

use anyhow::{Result, anyhow, bail, ensure};

use super::choices::Choices;
use super::gold::Gold;
use super::value::Value;
use crate::flow::Problem;
use crate::input::{self, DOCUMENT_BYTES, Lines};

/// What a file of problems looks like, for messages.
const EXPECTED: &str = r#"expected {"question": "...", "answer": "..."}"#;

/// What users' files call the question.
pub(super) const QUESTION: [&str; 2] = ["question", "problem"];
/// All that is read of a row in the spelling of users' files.
pub(super) const FIELDS: [&str; 10] =
    ["id", "question", "problem", "answer", "answerKey", "choices", "unit", "tolerance", "subject", "level"];

/// What users' files call the answer.
const ANSWER: [&str; 2] = ["answer", "answerKey"];

/// One object of a file.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) fields: Value,
    /// `FILE, line 3`.
    pub(super) place: String,
    /// Its number in the file, from 0.
    pub(super) number: usize,
}

impl Row {
    /// The text of the first of the given fields that is there.
    pub(super) fn text(&self, names: &[&str]) -> Result<String> {
        match self.first(names) {
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

    /// The first of the given fields that is there and not null.
    fn first<'a>(&self, names: &[&'a str]) -> Option<(&'a str, &Value)> {
        names.iter().find_map(|name| self.fields.get(name).filter(|value| !value.is_null()).map(|value| (*name, value)))
    }

    /// The unit of the answer, as LaTeX that can follow it; empty where the row has none.
    pub(super) fn unit(&self) -> Result<String> {
        Ok(unit(&self.optional_text("unit")?))
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
        let text = value.as_text().map(str::to_owned);
        text.ok_or_else(|| anyhow!("{}: `{name}` is {}, expected text or a number", self.place, value.kind()))
    }

    /// The answer in the first of the given fields that is there; empty where there is none.
    pub(super) fn gold(&self, names: &[&str]) -> Result<Gold> {
        let Some((name, value)) = self.first(names) else { return Ok(Gold::default()) };
        Gold::of(value).map_err(|found| anyhow!("{}: `{name}` is {found}", self.place))
    }

    /// The row as a problem in the spelling of users' files: `question` or `problem`, `answer`, and where wanted `id`, `unit`, `tolerance`,
    /// `subject`, `level`, and `choices`, which stand below the question by their letters.
    pub(super) fn problem(&self, default_id: &str) -> Result<(Problem, Gold)> {
        let (problem, gold) = self.question(default_id)?;
        if gold.answer.is_empty() {
            self.refuse_without_answer(&ANSWER)?;
        }
        Ok((self.checked(problem)?, gold))
    }

    /// Says what stands in the place of an answer.
    pub(super) fn refuse_without_answer(&self, names: &[&str]) -> Result<()> {
        match self.first(names) {
            None => bail!("{}: no `{}`; {EXPECTED}", self.place, names.join("` or `")),
            Some((_, Value::Text(text))) if text.trim().is_empty() => bail!("{}: the answer is empty; {EXPECTED}", self.place),
            Some((name, Value::Text(text))) => {
                bail!("{}: `{name}` is {text:?}, which is no answer: give the answer or leave the row out", self.place)
            }
            Some((name, _)) => bail!("{}: `{name}` has no answer in it: give the answer or leave the row out", self.place),
        }
    }

    /// As [`Row::problem`], where the answer may be missing: it is empty then.
    pub(super) fn question(&self, default_id: &str) -> Result<(Problem, Gold)> {
        let id = self.optional_text("id")?;
        let stem = self.fields.get("question").and_then(|question| question.get("stem")?.as_text());
        let mut question = stem.map_or_else(|| self.text(&QUESTION), |stem| Ok(stem.to_owned()))?;
        ensure!(!question.trim().is_empty(), "{}: the question is empty; {EXPECTED}", self.place);
        let mut gold = self.gold(&ANSWER)?;
        if let Some(choices) = Choices::of(&self.fields, &self.place)? {
            question = choices.below(&question);
            for answer in std::iter::once(&mut gold.answer).chain(&mut gold.alternatives).filter(|answer| !answer.is_empty()) {
                *answer = choices.letter(answer.trim(), &self.place)?;
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

/// The rows of a JSONL file, blank lines left out.
pub(super) fn read_jsonl(path: &Path) -> Result<Vec<Row>> {
    let rows = Lines::open(path)?.enumerate().map(|(number, line)| {
        let line = line?;
        let value = Value::json(&input::json(&line.text)).map_err(|error| anyhow!("{}: not JSON: {error}", line.place))?;
        row(value, line.place, number)
    });
    some(rows.collect::<Result<_>>()?, path)
}

/// One object that is written out where a name could stand.
pub(super) fn read_inline(text: &str) -> Result<Row> {
    row(Value::json(&input::json(text)).map_err(|error| anyhow!("{text}: not JSON: {error}"))?, "the example".to_owned(), 0)
}

/// The rows of a `.json` file (one object, or a list of them) or a `.toml` file (one table).
pub(super) fn read_document(path: &Path) -> Result<Vec<Row>> {
    let text = input::read_text(path, DOCUMENT_BYTES)?;
    let place = path.display().to_string();
    let value = if path.extension().is_some_and(|extension| extension == "toml") {
        input::toml(&text, Value::toml).map_err(|error| anyhow!("{place}: not TOML: {error}"))?
    } else {
        Value::json(&input::json(&text)).map_err(|error| anyhow!("{place}: not JSON: {error}"))?
    };
    let rows = match value {
        Value::List(items) => {
            let item = |(number, value)| row(value, format!("{place}, item {}", number + 1), number);
            items.into_iter().enumerate().map(item).collect::<Result<_>>()?
        }
        value => vec![row(value, place, 0)?],
    };
    some(rows, path)
}

fn row(fields: Value, place: String, number: usize) -> Result<Row> {
    match fields {
        Value::Object(_) => Ok(Row { fields, place, number }),
        other => bail!("{place}: {}, {EXPECTED}", other.kind()),
    }
}

fn some(rows: Vec<Row>, path: &Path) -> Result<Vec<Row>> {
    if rows.is_empty() {
        bail!("{} has no problems in it; {EXPECTED}, one a line", path.display());
    }
    Ok(rows)
}

/// The unit as LaTeX that can follow an answer, `$cm^2$` as `\text{ cm}^2`. The signs of degree and percent are left out: an answer is the same
/// number with them or without.
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
    fn units_follow_their_answers() {
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
