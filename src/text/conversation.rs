//! Renders a problem as the conversation that a model reads. Fails if a turn of the problem is missing from the prompt. Independent of the
//! template language.

use anyhow::{Result, bail, ensure};

use super::{Message, Text};
use crate::flow::Problem;

/// Renders the problem with the chat template. The instruction directly follows the question.
///
/// # Errors
/// If the template fails, leaves out a turn before the question, or cannot continue the prefill.
pub(super) fn render(text: &Text, problem: &Problem, instruction: &str) -> Result<String> {
    let mut messages = problem.context.clone();
    messages.push(Message::new("user", format!("{}{instruction}", problem.question)));
    let rendered = text.render(&messages, true)?;
    // Some templates drop the system turn, or shorten earlier assistant turns.
    let mut rest = rendered.as_str();
    for Message { role, content } in &problem.context {
        let content = content.trim();
        let start = rest.find(content);
        ensure!(
            start.is_some(),
            "{}: the chat template drops or changes the {role} turn {:?} before the question: remove the turn from the data, or set another template with prompt.chat_template",
            problem.id,
            shortened(content)
        );
        rest = &rest[start.unwrap_or(0) + content.len()..];
    }
    if problem.prefill.is_empty() {
        return Ok(rendered);
    }
    // As in transformers with `continue_final_message`: render the prefill as a complete turn, then cut after its text.
    let before = text.render(&messages, false)?;
    messages.push(Message::new("assistant", problem.prefill.clone()));
    let whole = text.render(&messages, false)?;
    let prefill_text = problem.prefill.trim();
    let end = whole.strip_prefix(before.as_str()).and_then(|answer| Some(before.len() + answer.rfind(prefill_text)? + prefill_text.len()));
    let Some(end) = end else {
        bail!(
            "{}: the chat template cannot continue an answer that starts with {:?}: remove the final assistant turn from the data, or set another template with prompt.chat_template",
            problem.id,
            shortened(prefill_text)
        )
    };
    let trailing = &problem.prefill[problem.prefill.trim_end().len()..];
    Ok(format!("{}{trailing}", &whole[..end]))
}

/// Shortens a text to 60 characters, for messages.
fn shortened(text: &str) -> String {
    if text.chars().count() <= 60 { text.to_owned() } else { text.chars().take(57).chain("...".chars()).collect() }
}
