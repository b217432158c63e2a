//! Adapters as a folder that PEFT loads beside the base model.

use std::path::Path;

use anyhow::{Context, Result};

use super::{stream_file, write_file};
use crate::model::Lora;
use crate::model::lora::peft;

/// Makes the folder, with `adapter_config.json` and `adapter_model.safetensors` in f32; `base` is where the base model is found.
pub fn write(folder: &Path, lora: &Lora, base: &str) -> Result<()> {
    std::fs::create_dir(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    write_file(&folder.join("adapter_config.json"), serde_json::to_string_pretty(&peft::config(lora, base))?.as_bytes())?;
    let tensors = lora.adapters.entries().into_iter().map(|(_, tensor)| tensor);
    stream_file(&folder.join("adapter_model.safetensors"), |out| peft::to_writer(out, &lora.adapters, tensors))
}
