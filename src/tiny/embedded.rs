//! The base model embedded in the program: the files of a folder in Hugging Face layout, produced by `rlvr pretrain` with default settings.

use anyhow::Result;

use crate::checkpoint::{Model, ModelText};
use crate::model::ModelConfig;
use crate::text::{ChatSettings, Text, TextFiles};

/// The model's name in settings and commands.
pub const NAME: &str = "tiny";

/// The model's files, as `(name, contents)`.
pub const FILES: [(&str, &[u8]); 5] = [
    ("config.json", include_bytes!("base/config.json")),
    ("model.safetensors", include_bytes!("base/model.safetensors")),
    ("tokenizer.json", include_bytes!("base/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("base/tokenizer_config.json")),
    ("generation_config.json", include_bytes!("base/generation_config.json")),
];

/// Loads the configuration and the tokenizer, without the weights.
///
/// # Errors
/// If an embedded file is malformed, which tests rule out.
pub fn shape() -> Result<(ModelConfig, Text)> {
    let find = |name: &str| FILES.iter().find(|(file, _)| *file == name).map(|(_, bytes)| *bytes);
    let config = ModelConfig::parse(std::str::from_utf8(find("config.json").unwrap_or_default())?)?;
    let tokenizer = find("tokenizer.json").unwrap_or_default();
    let text = Text::from_files(TextFiles { tokenizer, tokenizer_config: find("tokenizer_config.json"), chat_template: None })?;
    Ok((config, text))
}

/// Loads the tokenizer and the end tokens, and applies the user's chat template and date.
///
/// # Errors
/// If the user's chat template or date is invalid.
pub fn text_with(chat: &ChatSettings) -> Result<ModelText> {
    let all_but_weights = FILES.iter().filter(|(name, _)| *name != "model.safetensors");
    let files: Vec<(String, Vec<u8>)> = all_but_weights.map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
    ModelText::from_files_with(&files, chat)
}

/// Loads the model on the CPU.
///
/// # Errors
/// If an embedded file is malformed, which tests rule out.
pub fn load() -> Result<Model> {
    load_with(&ChatSettings::default())
}

/// Loads the model on the CPU, and applies the user's chat template and date.
///
/// # Errors
/// If the user's chat template or date is invalid.
pub fn load_with(chat: &ChatSettings) -> Result<Model> {
    Model::from_files_with(NAME, &FILES, chat)
}
