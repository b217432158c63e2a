//! A checkpoint: configuration, weights, tokenizer and end tokens, from a folder or from bytes, and out again.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::write_file;
use crate::model::config::end_tokens;
use crate::model::folder::{self, WeightDtype};
use crate::model::{Decoder, ModelConfig};
use crate::text::{ChatSettings, FILE_NAMES, Message, Text, TextFiles};

/// A loaded checkpoint.
pub struct Model {
    /// What the user called it.
    pub name: String,
    /// Shape and weights.
    pub decoder: Decoder,
    /// Tokenizer and chat template.
    pub text: Text,
    /// Tokens that end a response.
    pub end_tokens: Vec<u32>,
    /// The files beside the weights, as they were: an export takes them along.
    companions: Vec<(String, Vec<u8>)>,
}

impl Model {
    /// Reads a folder in Hugging Face layout.
    pub fn from_folder(name: &str, path: &Path) -> Result<Self> {
        Self::from_folder_with(name, path, &ChatSettings::default())
    }

    /// Reads a folder, with what the user asks of its chat template.
    pub fn from_folder_with(name: &str, path: &Path, chat: &ChatSettings) -> Result<Self> {
        ensure!(path.is_dir(), "{}: no such folder; expected a checkpoint in Hugging Face layout, a hub name, or tiny", path.display());
        let config = path.join("config.json");
        let config = std::fs::read_to_string(&config).with_context(|| format!("cannot read {}", config.display()))?;
        let config = ModelConfig::parse(&config).with_context(|| format!("cannot use {}", path.join("config.json").display()))?;
        let mut companions = Vec::new();
        for file in FILE_NAMES.into_iter().chain(["generation_config.json"]) {
            let path = path.join(file);
            if path.exists() {
                companions.push((file.to_owned(), std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?));
            }
        }
        let text = Text::from_folder(path)?.with_chat(chat).with_context(|| format!("cannot use the tokenizer in {}", path.display()))?;
        take_template(&mut companions, chat);
        check_vocabulary(&text, &config)?;
        let weights = folder::load(path, &config)?;
        Self::assemble(name, Decoder::new(config, weights)?, text, companions)
    }

    /// Builds a checkpoint from its files' contents, by name, with what the user asks of its chat template.
    pub fn from_files_with(name: &str, files: &[(&str, &'static [u8])], chat: &ChatSettings) -> Result<Self> {
        let find = |name: &str| files.iter().find(|(file, _)| *file == name).map(|(_, bytes)| *bytes);
        let config = std::str::from_utf8(find("config.json").context("no config.json")?)?;
        let config = ModelConfig::parse(config)?;
        let text = Text::from_files(TextFiles {
            tokenizer: find("tokenizer.json").context("no tokenizer.json")?,
            tokenizer_config: find("tokenizer_config.json"),
            chat_template: find("chat_template.jinja"),
        })?;
        let text = text.with_chat(chat)?;
        check_vocabulary(&text, &config)?;
        let weights = folder::from_bytes(find("model.safetensors").context("no model.safetensors")?, &config)?;
        let companions = files.iter().filter(|(file, _)| !matches!(*file, "config.json" | "model.safetensors"));
        let mut companions = companions.map(|(file, bytes)| ((*file).to_owned(), bytes.to_vec())).collect();
        take_template(&mut companions, chat);
        Self::assemble(name, Decoder::new(config, weights)?, text, companions)
    }

    /// A checkpoint made here: a decoder with the files that stand beside its weights.
    pub fn from_parts(name: &str, decoder: Decoder, companions: Vec<(String, Vec<u8>)>) -> Result<Self> {
        let find = |name: &str| companions.iter().find(|(file, _)| file == name).map(|(_, bytes)| bytes.as_slice());
        let text = Text::from_files(TextFiles {
            tokenizer: find("tokenizer.json").context("no tokenizer.json")?,
            tokenizer_config: find("tokenizer_config.json"),
            chat_template: find("chat_template.jinja"),
        })?;
        Self::assemble(name, decoder, text, companions)
    }

    fn assemble(name: &str, decoder: Decoder, text: Text, companions: Vec<(String, Vec<u8>)>) -> Result<Self> {
        let generation = companions.iter().find(|(file, _)| file == "generation_config.json");
        let generation: Option<Value> =
            generation.map(|(_, bytes)| serde_json::from_slice(bytes)).transpose().context("generation_config.json is not JSON")?;
        let mut ends = end_tokens("generation_config.json", generation.as_ref().and_then(|config| config.get("eos_token_id")))?;
        if ends.is_empty() {
            ends = decoder.config.end_tokens.clone();
        }
        let rows = decoder.config.vocabulary;
        ensure!(
            ends.is_empty() || ends.iter().any(|id| (*id as usize) < rows),
            "eos_token_id {ends:?} in generation_config.json or config.json is beyond the vocabulary of {rows}: no response would end"
        );
        ends.extend(turn_end(&text)?.filter(|id| !ends.contains(id)));
        ensure!(!ends.is_empty(), "no end token: give eos_token_id in generation_config.json or config.json");
        Ok(Self { name: name.to_owned(), decoder, text, end_tokens: ends, companions })
    }

    /// Writes the checkpoint into an existing folder, its weights in `dtype`.
    pub fn write(&self, folder: &Path, dtype: WeightDtype) -> Result<()> {
        let mut config = self.decoder.config.source.clone();
        // Either spelling is read, so neither may stay as it was.
        let spelled: Vec<&str> = ["dtype", "torch_dtype"].into_iter().filter(|key| config.contains_key(*key)).collect();
        for key in if spelled.is_empty() { &["torch_dtype"][..] } else { &spelled } {
            config.insert((*key).to_owned(), dtype.torch_name().into());
        }
        write_file(&folder.join("config.json"), serde_json::to_string_pretty(&config)?.as_bytes())?;
        for (name, bytes) in &self.companions {
            write_file(&folder.join(name), bytes)?;
        }
        write_file(&folder.join("model.safetensors"), &folder::to_bytes(&self.decoder.weights, &self.decoder.config, dtype)?)
    }
}

/// The special token that the chat template puts after an assistant's turn: a model that was taught turns ends with it, whatever its
/// `eos_token_id` says (Qwen2.5-Math: `<|im_end|>` beside `<|endoftext|>`).
fn turn_end(text: &Text) -> Result<Option<u32>> {
    if !text.has_template() {
        return Ok(None);
    }
    let turns = [Message::new("user", "question"), Message::new("assistant", "response")];
    let Ok(rendered) = text.render(&turns, false) else { return Ok(None) };
    let Some((_, after)) = rendered.rsplit_once("response") else { return Ok(None) };
    let first = text.encode(after)?.first().copied();
    // A special token is one that decoding passes over.
    Ok(first.filter(|id| text.decode(&[*id]).is_ok_and(|text| text.is_empty())))
}

/// The user's template goes where the model goes.
fn take_template(companions: &mut Vec<(String, Vec<u8>)>, chat: &ChatSettings) {
    const NAME: &str = "chat_template.jinja";
    if let Some(template) = &chat.template {
        companions.retain(|(file, _)| file != NAME);
        companions.push((NAME.to_owned(), template.clone()));
    }
}

fn check_vocabulary(text: &Text, config: &ModelConfig) -> Result<()> {
    ensure!(
        text.vocabulary() <= config.vocabulary,
        "tokenizer.json has tokens up to {}, vocab_size in config.json is {}, expected at least {}: they do not belong together",
        text.vocabulary() - 1,
        config.vocabulary,
        text.vocabulary()
    );
    Ok(())
}
