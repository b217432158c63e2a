//! A problem as the conversation that a model reads: every turn that the problem has stands in the prompt, or there is no prompt. It must never
//! know a template's language.

use anyhow::{Result, bail, ensure};

use super::{Message, Text};
use crate::flow::Problem;

/// The problem through the chat template, its instruction directly behind the question.
pub(super) fn render(text: &Text, problem: &Problem, instruction: &str) -> Result<String> {
    let mut messages = problem.context.clone();
    messages.push(Message::new("user", format!("{}{instruction}", problem.question)));
    let rendered = text.render(&messages, true)?;
    // Some templates have no place for a system turn, or cut what an assistant said before.
    let mut rest = rendered.as_str();
    for Message { role, content } in &problem.context {
        let content = content.trim();
        let found = rest.find(content);
        ensure!(
            found.is_some(),
            "{}: the chat template leaves out, or changes, the {role} turn {:?} before the question: take the turn out of the data, or give another template with prompt.chat_template",
            problem.id,
            shortened(content)
        );
        rest = &rest[found.unwrap_or(0) + content.len()..];
    }
    if problem.prefill.is_empty() {
        return Ok(rendered);
    }
    // As transformers goes on from a last message: rendered like any turn, and cut behind what it says.
    let before = text.render(&messages, false)?;
    messages.push(Message::new("assistant", problem.prefill.clone()));
    let whole = text.render(&messages, false)?;
    let said = problem.prefill.trim();
    let end = whole.strip_prefix(before.as_str()).and_then(|answer| Some(before.len() + answer.rfind(said)? + said.len()));
    let Some(end) = end else {
        bail!(
            "{}: the chat template does not let an answer begin with {:?}: take the assistant's turn at the end out of the data, or give another template with prompt.chat_template",
            problem.id,
            shortened(said)
        )
    };
    let trailing = &problem.prefill[problem.prefill.trim_end().len()..];
    Ok(format!("{}{trailing}", &whole[..end]))
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= 60 { text.to_owned() } else { text.chars().take(57).chain("...".chars()).collect() }
}
