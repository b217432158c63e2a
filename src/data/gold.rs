//! The reference answer of a row: one text or number, a list of alternatives, or a worked solution that ends in the answer. It owns which of
//! them a value is; it must never know how answers are compared.

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::value::Value;
use crate::input;

/// What other programs write where there is no answer.
const NOTHING: [&str; 6] = ["None", "nan", "NaN", "null", "NULL", "<NA>"];
/// What GSM8K writes before its answers.
const MARK: &str = "####";
const EXPECTED: &str = "expected text, a number, or a list of these, any of which is right";

/// A reference answer as it was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Gold {
    /// Empty where there is no answer.
    pub(super) answer: String,
    /// Others that are right too.
    pub(super) alternatives: Vec<String>,
    /// Whether it stood at the end of a worked solution.
    pub(super) was_solution: bool,
}

/// What the golds of a file were, for the user: each is said once.
#[derive(Debug, Default)]
pub(super) struct Tally {
    rows: usize,
    /// Rows with several answers, and the place of the first.
    several: (usize, String),
    solutions: (usize, String),
    missing: (usize, String),
}

impl Gold {
    /// The answer in a value; `None`, `nan`, `null` and empty text are no answer, and neither is an empty list.
    ///
    /// # Errors
    /// Says what was found where it cannot be an answer; the caller names the place.
    pub(super) fn of(value: &Value) -> Result<Self> {
        match value {
            Value::Null => Ok(Self::default()),
            Value::Number(number) => Ok(Self { answer: number.clone(), ..Self::default() }),
            Value::Text(text) => Ok(match listed(text) {
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
        if NOTHING.contains(&text.trim()) {
            return Self::default();
        }
        match final_answer(text) {
            Some(answer) => Self { answer: answer.to_owned(), was_solution: true, ..Self::default() },
            None => Self { answer: text.to_owned(), ..Self::default() },
        }
    }

    /// The first answer and, as its alternatives, all others.
    fn any_of(golds: impl Iterator<Item = Self>) -> Self {
        let mut all = Self::default();
        for gold in golds {
            all.was_solution |= gold.was_solution;
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
    pub(super) fn count(&mut self, gold: &Gold, place: &str) {
        self.rows += 1;
        let one = |tally: &mut (usize, String), counts: bool| {
            if counts && tally.0 == 0 {
                // The file is named once, before the sentence.
                place.rsplit(", ").next().unwrap_or(place).clone_into(&mut tally.1);
            }
            tally.0 += usize::from(counts);
        };
        one(&mut self.several, !gold.alternatives.is_empty());
        one(&mut self.solutions, gold.was_solution);
        one(&mut self.missing, gold.answer.trim().is_empty());
    }

    /// What a user must know of these answers, in sentences; nothing where every row has one plain answer.
    pub(super) fn sentences(&self) -> Vec<String> {
        let say = |(count, first): &(usize, String), what: &str| {
            (*count > 0).then(|| format!("{count} of {} rows {what} (the first is {first})", self.rows))
        };
        let several = say(&self.several, "have several answers, any of which counts as right");
        let solutions = say(&self.solutions, "have a worked solution as their answer: what stands after #### or in its last box is taken");
        let missing = say(&self.missing, "have no answer");
        [several, solutions, missing].into_iter().flatten().collect()
    }
}

/// The texts of a list that Python or JSON wrote as text, `['70', "71"]`; none for anything else, such as the list of numbers `[70, 71]`, which
/// is an answer itself.
fn listed(text: &str) -> Option<Vec<String>> {
    let mut rest = text.trim().strip_prefix('[')?.strip_suffix(']')?.trim();
    let mut texts = Vec::new();
    while !rest.is_empty() {
        let quote = rest.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let (text, after) = quoted(&rest[1..], quote)?;
        texts.push(text);
        // NumPy writes only spaces between texts.
        rest = after.trim_start();
        rest = rest.strip_prefix(',').map_or(rest, str::trim_start);
    }
    (!texts.is_empty()).then_some(texts)
}

/// The text up to the closing quote, its backslashes read as Python and JSON mean them, and what follows.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut read = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            _ if character == quote => return Some((read, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                escaped @ ('\\' | '\'' | '"' | '/') => read.push(escaped),
                // \times and \neq are likelier in an answer than a tab or a new line.
                other => read.extend(['\\', other]),
            },
            _ => read.push(character),
        }
    }
    None
}

/// What a worked solution comes to: the text after `####` in its last line, or the content of its last `\boxed{}`; none for a plain answer.
fn final_answer(text: &str) -> Option<&str> {
    let last_line = text.trim_end().lines().next_back()?;
    if let Some((_, answer)) = last_line.rsplit_once(MARK) {
        return Some(answer.trim());
    }
    boxed(text)
}

/// The content of the last `\boxed{...}`. Braces balance; an escaped one, `\{`, is text.
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

/// The reference answers in a field of a JSON object, as rows of users' files have them: a text or number, or a list of alternatives. Text that
/// is no answer in a data set, such as `None`, is taken as it is.
///
/// # Errors
/// When the value is not an answer; the message describes what was found.
pub fn answers(json: &str, field: &str) -> Result<Vec<String>> {
    let object = Value::json(&input::json(json))?;
    let value = object.get(field).with_context(|| format!("missing field `{field}`"))?;
    let gold = Gold::of(value).map_err(|found| anyhow!("`{field}` is {found}"))?;
    match value {
        _ if !gold.answer.is_empty() => Ok(std::iter::once(gold.answer).chain(gold.alternatives).collect()),
        Value::Text(text) => Ok(vec![text.clone()]),
        other => bail!("`{field}` is {}, without an answer in it", other.kind()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &Value, answer: &str, alternatives: &[&str], was_solution: bool) {
        let expected = Gold { answer: answer.into(), alternatives: alternatives.iter().map(|text| (*text).into()).collect(), was_solution };
        assert_eq!(Gold::of(value).unwrap(), expected, "{value:?}");
    }

    #[test]
    fn lists_are_alternatives_however_they_are_written() {
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
    fn worked_solutions_come_to_their_answer() {
        let check = |text: &str, answer: &str| check(&Value::Text(text.to_owned()), answer, &[], true);
        check("48/2 = 24 clips in May. 48+24 = <<48+24=72>>72.\n#### 72", "72");
        check("so 1,000\n#### $1,000 \n", "$1,000");
        check("#### -3", "-3");
        check(r"We get $x = \boxed{\frac{1}{2}}$.", r"\frac{1}{2}");
        check(r"first \boxed{1}, then \boxed{\{1, 2\}}", r"\{1, 2\}");
        check("nothing follows\n####", "");
    }

    #[test]
    fn what_is_no_answer_is_empty() {
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
    fn braces_of_boxes_balance() {
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
