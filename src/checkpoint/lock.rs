//! Allows one writer per folder. A process holds an operating-system lock on the file `lock`, which also names the holder. The lock is
//! released when the process ends, even by a crash, so a file left by a dead process has no effect.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::dist::members;

/// The name of the lock file in the folder that it protects.
pub const FILE: &str = "lock";

/// The exclusive right to write in a folder, until it is dropped. Child processes do not inherit it.
#[derive(Debug)]
pub struct FolderLock {
    path: PathBuf,
    /// `None` if the file system has no locks.
    file: Option<File>,
}

/// The process that holds a folder's lock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The process id.
    pub pid: u32,
    /// The name of the machine.
    pub host: String,
    /// When it locked the folder, in UTC: `2026-01-31T12:00:00Z`.
    pub since: String,
}

/// Another process holds the folder's lock.
#[derive(Debug)]
pub struct FolderInUse {
    /// The locked folder.
    pub folder: PathBuf,
    /// The process that holds the lock; `None` if the lock file does not name it.
    pub holder: Option<Holder>,
}

impl FolderLock {
    /// Locks an existing folder. If the file system does not support locks, prints a warning and continues without one.
    ///
    /// # Errors
    /// [`FolderInUse`] if another process holds the lock; another error if the lock file cannot be written or locked.
    pub fn acquire(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        loop {
            let mut file = open(&path)?;
            match file.try_lock() {
                Ok(()) if !is_same(&file, &path) => {} // The last holder has removed this file, so lock the current one.
                Ok(()) => {
                    write_holder(&mut file).with_context(|| format!("cannot write {}", path.display()))?;
                    return Ok(Self { path, file: Some(file) });
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(FolderInUse { folder: folder.to_owned(), holder: read_holder(&mut file) }.into());
                }
                Err(TryLockError::Error(error)) if is_unsupported(&error) => {
                    message!(
                        "{} cannot be locked ({error}): do not start a second process that writes there, because it would not be rejected",
                        folder.display()
                    );
                    return Ok(Self { path, file: None });
                }
                Err(TryLockError::Error(error)) => return Err(error).with_context(|| format!("cannot lock {}", path.display())),
            }
        }
    }

    /// Returns the current holder of a folder's lock; `None` if nobody holds it or if this cannot be determined.
    pub fn holder(folder: &Path) -> Option<FolderInUse> {
        let mut file = File::open(folder.join(FILE)).ok()?;
        // Use a shared lock, so that two processes that check at the same time do not take each other for a writer.
        let is_held = matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
        is_held.then(|| FolderInUse { folder: folder.to_owned(), holder: read_holder(&mut file) })
    }
}

impl Drop for FolderLock {
    /// Removes the file while it is still locked, so that a process that opened it meanwhile notices in `is_same` that it is gone. Systems
    /// other than Unix cannot remove a locked file.
    fn drop(&mut self) {
        if self.file.is_none() || cfg!(unix) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn open(path: &Path) -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    file.with_context(|| format!("cannot write {}", path.display()))
}

/// Returns true if `path` still refers to the open file.
#[cfg(unix)]
fn is_same(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    file.metadata().map(id).ok() == std::fs::metadata(path).map(id).ok()
}

/// On other systems nobody can remove an open file.
#[cfg(not(unix))]
fn is_same(_: &File, _: &Path) -> bool {
    true
}

/// True for the error of a file system that has no locks.
pub fn is_unsupported(error: &std::io::Error) -> bool {
    /// "No locks available": a network file system without its lock service.
    const ENOLCK: i32 = 37;
    error.kind() == ErrorKind::Unsupported || (cfg!(target_os = "linux") && error.raw_os_error() == Some(ENOLCK))
}

fn write_holder(file: &mut File) -> Result<()> {
    let holder = Holder { pid: std::process::id(), host: members::host(), since: utc(SystemTime::now()) };
    file.set_len(0)?;
    file.write_all(serde_json::to_string(&holder)?.as_bytes())?;
    Ok(())
}

/// Reads the holder from the lock file. Retries for 0.2 seconds, in case the holder is still writing it.
fn read_holder(file: &mut File) -> Option<Holder> {
    for _ in 0..20 {
        let mut text = String::new();
        file.seek(SeekFrom::Start(0)).ok()?;
        if file.read_to_string(&mut text).is_ok()
            && let Ok(holder) = serde_json::from_str(&text)
        {
            return Some(holder);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

/// Formats a time as `2026-01-31T12:00:00Z`, with the days-from-civil algorithm. Its years start in March, so that a leap day is the last
/// day of a year.
fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_of_year = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_of_year + 2) / 5 + 1;
    let month = if month_of_year < 10 { month_of_year + 3 } else { month_of_year - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

impl fmt::Display for FolderInUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "another process is writing in {}", self.folder.display())?;
        if let Some(Holder { pid, host, since }) = &self.holder {
            write!(f, " (process {pid} on {host}, since {since})")?;
        }
        write!(f, ": wait until it ends, stop it, or choose another folder")
    }
}

impl std::error::Error for FolderInUse {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acquire_allows_one_writer_per_folder() {
        let folder = tempfile::tempdir().unwrap();
        let first = FolderLock::acquire(folder.path()).unwrap();
        let error = FolderLock::acquire(folder.path()).unwrap_err();
        let in_use = error.downcast_ref::<FolderInUse>().unwrap();
        let holder = in_use.holder.clone().unwrap();
        assert_eq!((holder.pid, holder.since.len(), in_use.folder.as_path()), (std::process::id(), 20, folder.path()));
        assert!(!holder.host.is_empty() && error.to_string().contains(&format!("process {} on {}", holder.pid, holder.host)), "{error}");
        assert!(FolderLock::holder(folder.path()).is_some());
        drop(first);
        assert!(FolderLock::holder(folder.path()).is_none());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "dropping the lock removes its file");
        // A file left by a dead process has no effect.
        std::fs::write(folder.path().join(FILE), "{\"pid\": 1, \"host\": \"gone\", \"since\": \"2020-01-01T00:00:00Z\"}").unwrap();
        assert!(FolderLock::holder(folder.path()).is_none());
        let again = FolderLock::acquire(folder.path()).unwrap();
        assert_eq!(FolderLock::holder(folder.path()).unwrap().holder.unwrap().pid, std::process::id());
        drop(again);
    }

    /// Threads lock the folder repeatedly. Only one at a time holds the lock, although each removes the file when it is done.
    #[test]
    fn acquire_excludes_other_writers_while_files_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let holders = std::sync::atomic::AtomicUsize::new(0);
        let acquired = std::sync::atomic::AtomicUsize::new(0);
        let work = || {
            for _ in 0..300 {
                let Ok(lock) = FolderLock::acquire(folder.path()) else { continue };
                assert_eq!(holders.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                acquired.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                holders.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                drop(lock);
            }
        };
        std::thread::scope(|scope| (0..4).for_each(|_| _ = scope.spawn(work)));
        assert!(acquired.into_inner() > 0);
    }

    #[test]
    fn utc_formats_dates() {
        let check = |seconds: u64, expected: &str| assert_eq!(utc(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        check(0, "1970-01-01T00:00:00Z");
        check(951_825_600, "2000-02-29T12:00:00Z");
        check(4_133_980_799, "2100-12-31T23:59:59Z");
        check(784_111_777, "1994-11-06T08:49:37Z");
    }
}
