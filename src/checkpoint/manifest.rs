//! Writes and checks `manifest.json`, which lists the size and blake3 hash of every file in a folder. Knows nothing about the files'
//! contents.
//!
//! A manifest excludes subfolders that have their own, because a checkpoint's `state/` is deleted before its model. Checks ignore files
//! that are not listed, and a `manifest.json` of another program.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{lock, write_file};
use crate::output::Progress;

/// The name of the manifest file.
pub const FILE: &str = "manifest.json";
/// The value of the manifest's field `hash`.
const HASH: &str = "blake3";
/// Number of bytes to read and hash at a time.
const BUFFER_BYTES: usize = 1 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    hash: String,
    /// By path relative to the folder, with `/` as the separator.
    files: BTreeMap<String, Entry>,
}

/// The size and the hash of a file when it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    bytes: u64,
    blake3: String,
}

/// Writes a manifest of every file below a folder, after syncing these files to disk. [`write_folder`](super::write_folder) syncs the
/// folders.
///
/// # Errors
/// If a file cannot be read or synced, or the manifest cannot be written.
pub fn write(folder: &Path) -> Result<()> {
    let names = files(folder)?;
    let entries = names.into_par_iter().map(|name| {
        let path = folder.join(&name);
        let entry = entry(&path, &Progress::hidden())?;
        File::open(&path).and_then(|file| file.sync_all()).with_context(|| format!("cannot write {}", path.display()))?;
        Ok((name, entry))
    });
    let manifest = Manifest { hash: HASH.to_owned(), files: entries.collect::<Result<_>>()? };
    write_file(&folder.join(FILE), serde_json::to_string_pretty(&manifest)?.as_bytes())
}

/// Removes the manifest, if any, of a folder whose files are about to change.
///
/// # Errors
/// If the manifest cannot be removed.
pub fn remove(folder: &Path) -> Result<()> {
    let path = folder.join(FILE);
    let removed = if path.exists() { std::fs::remove_file(&path) } else { Ok(()) };
    removed.with_context(|| format!("cannot remove {}", path.display()))
}

/// Compares a folder with its manifest. Returns a description of the first missing or changed file, or of a corrupt manifest; `None` if
/// nothing has changed or if there is no manifest (an older version or another program wrote the folder).
///
/// # Errors
/// If a file exists but cannot be read.
pub fn first_corruption(folder: &Path) -> Result<Option<String>> {
    first_corruption_among(folder, |_| true)
}

/// Like [`first_corruption`], and counts the bytes read in `progress`, as parts of the work in progress.
///
/// # Errors
/// If a file exists but cannot be read.
pub fn first_corruption_counted(folder: &Path, progress: &Progress) -> Result<Option<String>> {
    compare(folder, |_| true, progress)
}

/// Like [`first_corruption`], but only checks files whose path in the manifest satisfies `is_included`.
///
/// # Errors
/// If a file exists but cannot be read.
pub fn first_corruption_among(folder: &Path, is_included: impl Fn(&str) -> bool) -> Result<Option<String>> {
    compare(folder, is_included, &Progress::hidden())
}

fn compare(folder: &Path, is_included: impl Fn(&str) -> bool, progress: &Progress) -> Result<Option<String>> {
    let path = folder.join(FILE);
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(&text) else {
        return Ok(Some(format!("{} is corrupt: it is not JSON", path.display())));
    };
    if value.get("hash").is_none_or(|hash| hash != HASH) {
        return Ok(None);
    }
    let manifest: Manifest = match serde_json::from_value(value) {
        Ok(manifest) => manifest,
        Err(error) => return Ok(Some(format!("{} is corrupt: {error}", path.display()))),
    };
    let included: Vec<(&String, &Entry)> = manifest.files.iter().filter(|(name, _)| is_included(name)).collect();
    progress.expect_bytes(included.iter().map(|(_, expected)| expected.bytes).fold(0, u64::saturating_add));
    let corruptions = included.into_par_iter().map(|(name, expected)| corruption_of(&folder.join(name), expected, progress));
    Ok(corruptions.collect::<Result<Vec<_>>>()?.into_iter().flatten().next())
}

/// Checks a folder against its manifest.
///
/// # Errors
/// If a file is missing, unreadable or has changed, or the manifest is corrupt. The message names the file and says what to do.
pub fn check(folder: &Path) -> Result<()> {
    reject(folder, first_corruption(folder)?)
}

/// Like [`check`], and counts the bytes read in `progress`, as parts of the work in progress.
///
/// # Errors
/// If a file is missing, unreadable or has changed, or the manifest is corrupt. The message names the file and says what to do.
pub fn check_counted(folder: &Path, progress: &Progress) -> Result<()> {
    reject(folder, first_corruption_counted(folder, progress)?)
}

/// Like [`check`], but only checks files whose path in the manifest satisfies `is_included`.
///
/// # Errors
/// If such a file is missing, unreadable or has changed, or the manifest is corrupt. The message names the file and says what to do.
pub fn check_among(folder: &Path, is_included: impl Fn(&str) -> bool) -> Result<()> {
    reject(folder, first_corruption_among(folder, is_included)?)
}

fn reject(folder: &Path, corruption: Option<String>) -> Result<()> {
    let Some(corruption) = corruption else { return Ok(()) };
    bail!("{corruption}: use a backup or an older checkpoint, or remove {} if the change was intended", folder.join(FILE).display())
}

fn corruption_of(path: &Path, expected: &Entry, progress: &Progress) -> Result<Option<String>> {
    let name = path.display();
    let Ok(metadata) = std::fs::metadata(path) else { return Ok(Some(format!("{name} is missing"))) };
    if metadata.len() != expected.bytes {
        return Ok(Some(format!("{name} has {} bytes, but {} were written", metadata.len(), expected.bytes)));
    }
    let found = entry(path, progress)?;
    let differs = found != *expected;
    Ok(differs.then(|| format!("{name} has changed since it was written: its blake3 is {}, expected {}", found.blake3, expected.blake3)))
}

fn entry(path: &Path, progress: &Progress) -> Result<Entry> {
    let reading = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(reading)?;
    let (mut hasher, mut buffer, mut bytes) = (blake3::Hasher::new(), vec![0; BUFFER_BYTES], 0);
    loop {
        let read = file.read(&mut buffer).with_context(reading)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        bytes += read as u64;
        progress.add_parts(read);
    }
    Ok(Entry { bytes, blake3: hasher.finalize().to_hex().to_string() })
}

/// Returns the files below a folder, sorted, without manifests, lock files and subfolders that have a manifest.
fn files(folder: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    collect(folder, "", &mut found)?;
    found.sort();
    Ok(found)
}

fn collect(folder: &Path, prefix: &str, found: &mut Vec<String>) -> Result<()> {
    let reading = || format!("cannot read {}", folder.display());
    for entry in std::fs::read_dir(folder).with_context(reading)? {
        let entry = entry.with_context(reading)?;
        let (path, name) = (entry.path(), format!("{prefix}{}", entry.file_name().to_string_lossy()));
        if !path.is_dir() {
            found.extend((name != FILE && name != lock::FILE).then_some(name));
        } else if !path.join(FILE).exists() {
            collect(&path, &format!("{name}/"), found)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("a", "alpha"), ("adapter/b", "beta"), ("state/c", "gamma")] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        write(&folder.path().join("state")).unwrap();
        write(folder.path()).unwrap();
        folder
    }

    fn check_corruption(change: impl Fn(&Path), expected: Option<&str>) {
        let folder = folder();
        change(folder.path());
        match (first_corruption(folder.path()).unwrap(), expected) {
            (None, None) => {}
            (Some(found), Some(expected)) => assert!(found.contains(expected), "{found}"),
            (found, expected) => panic!("{found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn first_corruption_names_the_file_and_the_difference() {
        let put = |name: &'static str, text: &'static str| move |folder: &Path| std::fs::write(folder.join(name), text).unwrap();
        check_corruption(|_| (), None);
        check_corruption(put("a", "alphA"), Some("a has changed since it was written: its blake3 is "));
        check_corruption(put("a", "alph"), Some("a has 4 bytes, but 5 were written"));
        check_corruption(put("adapter/b", ""), Some("adapter/b has 0 bytes, but 4 were written"));
        check_corruption(|folder| std::fs::remove_file(folder.join("adapter/b")).unwrap(), Some("adapter/b is missing"));
        check_corruption(put("manifest.json", ""), Some("manifest.json is corrupt: it is not JSON"));
        check_corruption(put("manifest.json", r#"{"hash": "blake3", "files": {"a": 5}}"#), Some("manifest.json is corrupt: invalid type"));
    }

    #[test]
    fn first_corruption_ignores_unlisted_files_and_foreign_manifests() {
        let put = |name: &'static str, text: &'static str| move |folder: &Path| std::fs::write(folder.join(name), text).unwrap();
        check_corruption(put("notes.txt", "mine"), None);
        check_corruption(put("manifest.json", r#"{"name": "an app"}"#), None);
        check_corruption(|folder| std::fs::remove_file(folder.join(FILE)).unwrap(), None);
        // The state has its own manifest, and may be removed.
        check_corruption(put("state/c", "delta"), None);
        check_corruption(|folder| std::fs::remove_dir_all(folder.join("state")).unwrap(), None);
        let folder = folder();
        put("state/c", "delta")(folder.path());
        assert!(first_corruption(&folder.path().join("state")).unwrap().is_some_and(|found| found.contains("state/c has changed")));
        put("a", "alphA")(folder.path());
        assert!(first_corruption_among(folder.path(), |name| name != "a").unwrap().is_none());
        let message = check(folder.path()).unwrap_err().to_string();
        assert!(message.contains("a has changed") && message.contains("manifest.json if the change was intended"), "{message}");
    }

    #[test]
    fn first_corruption_counted_counts_the_bytes_read() {
        let (folder, progress) = (folder(), Progress::hidden());
        assert_eq!(first_corruption_counted(folder.path(), &progress).unwrap(), None);
        assert_eq!(progress.counts(), (9, 9));
    }

    /// Flips every bit of a manifest and of a file that it lists.
    #[test]
    fn first_corruption_finds_every_flipped_bit() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "alpha").unwrap();
        write(folder.path()).unwrap();
        for (name, is_manifest) in [("a", false), (FILE, true)] {
            let path = folder.path().join(name);
            let original = std::fs::read(&path).unwrap();
            for bit in 0..original.len() * 8 {
                let mut flipped = original.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                std::fs::write(&path, &flipped).unwrap();
                let found = first_corruption(folder.path()).unwrap();
                // A manifest whose `hash` is not blake3 belongs to another program.
                let is_foreign =
                    is_manifest && serde_json::from_slice::<serde_json::Value>(&flipped).is_ok_and(|value| value["hash"] != HASH);
                assert_eq!(found.is_some(), !is_foreign, "{name}, bit {bit}");
            }
            std::fs::write(&path, &original).unwrap();
        }
    }
}
