//! Recognizes model folders: Hugging Face layout, or another format, for which the error says how to get a supported one. Only looks at
//! file names, JSON files and the first bytes of weights.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::input;

const CONFIG: &str = "config.json";
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Unsupported weight formats: prefix and suffix of the file name, name of the format, and how to get a supported one.
const OTHER_FORMATS: [(&str, &str, &str, &str); 9] = [
    ("pytorch_model", ".bin", "PyTorch's pickle format", BY_TRANSFORMERS),
    ("pytorch_model", ".bin.index.json", "PyTorch's pickle format", BY_TRANSFORMERS),
    ("consolidated", ".pth", "the format of Meta's own releases", OTHER_RELEASE),
    ("consolidated", ".safetensors", "the format of Mistral's own releases", OTHER_RELEASE),
    ("", ".gguf", "GGUF, llama.cpp's format", OTHER_RELEASE),
    ("", ".ggml", "GGML, llama.cpp's former format", OTHER_RELEASE),
    ("tf_model", ".h5", "TensorFlow's format", BY_TRANSFORMERS),
    ("flax_model", ".msgpack", "Flax's format", BY_TRANSFORMERS),
    ("", ".onnx", "ONNX, a format for inference", OTHER_RELEASE),
];
const BY_TRANSFORMERS: &str = "convert it with transformers: AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER), and the \
     same with AutoTokenizer; then use NEW_FOLDER";
const OTHER_RELEASE: &str = "download the model in Hugging Face layout, with config.json and model.safetensors";

/// Checks that a folder has all files of a model, including its weights.
///
/// # Errors
/// If a file is missing, or the folder is not a model. The message says what it is instead and what to do.
pub fn check(folder: &Path) -> Result<()> {
    check_config(folder)?;
    weight_files(folder).map(|_| ())
}

/// Checks that a folder has the configuration of a model.
///
/// # Errors
/// If `config.json` is missing, or the folder is not a model. The message says what it is instead and what to do.
pub fn check_config(folder: &Path) -> Result<()> {
    let path = folder.display();
    if folder.is_file() {
        let format = other_format([file_name(folder)].into_iter());
        let details = format.map_or_else(String::new, |(format, advice)| format!(" in {format}; {advice}"));
        bail!("{path} is a file{details}; expected a folder in Hugging Face layout, with config.json and model.safetensors");
    }
    ensure!(folder.is_dir(), "{path}: no such folder; expected a checkpoint folder in Hugging Face layout, a hub name, or tiny");
    if folder.join(CONFIG).exists() {
        return Ok(());
    }
    if folder.join("adapter_config.json").exists() {
        bail!("{}", adapter_message(folder));
    }
    if folder.join("config.toml").exists() && folder.join("checkpoints").is_dir() {
        bail!("{}", run_folder_message(folder));
    }
    if let Some((format, advice)) = other_format(file_names(folder).into_iter()) {
        bail!("{path} has no config.json, and its weights are in {format}, which is not supported: {advice}");
    }
    let has_config = |name: &String| folder.join(name).join(CONFIG).exists();
    let hint = file_names(folder).into_iter().find(has_config).map(|name| format!("; {} has one", folder.join(name).display()));
    let expected = "expected a folder in Hugging Face layout, with config.json and model.safetensors";
    bail!("{path} has no config.json; {expected}{}", hint.unwrap_or_default());
}

/// Returns the paths of a folder's weights: `model.safetensors`, or the shards that `model.safetensors.index.json` lists. All of them
/// exist.
///
/// # Errors
/// If a weights file is missing or is a Git LFS pointer, or the index is invalid.
pub(super) fn weight_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let single = folder.join(SINGLE);
    let files = if single.exists() { vec![single] } else { shards(folder)? };
    files.iter().try_for_each(|file| input::refuse_lfs_pointer(file, &first_bytes(file)?))?;
    Ok(files)
}

fn shards(folder: &Path) -> Result<Vec<PathBuf>> {
    let index = folder.join(INDEX);
    let path = index.display();
    let Some(bytes) = input::read_if_exists(&index, input::TEXT_BYTES)? else {
        let format = other_format(file_names(folder).into_iter());
        let details = format.map(|(format, advice)| format!("; its weights are in {format}, which is not supported: {advice}"));
        bail!("{} has neither {SINGLE} nor {INDEX}{}", folder.display(), details.unwrap_or_default());
    };
    let index: Value =
        serde_json::from_str(&input::json_text(&path.to_string(), &bytes)?).with_context(|| format!("{path} is not JSON"))?;
    let map = index.get("weight_map").and_then(Value::as_object).with_context(|| format!("{path} has no weight_map"))?;
    let mut names: Vec<&str> = map.values().filter_map(Value::as_str).collect();
    names.sort_unstable();
    names.dedup();
    if let Some(name) = names.iter().find(|name| name.contains(['/', '\\'])) {
        bail!("{path} lists \"{name}\", expected the name of a file in the same folder, such as model-00001-of-00002.safetensors");
    }
    ensure!(!names.is_empty(), "{path} lists no files");
    let missing: Vec<&str> = names.iter().copied().filter(|name| !folder.join(name).exists()).collect();
    ensure!(
        missing.is_empty(),
        "{path} lists {} files, of which {} are missing ({}): the download may be incomplete; download the model again, or copy the \
         missing files into the folder",
        names.len(),
        missing.len(),
        joined(&missing)
    );
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

/// Joins at most 200 names for a message, followed by the number of remaining ones.
fn joined(names: &[&str]) -> String {
    const MAX_SHOWN: usize = 200;
    let rest = if names.len() > MAX_SHOWN { format!(" and {} more", names.len() - MAX_SHOWN) } else { String::new() };
    names[..names.len().min(MAX_SHOWN)].join(", ") + &rest
}

fn first_bytes(file: &Path) -> Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    opened.take(64).read_to_end(&mut bytes).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(bytes)
}

/// Returns the error message for a folder that has only an adapter.
fn adapter_message(folder: &Path) -> String {
    let config = input::read_text(&folder.join("adapter_config.json"), input::TEXT_BYTES).unwrap_or_default();
    let config: Value = serde_json::from_str(&input::json(&config)).unwrap_or_default();
    let base = config.get("base_model_name_or_path").and_then(Value::as_str).unwrap_or("an unnamed base model");
    let merged = folder.parent().filter(|parent| parent.join(CONFIG).exists());
    let advice = match merged {
        Some(merged) => format!("the merged model is {}", merged.display()),
        None => "merge it into its base model first, for example with PEFT: PeftModel.from_pretrained(BASE, FOLDER).merge_and_unload()\
             .save_pretrained(NEW_FOLDER); then use NEW_FOLDER"
            .to_owned(),
    };
    format!("{} is an adapter of {base}, not a model: {advice}", folder.display())
}

/// Returns the error message for a run folder.
fn run_folder_message(folder: &Path) -> String {
    let checkpoints = folder.join("checkpoints");
    let mut steps: Vec<String> = file_names(&checkpoints);
    steps.retain(|name| checkpoints.join(name).join(CONFIG).exists());
    let best = steps.iter().find(|name| *name == "best").map(|name| checkpoints.join(name).display().to_string());
    let newest = steps.iter().rfind(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let newest = newest.map(|name| format!("{} (the newest)", checkpoints.join(name).display()));
    let models: Vec<String> = best.into_iter().chain(newest).collect();
    let advice = if models.is_empty() { "it has no checkpoint yet".to_owned() } else { format!("use {}", models.join(" or ")) };
    format!("{} is a run folder, not a model: {advice}", folder.display())
}

/// Finds weights in an unsupported format. Returns the format's name and how to get a supported one.
fn other_format(names: impl Iterator<Item = String>) -> Option<(&'static str, &'static str)> {
    let names: Vec<String> = names.map(|name| name.to_ascii_lowercase()).collect();
    let exists = |prefix: &str, suffix: &str| names.iter().any(|name| name.starts_with(prefix) && name.ends_with(suffix));
    OTHER_FORMATS.iter().find(|(prefix, suffix, ..)| exists(prefix, suffix)).map(|(_, _, format, advice)| (*format, *advice))
}

/// Returns the names in a folder, sorted; an empty list if the folder cannot be read.
fn file_names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
