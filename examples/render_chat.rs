//! Prints what a model reads: renders conversations with chat templates. Reads and writes one JSON object per line.
//!
//! ```text
//! echo '{"template": "chat_template.jinja", "messages": [{"role": "user", "content": "1+1?"}], "add_generation_prompt": true}' |
//!     cargo run --release --example render_chat
//! ```
//!
//! An input line has `messages` or `example` (such as pi1; with `"training": true` the published instruction follows the question), and either
//! `model` (a folder; the output then has `ids` in addition to `text`) or `template` (a file) with its `tokens` (`{"bos_token": ...}`).
//! `date` is the date that templates print as today's. A line that cannot be rendered produces `{"error"}`.

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
        let answer = serde_json::from_str(&line?).context("no such line").and_then(|line| render(line, &mut models));
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
            // Loading a real tokenizer takes a while, so each is loaded once.
            let text = match models.entry(folder) {
                Entry::Occupied(found) => found.into_mut(),
                Entry::Vacant(place) => {
                    let text = read(place.key(), date)?;
                    place.insert(text)
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
