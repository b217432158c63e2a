//! Replaces downloads in a build without the feature `hub`.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::{Hub, ModelName};
use crate::data::fetch::OnProgress;

impl Hub {
    /// Refuses to download.
    ///
    /// # Errors
    /// Always; the message says how to get the checkpoint.
    pub fn fetch(&self, model: &ModelName, _on_progress: &OnProgress) -> Result<PathBuf> {
        bail!(
            "{model} is a name on the Hugging Face hub, and this program was built without the feature `hub`: download the checkpoint and \
             give its folder, or build with --features hub"
        )
    }

    /// Refuses to download.
    ///
    /// # Errors
    /// Always; the message says how to get the checkpoint.
    pub fn fetch_without_weights(&self, model: &ModelName, on_progress: &OnProgress) -> Result<PathBuf> {
        self.fetch(model, on_progress)
    }

    /// Returns `None`, because this build does not know the hub's cache.
    pub fn cached(&self, _model: &ModelName, _file: &str) -> Option<PathBuf> {
        None
    }
}
