//! Checkpoints from the Hugging Face hub.
//!
//! Decides which files a checkpoint needs, verifies each of them, and explains failures. Does not interpret the files. hf-hub reads
//! `HF_HOME`, `HF_TOKEN` and `HF_ENDPOINT`; this module reads `HF_HUB_OFFLINE` and `HF_HUB_DOWNLOAD_TIMEOUT`. A build without the feature
//! `hub` has no hf-hub with its many dependencies, and refuses hub names.

#[cfg(not(feature = "hub"))]
mod absent;
#[cfg(feature = "hub")]
mod checks;
#[cfg(feature = "hub")]
mod download;
mod name;
#[cfg(feature = "hub")]
mod source;

use std::path::PathBuf;
use std::time::Duration;

pub use name::ModelName;

/// The default of `HF_HUB_DOWNLOAD_TIMEOUT`.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// Where checkpoints are downloaded from and cached.
#[derive(Clone, Debug)]
pub struct Hub {
    /// The server's URL; `None` uses `HF_ENDPOINT` or hf-hub's default.
    pub endpoint: Option<String>,
    /// The cache folder; `None` uses the one below `HF_HOME`.
    pub cache: Option<PathBuf>,
    /// True to use only the cache, without network access.
    pub offline: bool,
    /// How long to wait for a response, or for more bytes, before giving up.
    pub timeout: Duration,
}

impl Hub {
    /// Creates a hub from `HF_HUB_OFFLINE` and `HF_HUB_DOWNLOAD_TIMEOUT` (seconds), with hf-hub's defaults for the rest.
    pub fn from_env() -> Self {
        let seconds =
            std::env::var("HF_HUB_DOWNLOAD_TIMEOUT").ok().and_then(|text| text.trim().parse().ok()).filter(|seconds| *seconds > 0);
        Self { endpoint: None, cache: None, offline: offline_from_env(), timeout: seconds.map_or(DEFAULT_TIMEOUT, Duration::from_secs) }
    }
}

/// True if `HF_HUB_OFFLINE` has a value that Python's client treats as true: `1`, `true`, `yes` or `on`, ignoring case.
pub fn offline_from_env() -> bool {
    std::env::var("HF_HUB_OFFLINE").is_ok_and(|value| matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on"))
}
