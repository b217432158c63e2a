//! A checkpoint's model: configuration, weights, tokenizer and end tokens. Reads it from a folder or from memory, and writes it to a
//! folder.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

use super::{manifest, stream_file, write_file};
use crate::input;
use crate::model::config::{RopeScaling, end_tokens};
use crate::model::export::{self, Format, Values};
use crate::model::lora::peft;
use crate::model::{Decoder, Lora, ModelConfig, import, layout};
use crate::output::Progress;
use crate::text::{ChatSettings, FILE_NAMES, Message, Text, TextFiles};

/// A loaded model.
pub struct Model {
    /// The name under which the user selected it.
    pub name: String,
    /// Configuration, weights and kernels.
    pub decoder: Decoder,
    /// Tokenizer and chat template.
    pub text: Text,
    /// Ids of the tokens that end a response.
    pub end_tokens: Vec<u32>,
    /// The files next to the weights, as `(name, contents)`, which exports include.
    sidecar_files: Vec<(String, Vec<u8>)>,
}

impl Model {
    /// Reads a folder in Hugging Face layout, with default chat settings.
    ///
    /// # Errors
    /// If a file is missing or invalid, has changed since the manifest was written, or does not match the others.
    pub fn from_folder(name: &str, path: &Path) -> Result<Self> {
        Self::from_folder_with(name, path, &ChatSettings::default(), &Progress::hidden())
    }

    /// Reads a folder in Hugging Face layout, with the user's chat settings. Checks its manifest first, if any. Shows both in `progress`,
    /// with the bytes read.
    ///
    /// # Errors
    /// If a file is missing or invalid, has changed since the manifest was written, or does not match the others.
    pub fn from_folder_with(name: &str, path: &Path, chat: &ChatSettings, progress: &Progress) -> Result<Self> {
        layout::check(path)?;
        progress.begin(format!("checking {name}"));
        manifest::check_counted(path, progress)?;
        progress.begin(format!("loading {name}"));
        let config = read_config(path)?;
        let mut sidecar_files = sidecar_files(path)?;
        let text = Text::from_folder(path)?.with_chat(chat).with_context(|| format!("cannot use the tokenizer in {}", path.display()))?;
        replace_template(&mut sidecar_files, chat);
        check_vocabulary(&text, &config)?;
        let weights = import::load(path, &config, progress)?;
        Self::assemble(name, Decoder::new(config, weights)?, text, sidecar_files)
    }

    /// Builds a model from files in memory, `(name, contents)`, with the user's chat settings.
    ///
    /// # Errors
    /// If a file is missing or invalid, or does not match the others.
    pub fn from_files_with(name: &str, files: &[(&str, &'static [u8])], chat: &ChatSettings) -> Result<Self> {
        let find = |name: &str| files.iter().find(|(file, _)| *file == name).map(|(_, bytes)| *bytes);
        let config = ModelConfig::parse(input::text("config.json", find("config.json").context("no config.json")?)?)?;
        let text = Text::from_files(TextFiles {
            tokenizer: find("tokenizer.json").context("no tokenizer.json")?,
            tokenizer_config: find("tokenizer_config.json"),
            chat_template: find("chat_template.jinja"),
        })?;
        let text = text.with_chat(chat)?;
        check_vocabulary(&text, &config)?;
        let weights = import::from_bytes(find("model.safetensors").context("no model.safetensors")?, &config)?;
        let sidecar_files = files.iter().filter(|(file, _)| !matches!(*file, "config.json" | "model.safetensors"));
        let mut sidecar_files = sidecar_files.map(|(file, bytes)| ((*file).to_owned(), bytes.to_vec())).collect();
        replace_template(&mut sidecar_files, chat);
        Self::assemble(name, Decoder::new(config, weights)?, text, sidecar_files)
    }

    /// Builds a model from a decoder and the files next to its weights, `(name, contents)`.
    ///
    /// # Errors
    /// If the tokenizer or `generation_config.json` is invalid, or there is no end token.
    pub fn from_parts(name: &str, decoder: Decoder, sidecar_files: Vec<(String, Vec<u8>)>) -> Result<Self> {
        let text = read_text(&sidecar_files)?;
        Self::assemble(name, decoder, text, sidecar_files)
    }

    fn assemble(name: &str, decoder: Decoder, text: Text, sidecar_files: Vec<(String, Vec<u8>)>) -> Result<Self> {
        let end_tokens = find_end_tokens(&decoder.config, &text, &sidecar_files)?;
        Ok(Self { name: name.to_owned(), decoder, text, end_tokens, sidecar_files })
    }

    /// Checks that the embedding has a row for every token.
    ///
    /// # Errors
    /// If a token has no row. The message names the token and says what to do.
    pub fn check_tokens<'a>(&self, ids: impl IntoIterator<Item = &'a u32>) -> Result<()> {
        let rows = self.decoder.config.vocabulary;
        let Some(id) = ids.into_iter().find(|id| **id as usize >= rows) else { return Ok(()) };
        let token = self.text.token(*id).map_or_else(String::new, |token| {
            format!(" ({token:?}): it is in tokenizer.json but not in the weights; remove it from the text, or add a row for it to the model (resize_token_embeddings in transformers)")
        });
        bail!("token {id} is beyond the model's vocabulary of {rows}{token}")
    }

    /// Writes the model into an existing folder.
    ///
    /// # Errors
    /// If the device fails, a file cannot be written, or a weight is too large for the dtype.
    pub fn write(&self, folder: &Path, format: Format) -> Result<()> {
        let weights = self.decoder.weights.on_host(&self.decoder.config)?;
        write_parts(folder, &self.decoder.config, &self.sidecar_files, format, &export::values_of(&weights))
    }
}

/// A model without its weights: tokenizer, chat template, end tokens and context length.
pub struct ModelText {
    /// Tokenizer and chat template.
    pub text: Text,
    /// Ids of the tokens that end a response.
    pub end_tokens: Vec<u32>,
    /// The maximum number of tokens in prompt and response together.
    pub context_length: usize,
}

impl ModelText {
    /// Reads a folder in Hugging Face layout, with the user's chat settings. The weights need not exist.
    ///
    /// # Errors
    /// If a file is missing or invalid, has changed since the manifest was written, or does not match the others.
    pub fn from_folder_with(path: &Path, chat: &ChatSettings) -> Result<Self> {
        layout::check_config(path)?;
        manifest::check_among(path, |name| !name.ends_with(".safetensors"))?;
        let config = input::read(&path.join("config.json"), input::TEXT_BYTES)?;
        let mut files = sidecar_files(path)?;
        files.push(("config.json".to_owned(), config));
        Self::from_files_with(&files, chat).with_context(|| format!("cannot use the checkpoint in {}", path.display()))
    }

    /// Reads files in memory, `(name, contents)`, with the user's chat settings.
    ///
    /// # Errors
    /// If a file is missing or invalid, or does not match the others.
    pub fn from_files_with(files: &[(String, Vec<u8>)], chat: &ChatSettings) -> Result<Self> {
        let config = files.iter().find(|(file, _)| file == "config.json").context("no config.json")?;
        let config = ModelConfig::parse(input::text("config.json", &config.1)?)?;
        let text = read_text(files)?.with_chat(chat)?;
        check_vocabulary(&text, &config)?;
        Ok(Self { end_tokens: find_end_tokens(&config, &text, files)?, context_length: config.context_length, text })
    }
}

/// Returns the ids of all tokens that end a response: `eos_token_id` of `generation_config.json` or else of `config.json`, and the token
/// that ends a turn in the chat template.
fn find_end_tokens(config: &ModelConfig, text: &Text, sidecar_files: &[(String, Vec<u8>)]) -> Result<Vec<u32>> {
    let generation = sidecar_files.iter().find(|(file, _)| file == "generation_config.json");
    const GENERATION: &str = "generation_config.json";
    let parse = |(_, bytes): &(String, Vec<u8>)| {
        serde_json::from_str(&input::json_text(GENERATION, bytes)?).context("generation_config.json is not JSON")
    };
    let generation: Option<Value> = generation.map(parse).transpose()?;
    let mut ends = end_tokens("generation_config.json", generation.as_ref().and_then(|config| config.get("eos_token_id")))?;
    if ends.is_empty() {
        ends = config.end_tokens.clone();
    }
    let rows = config.vocabulary;
    ensure!(
        ends.is_empty() || ends.iter().any(|id| (*id as usize) < rows),
        "eos_token_id {ends:?} in generation_config.json or config.json is outside the vocabulary of {rows}, so no response would end"
    );
    ends.extend(turn_end(text)?.filter(|id| !ends.contains(id)));
    ensure!(!ends.is_empty(), "no end token: set eos_token_id in generation_config.json or config.json");
    Ok(ends)
}

/// Reads the files next to a folder's weights, as `(name, contents)`, without changes. Skips files that do not exist.
///
/// # Errors
/// If a file exists but cannot be read or is too large.
pub fn sidecar_files(folder: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    for name in FILE_NAMES.into_iter().chain(["generation_config.json"]) {
        let bytes = input::read_if_exists(&folder.join(name), input::TEXT_BYTES)?;
        found.extend(bytes.map(|bytes| (name.to_owned(), bytes)));
    }
    Ok(found)
}

fn read_config(folder: &Path) -> Result<ModelConfig> {
    let path = folder.join("config.json");
    let text = input::read_text(&path, input::TEXT_BYTES)?;
    ModelConfig::parse(&text).with_context(|| format!("cannot use {}", path.display()))
}

/// Checks a folder in Hugging Face layout without reading the values of its weights or its manifest.
///
/// # Errors
/// If a file is missing or invalid, or does not match the others. Errors in the manifest and in the values of weights go unnoticed.
pub fn check_folder(folder: &Path) -> Result<()> {
    layout::check(folder)?;
    let config = read_config(folder)?;
    check(&config, &sidecar_files(folder)?).with_context(|| format!("cannot use the checkpoint in {}", folder.display()))?;
    import::check(folder, &config)
}

/// Checks that a configuration and the files next to the weights, `(name, contents)`, match. Needs no weights.
///
/// # Errors
/// If a file is missing or invalid, the tokenizer does not match the configuration, or there is no end token.
pub fn check(config: &ModelConfig, sidecar_files: &[(String, Vec<u8>)]) -> Result<()> {
    let text = read_text(sidecar_files)?;
    check_vocabulary(&text, config)?;
    find_end_tokens(config, &text, sidecar_files).map(|_| ())
}

fn read_text(sidecar_files: &[(String, Vec<u8>)]) -> Result<Text> {
    let find = |name: &str| sidecar_files.iter().find(|(file, _)| file == name).map(|(_, bytes)| bytes.as_slice());
    Text::from_files(TextFiles {
        tokenizer: find("tokenizer.json").context("no tokenizer.json")?,
        tokenizer_config: find("tokenizer_config.json"),
        chat_template: find("chat_template.jinja"),
    })
}

/// Writes a model into an existing folder, with the weights that `values` returns.
///
/// # Errors
/// If a file cannot be written, `values` fails, or a weight is too large for the dtype.
pub fn write_parts(
    folder: &Path,
    config: &ModelConfig,
    sidecar_files: &[(String, Vec<u8>)],
    format: Format,
    values: &Values,
) -> Result<()> {
    write_file(&folder.join("config.json"), serde_json::to_string_pretty(&exported_config(config, format))?.as_bytes())?;
    for (name, bytes) in sidecar_files {
        let exported = if name == "tokenizer_config.json" { exported_tokenizer_config(bytes) } else { None };
        write_file(&folder.join(name), exported.as_deref().unwrap_or(bytes))?;
    }
    let files = export::files(config, format)?;
    for file in &files {
        stream_file(&folder.join(&file.name), |out| file.write(out, values))?;
    }
    export::index(&files)?.map_or(Ok(()), |index| write_file(&folder.join("model.safetensors.index.json"), &index))
}

/// Creates a folder that PEFT can load: `adapter_config.json`, and `adapter_model.safetensors` in f32. `base` is the path or hub name of
/// the base model.
///
/// # Errors
/// If the folder exists, a file cannot be written, or the device fails.
pub fn write_adapter(folder: &Path, lora: &Lora, base: &str) -> Result<()> {
    std::fs::create_dir(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    write_file(&folder.join("adapter_config.json"), serde_json::to_string_pretty(&peft::config(lora, base))?.as_bytes())?;
    let tensors = lora.adapters.entries();
    let mut source = |number: usize| Ok(tensors[number].1.clone());
    stream_file(&folder.join("adapter_model.safetensors"), |out| peft::to_writer(out, &lora.adapters, &mut source))
}

/// Returns the configuration that was read, with additions so that transformers 4 and 5 compute the same numbers from it.
///
/// transformers 5 writes `dtype` and `rope_parameters`, and also accepts the older `torch_dtype`, `rope_theta` and `rope_scaling`, alone or
/// together with the newer fields. transformers 4 (4.57) silently ignores `rope_parameters` and computes with its default theta and without
/// scaling; before 4.56 it also ignores `dtype`. So this adds the older fields to the newer ones, but not the reverse.
fn exported_config(config: &ModelConfig, format: Format) -> Map<String, Value> {
    let mut fields = config.source.clone();
    let dtype = Value::from(format.dtype.torch_name());
    if fields.contains_key("dtype") {
        fields.insert("dtype".to_owned(), dtype.clone());
    }
    fields.insert("torch_dtype".to_owned(), dtype);
    if let Some(Value::Object(parameters)) = config.source.get("rope_parameters") {
        let mut scaling = parameters.clone();
        scaling.remove("rope_theta");
        let scaling = if config.rope_scaling == RopeScaling::None { Value::Null } else { Value::Object(scaling) };
        fields.insert("rope_theta".to_owned(), config.rope_theta.into());
        fields.insert("rope_scaling".to_owned(), scaling);
    }
    fields
}

/// Returns `tokenizer_config.json` with names that both transformers 4 and 5 understand; `None` if it needs no change. transformers 5 saves
/// a tokenizer that only has a `tokenizer.json` as `TokenizersBackend`, with a list of `extra_special_tokens`. transformers 4 knows
/// neither; transformers 5 also accepts the older names.
fn exported_tokenizer_config(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut fields: Map<String, Value> = serde_json::from_str(&input::json_text("tokenizer_config.json", bytes).ok()?).ok()?;
    let newer_class = fields.get("tokenizer_class").is_some_and(|class| class == "TokenizersBackend");
    let newer_list = fields.get("extra_special_tokens").is_some_and(Value::is_array);
    if newer_class {
        fields.insert("tokenizer_class".to_owned(), "PreTrainedTokenizerFast".into());
    }
    if newer_list && let Some(tokens) = fields.remove("extra_special_tokens") {
        fields.insert("additional_special_tokens".to_owned(), tokens);
    }
    if newer_class || newer_list { serde_json::to_vec_pretty(&fields).ok() } else { None }
}

/// Returns the special token that the chat template puts after an assistant's turn; `None` if there is none. A model that was trained on
/// turns ends its responses with it, whatever its `eos_token_id` says (Qwen2.5-Math: `<|im_end|>` in addition to `<|endoftext|>`).
fn turn_end(text: &Text) -> Result<Option<u32>> {
    if !text.has_template() {
        return Ok(None);
    }
    let turns = [Message::new("user", "question"), Message::new("assistant", "response")];
    let Ok(rendered) = text.render(&turns, false) else { return Ok(None) };
    let Some((_, after)) = rendered.rsplit_once("response") else { return Ok(None) };
    let first = text.encode(after)?.first().copied();
    // Decoding drops special tokens, so the text of one is empty.
    Ok(first.filter(|id| text.decode(&[*id]).is_ok_and(|text| text.is_empty())))
}

/// Replaces the chat template among the files with the user's, if any, so that exports include it.
fn replace_template(sidecar_files: &mut Vec<(String, Vec<u8>)>, chat: &ChatSettings) {
    const NAME: &str = "chat_template.jinja";
    if let Some(template) = &chat.template {
        sidecar_files.retain(|(file, _)| file != NAME);
        sidecar_files.push((NAME.to_owned(), template.clone()));
    }
}

/// Checks that tokenizer and configuration match. Tokens beyond the embedding's rows are allowed if they were added to the vocabulary, such
/// as a `[PAD]` for batches: they are never sampled, and a prompt that contains one is an error. Any other token beyond the rows means that
/// the files belong to different models.
fn check_vocabulary(text: &Text, config: &ModelConfig) -> Result<()> {
    let rows = config.vocabulary;
    if text.vocabulary() <= rows {
        return Ok(());
    }
    let has_other = text.tokens_beyond(rows).into_iter().any(|(_, _, is_added)| !is_added);
    ensure!(
        !has_other,
        "vocab_size in config.json is {rows}, but tokenizer.json has tokens up to {}, which needs at least {}: use the files of one model",
        text.vocabulary() - 1,
        text.vocabulary()
    );
    Ok(())
}
