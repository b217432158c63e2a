//! Choices of a question, in the spellings that files have: a list of texts, labels and texts side by side, or a list of both. It owns their
//! letters; it must never know which choice is right.

use anyhow::{Result, bail};

use super::value::Value;

/// The letters of choices, in order.
const LETTERS: &str = "ABCDEFGHIJ";

/// The choices of one question.
pub(super) struct Choices {
    /// `(label in the file, text)`
    choices: Vec<(String, String)>,
}

impl Choices {
    /// The choices of a row at `place`; none where it has no `choices`, neither at the top nor in its `question`.
    pub(super) fn of(fields: &Value, place: &str) -> Result<Option<Self>> {
        let inner = fields.get("question").and_then(|question| question.get("choices"));
        let Some(value) = fields.get("choices").or(inner) else { return Ok(None) };
        match read(value) {
            Some(choices) if !choices.is_empty() && choices.len() <= LETTERS.len() => Ok(Some(Self { choices })),
            _ => bail!(
                r#"{place}: `choices` is not ["...", "..."], {{"text": [...], "label": [...]}} or [{{"label": "A", "text": "..."}}] of at most {}"#,
                LETTERS.len()
            ),
        }
    }

    /// The question with its choices below it, a line each.
    pub(super) fn below(&self, question: &str) -> String {
        let lines = LETTERS.chars().zip(&self.choices).map(|(letter, (_, text))| format!("\n({letter}) {text}"));
        format!("{question}{}", lines.collect::<String>())
    }

    /// The letter of the choice that an answer names, by its label or its letter.
    pub(super) fn letter(&self, answer: &str, place: &str) -> Result<String> {
        let labelled = self.choices.iter().position(|(label, _)| label == answer);
        match labelled.and_then(|at| LETTERS.chars().nth(at)) {
            Some(letter) => Ok(letter.to_string()),
            None => {
                let known: Vec<&str> = self.choices.iter().map(|(label, _)| label.as_str()).collect();
                bail!("{place}: the answer {answer:?} is none of the choices {}", known.join(", "))
            }
        }
    }
}

/// Labels and texts; a list without labels has letters.
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
