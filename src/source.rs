//! Resolves model names: the embedded model, a folder in Hugging Face layout, or a hub name. Also opens the device that a model runs on.
//!
//! Owns what a model's name refers to, and which properties of the model are available before its weights are loaded. Independent of what
//! the model is used for.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::checkpoint::{self, Model, ModelText};
use crate::data::OnProgress;
use crate::data::hub::{Hub, ModelName};
use crate::dist::{World, launch};
use crate::input;
use crate::kernels::{Compute, ComputeSettings, DeviceChoice, Kernels, device_name, gpu_number};
use crate::model::{ModelConfig, known_models, layout};
use crate::output::Progress;
use crate::text::{ChatSettings, Text};
use crate::tiny::embedded;
use crate::usage::usage;

/// Opens the kernels that `settings` select for a model on this machine, and logs the device.
///
/// # Errors
/// If the settings select a device or kernels that this machine does not have, or the device cannot be opened.
pub fn open(settings: &ComputeSettings, model: &str) -> Result<Arc<dyn Kernels>> {
    let compute = compute(settings, model)?;
    tracing::info!(device = %settings.device, on = compute.describe(), "computing");
    if let Some(advice) = settings.advice(&compute) {
        static WARNED: std::sync::Once = std::sync::Once::new();
        WARNED.call_once(|| tracing::warn!("{advice}"));
    }
    let kernels = compute.open()?;
    if let Some(warning) = kernels.memory().and_then(|memory| memory.held_by_others()) {
        tracing::warn!("{warning}");
    }
    Ok(kernels)
}

/// Prepares ranks that have opened these kernels for a common run: connects their GPUs. Returns the ranks, with a line about them, their
/// hosts and their devices; no line for a single process.
///
/// # Errors
/// A usage error if the ranks have different devices. Other errors if NCCL is not installed or fails.
pub fn share(world: &World, kernels: &dyn Kernels) -> Result<(World, Option<String>)> {
    if world.size() == 1 {
        return Ok((world.clone(), None));
    }
    let device = device_name(kernels.device());
    usage(world.ensure_equal(&[("the device", device.clone())]))?;
    let world = launch::connect_gpus(world, gpu_number(kernels.device()))?;
    let line = world.describe(&device)?;
    Ok((world, Some(line)))
}

/// Resolves compute settings for a model on this machine, with the [`device`] of the model.
///
/// # Errors
/// A usage error if the settings select a device or kernels that this machine does not have.
pub fn compute(settings: &ComputeSettings, model: &str) -> Result<Compute> {
    usage(ComputeSettings { device: device(settings, model), ..settings.clone() }.resolve())
}

/// Returns the device for a model. With the device `auto`, the embedded model runs on the CPU, because it is too small to benefit from a GPU.
pub fn device(settings: &ComputeSettings, model: &str) -> DeviceChoice {
    let is_small = model == embedded::NAME && settings.device == DeviceChoice::Auto;
    if is_small { DeviceChoice::Cpu } else { settings.device }
}

/// Loads `tiny`, a folder or a hub name onto the device of `kernels`, with the chat template and date of `chat`. A name that exists on disk
/// refers to a folder. `progress` shows the work and the bytes read, `on_progress` receives downloads.
///
/// # Errors
/// If no model has this name, a download fails, a file is missing or malformed, or the device has too little memory.
pub fn load(name: &str, chat: &ChatSettings, kernels: &Arc<dyn Kernels>, progress: &Progress, on_progress: &OnProgress) -> Result<Model> {
    progress.begin(format!("loading {name}"));
    let mut model = read(name, chat, progress, on_progress)?;
    if !kernels.device().is_cpu() {
        progress.begin(format!("moving {name} to the device"));
    }
    model.decoder = model.decoder.on(kernels.clone()).with_context(|| format!("cannot move {name} to its device"))?;
    Ok(model)
}

fn read(name: &str, chat: &ChatSettings, progress: &Progress, on_progress: &OnProgress) -> Result<Model> {
    let _span = tracing::info_span!("load", model = name).entered();
    if name == embedded::NAME {
        return embedded::load_with(chat);
    }
    let path = Path::new(name);
    if path.exists() {
        return Model::from_folder_with(name, path, chat, progress);
    }
    usage(check_name(name))?;
    Model::from_folder_with(name, &Hub::from_env().fetch(&ModelName::parse(name)?, on_progress)?, chat, progress)
}

/// Returns an identifier of a model's weights, to record with scores: `sha256:` and the checksum of local weights, the commit of a cached
/// hub model, or `unknown` for a hub model that is not cached. `progress` shows the bytes read.
///
/// # Errors
/// If the folder or a weights file cannot be read, or the name is not a valid model name.
pub fn revision(name: &str, progress: &Progress) -> Result<String> {
    let path = Path::new(name);
    let mut sum = Sha256::new();
    if name == embedded::NAME {
        embedded::FILES.iter().filter(|(file, _)| file.ends_with(".safetensors")).for_each(|(_, bytes)| sum.update(bytes));
    } else if path.exists() {
        let mut files: Vec<PathBuf> = std::fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        files.retain(|file| file.extension().is_some_and(|extension| extension == "safetensors"));
        files.sort();
        progress.begin(format!("computing the checksum of {name}"));
        progress.expect_bytes(files.iter().filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum());
        for file in &files {
            let reading = || format!("cannot read {}", file.display());
            let mut reader = std::io::BufReader::with_capacity(1 << 20, std::fs::File::open(file).with_context(reading)?);
            loop {
                let bytes = reader.fill_buf().with_context(reading)?;
                if bytes.is_empty() {
                    break;
                }
                sum.update(bytes);
                let read = bytes.len();
                reader.consume(read);
                progress.add_parts(read);
            }
        }
    } else {
        let config = Hub::from_env().cached(&ModelName::parse(name)?, "config.json");
        let commit = config.as_deref().and_then(Path::parent).and_then(Path::file_name);
        return Ok(commit.map_or_else(|| "unknown".to_owned(), |commit| commit.to_string_lossy().into_owned()));
    }
    let digits: String = sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("sha256:{digits}"))
}

/// Loads a model's tokenizer and chat template without its weights. Downloads them if needed. `None` if the name is not a valid model name.
///
/// # Errors
/// If a download fails, or a file is missing or malformed.
pub fn text(name: &str, chat: &ChatSettings, on_progress: &OnProgress) -> Result<Option<ModelText>> {
    match (local_text(name, chat)?, ModelName::parse(name)) {
        (None, Ok(name)) => ModelText::from_folder_with(&Hub::from_env().fetch_without_weights(&name, on_progress)?, chat).map(Some),
        (text, _) => Ok(text),
    }
}

/// Like [`text`], but without downloads: `None` if a hub model is not in the cache.
///
/// # Errors
/// If a file is missing or malformed.
pub fn cached_text(name: &str, chat: &ChatSettings) -> Result<Option<ModelText>> {
    let cached = |name: ModelName| Hub::from_env().cached(&name, "tokenizer.json");
    match (local_text(name, chat)?, ModelName::parse(name).ok().and_then(cached)) {
        (None, Some(file)) => file.parent().map(|folder| ModelText::from_folder_with(folder, chat)).transpose(),
        (text, _) => Ok(text),
    }
}

fn local_text(name: &str, chat: &ChatSettings) -> Result<Option<ModelText>> {
    let path = Path::new(name);
    match name {
        embedded::NAME => embedded::text_with(chat).map(Some),
        _ if path.exists() => ModelText::from_folder_with(path, chat).map(Some),
        _ => Ok(None),
    }
}

/// Checks that a name can refer to a model with weights. Downloads nothing.
///
/// # Errors
/// If the name is neither `tiny`, nor an existing path, nor a valid hub name.
pub fn check_name(name: &str) -> Result<()> {
    if name == embedded::NAME || Path::new(name).exists() || ModelName::parse(name).is_ok() {
        return Ok(());
    }
    if known_models::by_name(name).is_some() {
        bail!(
            "{name} is a shape without weights: give a folder or a hub name, or create random weights with rlvr init --like {name} --out DIR"
        );
    }
    bail!("unknown model \"{name}\"; expected tiny, an existing folder, or a hub name such as Qwen/Qwen2.5-Math-1.5B")
}

/// Checks the layout of a local model folder and, with `trial`, everything except the values of its weights. Does nothing for the embedded
/// model and for names that do not exist on disk.
///
/// # Errors
/// If the folder lacks a file or has a malformed one.
pub fn check_folder(name: &str, trial: bool) -> Result<()> {
    let path = Path::new(name);
    match (name == embedded::NAME || !path.exists(), trial) {
        (true, _) => Ok(()),
        (false, true) => checkpoint::check_folder(path),
        (false, false) => layout::check(path),
    }
}

/// The properties of a model that are known without its weights.
pub struct Shape {
    /// The configuration.
    pub config: ModelConfig,
    /// The tokenizer; `None` if it is not available locally.
    pub text: Option<Text>,
}

/// Returns the configuration and tokenizer of the embedded model, a folder, a cached hub model, or a shape known by name. Loads no weights
/// and downloads nothing. `None` if the model must be downloaded first.
///
/// # Errors
/// If a file is missing or malformed.
pub fn shape(name: &str, chat: &ChatSettings) -> Result<Option<Shape>> {
    if name == embedded::NAME {
        let (config, text) = embedded::shape()?;
        return Ok(Some(Shape { config, text: Some(text.with_chat(chat)?) }));
    }
    if let Some(folder) = local_folder(name) {
        return read_shape(&folder, chat).map(Some);
    }
    known_models::by_name(name).map(|shape| Ok(Shape { config: shape.read()?, text: None })).transpose()
}

/// Like [`shape`], but returns only the configuration, without reading the tokenizer.
///
/// # Errors
/// If the configuration is missing or malformed.
pub fn config(name: &str) -> Result<Option<ModelConfig>> {
    if name == embedded::NAME {
        return embedded::shape().map(|(config, _)| Some(config));
    }
    match local_folder(name) {
        Some(folder) => read_config(&folder).map(Some),
        None => known_models::by_name(name).map(|shape| shape.read()).transpose(),
    }
}

/// Returns the folder of a model: an existing path, or the folder of a hub model in the cache.
fn local_folder(name: &str) -> Option<PathBuf> {
    let path = Path::new(name);
    let cached = || ModelName::parse(name).ok().and_then(|name| Hub::from_env().cached(&name, "config.json"));
    if path.exists() { Some(path.to_owned()) } else { cached()?.parent().map(Path::to_owned) }
}

fn read_config(folder: &Path) -> Result<ModelConfig> {
    layout::check_config(folder)?;
    let path = folder.join("config.json");
    let config = input::read_text(&path, input::TEXT_BYTES)?;
    ModelConfig::parse(&config).with_context(|| format!("cannot use {}", path.display()))
}

fn read_shape(folder: &Path, chat: &ChatSettings) -> Result<Shape> {
    let config = read_config(folder)?;
    let text = folder.join("tokenizer.json").exists().then(|| Text::from_folder(folder)?.with_chat(chat)).transpose();
    let text = text.with_context(|| format!("cannot use the tokenizer in {}", folder.display()))?;
    Ok(Shape { config, text })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Cpu;

    #[test]
    fn load_and_revision_count_all_bytes() {
        let folder = tempfile::tempdir().unwrap();
        embedded::FILES.iter().for_each(|(name, bytes)| std::fs::write(folder.path().join(name), bytes).unwrap());
        let name = folder.path().to_str().unwrap();
        let (kernels, progress): (Arc<dyn Kernels>, _) = (Arc::new(Cpu), Progress::hidden());
        let downloads: OnProgress = Arc::new(|_| panic!("a folder needs no download"));
        load(name, &ChatSettings::default(), &kernels, &progress, &downloads).unwrap();
        let (file, bytes) = embedded::FILES.iter().find(|(file, _)| file.ends_with(".safetensors")).unwrap();
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap());
        let size = bytes.len() as u64;
        assert_eq!((progress.work(), progress.counts()), (format!("loading {name}"), (size - 8 - header, size - 8 - header)), "{file}");
        revision(name, &progress).unwrap();
        assert_eq!((progress.work(), progress.counts()), (format!("computing the checksum of {name}"), (size, size)));
    }
}
