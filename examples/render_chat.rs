//! Renders conversations with chat templates, to show the prompts that models read. Reads and writes one JSON object per line.
//!
//! ```text
//! echo '{"template": "chat_template.jinja", "messages": [{"role": "user", "content": "1+1?"}], "add_generation_prompt": true}' |
//!     cargo run --release --example render_chat
//! ```
//!
//! An input line has `messages`, or the name of an `example` such as pi1; `"training": true` appends the published instruction to its
//! question. It also has a `model` (a folder), or a `template` (a file) with its special `tokens` (`{"bos_token": ...}`). `date` is the
//! date that templates show as today's. The output has the `text` and the `messages`, and with a model also the token `ids`; it is
//! `{"error"}` for a line that cannot be rendered.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rlvr::data::{DataStore, example};
use rlvr::text::{ChatSettings, Message, Text, render_template};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    messages: Option<Vec<Message>>,
    example: Option<String>,
    #[serde(default)]
    training: bool,
    model: Option<PathBuf>,
    template: Option<PathBuf>,
    #[serde(default)]
    tokens: BTreeMap<String, String>,
    #[serde(default)]
    add_generation_prompt: bool,
    date: Option<String>,
}

fn main() -> Result<()> {
    let mut models = BTreeMap::new();
    for line in std::io::stdin().lock().lines() {
        let answer = serde_json::from_str(&line?).context("cannot parse the input line").and_then(|line| render(line, &mut models));
        println!("{}", answer.unwrap_or_else(|error| json!({"error": format!("{error:#}")})));
    }
    Ok(())
}

fn render(line: Line, models: &mut BTreeMap<PathBuf, Text>) -> Result<Value> {
    let messages = match (&line.messages, &line.example) {
        (Some(messages), None) => messages.clone(),
        (None, Some(name)) => {
            let problem = example::resolve(name, &DataStore::open(None)?)?.swap_remove(0);
            let instruction = if line.training { example::PUBLISHED_INSTRUCTION } else { "" };
            vec![Message::new("user", problem.question + instruction)]
        }
        _ => bail!("expected either messages or example"),
    };
    let date = line.date.as_deref();
    match (line.model, &line.template) {
        (Some(folder), None) => {
            // Loading a large tokenizer takes a while, so each is loaded only once.
            let text = match models.entry(folder) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    let text = read(entry.key(), date)?;
                    entry.insert(text)
                }
            };
            let rendered = text.render(&messages, line.add_generation_prompt)?;
            Ok(json!({"ids": text.encode(&rendered)?, "text": rendered, "messages": messages}))
        }
        (None, Some(path)) => {
            let source = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            let rendered = render_template(&source, &line.tokens, &messages, line.add_generation_prompt, date)?;
            Ok(json!({"text": rendered, "messages": messages}))
        }
        _ => bail!("expected either model or template"),
    }
}

fn read(folder: &Path, date: Option<&str>) -> Result<Text> {
    let chat = ChatSettings { date: date.map(str::to_owned), needed: true, ..ChatSettings::default() };
    Text::from_folder(folder)?.with_chat(&chat)
}
