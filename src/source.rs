//! Where models come from: the embedded base, a folder in Hugging Face layout, or the hub; and what computes them here. Owns what a model's name
//! stands for and what can be known of it before its weights are read; must never know what the model is used for.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::checkpoint::{self, Model, ModelText};
use crate::data::OnTransfer;
use crate::data::hub::{Hub, ModelName};
use crate::input;
use crate::kernels::{Compute, ComputeSettings, Kernels, Place};
use crate::model::{ModelConfig, layout, shapes};
use crate::text::{ChatSettings, Text};
use crate::tiny::embedded;
use crate::usage::usage;

/// The operations that settings come to for a model on this machine.
pub fn open(settings: &ComputeSettings, model: &str) -> Result<Arc<dyn Kernels>> {
    let compute = compute(settings, model)?;
    tracing::info!(device = %settings.device, on = compute.describe(), "computing");
    if let Some(advice) = settings.advice(&compute) {
        static TOLD: std::sync::Once = std::sync::Once::new();
        TOLD.call_once(|| tracing::warn!("{advice}"));
    }
    let kernels = compute.open()?;
    if let Some(held) = kernels.memory().and_then(|memory| memory.held_by_others()) {
        tracing::warn!("{held}");
    }
    Ok(kernels)
}

/// What settings come to for a model on this machine. The embedded one is too small to gain by a GPU that nobody named.
pub fn compute(settings: &ComputeSettings, model: &str) -> Result<Compute> {
    let is_small = model == embedded::NAME && settings.device == Place::Auto;
    let settings = if is_small { &ComputeSettings { device: Place::Cpu, ..settings.clone() } } else { settings };
    usage(settings.resolve())
}

/// Loads `tiny`, a folder, or a hub name, to where it is computed, with what the user asks of its chat template. What exists on disk is a folder.
///
/// # Errors
/// When no model has this name, a download fails, or a file is missing or not what its name says.
pub fn load(name: &str, chat: &ChatSettings, kernels: &Arc<dyn Kernels>, on_transfer: &OnTransfer) -> Result<Model> {
    let mut model = read(name, chat, on_transfer)?;
    model.decoder = model.decoder.on(kernels.clone()).with_context(|| format!("cannot bring {name} to where it is computed"))?;
    Ok(model)
}

fn read(name: &str, chat: &ChatSettings, on_transfer: &OnTransfer) -> Result<Model> {
    let _span = tracing::info_span!("load", model = name).entered();
    if name == embedded::NAME {
        return embedded::load_with(chat);
    }
    let path = Path::new(name);
    if path.exists() {
        return Model::from_folder_with(name, path, chat);
    }
    recognise(name)?;
    Model::from_folder_with(name, &Hub::from_environment().fetch(&ModelName::parse(name)?, on_transfer)?, chat)
}

/// Which weights a model's name stands for, as scores say it: the hub's commit, or the checksum of the weights that are there.
pub fn revision(name: &str) -> Result<String> {
    let path = Path::new(name);
    let mut sum = Sha256::new();
    if name == embedded::NAME {
        embedded::FILES.iter().filter(|(file, _)| file.ends_with(".safetensors")).for_each(|(_, bytes)| sum.update(bytes));
    } else if path.exists() {
        let mut files: Vec<PathBuf> = std::fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        files.sort();
        for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "safetensors")) {
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
            }
        }
    } else {
        let config = Hub::from_environment().cached(&ModelName::parse(name)?, "config.json");
        let commit = config.as_deref().and_then(Path::parent).and_then(Path::file_name);
        return Ok(commit.map_or_else(|| "unknown".to_owned(), |commit| commit.to_string_lossy().into_owned()));
    }
    let digits: String = sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("sha256:{digits}"))
}

/// A model without its weights, its other files downloaded where need be; `None` for a name that no model here can have.
pub fn text(name: &str, chat: &ChatSettings, on_transfer: &OnTransfer) -> Result<Option<ModelText>> {
    match (local_text(name, chat)?, ModelName::parse(name)) {
        (None, Ok(name)) => ModelText::from_folder_with(&Hub::from_environment().fetch_text(&name, on_transfer)?, chat).map(Some),
        (text, _) => Ok(text),
    }
}

/// As [`text`], without a download: one of the hub's as the cache has it.
pub fn text_at_hand(name: &str, chat: &ChatSettings) -> Result<Option<ModelText>> {
    let cached = |name: ModelName| Hub::from_environment().cached(&name, "tokenizer.json");
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

/// Refuses a name that no model with weights can have, before anything else is looked for.
pub fn recognise(name: &str) -> Result<()> {
    if name == embedded::NAME || Path::new(name).exists() || ModelName::parse(name).is_ok() {
        return Ok(());
    }
    if shapes::by_name(name).is_some() {
        bail!(
            "{name} is a shape without weights: give a folder or a hub name, or make random weights with rlvr init --like {name} --out DIR"
        );
    }
    bail!("no model is called \"{name}\": give tiny, a folder that exists, or a hub name such as Qwen/Qwen2.5-Math-1.5B")
}

/// Checks a model that is a folder: what it is and which files it has, or, for a trial run, all but the values of its weights. What has to be
/// downloaded is not looked at.
pub fn check_folder(name: &str, trial: bool) -> Result<()> {
    let path = Path::new(name);
    match (name == embedded::NAME || !path.exists(), trial) {
        (true, _) => Ok(()),
        (false, true) => checkpoint::check_folder(path),
        (false, false) => layout::check(path),
    }
}

/// A model without its weights.
pub struct Shape {
    /// Its configuration.
    pub config: ModelConfig,
    /// Its tokenizer, where that is at hand.
    pub text: Option<Text>,
}

/// What is known of a model before its weights are read, and without a download: the embedded one, a folder, one of the hub's that is in the
/// cache, or a shape that is known by name. `None` for what has to be downloaded first.
pub fn shape(name: &str, chat: &ChatSettings) -> Result<Option<Shape>> {
    let path = Path::new(name);
    if name == embedded::NAME {
        let (config, text) = embedded::shape()?;
        return Ok(Some(Shape { config, text: Some(text.with_chat(chat)?) }));
    }
    if path.exists() {
        return shape_of(path, chat).map(Some);
    }
    let cached = ModelName::parse(name).ok().and_then(|name| Hub::from_environment().cached(&name, "config.json"));
    if let Some(folder) = cached.as_deref().and_then(Path::parent) {
        return shape_of(folder, chat).map(Some);
    }
    shapes::by_name(name).map(|shape| Ok(Shape { config: shape.read()?, text: None })).transpose()
}

fn shape_of(folder: &Path, chat: &ChatSettings) -> Result<Shape> {
    layout::check_config(folder)?;
    let path = folder.join("config.json");
    let config = input::read_text(&path, input::TEXT_BYTES)?;
    let config = ModelConfig::parse(&config).with_context(|| format!("cannot use {}", path.display()))?;
    let text = folder.join("tokenizer.json").exists().then(|| Text::from_folder(folder)?.with_chat(chat)).transpose();
    let text = text.with_context(|| format!("cannot use the tokenizer in {}", folder.display()))?;
    Ok(Shape { config, text })
}
