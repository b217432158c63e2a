//! Downloads the files of a checkpoint through hf-hub, all of them from one commit.
//!
//! hf-hub 1.0 waits forever for a silent server, stores the error page of a failing server as the file, and gives up after ten seconds if
//! another process is downloading the same file. `checks` adds a timeout, a checksum and a lock.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use hf_hub::{HFClient, HFClientSync};

use super::checks::DownloadLock;
use super::source::{Source, Unreachable};
use super::{Hub, ModelName};
use crate::data::fetch::OnProgress;

/// Files that every checkpoint needs, besides the weights.
const REQUIRED: [&str; 2] = ["config.json", "tokenizer.json"];
/// Files that are downloaded if the repository has them.
const OPTIONAL: [&str; 3] = ["generation_config.json", "tokenizer_config.json", "chat_template.jinja"];
const WEIGHTS: &str = "model.safetensors";
const WEIGHTS_INDEX: &str = "model.safetensors.index.json";

impl Hub {
    /// Downloads the checkpoint files that are not cached, all from one commit, and returns their local folder. If the hub cannot be
    /// reached, falls back to a complete copy in the cache.
    ///
    /// # Errors
    /// If a required file is missing or cannot be downloaded, or a download is corrupt; the corrupt file is deleted. The message is one
    /// sentence that says what to do.
    pub fn fetch(&self, model: &ModelName, on_progress: &OnProgress) -> Result<PathBuf> {
        let (folder, lock) = self.fetch_files(model, on_progress, checkpoint)?;
        lock.mark_finished();
        Ok(folder)
    }

    /// Like [`Hub::fetch`], without the weights.
    ///
    /// # Errors
    /// As for [`Hub::fetch`].
    pub fn fetch_without_weights(&self, model: &ModelName, on_progress: &OnProgress) -> Result<PathBuf> {
        let (folder, lock) = self.fetch_files(model, on_progress, |source| all_but_weights(source).map(|(folder, _)| folder))?;
        // An interrupted download may have left unverified weights: keep the mark.
        if !lock.was_interrupted() {
            lock.mark_finished();
        }
        Ok(folder)
    }

    fn fetch_files(
        &self,
        model: &ModelName,
        on_progress: &OnProgress,
        files: impl Fn(&Source) -> Result<PathBuf>,
    ) -> Result<(PathBuf, DownloadLock)> {
        let client = self.client()?;
        let cache = client.cache_dir().to_path_buf();
        let lock = if self.offline { DownloadLock::read_only(&cache, model) } else { DownloadLock::acquire(&cache, model) };
        let client = HFClientSync::from_inner(client).map_err(|error| anyhow!("cannot create a client for the hub: {error}"))?;
        let repository = client.model(&model.owner, &model.name);
        let source = Source {
            model,
            repository,
            cache,
            offline: self.offline,
            timeout: self.timeout,
            revision: model.revision.clone(),
            lock: lock.clone(),
            on_progress: OnProgress::clone(on_progress),
        };
        let found = match files(&source) {
            Err(error) if error.is::<Unreachable>() && !self.offline => {
                let folder = files(&Source { offline: true, ..source }).map_err(|_| anyhow!("{error}"))?;
                tracing::warn!("{error}; using the copy in the hub's cache");
                Ok(folder)
            }
            found => found,
        };
        Ok((found?, lock))
    }

    /// Returns the cached path of a checkpoint file, or `None` if it is not cached. Downloads nothing.
    pub fn cached(&self, model: &ModelName, file: &str) -> Option<PathBuf> {
        let repository = format!("models--{}--{}", model.owner, model.name);
        let folder = self.client().ok()?.cache_dir().join(repository);
        let revision = model.revision.as_deref().unwrap_or("main");
        // `refs/BRANCH` and `refs/TAG` contain the commit; a revision without such a file is a commit.
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
        builder.build().map_err(|error| anyhow!("cannot create a client for the hub: {error}; check HF_ENDPOINT"))
    }
}

/// Fetches every file of a checkpoint and returns their folder. The weights come last, so a copy that has weights is otherwise complete.
fn checkpoint(source: &Source) -> Result<PathBuf> {
    let (folder, source) = all_but_weights(source)?;
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

/// Fetches all files except the weights. Returns their folder, and the source at the folder's commit.
fn all_but_weights<'a>(source: &Source<'a>) -> Result<(PathBuf, Source<'a>)> {
    let config = source.required(REQUIRED[0])?;
    let folder = config.parent().context("the hub's cache returned a file without a parent folder")?.to_path_buf();
    // A branch may move during the download, so request the other files at the commit of the first.
    let source = source.at(folder.file_name().map(|commit| commit.to_string_lossy().into_owned()));
    for name in &REQUIRED[1..] {
        source.required(name)?;
    }
    for name in OPTIONAL {
        source.file(name)?;
    }
    Ok((folder, source))
}

/// Returns the names of the weights files listed in an index.
fn shards(index: &Path) -> Result<BTreeSet<String>> {
    let path = index.display();
    let bytes = std::fs::read(index).with_context(|| format!("cannot read {path}"))?;
    let index: serde_json::Value = serde_json::from_slice(&bytes).with_context(|| format!("{path} is not JSON"))?;
    let map = index.get("weight_map").and_then(|map| map.as_object()).with_context(|| format!("{path} has no `weight_map`"))?;
    let files: BTreeSet<String> = map.values().filter_map(|file| file.as_str()).map(str::to_owned).collect();
    // The index is untrusted: it must not name files outside the checkpoint folder.
    match files.iter().find(|file| file.contains(['/', '\\']) || !file.ends_with(".safetensors")) {
        Some(file) => bail!("{path} lists {file:?}, expected files such as model-00001-of-00002.safetensors"),
        None if files.is_empty() => bail!("{path} lists no files"),
        None => Ok(files),
    }
}

#[cfg(test)]
mod tests;
