//! Models and runs on disk: folders in Hugging Face layout that other programs load as they are, and the state that a run resumes from.
//! Everything is written beside its place and renamed, so that a folder that is there is whole.

pub mod model;
pub mod state;

pub use model::Model;

use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Refuses a folder that is there: nothing of the user's is ever overwritten.
///
/// # Errors
/// When it exists; the message says how to go on with it where it is a run's folder.
pub fn ensure_free(folder: &Path) -> Result<()> {
    let is_run = folder.join("config.toml").exists();
    let resume = if is_run { format!(", or continue that run with --resume {}", folder.display()) } else { String::new() };
    ensure!(!folder.exists(), "{} exists already and is left as it is: choose another --out{resume}", folder.display());
    Ok(())
}

/// Fills a new folder beside `folder` by `write`, then puts it in its place. An existing folder of that name is replaced.
pub fn write_folder(folder: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let beside = folder.with_added_extension("partial");
    if beside.exists() {
        std::fs::remove_dir_all(&beside).with_context(|| format!("cannot remove {}", beside.display()))?;
    }
    std::fs::create_dir_all(&beside).with_context(|| format!("cannot create {}", beside.display()))?;
    write(&beside)?;
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| format!("cannot replace {}", folder.display()))?;
    }
    std::fs::rename(&beside, folder).with_context(|| format!("cannot name {}", folder.display()))
}

/// Writes a file beside its place, flushes it, and renames it.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let beside = path.with_added_extension("partial");
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::File::create(&beside)?;
        std::io::Write::write_all(&mut file, bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
