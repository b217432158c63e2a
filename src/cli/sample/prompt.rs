//! The prompts of `rlvr sample`: text, token ids or messages, with the file and line that they came from.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::checkpoint::Model;
use crate::text::Message;

/// A line of `--input`.
#[derive(Deserialize)]
pub struct Line {
    #[serde(default)]
    id: Value,
    prompt: Option<String>,
    prompt_ids: Option<Vec<u32>>,
    messages: Option<Vec<Message>>,
}

/// The three forms of a prompt.
enum Form {
    Text(String),
    Ids(Vec<u32>),
    Messages(Vec<Message>),
}

/// A prompt before tokenization.
pub struct PromptInput {
    /// File and line, for messages; `None` for the command line.
    location: Option<String>,
    id: Value,
    form: Form,
}

/// A prompt as tokens of a model.
pub struct EncodedPrompt {
    /// The `id` of its line; null for the command line.
    pub id: Value,
    /// Token ids, at least one.
    pub ids: Arc<[u32]>,
    /// Maximum number of tokens in a response.
    pub max_new_tokens: usize,
}

impl PromptInput {
    /// Makes the prompt of `--prompt`.
    pub fn text(prompt: &str) -> Self {
        Self { location: None, id: Value::Null, form: Form::Text(prompt.to_owned()) }
    }

    /// Makes the prompt of a line of `--input`, which is at `location`.
    ///
    /// # Errors
    /// If the line does not have exactly one form of prompt, its messages are empty, or it has messages despite `--raw`.
    pub fn line(location: String, line: Line, raw: bool) -> Result<Self> {
        let form = match (line.prompt, line.prompt_ids, line.messages) {
            (Some(text), None, None) => Form::Text(text),
            (None, Some(ids), None) => Form::Ids(ids),
            (None, None, Some(_)) if raw => bail!("{location}: messages need the chat template: remove --raw, or give a prompt"),
            (None, None, Some(messages)) => {
                ensure!(!messages.is_empty(), "{location}: messages is empty, expected at least one {{\"role\", \"content\"}}");
                Form::Messages(messages)
            }
            _ => bail!("{location}: expected exactly one of prompt, prompt_ids and messages"),
        };
        Ok(Self { location: Some(location), id: line.id, form })
    }

    /// True if the prompt needs a chat template.
    pub fn needs_template(&self, raw: bool) -> bool {
        match self.form {
            Form::Text(_) => !raw,
            Form::Ids(_) => false,
            Form::Messages(_) => true,
        }
    }

    /// Tokenizes the prompt. `max_new_tokens` defaults to what the context length leaves, at most 512.
    ///
    /// # Errors
    /// If the prompt has no tokens or a token outside the vocabulary, or prompt and response exceed the context length.
    pub fn encode(self, model: &Model, raw: bool, max_new_tokens: Option<usize>) -> Result<EncodedPrompt> {
        let Self { location, id, form } = self;
        let encode = || {
            let ids = match form {
                Form::Text(text) if raw => model.text.encode_with_bos(&text)?,
                Form::Text(text) => model.text.encode(&model.text.render(&[Message::new("user", text)], true)?)?,
                Form::Messages(messages) => model.text.encode(&model.text.render(&messages, true)?)?,
                Form::Ids(ids) => ids,
            };
            let (tokens, config) = (ids.len(), &model.decoder.config);
            ensure!(tokens > 0, "the prompt has no tokens: give at least one");
            model.check_tokens(&ids)?;
            let left = config.context_length.saturating_sub(tokens);
            let max_new_tokens = max_new_tokens.unwrap_or(left.min(512));
            ensure!(
                max_new_tokens > 0 && max_new_tokens <= left,
                "a prompt of {tokens} tokens and up to {max_new_tokens} new ones exceed the model's context length of {}: lower --max-new-tokens or shorten the prompt",
                config.context_length
            );
            Ok(EncodedPrompt { id, ids: ids.into(), max_new_tokens })
        };
        match location {
            Some(location) => encode().context(location),
            None => encode(),
        }
    }
}
