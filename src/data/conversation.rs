//! Conversations in training files: a system turn, earlier turns, the question, and optionally the start of the answer (prefill).
//!
//! Owns the formats of turns. No turn is dropped: a turn that cannot be used is an error that says where it is. Independent of chat
//! templates.

use anyhow::{Result, anyhow, bail};

use super::value::Value;
use crate::flow::Message;

/// The expected format of a turn, for error messages.
const EXPECTED: &str = r#"expected {"role": "user", "content": "..."}"#;
/// Role names in files, with the role that chat templates use.
const ROLES: [(&str, &str); 5] =
    [("system", "system"), ("user", "user"), ("human", "user"), ("assistant", "assistant"), ("gpt", "assistant")];

/// A conversation that ends with a question, and optionally with the start of its answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Conversation {
    /// The turns before the question.
    pub(super) context: Vec<Message>,
    /// The content of the last user turn.
    pub(super) question: String,
    /// The start of the assistant's answer; empty if the file gives none.
    pub(super) prefill: String,
}

impl Conversation {
    /// Reads the turns in a row's `column`. `location` is the row's, for errors.
    ///
    /// # Errors
    /// If the value is not a list of turns, a turn is malformed, a system turn is not the first, or no user turn ends the conversation.
    pub(super) fn of(value: Option<&Value>, column: &str, location: &str) -> Result<Self> {
        let list = match value {
            Some(Value::List(list)) if !list.is_empty() => list,
            Some(Value::List(_)) => bail!("{location}: `{column}` has no turns; {EXPECTED}"),
            other => {
                bail!("{location}: `{column}` is {}, expected a list of turns; {EXPECTED}", other.map_or("missing".into(), Value::kind))
            }
        };
        let mut turns = Vec::with_capacity(list.len());
        for (number, turn) in list.iter().enumerate() {
            turns.push(message(turn, &format!("{column}[{number}]"), location)?);
        }
        let late = turns.iter().skip(1).position(|turn| turn.role == "system");
        if let Some(late) = late {
            bail!("{location}: `{column}[{}]` is a system turn; only the first turn can be one", late + 1);
        }
        let prefill = turns.pop_if(|turn| turn.role == "assistant").map_or_else(String::new, |turn| turn.content);
        match turns.pop() {
            Some(turn) if turn.role == "user" && !turn.content.trim().is_empty() => {
                Ok(Self { context: turns, question: turn.content, prefill })
            }
            Some(turn) if turn.role == "user" => bail!("{location}: `{column}[{}].content` is empty, expected a question", turns.len()),
            Some(turn) => bail!("{location}: `{column}[{}]` has the role {}, expected the user's question", turns.len(), turn.role),
            None => bail!("{location}: `{column}` has no user turn"),
        }
    }
}

/// Reads one turn in verl's format (`role`, `content`) or ShareGPT's (`from`, `value`).
fn message(turn: &Value, at: &str, location: &str) -> Result<Message> {
    let field = |names: [&'static str; 2]| names.into_iter().find_map(|name| Some((name, turn.get(name)?)));
    let Value::Object(_) = turn else { bail!("{location}: `{at}` is {}, {EXPECTED}", turn.kind()) };
    let missing = |name: &str| anyhow!("{location}: `{at}` has no `{name}`, {EXPECTED}");
    let (name, role) = field(["role", "from"]).ok_or_else(|| missing("role"))?;
    let role = match role {
        Value::Text(role) => role,
        other => bail!("{location}: `{at}.{name}` is {}, expected a role name", other.kind()),
    };
    let Some((_, role)) = ROLES.into_iter().find(|(written, _)| written == role) else {
        let known = ROLES.map(|(written, _)| written).join(", ");
        bail!("{location}: `{at}.{name}` is {role:?}; it must be one of {known}: change the role or remove the row")
    };
    let (name, content) = field(["content", "value"]).ok_or_else(|| missing("content"))?;
    Ok(Message::new(role, text(content, &format!("{at}.{name}"), location)?))
}

/// Reads a turn's content: a text, or a list of text parts, which are joined.
fn text(content: &Value, at: &str, location: &str) -> Result<String> {
    match content {
        Value::Text(text) => Ok(text.clone()),
        Value::List(parts) => {
            parts.iter().enumerate().map(|(number, part)| self::part(part, &format!("{at}[{number}]"), location)).collect()
        }
        other => bail!("{location}: `{at}` is {}, expected text", other.kind()),
    }
}

fn part(part: &Value, at: &str, location: &str) -> Result<String> {
    match (part, part.get("type"), part.get("text")) {
        (Value::Text(text), ..) | (_, None, Some(Value::Text(text))) => Ok(text.clone()),
        (_, Some(Value::Text(kind)), Some(Value::Text(text))) if kind == "text" => Ok(text.clone()),
        (_, Some(Value::Text(kind)), _) => {
            bail!("{location}: `{at}` is a part of type {kind:?}; only parts of type \"text\" are supported")
        }
        _ => bail!("{location}: `{at}` is {}, expected text or {{\"type\": \"text\", \"text\": \"...\"}}", part.kind()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Conversation> {
        Conversation::of(Some(&Value::json(json).unwrap()), "prompt", "a.parquet, row 3")
    }

    #[test]
    fn conversation_keeps_every_turn() {
        let check = |json: &str, context: &[(&str, &str)], question: &str, prefill: &str| {
            let context = context.iter().map(|(role, content)| Message::new(*role, *content)).collect();
            assert_eq!(read(json).unwrap(), Conversation { context, question: question.into(), prefill: prefill.into() }, "{json}");
        };
        check(r#"[{"role": "user", "content": "q"}]"#, &[], "q", "");
        check(
            r#"[{"role": "system", "content": "In French."}, {"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"},
                {"role": "user", "content": "q"}, {"role": "assistant", "content": "Let"}]"#,
            &[("system", "In French."), ("user", "1+1?"), ("assistant", "2")],
            "q",
            "Let",
        );
        check(
            r#"[{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}, {"from": "human", "value": "q"}]"#,
            &[("user", "a"), ("assistant", "b")],
            "q",
            "",
        );
        check(
            r#"[{"role": "user", "content": [{"type": "text", "text": "a "}, "b", {"type": "text", "text": "c", "image": null}]}]"#,
            &[],
            "a bc",
            "",
        );
    }

    #[test]
    fn conversation_errors_give_the_location() {
        let check = |json: &str, expected: &str| {
            let error = read(json).unwrap_err().to_string();
            assert!(error.starts_with("a.parquet, row 3: `prompt") && error.contains(expected), "{error}");
        };
        check(r#""q""#, "`prompt` is text, expected a list of turns");
        check("null", "`prompt` is null, expected");
        check("[]", "has no turns");
        check(r#"["q"]"#, "`prompt[0]` is text");
        check(r#"[{"content": "q"}]"#, "`prompt[0]` has no `role`");
        check(r#"[{"role": "user"}]"#, "`prompt[0]` has no `content`");
        check(r#"[{"role": "user", "content": null}]"#, "`prompt[0].content` is null, expected text");
        check(r#"[{"role": "user", "content": " "}]"#, "`prompt[0].content` is empty");
        check(
            r#"[{"role": "user", "content": "q"}, {"role": "tool", "content": "4"}]"#,
            r#"`prompt[1].role` is "tool"; it must be one of system,"#,
        );
        check(r#"[{"role": 1, "content": "q"}]"#, "`prompt[0].role` is a number");
        check(r#"[{"role": "user", "content": "q"}, {"role": "system", "content": "s"}]"#, "`prompt[1]` is a system turn");
        check(r#"[{"role": "system", "content": "s"}]"#, "`prompt[0]` has the role system, expected the user's question");
        check(r#"[{"role": "assistant", "content": "s"}]"#, "`prompt` has no user turn");
        check(r#"[{"role": "user", "content": [{"type": "image", "image": "x"}]}]"#, r#"`prompt[0].content[0]` is a part of type "image""#);
    }
}
