//! Extracts the gold answer from a row's value: text or a number, a list of alternatives, or a worked solution that ends with the answer.
//! Independent of how answers are compared.

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::value::Value;
use crate::input;

/// Texts that other programs write for a missing value.
const MISSING_VALUES: [&str; 6] = ["None", "nan", "NaN", "null", "NULL", "<NA>"];
/// The marker before the final answer in GSM8K.
const GSM8K_MARKER: &str = "####";
const EXPECTED: &str = "expected text, a number, or a list of alternatives";

/// A gold answer as read from a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Gold {
    /// Empty if there is no answer.
    pub(super) answer: String,
    /// Other correct answers.
    pub(super) alternatives: Vec<String>,
    /// True if any of the answers was extracted from a worked solution.
    pub(super) from_solution: bool,
}

/// Counts the unusual gold answers in a file, so that each kind is reported once.
#[derive(Debug, Default)]
pub(super) struct Tally {
    rows: usize,
    /// The number of rows with several answers, and the location of the first.
    several: (usize, String),
    /// The same for worked solutions.
    solutions: (usize, String),
    /// The same for missing answers.
    missing: (usize, String),
}

impl Gold {
    /// Reads the answer from a value. `None`, `nan`, `null`, empty text and an empty list count as no answer.
    ///
    /// # Errors
    /// If the value cannot be an answer. The message describes the value; the caller adds the location.
    pub(super) fn of(value: &Value) -> Result<Self> {
        match value {
            Value::Null => Ok(Self::default()),
            Value::Number(number) => Ok(Self { answer: number.clone(), ..Self::default() }),
            Value::Text(text) => Ok(match parse_text_list(text) {
                Some(texts) => Self::any_of(texts.iter().map(|text| Self::of_text(text))),
                None => Self::of_text(text),
            }),
            Value::List(items) => {
                let of_item = |item: &Value| {
                    ensure!(item.as_text().is_some(), "a list with {} in it; {EXPECTED}", item.kind());
                    Self::of(item)
                };
                Ok(Self::any_of(items.iter().map(of_item).collect::<Result<Vec<_>>>()?.into_iter()))
            }
            other => bail!("{}; {EXPECTED}", other.kind()),
        }
    }

    fn of_text(text: &str) -> Self {
        if MISSING_VALUES.contains(&text.trim()) {
            return Self::default();
        }
        match final_answer(text) {
            Some(answer) => Self { answer: answer.to_owned(), from_solution: true, ..Self::default() },
            None => Self { answer: text.to_owned(), ..Self::default() },
        }
    }

    /// Merges several gold answers: the first becomes the answer, the others its alternatives, without repeats.
    fn any_of(golds: impl Iterator<Item = Self>) -> Self {
        let mut all = Self::default();
        for gold in golds {
            all.from_solution |= gold.from_solution;
            for answer in std::iter::once(gold.answer).chain(gold.alternatives) {
                match answer.trim().is_empty() || answer == all.answer || all.alternatives.contains(&answer) {
                    true => {}
                    false if all.answer.is_empty() => all.answer = answer,
                    false => all.alternatives.push(answer),
                }
            }
        }
        all
    }
}

impl Tally {
    /// Counts the gold answer of the row at `location`, such as `FILE, line 3`.
    pub(super) fn count(&mut self, gold: &Gold, location: &str) {
        self.rows += 1;
        let one = |tally: &mut (usize, String), counts: bool| {
            if counts && tally.0 == 0 {
                // Drop the file name, because the message starts with it.
                location.rsplit(", ").next().unwrap_or(location).clone_into(&mut tally.1);
            }
            tally.0 += usize::from(counts);
        };
        one(&mut self.several, !gold.alternatives.is_empty());
        one(&mut self.solutions, gold.from_solution);
        one(&mut self.missing, gold.answer.trim().is_empty());
    }

    /// Returns one message per unusual kind of answer; empty if every row has one plain answer.
    pub(super) fn messages(&self) -> Vec<String> {
        let message = |(count, first): &(usize, String), found: &str| {
            (*count > 0).then(|| format!("{count} of {} rows {found} (first: {first})", self.rows))
        };
        let several = message(&self.several, "have several answers, any of which is correct");
        let solutions = message(&self.solutions, "have a worked solution as their answer; the text after #### or in the last box is used");
        let missing = message(&self.missing, "have no answer");
        [several, solutions, missing].into_iter().flatten().collect()
    }
}

/// Parses text that contains a list of strings in Python's or JSON's notation, `['70', "71"]`. `None` for anything else, such as the list
/// of numbers `[70, 71]`, which is itself an answer.
fn parse_text_list(text: &str) -> Option<Vec<String>> {
    let mut rest = text.trim().strip_prefix('[')?.strip_suffix(']')?.trim();
    let mut texts = Vec::new();
    while !rest.is_empty() {
        let quote = rest.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let (text, after) = parse_quoted(&rest[1..], quote)?;
        texts.push(text);
        // NumPy separates strings with spaces only.
        rest = after.trim_start();
        rest = rest.strip_prefix(',').map_or(rest, str::trim_start);
    }
    (!texts.is_empty()).then_some(texts)
}

/// Returns the text before the closing quote, with escapes of quotes and slashes resolved, and the rest after it. `None` if there is no
/// closing quote.
fn parse_quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut read = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            _ if character == quote => return Some((read, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                escaped @ ('\\' | '\'' | '"' | '/') => read.push(escaped),
                // Keep other escapes: \times and \neq are more likely in an answer than a tab or a newline.
                other => read.extend(['\\', other]),
            },
            _ => read.push(character),
        }
    }
    None
}

/// Extracts the final answer of a worked solution: the text after `####` in its last line, or the content of its last `\boxed{}`. `None`
/// for a plain answer.
fn final_answer(text: &str) -> Option<&str> {
    let last_line = text.trim_end().lines().next_back()?;
    if let Some((_, answer)) = last_line.rsplit_once(GSM8K_MARKER) {
        return Some(answer.trim());
    }
    boxed(text)
}

/// Returns the content of the last `\boxed{...}`, up to the matching brace; an escaped brace, `\{`, is text. `None` if the last box is
/// incomplete or there is none.
pub(super) fn boxed(solution: &str) -> Option<&str> {
    const OPENING: &str = r"\boxed{";
    let start = solution.rfind(OPENING)? + OPENING.len();
    let (mut depth, mut escaped) = (1, false);
    for (offset, byte) in solution[start..].bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(&solution[start..start + offset]);
        }
    }
    None
}

/// Reads the gold answers from a field of a JSON object, in the formats of users' files: text, a number, or a list of alternatives. Text
/// that marks a missing value in data sets, such as `None`, counts as an answer here.
///
/// # Errors
/// If `json` is not JSON, the field is missing, or its value is not an answer. The message describes the value.
pub fn answers(json: &str, field: &str) -> Result<Vec<String>> {
    let object = Value::json(&input::json(json))?;
    let value = object.get(field).with_context(|| format!("missing field `{field}`"))?;
    let gold = Gold::of(value).map_err(|found| anyhow!("`{field}` is {found}"))?;
    match value {
        _ if !gold.answer.is_empty() => Ok(std::iter::once(gold.answer).chain(gold.alternatives).collect()),
        Value::Text(text) => Ok(vec![text.clone()]),
        other => bail!("`{field}` is {}, which contains no answer", other.kind()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &Value, answer: &str, alternatives: &[&str], from_solution: bool) {
        let expected =
            Gold { answer: answer.into(), alternatives: alternatives.iter().map(|text| (*text).into()).collect(), from_solution };
        assert_eq!(Gold::of(value).unwrap(), expected, "{value:?}");
    }

    #[test]
    fn gold_reads_lists_as_alternatives() {
        let texts = |text: &str| Value::Text(text.to_owned());
        check(&texts("['70']"), "70", &[], false);
        check(&texts(r#" ["70", "71"] "#), "70", &["71"], false);
        check(&texts(r"['\\frac{1}{2}', '0.5' '0.5']"), r"\frac{1}{2}", &["0.5"], false);
        check(&texts(r#"["it's", 'a, b']"#), "it's", &["a, b"], false);
        check(&Value::json(r#"["70", 71, "", "70"]"#).unwrap(), "70", &["71"], false);
        for answer in ["[70, 71]", "[0, 1)", "['70'", "[a]", "[]", "['70'] and ['71']", r"\{70\}", "70"] {
            check(&texts(answer), answer, &[], false);
        }
    }

    #[test]
    fn gold_extracts_the_answer_of_a_worked_solution() {
        let check = |text: &str, answer: &str| check(&Value::Text(text.to_owned()), answer, &[], true);
        check("48/2 = 24 clips in May. 48+24 = <<48+24=72>>72.\n#### 72", "72");
        check("so 1,000\n#### $1,000 \n", "$1,000");
        check("#### -3", "-3");
        check(r"We get $x = \boxed{\frac{1}{2}}$.", r"\frac{1}{2}");
        check(r"first \boxed{1}, then \boxed{\{1, 2\}}", r"\{1, 2\}");
        check("nothing follows\n####", "");
    }

    #[test]
    fn gold_is_empty_for_missing_values() {
        for text in ["None", " nan", "NaN", "null", "['None']"] {
            check(&Value::Text(text.to_owned()), "", &[], false);
        }
        check(&Value::Null, "", &[], false);
        check(&Value::json("[]").unwrap(), "", &[], false);
        check(&Value::Text("none".to_owned()), "none", &[], false);
        let error = |json: &str| Gold::of(&Value::json(json).unwrap()).unwrap_err().to_string();
        assert!(error("true").starts_with("true (true or false); expected text, a number, or a list"));
        assert!(error(r#"{"target": 1}"#).starts_with("an object with the fields target; expected"));
        assert!(error("[1, null]").starts_with("a list with null in it; expected"));
    }

    #[test]
    fn boxed_balances_braces() {
        let check = |solution: &str, expected: Option<&str>| assert_eq!(boxed(solution), expected, "{solution}");
        check(r"so $\boxed{1}$, no, $\boxed{\frac{1}{2}}$.", Some(r"\frac{1}{2}"));
        check(r"\boxed{\left\{x\right.}é", Some(r"\left\{x\right."));
        check(r"\boxed{a\\}", Some(r"a\\"));
        check(r"\boxed{}", Some(""));
        check(r"\boxed{1} and \boxed{2", None);
        check(r"\boxed 1", None);
        check("", None);
    }
}
