//! Where files of data lie: a folder of the user's, else the cache, else one download into the cache. It must never know what is in them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};

use super::fetch::{self, OnTransfer};
use super::hub;
use super::pinned::{self, Pinned};

/// Where a pinned file is, before anything is downloaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// In the user's folder, as published.
    Folder(PathBuf),
    /// In the cache, as published.
    Cache(PathBuf),
    /// There, with other contents; its checksum. In the cache, a download replaces it.
    Spoiled(PathBuf, String),
    /// Nowhere.
    Missing,
}

/// Where pinned files come from: a folder of the user's, else the cache, else one download into the cache.
pub struct Library {
    /// `--data-dir` or `RLVR_DATA_DIR`.
    folder: Option<PathBuf>,
    cache: PathBuf,
    base_url: String,
    offline: bool,
    on_transfer: OnTransfer,
}

impl Library {
    /// The library as the environment has it: `RLVR_DATA_DIR` unless a folder is given, `RLVR_CACHE` or the platform's cache folder,
    /// `RLVR_DATA_URL` in place of GitHub's raw files, and no downloads under `HF_HUB_OFFLINE`.
    ///
    /// # Errors
    /// When the folder does not exist.
    pub fn open(folder: Option<&Path>) -> Result<Self> {
        let folder = folder.map(Path::to_path_buf).or_else(|| variable("RLVR_DATA_DIR").map(PathBuf::from));
        if let Some(folder) = &folder
            && !folder.is_dir()
        {
            bail!(
                "the data folder {} does not exist; --data-dir or RLVR_DATA_DIR names one with test/NAME/test.jsonl and train/*.parquet",
                folder.display()
            );
        }
        Ok(Self {
            folder,
            cache: cache_folder(),
            base_url: std::env::var("RLVR_DATA_URL").unwrap_or_else(|_| pinned::GITHUB.to_owned()),
            offline: hub::offline_by_environment(),
            on_transfer: Arc::new(|_| {}),
        })
    }

    /// Tells the listener about downloads.
    #[must_use]
    pub fn on_transfer(mut self, listener: OnTransfer) -> Self {
        self.on_transfer = listener;
        self
    }

    /// A local path of the file, its contents checked; downloads it at most once.
    ///
    /// # Errors
    /// When it cannot be had, or what lies in the user's folder is not the published file; the message says what to do.
    pub fn path(&self, file: &Pinned) -> Result<PathBuf> {
        let cached = self.cached(file);
        match self.look(file)? {
            Presence::Folder(path) | Presence::Cache(path) => return Ok(path),
            Presence::Spoiled(path, found) if path != cached => bail!(
                "{} is not the published file (sha256 {found}, expected {}): fetch it again, or pass a file of your own by its path",
                path.display(),
                file.sha256
            ),
            Presence::Spoiled(..) | Presence::Missing => {}
        }
        let remedy = format!("give a folder that has {} with --data-dir DIR or RLVR_DATA_DIR", file.local);
        if self.offline {
            bail!("{} is not in the cache ({}) and HF_HUB_OFFLINE forbids to download it: {remedy}", file.local, self.cache.display());
        }
        if let Err(error) = fetch::download(&file.url(&self.base_url), &cached, file, &*self.on_transfer) {
            bail!("cannot download {}: {error:#}; {remedy}", file.local);
        }
        Ok(cached)
    }
}

/// Looks, and downloads nothing.
impl Library {
    /// Where a pinned file is, its contents checked.
    ///
    /// # Errors
    /// When what is there cannot be read.
    pub fn look(&self, file: &Pinned) -> Result<Presence> {
        let cached = self.cached(file);
        let Some(path) = self.own(file.local).or_else(|| cached.exists().then(|| cached.clone())) else { return Ok(Presence::Missing) };
        let found = fetch::sha256_of(&path)?;
        Ok(match path == cached {
            _ if found != file.sha256 => Presence::Spoiled(path, found),
            true => Presence::Cache(path),
            false => Presence::Folder(path),
        })
    }

    /// A file of the user's folder, by its path below it; none where it is not there or no folder was named.
    pub fn own(&self, local: &str) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(local)).filter(|path| path.exists())
    }

    /// Where downloads are kept.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    fn cached(&self, file: &Pinned) -> PathBuf {
        self.cache.join("data").join(file.local)
    }
}

/// `RLVR_CACHE`, else `rlvr` in the platform's folder for caches.
fn cache_folder() -> PathBuf {
    if let Some(folder) = variable("RLVR_CACHE") {
        return folder.into();
    }
    let home = || variable("HOME").map_or_else(std::env::temp_dir, PathBuf::from);
    let caches = if let Some(folder) = variable("XDG_CACHE_HOME") {
        folder.into()
    } else if cfg!(target_os = "macos") {
        home().join("Library/Caches")
    } else if let Some(folder) = variable("LOCALAPPDATA").filter(|_| cfg!(windows)) {
        folder.into()
    } else {
        home().join(".cache")
    };
    caches.join("rlvr")
}

/// An environment variable that is set to something.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// A library for tests: nothing of the environment counts.
#[cfg(test)]
pub(crate) fn test_library(folder: Option<PathBuf>, cache: &Path, base_url: &str) -> Library {
    Library {
        folder,
        cache: cache.to_path_buf(),
        base_url: base_url.to_owned(),
        offline: base_url.is_empty(),
        on_transfer: Arc::new(|_| {}),
    }
}

/// The shared data folder as a library that never downloads, or `None` (said on stderr) when it is not there.
#[cfg(test)]
pub(crate) fn shared_library() -> Option<Library> {
    let folder = crate::testing::shared("data")?;
    Some(test_library(Some(folder), Path::new("/nonexistent"), ""))
}

#[cfg(test)]
mod tests;
