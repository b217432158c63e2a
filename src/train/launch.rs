//! How a run was started, besides its settings: what `--resume` would otherwise have to be told again. Owns `launch.json` in the run's folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::checkpoint::write_file;

const FILE: &str = "launch.json";

/// How a run was started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Launch {
    /// The folder that relative paths in the settings start from.
    pub directory: PathBuf,
    /// `--data-dir`; none where data comes from the cache.
    pub data_dir: Option<PathBuf>,
    /// Where and with what it was computed, in words.
    pub computed_on: String,
}

impl Launch {
    /// That of a run that starts here and now.
    pub fn here(data_dir: Option<&Path>) -> Result<Self> {
        let reading = "the current folder cannot be read";
        let directory = std::env::current_dir().context(reading)?;
        let data_dir = data_dir.map(std::path::absolute).transpose().context(reading)?;
        Ok(Self { directory, data_dir, computed_on: String::new() })
    }

    /// Records it in a run's folder.
    pub fn write(&self, root: &Path) -> Result<()> {
        write_file(&root.join(FILE), serde_json::to_string_pretty(self)?.as_bytes())
    }

    /// What was recorded; none in the folder of an older version.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(root: &Path) -> Result<Option<Self>> {
        let path = root.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).map(Some).with_context(|| format!("{} is broken; remove it and give --data-dir again", path.display()))
    }
}
