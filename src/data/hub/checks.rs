//! Safeguards for hf-hub's downloads: a timeout for silent servers, a lock so that only one process downloads a model at a time, and a
//! check of each file against the hash in its name in the cache. Independent of which files a checkpoint needs.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::name::ModelName;

/// A sign that a transfer is making progress.
pub(super) struct Heartbeat;

/// Runs `call` on a new thread and returns its result. Returns `None` if neither the result nor a heartbeat arrives within `timeout`; the
/// thread then keeps running, because it cannot be stopped.
pub(super) fn call_with_timeout<T: Send + 'static>(
    timeout: Duration,
    heartbeats: Sender<Heartbeat>,
    heartbeat_receiver: &Receiver<Heartbeat>,
    call: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, result) = channel();
    std::thread::spawn(move || {
        let _ = sender.send(call());
        let _ = heartbeats.send(Heartbeat);
    });
    let mut last = Instant::now();
    loop {
        // Check the result first: a call that finished within the timeout must not be reported as late.
        if let Ok(result) = result.try_recv() {
            return Some(result);
        }
        match heartbeat_receiver.recv_timeout(timeout.saturating_sub(last.elapsed())) {
            Ok(Heartbeat) => last = Instant::now(),
            Err(RecvTimeoutError::Timeout) => return result.try_recv().ok(),
            Err(RecvTimeoutError::Disconnected) => return result.recv().ok(),
        }
    }
}

/// A lock that lets only one process at a time download a model into a cache. The lock file is not empty during a download: if a process is
/// killed, the next one sees this and verifies every file.
#[derive(Clone)]
pub(super) struct DownloadLock {
    file: Option<Arc<File>>,
    /// True if the previous download was interrupted.
    was_interrupted: bool,
    /// True once this process has marked the lock file.
    marked: Arc<AtomicBool>,
}

impl DownloadLock {
    /// Creates a lock for a process that downloads nothing. Never waits.
    pub(super) fn read_only(cache: &Path, model: &ModelName) -> Self {
        let was_interrupted = fs::metadata(lock_path(cache, model)).is_ok_and(|file| file.len() > 0);
        Self { file: None, was_interrupted, marked: Arc::default() }
    }

    /// Acquires the lock; waits while another process downloads the same model. A cache that is not writable needs no lock.
    pub(super) fn acquire(cache: &Path, model: &ModelName) -> Self {
        let path = lock_path(cache, model);
        let open = || {
            fs::create_dir_all(path.parent()?).ok()?;
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).ok()
        };
        let Some(file) = open() else { return Self::read_only(cache, model) };
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            tracing::warn!("waiting for another process that is downloading {model}");
            // Without file system locks, processes download at the same time; checksums still protect the files.
            let _ = file.lock();
        }
        let was_interrupted = file.metadata().is_ok_and(|file| file.len() > 0);
        Self { file: Some(Arc::new(file)), was_interrupted, marked: Arc::default() }
    }

    /// True if an interrupted download may have left corrupt files in the cache, so that each file must be verified.
    pub(super) fn was_interrupted(&self) -> bool {
        self.was_interrupted
    }

    /// Marks a download as in progress.
    pub(super) fn mark_started(&self) {
        if let Some(mut file) = self.file.as_deref()
            && !self.marked.swap(true, Ordering::AcqRel)
        {
            // If this write fails, the transfer fails too, with its own error.
            let _ = file.write_all(b"unfinished\n");
        }
    }

    /// Marks the download as complete and verified.
    pub(super) fn mark_finished(&self) {
        if let Some(file) = &self.file {
            let _ = file.set_len(0);
        }
    }
}

fn lock_path(cache: &Path, model: &ModelName) -> PathBuf {
    cache.join(".locks").join(format!("models--{}--{}", model.owner, model.name)).join("rlvr.lock")
}

/// Verifies a cached file against the hash in its blob's name: git's SHA-1 for small files, SHA-256 for large ones. If the name is not a
/// hash, checks only the size that the server announced. Returns a description of the mismatch, or `None` if the file is intact.
pub(super) fn find_corruption(path: &Path, announced_bytes: Option<u64>) -> Result<Option<String>> {
    let blob = fs::canonicalize(path).with_context(|| format!("cannot read {}", path.display()))?;
    let name = blob.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let size = fs::metadata(&blob)?.len();
    let is_hash = name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (kind, found) = match name.len() {
        64 if is_hash => ("sha256", hash(&blob, Sha256::new())?),
        40 if is_hash => ("git sha1", hash(&blob, Sha1::new().chain_update(format!("blob {size}\0")))?),
        _ => {
            return Ok(match announced_bytes {
                Some(announced) if announced == size => None,
                Some(announced) => Some(format!("{size} of {announced} bytes")),
                None => Some("the server sent neither a hash nor a size".to_owned()),
            });
        }
    };
    Ok((found != name).then(|| format!("{size} bytes with {kind} {found}, expected {name}")))
}

fn hash<D: Digest>(path: &Path, mut hasher: D) -> Result<String> {
    let reading = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(reading)?;
    let mut chunk = vec![0; 1 << 16];
    loop {
        match file.read(&mut chunk).with_context(reading)? {
            0 => return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            count => hasher.update(&chunk[..count]),
        }
    }
}

/// Deletes a file of a snapshot and the blob that it links to.
pub(super) fn remove(path: &Path) -> Result<()> {
    let removing = || format!("cannot remove {}", path.display());
    let blob = fs::canonicalize(path).with_context(removing)?;
    fs::remove_file(path).with_context(removing)?;
    if blob != path && blob.exists() {
        fs::remove_file(&blob).with_context(removing)?;
    }
    Ok(())
}
