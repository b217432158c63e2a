//! Checkpoints on disk: models in Hugging Face layout, which other programs load unchanged, and the state that a run resumes from.
//!
//! Everything is written next to its destination, synced to disk, and renamed, so a folder that exists is complete. Its `manifest.json`
//! detects later corruption.

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

/// Checks that an output folder does not exist yet.
///
/// # Errors
/// If it exists. If it is a run folder, the message says how to resume the run.
pub fn ensure_absent(folder: &Path) -> Result<()> {
    let is_run = folder.join("config.toml").exists();
    let resume = if is_run { format!(", or continue that run with rlvr train --resume {}", folder.display()) } else { String::new() };
    ensure!(!folder.exists(), "{} already exists and is never overwritten: choose another --out{resume}", folder.display());
    Ok(())
}

/// Calls `write` to fill a new folder next to `folder`, then renames it to `folder`, replacing an existing one. If writing fails, the
/// existing folder stays unchanged and the new one is removed.
///
/// # Errors
/// If `write` fails, or a folder cannot be created, synced, renamed or removed.
pub fn write_folder(folder: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let partial = folder.with_added_extension("partial");
    if partial.exists() {
        std::fs::remove_dir_all(&partial).with_context(|| format!("cannot remove {}", partial.display()))?;
    }
    std::fs::create_dir_all(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
    if let Err(error) = write(&partial).and_then(|()| sync_folders(&partial)) {
        // Report the first error rather than one from the cleanup.
        let _ = std::fs::remove_dir_all(&partial);
        return Err(error.context(format!("{} was not written", folder.display())));
    }
    // Remove the old folder only after the new one has been renamed.
    let old = folder.with_added_extension("old");
    if old.exists() {
        std::fs::remove_dir_all(&old).with_context(|| format!("cannot remove {}", old.display()))?;
    }
    if folder.exists() {
        std::fs::rename(folder, &old).with_context(|| format!("cannot replace {}", folder.display()))?;
    }
    std::fs::rename(&partial, folder).with_context(|| format!("cannot rename {} to {}", partial.display(), folder.display()))?;
    sync_parent(folder)?;
    if old.exists() {
        std::fs::remove_dir_all(&old).with_context(|| format!("cannot remove {}", old.display()))?;
    }
    Ok(())
}

/// Writes a folder in the same manner as [`write_folder`], with a [`manifest`] of its files.
///
/// # Errors
/// As [`write_folder`] and [`manifest::write`].
pub fn write_folder_with_manifest(folder: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    write_folder(folder, |path| {
        write(path)?;
        manifest::write(path)
    })
}

/// Syncs a folder's list of names to disk, so that files created or renamed there survive a power failure. Does nothing on systems other
/// than Unix.
///
/// # Errors
/// If the folder cannot be opened or synced.
pub fn sync_folder(folder: &Path) -> Result<()> {
    #[cfg(unix)]
    std::fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(|| format!("cannot sync {} to disk", folder.display()))?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

/// Calls [`sync_folder`] for a folder and all folders below it.
fn sync_folders(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            sync_folders(&path)?;
        }
    }
    sync_folder(folder)
}

/// Calls [`sync_folder`] for the folder that contains a path.
fn sync_parent(path: &Path) -> Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    sync_folder(parent.unwrap_or(Path::new(".")))
}

/// Writes `bytes` to a file next to `path`, syncs it to disk, and renames it to `path`, replacing an existing file.
///
/// # Errors
/// If the file cannot be written, for example because the disk is full. An existing file stays unchanged, and no partial file remains.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    stream_file(path, |out| Ok(out.write_all(bytes)?))
}

/// Calls `write` to fill a file next to `path`, syncs it to disk, and renames it to `path`, replacing an existing file.
///
/// # Errors
/// If `write` fails or the file cannot be written, for example because the disk is full. An existing file stays unchanged, and no partial
/// file remains.
pub fn stream_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let partial = path.with_added_extension("partial");
    let write_and_rename = || -> Result<()> {
        let mut out = BufWriter::new(std::fs::File::create(&partial)?);
        write(&mut out)?;
        out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
        Ok(std::fs::rename(&partial, path)?)
    };
    write_and_rename().map_err(|error| {
        let _ = std::fs::remove_file(&partial);
        let is_full = error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::StorageFull);
        let advice = if is_full { "; free some space, or choose a folder on another disk" } else { "" };
        error.context(format!("cannot write {}{advice}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_folder_and_stream_file_clean_up_when_they_fail() {
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
