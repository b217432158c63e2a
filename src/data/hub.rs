//! Checkpoints by their name on the Hugging Face hub. It owns which files a checkpoint needs and what to say when they cannot be had; it must
//! never know what is in them. `HF_HOME`, `HF_TOKEN` and `HF_ENDPOINT` are hf-hub's; `HF_HUB_OFFLINE` is honoured here.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use hf_hub::progress::{DownloadEvent, ProgressEvent, ProgressHandler};
use hf_hub::repository::RepoTypeModel;
use hf_hub::{HFClient, HFError, HFRepositorySync};

use super::{OnTransfer, Transfer};

/// Without these a folder is no checkpoint.
const REQUIRED: [&str; 2] = ["config.json", "tokenizer.json"];
/// These are taken along where the repository has them.
const OPTIONAL: [&str; 3] = ["generation_config.json", "tokenizer_config.json", "chat_template.jinja"];
const WEIGHTS: &str = "model.safetensors";
const WEIGHTS_INDEX: &str = "model.safetensors.index.json";

/// `owner/name[@revision]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelName {
    /// The user or organisation.
    pub owner: String,
    /// The repository.
    pub name: String,
    /// A branch, tag or commit; the main branch when none is given.
    pub revision: Option<String>,
}

impl ModelName {
    /// Reads `owner/name` or `owner/name@revision`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(text: &str) -> Result<Self> {
        let (path, revision) = match text.split_once('@') {
            Some((path, revision)) => (path, Some(revision)),
            None => (text, None),
        };
        let is_name = |part: &str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            !part.is_empty() && !part.starts_with('.') && part.bytes().all(allowed)
        };
        match path.split_once('/') {
            Some((owner, name)) if is_name(owner) && is_name(name) && revision != Some("") => {
                Ok(Self { owner: owner.into(), name: name.into(), revision: revision.map(str::to_owned) })
            }
            _ => bail!("{text:?} is neither a folder nor a model's name on the hub; expected --model DIR or --model OWNER/NAME[@REVISION]"),
        }
    }
}

impl std::fmt::Display for ModelName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.owner, self.name)?;
        self.revision.iter().try_for_each(|revision| write!(formatter, "@{revision}"))
    }
}

/// Where checkpoints come from; `None` leaves hf-hub's own choice.
#[derive(Clone, Debug, Default)]
pub struct Hub {
    /// In place of `HF_ENDPOINT`.
    pub endpoint: Option<String>,
    /// In place of the cache below `HF_HOME`.
    pub cache: Option<PathBuf>,
    /// Only what the cache has.
    pub offline: bool,
}

impl Hub {
    /// The hub as the environment has it.
    pub fn from_environment() -> Self {
        Self { endpoint: None, cache: None, offline: offline_by_environment() }
    }

    /// A local folder with the checkpoint's files, all of one commit, downloading what is not in the cache.
    ///
    /// # Errors
    /// When a required file cannot be had; one sentence that says what to do.
    pub fn fetch(&self, model: &ModelName, on_transfer: &OnTransfer) -> Result<PathBuf> {
        let source = self.source(model, on_transfer)?;
        let config = source.required(REQUIRED[0])?;
        let folder = config.parent().context("the hub's cache gave a file without a folder")?.to_path_buf();
        // A branch may move while its files come: the rest is asked for by the commit of the first.
        let source = Source { revision: folder.file_name().map(|commit| commit.to_string_lossy().into_owned()), ..source };
        for name in &REQUIRED[1..] {
            source.required(name)?;
        }
        for name in OPTIONAL {
            source.file(name)?;
        }
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

    fn source<'a>(&'a self, model: &'a ModelName, on_transfer: &OnTransfer) -> Result<Source<'a>> {
        let mut builder = HFClient::builder();
        if let Some(endpoint) = &self.endpoint {
            builder = builder.endpoint(endpoint);
        }
        if let Some(cache) = &self.cache {
            builder = builder.cache_dir(cache);
        }
        let client = builder.build_sync().map_err(|error| anyhow!("no client for the hub: {error}; check HF_ENDPOINT"))?;
        let repository = client.model(&model.owner, &model.name);
        Ok(Source { hub: self, model, repository, revision: model.revision.clone(), on_transfer: OnTransfer::clone(on_transfer) })
    }
}

/// Whether `HF_HUB_OFFLINE` forbids the network, in the spellings that Python's client takes.
pub fn offline_by_environment() -> bool {
    std::env::var("HF_HUB_OFFLINE").is_ok_and(|value| matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on"))
}

/// One repository at one revision.
struct Source<'a> {
    hub: &'a Hub,
    model: &'a ModelName,
    repository: HFRepositorySync<RepoTypeModel>,
    revision: Option<String>,
    on_transfer: OnTransfer,
}

impl Source<'_> {
    fn required(&self, name: &str) -> Result<PathBuf> {
        self.file(name)?.ok_or_else(|| self.why_missing(name))
    }

    /// A missing file may mean a missing repository or revision: the hub answers alike.
    fn why_missing(&self, name: &str) -> anyhow::Error {
        let model = self.model;
        if self.hub.offline {
            return anyhow!(
                "{model} is not in the hub's cache ({name} is missing) and HF_HUB_OFFLINE forbids to download it: unset it, or give a local copy with --model DIR"
            );
        }
        match self.repository.exists().send() {
            Ok(false) => return self.no_such_model(),
            Ok(true) => {}
            Err(error) => return self.explained(&error),
        }
        match self.model.revision.as_deref().map(|revision| self.repository.revision_exists().revision(revision).send()) {
            Some(Ok(false)) => self.no_such_revision(),
            Some(Err(error)) => self.explained(&error),
            _ => anyhow!("{model} on the hub has no {name}; a checkpoint needs it: give a folder that has it with --model DIR"),
        }
    }

    /// The file in the cache, downloaded if need be; none where the repository (or, offline, the cache) has no such file.
    fn file(&self, name: &str) -> Result<Option<PathBuf>> {
        let progress = Listener { name: name.to_owned(), on_transfer: OnTransfer::clone(&self.on_transfer) };
        let request = self.repository.download_file().filename(name).local_files_only(self.hub.offline).progress(progress);
        match request.maybe_revision(self.revision.clone()).send() {
            Ok(path) => Ok(Some(path)),
            Err(HFError::EntryNotFound { .. } | HFError::LocalEntryNotFound { .. }) => Ok(None),
            Err(error) => Err(self.explained(&error)),
        }
    }

    /// One sentence: what happened and what to do.
    fn explained(&self, error: &HFError) -> anyhow::Error {
        let model = self.model;
        match error {
            HFError::RepoNotFound { .. } | HFError::AuthRequired { .. } => self.no_such_model(),
            HFError::RevisionNotFound { .. } => self.no_such_revision(),
            HFError::Forbidden { .. } => {
                anyhow!("the token in use may not read {model}: accept its conditions on the hub, or set HF_TOKEN to another token")
            }
            HFError::Request { source, .. } => {
                anyhow!("cannot reach the hub for {model}: {}; give a local copy with --model DIR", root_cause(source))
            }
            other => anyhow!("cannot download {model}: {}; give a local copy with --model DIR", one_line(&other.to_string())),
        }
    }

    fn no_such_model(&self) -> anyhow::Error {
        let ModelName { owner, name, .. } = self.model;
        anyhow!(
            "the hub has no model {owner}/{name}, or it is private or gated: check the name, or set HF_TOKEN to a token that may read it"
        )
    }

    fn no_such_revision(&self) -> anyhow::Error {
        let ModelName { owner, name, revision } = self.model;
        anyhow!(
            "the model {owner}/{name} has no revision {:?}: check its branches and tags on the hub",
            revision.as_deref().unwrap_or("main")
        )
    }
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

fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    one_line(&cause.to_string())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Passes hf-hub's events on as ours.
struct Listener {
    name: String,
    on_transfer: OnTransfer,
}

impl ProgressHandler for Listener {
    fn on_progress(&self, event: &ProgressEvent) {
        let tell = |received_bytes: u64, total_bytes: u64| {
            let total_bytes = Some(total_bytes).filter(|&total| total > 0);
            (self.on_transfer)(&Transfer { name: self.name.clone(), received_bytes, total_bytes });
        };
        match event {
            ProgressEvent::Download(DownloadEvent::Start { total_bytes, .. }) => tell(0, *total_bytes),
            ProgressEvent::Download(DownloadEvent::Progress { files }) => {
                files.iter().for_each(|file| tell(file.bytes_completed, file.total_bytes));
            }
            ProgressEvent::Download(DownloadEvent::AggregateProgress { bytes_completed, total_bytes, .. }) => {
                tell(*bytes_completed, *total_bytes);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
