//! The choices of a multiple-choice question, in the three layouts that data sets use: a list of texts, parallel lists of labels and texts,
//! or a list of label-text pairs. Assigns the letters. Does not know which choice is correct.

use anyhow::{Result, bail};

use super::value::Value;

/// The letters of the choices, in order. A question has at most this many choices.
const LETTERS: &str = "ABCDEFGHIJ";

/// The choices of one question.
pub(super) struct Choices {
    /// `(label in the file, text)`
    choices: Vec<(String, String)>,
}

impl Choices {
    /// Reads the choices of a row, from its top level or from inside `question`. `None` if the row has none. `location` is the row's, for
    /// errors.
    pub(super) fn of(fields: &Value, location: &str) -> Result<Option<Self>> {
        let inner = fields.get("question").and_then(|question| question.get("choices"));
        let Some(value) = fields.get("choices").or(inner) else { return Ok(None) };
        match read(value) {
            Some(choices) if !choices.is_empty() && choices.len() <= LETTERS.len() => Ok(Some(Self { choices })),
            _ => bail!(
                r#"{location}: `choices` must be ["...", "..."], {{"text": [...], "label": [...]}} or [{{"label": "A", "text": "..."}}], with 1 to {} choices"#,
                LETTERS.len()
            ),
        }
    }

    /// Appends the choices to the question, one per line.
    pub(super) fn append_to(&self, question: &str) -> String {
        let lines = LETTERS.chars().zip(&self.choices).map(|(letter, (_, text))| format!("\n({letter}) {text}"));
        format!("{question}{}", lines.collect::<String>())
    }

    /// Returns the letter of the choice that the file labels `answer`.
    pub(super) fn letter(&self, answer: &str, location: &str) -> Result<String> {
        let labeled = self.choices.iter().position(|(label, _)| label == answer);
        match labeled.and_then(|at| LETTERS.chars().nth(at)) {
            Some(letter) => Ok(letter.to_string()),
            None => {
                let known: Vec<&str> = self.choices.iter().map(|(label, _)| label.as_str()).collect();
                bail!("{location}: the answer {answer:?} is not a choice; expected one of {}", known.join(", "))
            }
        }
    }
}

/// Returns `(label, text)` pairs, or `None` for an unsupported layout. Choices without labels are labeled with letters.
fn read(value: &Value) -> Option<Vec<(String, String)>> {
    let text = |value: &Value| value.as_text().map(str::to_owned);
    let texts = |value: &Value| value.as_list()?.iter().map(text).collect::<Option<Vec<String>>>();
    if let Some(texts) = texts(value) {
        return Some(LETTERS.chars().map(String::from).zip(texts).collect());
    }
    if let Value::Object(_) = value {
        let (labels, texts) = (texts(value.get("label")?)?, texts(value.get("text")?)?);
        return (labels.len() == texts.len()).then(|| labels.into_iter().zip(texts).collect());
    }
    let pair = |choice: &Value| Some((text(choice.get("label")?)?, text(choice.get("text")?)?));
    value.as_list()?.iter().map(pair).collect()
}
