//! Models and runs on disk: folders in Hugging Face layout that other programs load as they are, and the state that a run resumes from.
//! Everything is written beside its place, made durable, and renamed, so that a folder that is there is whole; its `manifest.json` shows later
//! damage.

pub mod critic;
pub mod disk;
pub mod lock;
pub mod manifest;
pub mod model;
pub mod moments;
pub mod state;

pub use model::{Model, ModelText, check_folder};

use std::io::{BufWriter, Write};
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

/// Fills a new folder beside `folder` by `write`, then puts it in its place. An existing folder of that name is replaced; when something goes
/// wrong it stays as it was, and nothing is left beside it.
pub fn write_folder(folder: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let beside = folder.with_added_extension("partial");
    if beside.exists() {
        std::fs::remove_dir_all(&beside).with_context(|| format!("cannot remove {}", beside.display()))?;
    }
    std::fs::create_dir_all(&beside).with_context(|| format!("cannot create {}", beside.display()))?;
    if let Err(error) = write(&beside).and_then(|()| sync_folders(&beside)) {
        // The error that is told is the first one.
        let _ = std::fs::remove_dir_all(&beside);
        return Err(error.context(format!("{} was not written", folder.display())));
    }
    // The old one goes only when the new one has its name.
    let old = folder.with_added_extension("old");
    if old.exists() {
        std::fs::remove_dir_all(&old).with_context(|| format!("cannot remove {}", old.display()))?;
    }
    if folder.exists() {
        std::fs::rename(folder, &old).with_context(|| format!("cannot replace {}", folder.display()))?;
    }
    std::fs::rename(&beside, folder).with_context(|| format!("cannot name {}", folder.display()))?;
    sync_parent(folder)?;
    if old.exists() {
        std::fs::remove_dir_all(&old).with_context(|| format!("cannot remove {}", old.display()))?;
    }
    Ok(())
}

/// As [`write_folder`], with a [`manifest`] of what was written.
pub fn write_folder_with_manifest(folder: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    write_folder(folder, |path| {
        write(path)?;
        manifest::write(path)
    })
}

/// Has the names in a folder on disk: a file that was created or renamed there is found again after the machine has lost its power.
pub fn sync_folder(folder: &Path) -> Result<()> {
    #[cfg(unix)]
    std::fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(|| format!("cannot make {} durable", folder.display()))?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

/// [`sync_folder`] for a folder and all below it.
fn sync_folders(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            sync_folders(&path)?;
        }
    }
    sync_folder(folder)
}

/// [`sync_folder`] for the folder that a path is in.
fn sync_parent(path: &Path) -> Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    sync_folder(parent.unwrap_or(Path::new(".")))
}

/// Writes a file beside its place, flushes it, and renames it.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    stream_file(path, |out| Ok(out.write_all(bytes)?))
}

/// As `write_file`, piece by piece. A file that could not be written whole is not left behind.
pub fn stream_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let beside = path.with_added_extension("partial");
    let whole = || -> Result<()> {
        let mut out = BufWriter::new(std::fs::File::create(&beside)?);
        write(&mut out)?;
        out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
        Ok(std::fs::rename(&beside, path)?)
    };
    whole().map_err(|error| {
        let _ = std::fs::remove_file(&beside);
        let full = error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::StorageFull);
        let advice = if full { "; free some space, or choose a folder on another disk" } else { "" };
        error.context(format!("cannot write {}{advice}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_leaves_nothing_behind_and_the_old_in_place() {
        let root = tempfile::tempdir().unwrap();
        let (folder, file) = (root.path().join("checkpoint"), root.path().join("file"));
        write_folder(&folder, |path| write_file(&path.join("a"), b"old")).unwrap();
        write_file(&file, b"old").unwrap();
        let fail = |out: &mut dyn Write| {
            out.write_all(&[0; 100_000])?;
            Err(std::io::Error::from(std::io::ErrorKind::StorageFull).into())
        };
        let message = format!("{:#}", write_folder(&folder, |path| stream_file(&path.join("a"), fail)).unwrap_err());
        assert!(message.contains("checkpoint was not written: cannot write") && message.contains("free some space"), "{message}");
        stream_file(&file, fail).unwrap_err();
        assert_eq!(std::fs::read(folder.join("a")).unwrap(), b"old");
        assert_eq!(std::fs::read(&file).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 2);
    }
}
