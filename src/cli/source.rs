//! Where models come from: the embedded base, a folder, or the hub; and the arguments that several commands share.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail};
use clap::Args;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use crate::checkpoint::Model;
use crate::data::hub::{Hub, ModelName};
use crate::data::{Library, OnTransfer, Transfer};
use crate::model::{ModelConfig, shapes};
use crate::text::{ChatSettings, Text, check_date};
use crate::tiny::embedded;

#[derive(Debug, Args)]
pub struct DeviceArgs {
    /// Where to compute: auto, cpu, or cuda[:N]
    #[arg(long, default_value = "auto", value_parser = device)]
    pub device: String,
}

/// This build computes on the CPU.
fn device(text: &str) -> Result<String, String> {
    match text.split(':').next() {
        Some("auto" | "cpu") if !text.contains(':') => Ok(text.to_owned()),
        Some("cuda") => Err("this build has no CUDA support; use cpu".to_owned()),
        _ => Err("known are auto, cpu and cuda[:N]".to_owned()),
    }
}

#[derive(Debug, Args)]
pub struct DataArgs {
    /// A folder with test/NAME/test.jsonl and train/*.parquet, instead of downloads
    #[arg(long, env = "RLVR_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

impl DataArgs {
    pub fn library(&self) -> Result<Library> {
        Ok(Library::open(self.data_dir.as_deref())?.on_transfer(transfers()))
    }
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
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("cannot read the chat template {}", path.display()));
    date.as_deref().map(check_date).transpose()?;
    Ok(ChatSettings { template: template.map(read).transpose()?, date, needed })
}

/// Loads `tiny`, a folder, or a hub name. What exists on disk is a folder.
pub fn load(name: &str) -> Result<Model> {
    load_with(name, &ChatSettings::default())
}

/// Loads a model, with what the user asks of its chat template.
pub fn load_with(name: &str, chat: &ChatSettings) -> Result<Model> {
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
    let path = folder.join("config.json");
    let config = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
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
                eprintln!("downloading {}, {}", transfer.name, HumanBytes(total));
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
