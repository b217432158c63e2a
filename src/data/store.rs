//! Locates data files in the user's folder or in the cache; downloads missing ones into the cache. Independent of what the files contain.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};

use super::fetch::{self, OnProgress};
use super::hub;
use super::pinned::{self, Pinned};

/// The location and state of a pinned file on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileStatus {
    /// In the user's folder, with the published contents.
    Folder(PathBuf),
    /// In the cache, with the published contents.
    Cache(PathBuf),
    /// Present with other contents: the path and the SHA-256 found. In the cache, [`DataStore::path`] replaces such a file.
    Corrupt(PathBuf, String),
    /// Neither in the user's folder nor in the cache.
    Missing,
}

/// Finds pinned files in the user's folder or in the cache, and downloads missing ones into the cache.
pub struct DataStore {
    /// `--data-dir` or `RLVR_DATA_DIR`.
    folder: Option<PathBuf>,
    cache: PathBuf,
    base_url: String,
    offline: bool,
    on_progress: OnProgress,
}

impl DataStore {
    /// Opens the store, configured by the environment. The user's folder is `folder`, or else `RLVR_DATA_DIR`. The cache is `RLVR_CACHE`,
    /// or else `rlvr` in the platform's cache folder. `RLVR_DATA_URL` replaces `https://raw.githubusercontent.com`, and `HF_HUB_OFFLINE`
    /// forbids downloads.
    ///
    /// # Errors
    /// If the user's folder does not exist.
    pub fn open(folder: Option<&Path>) -> Result<Self> {
        let folder = folder.map(Path::to_path_buf).or_else(|| env_var("RLVR_DATA_DIR").map(PathBuf::from));
        if let Some(folder) = &folder
            && !folder.is_dir()
        {
            bail!(
                "the data folder {} does not exist; set --data-dir or RLVR_DATA_DIR to a folder with test/NAME/test.jsonl and train/*.parquet",
                folder.display()
            );
        }
        Ok(Self {
            folder,
            cache: cache_folder(),
            base_url: std::env::var("RLVR_DATA_URL").unwrap_or_else(|_| pinned::GITHUB.to_owned()),
            offline: hub::offline_from_env(),
            on_progress: Arc::new(|_| {}),
        })
    }

    /// Sets the callback that receives download progress.
    #[must_use]
    pub fn on_progress(mut self, listener: OnProgress) -> Self {
        self.on_progress = listener;
        self
    }

    /// Forbids downloads: a file that is not on this machine is an error.
    #[must_use]
    pub fn without_downloads(mut self) -> Self {
        self.offline = true;
        self
    }

    /// Returns the local path of the file after verifying its checksum. Downloads the file if needed.
    ///
    /// # Errors
    /// If the file is missing and cannot be downloaded, cannot be read, or has another checksum in the user's folder. The message says what
    /// to do.
    pub fn path(&self, file: &Pinned) -> Result<PathBuf> {
        let cached = self.cached(file);
        match self.locate(file)? {
            FileStatus::Folder(path) | FileStatus::Cache(path) => return Ok(path),
            FileStatus::Corrupt(path, found) if path != cached => bail!(
                "{} is not the published file (sha256 {found}, expected {}): download it again, or pass your own file by its path",
                path.display(),
                file.sha256
            ),
            FileStatus::Corrupt(..) | FileStatus::Missing => {}
        }
        let remedy = format!("pass a folder that has {} with --data-dir DIR or RLVR_DATA_DIR", file.local);
        if self.offline {
            bail!("{} is not in the cache ({}) and HF_HUB_OFFLINE forbids downloads: {remedy}", file.local, self.cache.display());
        }
        if let Err(error) = fetch::download(&file.url(&self.base_url), &cached, file, &*self.on_progress) {
            bail!("cannot download {}: {error:#}; {remedy}", file.local);
        }
        Ok(cached)
    }
}

/// Queries that download nothing.
impl DataStore {
    /// Returns where a pinned file is, after verifying its checksum. Prefers the user's folder to the cache.
    ///
    /// # Errors
    /// If the file exists but cannot be read.
    pub fn locate(&self, file: &Pinned) -> Result<FileStatus> {
        let cached = self.cached(file);
        let Some(path) = self.user_file(file.local).or_else(|| cached.exists().then(|| cached.clone())) else {
            return Ok(FileStatus::Missing);
        };
        let found = fetch::sha256_of(&path)?;
        Ok(match path == cached {
            _ if found != file.sha256 => FileStatus::Corrupt(path, found),
            true => FileStatus::Cache(path),
            false => FileStatus::Folder(path),
        })
    }

    /// Returns the path of a file in the user's folder; `local` is relative to that folder. `None` if there is no such file, or the user
    /// has given no folder.
    pub fn user_file(&self, local: &str) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(local)).filter(|path| path.exists())
    }

    /// Returns the cache folder; downloads are in its `data` folder.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    fn cached(&self, file: &Pinned) -> PathBuf {
        self.cache.join("data").join(file.local)
    }
}

/// Returns `RLVR_CACHE`, or else `rlvr` in the platform's cache folder.
fn cache_folder() -> PathBuf {
    if let Some(folder) = env_var("RLVR_CACHE") {
        return folder.into();
    }
    let home = || env_var("HOME").map_or_else(std::env::temp_dir, PathBuf::from);
    let caches = if let Some(folder) = env_var("XDG_CACHE_HOME") {
        folder.into()
    } else if cfg!(target_os = "macos") {
        home().join("Library/Caches")
    } else if let Some(folder) = env_var("LOCALAPPDATA").filter(|_| cfg!(windows)) {
        folder.into()
    } else {
        home().join(".cache")
    };
    caches.join("rlvr")
}

/// Returns the value of an environment variable, or `None` if it is unset or empty.
fn env_var(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Creates a store that ignores the environment. If `base_url` is empty, the store is offline.
#[cfg(test)]
pub(crate) fn test_store(folder: Option<PathBuf>, cache: &Path, base_url: &str) -> DataStore {
    DataStore {
        folder,
        cache: cache.to_path_buf(),
        base_url: base_url.to_owned(),
        offline: base_url.is_empty(),
        on_progress: Arc::new(|_| {}),
    }
}

/// Opens the shared data folder as a store without downloads. Prints a note to stderr and returns `None` if the folder is missing.
#[cfg(test)]
pub(crate) fn shared_store() -> Option<DataStore> {
    let folder = crate::testing::shared("data")?;
    Some(test_store(Some(folder), Path::new("/nonexistent"), ""))
}

#[cfg(test)]
mod tests;
