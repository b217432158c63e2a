//! Checks for free disk space before anything large is written.

use std::path::Path;

use anyhow::{Result, ensure};

/// Returns the free space in bytes on the disk that `path` is on or will be on; `None` if the system does not report it.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let absolute = std::path::absolute(path).ok()?;
    let existing = absolute.ancestors().find(|path| path.exists())?;
    available(existing)
}

#[cfg(unix)]
fn available(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(not(unix))]
fn available(_: &Path) -> Option<u64> {
    None
}

/// Returns the total size of the files below a folder, in bytes. Files that cannot be read count as 0; so does a missing folder.
pub fn folder_bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => folder_bytes(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    });
    bytes.sum()
}

/// Checks that `bytes` bytes fit on the disk of `path`. Succeeds if the system does not report free space.
///
/// # Errors
/// If fewer bytes are free.
pub fn ensure_room(path: &Path, bytes: u64) -> Result<()> {
    let Some(free) = free_bytes(path) else { return Ok(()) };
    ensure!(
        bytes <= free,
        "{} needs {}, but the disk has only {} free: free some space, or choose a folder on another disk",
        path.display(),
        format_bytes(bytes),
        format_bytes(free)
    );
    Ok(())
}

/// Formats a size for people, in MB or GB (powers of 1000).
pub fn format_bytes(bytes: u64) -> String {
    match bytes {
        0..10_000_000 => format!("{:.2} MB", bytes as f64 / 1e6),
        10_000_000..1_000_000_000 => format!("{:.0} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_bytes_sums_all_files_below_a_folder() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("inner")).unwrap();
        std::fs::write(root.path().join("a"), [0; 10]).unwrap();
        std::fs::write(root.path().join("inner/b"), [0; 5]).unwrap();
        assert_eq!((folder_bytes(root.path()), folder_bytes(&root.path().join("absent"))), (15, 0));
    }

    #[test]
    fn ensure_room_checks_the_disk_of_the_nearest_existing_folder() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("not/yet/there");
        ensure_room(&deep, 1).unwrap();
        if free_bytes(&deep).is_some() {
            let message = ensure_room(&deep, u64::MAX).unwrap_err().to_string();
            assert!(message.contains("not/yet/there needs") && message.contains("free some space"), "{message}");
        }
    }
}
