//! The base that ships inside the program, made by `rlvr pretrain` with its defaults: a normal folder in Hugging Face layout, as bytes.

use anyhow::Result;

use crate::checkpoint::{Model, ModelText};
use crate::model::ModelConfig;
use crate::text::{ChatSettings, Text, TextFiles};

/// What settings and commands call it.
pub const NAME: &str = "tiny";

/// The files of the folder, by name.
pub const FILES: [(&str, &[u8]); 5] = [
    ("config.json", include_bytes!("base/config.json")),
    ("model.safetensors", include_bytes!("base/model.safetensors")),
    ("tokenizer.json", include_bytes!("base/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("base/tokenizer_config.json")),
    ("generation_config.json", include_bytes!("base/generation_config.json")),
];

/// Its configuration and tokenizer, without its weights.
pub fn shape() -> Result<(ModelConfig, Text)> {
    let find = |name: &str| FILES.iter().find(|(file, _)| *file == name).map(|(_, bytes)| *bytes);
    let config = ModelConfig::parse(std::str::from_utf8(find("config.json").unwrap_or_default())?)?;
    let tokenizer = find("tokenizer.json").unwrap_or_default();
    let text = Text::from_files(TextFiles { tokenizer, tokenizer_config: find("tokenizer_config.json"), chat_template: None })?;
    Ok((config, text))
}

/// What it reads and where its responses end, with what the user asks of its chat template.
pub fn text_with(chat: &ChatSettings) -> Result<ModelText> {
    let beside_weights = FILES.iter().filter(|(name, _)| *name != "model.safetensors");
    let files: Vec<(String, Vec<u8>)> = beside_weights.map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
    ModelText::from_files_with(&files, chat)
}

/// The base, ready to compute.
pub fn load() -> Result<Model> {
    load_with(&ChatSettings::default())
}

/// The base, with what the user asks of its chat template.
pub fn load_with(chat: &ChatSettings) -> Result<Model> {
    Model::from_files_with(NAME, &FILES, chat)
}
