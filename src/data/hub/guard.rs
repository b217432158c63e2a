//! What stands between hf-hub and a checkpoint that is trusted: patience that ends, one process at a time, and contents that match the hash
//! by which the hub's cache names them. It must never know what a checkpoint consists of.

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

/// The other side is still there.
pub(super) struct Sign;

/// Runs a call on a thread of its own; none when neither its result nor a sign of life comes for so long. The thread then stays behind: there
/// is no way to end it, and the program is about to.
pub(super) fn patiently<T: Send + 'static>(
    patience: Duration,
    alive: Sender<Sign>,
    heard: &Receiver<Sign>,
    call: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (give, result) = channel();
    std::thread::spawn(move || {
        let _ = give.send(call());
        let _ = alive.send(Sign);
    });
    let mut last = Instant::now();
    loop {
        // The result is looked at first: a call that ended in time has ended in time.
        if let Ok(result) = result.try_recv() {
            return Some(result);
        }
        match heard.recv_timeout(patience.saturating_sub(last.elapsed())) {
            Ok(Sign) => last = Instant::now(),
            Err(RecvTimeoutError::Timeout) => return result.try_recv().ok(),
            Err(RecvTimeoutError::Disconnected) => return result.recv().ok(),
        }
    }
}

/// Downloads of one model into one cache, one process at a time. The lock's file has contents while a download is under way: where a program
/// was killed in one, the next looks at everything that it left.
#[derive(Clone)]
pub(super) struct Turn {
    file: Option<Arc<File>>,
    /// Whether the last download did not end.
    unfinished: bool,
    marked: Arc<AtomicBool>,
}

impl Turn {
    /// For a reader that downloads nothing.
    pub(super) fn watching(cache: &Path, model: &ModelName) -> Self {
        let unfinished = fs::metadata(lock_path(cache, model)).is_ok_and(|file| file.len() > 0);
        Self { file: None, unfinished, marked: Arc::default() }
    }

    /// Waits for another process that downloads the same model. A cache that cannot be written needs no turn: nothing comes into it.
    pub(super) fn wait(cache: &Path, model: &ModelName) -> Self {
        let path = lock_path(cache, model);
        let open = || {
            fs::create_dir_all(path.parent()?).ok()?;
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).ok()
        };
        let Some(file) = open() else { return Self::watching(cache, model) };
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            tracing::warn!("another process is downloading {model}: waiting for it");
            // A file system without locks lets everybody pass; contents are checked all the same.
            let _ = file.lock();
        }
        let unfinished = file.metadata().is_ok_and(|file| file.len() > 0);
        Self { file: Some(Arc::new(file)), unfinished, marked: Arc::default() }
    }

    /// Whether what lies in the cache is to be looked at before it is trusted.
    pub(super) fn unfinished(&self) -> bool {
        self.unfinished
    }

    /// A transfer begins.
    pub(super) fn started(&self) {
        if let Some(mut file) = self.file.as_deref()
            && !self.marked.swap(true, Ordering::AcqRel)
        {
            // Where this fails the transfer itself will, and say so.
            let _ = file.write_all(b"unfinished\n");
        }
    }

    /// Everything is there, and was checked.
    pub(super) fn finished(&self) {
        if let Some(file) = &self.file {
            let _ = file.set_len(0);
        }
    }
}

fn lock_path(cache: &Path, model: &ModelName) -> PathBuf {
    cache.join(".locks").join(format!("models--{}--{}", model.owner, model.name)).join("rlvr.lock")
}

/// What is wrong with a file of the cache: its name there is git's sha1 of a small file, the sha256 of a large one. A server that names its
/// files otherwise is held to the size that it announced.
pub(super) fn damage(path: &Path, announced_bytes: Option<u64>) -> Result<Option<String>> {
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
                Some(announced) => Some(format!("{size} bytes of {announced}")),
                None => Some("nothing tells whether it is whole".to_owned()),
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

/// Removes a file and what its name in the snapshot points to.
pub(super) fn remove(path: &Path) -> Result<()> {
    let removing = || format!("cannot remove {}", path.display());
    let blob = fs::canonicalize(path).with_context(removing)?;
    fs::remove_file(path).with_context(removing)?;
    if blob != path && blob.exists() {
        fs::remove_file(&blob).with_context(removing)?;
    }
    Ok(())
}
