//! What `rlvr sample` is asked: a prompt in one of three forms, and where it came from, for messages.

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

enum Form {
    Text(String),
    Ids(Vec<u32>),
    Messages(Vec<Message>),
}

/// A prompt that no model has read yet.
pub struct Ask {
    /// File and line; none for the command line.
    place: Option<String>,
    id: Value,
    form: Form,
}

/// A prompt in a model's tokens.
pub struct Asked {
    pub id: Value,
    pub ids: Arc<[u32]>,
    pub max_new: usize,
}

impl Ask {
    /// `--prompt`.
    pub fn text(prompt: &str) -> Self {
        Self { place: None, id: Value::Null, form: Form::Text(prompt.to_owned()) }
    }

    pub fn line(place: String, line: Line, raw: bool) -> Result<Self> {
        let form = match (line.prompt, line.prompt_ids, line.messages) {
            (Some(text), None, None) => Form::Text(text),
            (None, Some(ids), None) => Form::Ids(ids),
            (None, None, Some(_)) if raw => bail!("{place}: messages need the chat template; leave --raw out, or give a prompt"),
            (None, None, Some(messages)) => {
                ensure!(!messages.is_empty(), "{place}: messages is empty, expected at least one {{\"role\", \"content\"}}");
                Form::Messages(messages)
            }
            _ => bail!("{place}: expected exactly one of prompt, prompt_ids and messages"),
        };
        Ok(Self { place: Some(place), id: line.id, form })
    }

    /// Whether the prompt goes through the chat template.
    pub fn needs_template(&self, raw: bool) -> bool {
        match self.form {
            Form::Text(_) => !raw,
            Form::Ids(_) => false,
            Form::Messages(_) => true,
        }
    }

    /// The prompt's tokens, and how many more there may be: so many as are asked for, or what the window leaves, at most 512.
    pub fn read(self, model: &Model, raw: bool, max_new: Option<usize>) -> Result<Asked> {
        let Self { place, id, form } = self;
        let read = || {
            let ids = match form {
                Form::Text(text) if raw => model.text.encode_raw(&text)?,
                Form::Text(text) => model.text.encode(&model.text.render(&[Message::new("user", text)], true)?)?,
                Form::Messages(messages) => model.text.encode(&model.text.render(&messages, true)?)?,
                Form::Ids(ids) => ids,
            };
            let (tokens, config) = (ids.len(), &model.decoder.config);
            ensure!(tokens > 0, "the prompt has no tokens; there is nothing to continue");
            model.check_tokens(&ids)?;
            let left = config.window.saturating_sub(tokens);
            let max_new = max_new.unwrap_or(left.min(512));
            ensure!(
                max_new > 0 && max_new <= left,
                "a prompt of {tokens} tokens and up to {max_new} new ones do not fit the model's window of {}: lower --max-new or shorten the prompt",
                config.window
            );
            Ok(Asked { id, ids: ids.into(), max_new })
        };
        match place {
            Some(place) => read().context(place),
            None => read(),
        }
    }
}
