//! Checkpoints by their name on the Hugging Face hub. It owns which files a checkpoint needs, that none of them is ever half a file, and what to
//! say when they cannot be had; it must never know what is in them. `HF_HOME`, `HF_TOKEN` and `HF_ENDPOINT` are hf-hub's; `HF_HUB_OFFLINE` and
//! `HF_HUB_DOWNLOAD_TIMEOUT` are honoured here.
//!
//! hf-hub 1.0 waits forever for a server that says nothing, stores what a failing server sends in place of a file, and gives up after ten
//! seconds when another process downloads the same file: `guard` stands before it.

mod guard;
mod name;
mod source;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use hf_hub::{HFClient, HFClientSync};

use super::fetch::OnTransfer;
use guard::Turn;
pub use name::ModelName;
use source::{Source, Unreachable};

/// Without these a folder is no checkpoint.
const REQUIRED: [&str; 2] = ["config.json", "tokenizer.json"];
/// These are taken along where the repository has them.
const OPTIONAL: [&str; 3] = ["generation_config.json", "tokenizer_config.json", "chat_template.jinja"];
const WEIGHTS: &str = "model.safetensors";
const WEIGHTS_INDEX: &str = "model.safetensors.index.json";

/// Without a sign of life for so long a download has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where checkpoints come from; `None` leaves hf-hub's own choice.
#[derive(Clone, Debug)]
pub struct Hub {
    /// In place of `HF_ENDPOINT`.
    pub endpoint: Option<String>,
    /// In place of the cache below `HF_HOME`.
    pub cache: Option<PathBuf>,
    /// Only what the cache has.
    pub offline: bool,
    /// Without an answer, or the next bytes, for so long it is given up.
    pub patience: Duration,
}

impl Hub {
    /// The hub as the environment has it.
    pub fn from_environment() -> Self {
        let seconds =
            std::env::var("HF_HUB_DOWNLOAD_TIMEOUT").ok().and_then(|text| text.trim().parse().ok()).filter(|seconds| *seconds > 0);
        Self { endpoint: None, cache: None, offline: offline_by_environment(), patience: seconds.map_or(PATIENCE, Duration::from_secs) }
    }

    /// A local folder with the checkpoint's files, all of one commit, downloading what is not in the cache. Where the hub cannot be reached, a
    /// complete copy in the cache is enough.
    ///
    /// # Errors
    /// When a required file cannot be had; one sentence that says what to do. Nothing that came damaged is kept.
    pub fn fetch(&self, model: &ModelName, on_transfer: &OnTransfer) -> Result<PathBuf> {
        let (folder, turn) = self.take(model, on_transfer, checkpoint)?;
        turn.finished();
        Ok(folder)
    }

    /// As [`Hub::fetch`], without the weights.
    ///
    /// # Errors
    /// As [`Hub::fetch`].
    pub fn fetch_text(&self, model: &ModelName, on_transfer: &OnTransfer) -> Result<PathBuf> {
        let (folder, turn) = self.take(model, on_transfer, |source| beside_weights(source).map(|(folder, _)| folder))?;
        // What an earlier download left of the weights was not looked at.
        if !turn.unfinished() {
            turn.finished();
        }
        Ok(folder)
    }

    fn take(&self, model: &ModelName, on_transfer: &OnTransfer, files: impl Fn(&Source) -> Result<PathBuf>) -> Result<(PathBuf, Turn)> {
        let client = self.client()?;
        let cache = client.cache_dir().to_path_buf();
        let turn = if self.offline { Turn::watching(&cache, model) } else { Turn::wait(&cache, model) };
        let client = HFClientSync::from_inner(client).map_err(|error| anyhow!("no client for the hub: {error}"))?;
        let repository = client.model(&model.owner, &model.name);
        let source = Source {
            model,
            repository,
            cache,
            offline: self.offline,
            patience: self.patience,
            revision: model.revision.clone(),
            turn: turn.clone(),
            on_transfer: OnTransfer::clone(on_transfer),
        };
        let found = match files(&source) {
            Err(error) if error.is::<Unreachable>() && !self.offline => {
                let folder = files(&Source { offline: true, ..source }).map_err(|_| anyhow!("{error}"))?;
                tracing::warn!("{error}; going on with the copy in the hub's cache");
                Ok(folder)
            }
            found => found,
        };
        Ok((found?, turn))
    }

    /// A file of a checkpoint where the cache has it; nothing is downloaded.
    pub fn cached(&self, model: &ModelName, file: &str) -> Option<PathBuf> {
        let repository = format!("models--{}--{}", model.owner, model.name);
        let folder = self.client().ok()?.cache_dir().join(repository);
        let revision = model.revision.as_deref().unwrap_or("main");
        // A branch or tag names its commit in a file; a commit is its own name.
        let commit =
            std::fs::read_to_string(folder.join("refs").join(revision)).map_or_else(|_| revision.to_owned(), |text| text.trim().to_owned());
        Some(folder.join("snapshots").join(commit).join(file)).filter(|path| path.exists())
    }

    fn client(&self) -> Result<HFClient> {
        let mut builder = HFClient::builder();
        if let Some(endpoint) = &self.endpoint {
            builder = builder.endpoint(endpoint);
        }
        if let Some(cache) = &self.cache {
            builder = builder.cache_dir(cache);
        }
        builder.build().map_err(|error| anyhow!("no client for the hub: {error}; check HF_ENDPOINT"))
    }
}

/// Every file of a checkpoint, the weights last: a copy that has them has the rest.
fn checkpoint(source: &Source) -> Result<PathBuf> {
    let (folder, source) = beside_weights(source)?;
    match source.file(WEIGHTS_INDEX)? {
        Some(index) => {
            for shard in shards(&index)? {
                source.required(&shard)?;
            }
        }
        None => {
            source.required(WEIGHTS)?;
        }
    }
    Ok(folder)
}

/// Every file but the weights: the folder that has them, and the repository at its commit.
fn beside_weights<'a>(source: &Source<'a>) -> Result<(PathBuf, Source<'a>)> {
    let config = source.required(REQUIRED[0])?;
    let folder = config.parent().context("the hub's cache gave a file without a folder")?.to_path_buf();
    // A branch may move while its files come: the rest is asked for by the commit of the first.
    let source = source.at(folder.file_name().map(|commit| commit.to_string_lossy().into_owned()));
    for name in &REQUIRED[1..] {
        source.required(name)?;
    }
    for name in OPTIONAL {
        source.file(name)?;
    }
    Ok((folder, source))
}

/// Whether `HF_HUB_OFFLINE` forbids the network, in the spellings that Python's client takes.
pub fn offline_by_environment() -> bool {
    std::env::var("HF_HUB_OFFLINE").is_ok_and(|value| matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on"))
}

/// The files that an index names, each once.
fn shards(index: &Path) -> Result<BTreeSet<String>> {
    let place = index.display();
    let bytes = std::fs::read(index).with_context(|| format!("cannot read {place}"))?;
    let index: serde_json::Value = serde_json::from_slice(&bytes).with_context(|| format!("{place} is not JSON"))?;
    let map = index.get("weight_map").and_then(|map| map.as_object()).with_context(|| format!("{place} has no `weight_map`"))?;
    let files: BTreeSet<String> = map.values().filter_map(|file| file.as_str()).map(str::to_owned).collect();
    // The index comes from elsewhere: it must not name files outside the checkpoint.
    match files.iter().find(|file| file.contains(['/', '\\']) || !file.ends_with(".safetensors")) {
        Some(file) => bail!("{place} names {file:?}, expected files such as model-00001-of-00002.safetensors"),
        None if files.is_empty() => bail!("{place} names no files"),
        None => Ok(files),
    }
}

#[cfg(test)]
mod tests;
