//! How a run was started, besides its settings, so that `--resume` needs no other arguments. Owns `launch.json` in the run folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::checkpoint::write_file;
use crate::output::shell;
use crate::version;

const FILE: &str = "launch.json";

/// Returns the command that continues the run in `root`. It needs no other flags, because the run's folder records them.
pub fn resume_command(root: &str) -> String {
    shell::line(&["train", "--resume", root])
}

/// How a run was started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Invocation {
    /// The folder that relative paths in the settings refer to.
    pub directory: PathBuf,
    /// The absolute path of `--data-dir`; `None` if data comes from the cache.
    pub data_dir: Option<PathBuf>,
    /// A description of the machine and the kernels.
    pub computed_on: String,
    /// The program's version and commit; empty in the records of older versions.
    pub version: String,
}

impl Invocation {
    /// Describes a run that is started in the current folder. Leaves `computed_on` empty.
    ///
    /// # Errors
    /// If the current folder cannot be read.
    pub fn current(data_dir: Option<&Path>) -> Result<Self> {
        let reading = "cannot read the current folder";
        let directory = std::env::current_dir().context(reading)?;
        let data_dir = data_dir.map(std::path::absolute).transpose().context(reading)?;
        Ok(Self { directory, data_dir, computed_on: String::new(), version: version::short() })
    }

    /// Writes `launch.json` to a run folder.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, root: &Path) -> Result<()> {
        write_file(&root.join(FILE), serde_json::to_string_pretty(self)?.as_bytes())
    }

    /// Reads `launch.json` from a run folder; `None` if an older version wrote the folder.
    ///
    /// # Errors
    /// If the file cannot be read or parsed.
    pub fn read(root: &Path) -> Result<Option<Self>> {
        let path = root.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut invocation: Self =
            serde_json::from_str(&text).with_context(|| format!("{} is corrupt (delete it and pass --data-dir again)", path.display()))?;
        // Older versions called candle's stock operations reference kernels.
        invocation.computed_on = invocation.computed_on.replace("reference kernels", "stock kernels");
        Ok(Some(invocation))
    }
}
