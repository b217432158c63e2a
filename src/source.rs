//! Where models come from: the embedded base, a folder, or the hub; and the arguments that several commands share.

use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail};
use clap::Args;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

use super::usage;
use crate::checkpoint::{self, Model, ModelText};
use crate::data::hub::{Hub, ModelName};
use crate::data::{Library, OnTransfer, Transfer};
use crate::input;
use crate::kernels::{Compute, ComputeSettings, Kernels, Place, Precision, Version};
use crate::model::{ModelConfig, layout, shapes};
use crate::text::{ChatSettings, Text, check_date};
use crate::tiny::embedded;

/// Where and how to compute.
#[derive(Debug, Args)]
pub struct ComputeArgs {
    /// Where to compute: auto (a GPU where there is one), cpu, or cuda[:N]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<Place>,
    /// The operations: reference (candle's own) or fused (this program's); auto takes what the device has confirmed
    #[arg(long, value_enum, value_name = "VERSION")]
    pub kernels: Option<Version>,
    /// What weights and activations are: f32 or bf16; auto takes f32 on the CPU and bf16 on a GPU
    #[arg(long, value_enum, value_name = "DTYPE")]
    pub dtype: Option<Precision>,
    /// On a GPU, sums in one order whatever the batch, so that sampler and trainer agree to the bit (on the CPU they always do)
    #[arg(long)]
    pub batch_invariant: bool,
}

impl ComputeArgs {
    /// The settings, with these flags over them.
    pub fn over(&self, settings: &ComputeSettings) -> ComputeSettings {
        ComputeSettings {
            device: self.device.unwrap_or(settings.device),
            kernels: self.kernels.unwrap_or(settings.kernels),
            dtype: self.dtype.unwrap_or(settings.dtype),
            batch_invariant: self.batch_invariant || settings.batch_invariant,
        }
    }

    /// The operations for a model on this machine.
    pub fn open(&self, model: &str) -> Result<Arc<dyn Kernels>> {
        open(&self.over(&ComputeSettings::default()), model)
    }
}

/// The operations that settings come to for a model on this machine.
pub fn open(settings: &ComputeSettings, model: &str) -> Result<Arc<dyn Kernels>> {
    let compute = compute(settings, model)?;
    tracing::info!(device = %settings.device, on = compute.describe(), "computing");
    compute.open()
}

/// What settings come to for a model on this machine. The embedded one is too small to gain by a GPU that nobody named.
pub fn compute(settings: &ComputeSettings, model: &str) -> Result<Compute> {
    let is_small = model == embedded::NAME && settings.device == Place::Auto;
    let settings = if is_small { &ComputeSettings { device: Place::Cpu, ..settings.clone() } } else { settings };
    usage(settings.resolve())
}

#[derive(Debug, Args)]
pub struct DataArgs {
    /// A folder with test/NAME/test.jsonl and train/*.parquet, instead of downloads
    #[arg(long, env = "RLVR_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

impl DataArgs {
    pub fn library(&self) -> Result<Library> {
        library(self.data_dir.as_deref())
    }
}

/// The published files: in a folder, else downloaded.
pub fn library(data_dir: Option<&Path>) -> Result<Library> {
    Ok(Library::open(data_dir)?.on_transfer(transfers()))
}

/// The chat template of commands that ask questions.
#[derive(Debug, Args)]
pub struct ChatArgs {
    /// A chat template in place of the checkpoint's (Jinja)
    #[arg(long, value_name = "FILE")]
    pub chat_template: Option<PathBuf>,
    /// The date that templates print as today's (default: today)
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub date: Option<String>,
}

impl ChatArgs {
    /// The template's contents and the date, checked as far as can be without a tokenizer.
    pub fn settings(&self, needed: bool) -> Result<ChatSettings> {
        chat_settings(self.chat_template.as_deref(), self.date.clone(), needed)
    }
}

/// Reads the template, if one is given, and checks the date.
pub fn chat_settings(template: Option<&Path>, date: Option<String>, needed: bool) -> Result<ChatSettings> {
    let read =
        |path: &Path| input::read(path, input::TEXT_BYTES).with_context(|| format!("cannot read the chat template {}", path.display()));
    date.as_deref().map(check_date).transpose()?;
    Ok(ChatSettings { template: template.map(read).transpose()?, date, needed })
}

/// Loads `tiny`, a folder, or a hub name, to where it is computed. What exists on disk is a folder.
pub fn load(name: &str, kernels: &Arc<dyn Kernels>) -> Result<Model> {
    load_with(name, &ChatSettings::default(), kernels)
}

/// Loads a model, with what the user asks of its chat template.
pub fn load_with(name: &str, chat: &ChatSettings, kernels: &Arc<dyn Kernels>) -> Result<Model> {
    let mut model = read(name, chat)?;
    model.decoder = model.decoder.on(kernels.clone()).with_context(|| format!("cannot bring {name} to where it is computed"))?;
    Ok(model)
}

fn read(name: &str, chat: &ChatSettings) -> Result<Model> {
    let _span = tracing::info_span!("load", model = name).entered();
    if name == embedded::NAME {
        return embedded::load_with(chat);
    }
    let path = Path::new(name);
    if path.exists() {
        return Model::from_folder_with(name, path, chat);
    }
    recognise(name)?;
    Model::from_folder_with(name, &Hub::from_environment().fetch(&ModelName::parse(name)?, &transfers())?, chat)
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
pub fn text(name: &str, chat: &ChatSettings) -> Result<Option<ModelText>> {
    match (local_text(name, chat)?, ModelName::parse(name)) {
        (None, Ok(name)) => ModelText::from_folder_with(&Hub::from_environment().fetch_text(&name, &transfers())?, chat).map(Some),
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

/// From this size on a file is worth a line where there is no terminal for a bar.
const LARGE_BYTES: u64 = 10 << 20;

/// Downloads as people see them, one file after the other: a bar that goes when the file is there, or, without a terminal, a line.
fn transfers() -> OnTransfer {
    let current: Mutex<Option<(String, ProgressBar)>> = Mutex::new(None);
    Arc::new(move |transfer: &Transfer| {
        let mut current = current.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (received, total) = (transfer.received_bytes, transfer.total_bytes.unwrap_or(0));
        if current.as_ref().is_none_or(|(name, _)| *name != transfer.name) {
            // A file that is there at once had been there before.
            if received > 0 && received == total {
                return;
            }
            if total >= LARGE_BYTES && !std::io::stderr().is_terminal() {
                tell!("downloading {}, {}", transfer.name, HumanBytes(total));
            }
            let bar = ProgressBar::new(total).with_message(transfer.name.clone());
            let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta} left");
            *current = Some((transfer.name.clone(), style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style))));
        }
        let Some((_, bar)) = current.as_ref() else { return };
        bar.set_position(received);
        if received > 0 && received == total {
            bar.finish_and_clear();
            *current = None;
        }
    })
}
