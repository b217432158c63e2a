//! One download, whole or not at all: into a temporary file beside the target, checked, then renamed; and how downloads are told of. It must
//! never know what a file is for.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use sha2::{Digest, Sha256};

use super::pinned::Pinned;

const CHUNK_BYTES: usize = 64 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// The largest pinned file has a few megabytes: whoever is slower than this is not going to finish.
const TIMEOUT: Duration = Duration::from_secs(600);

/// How far a download is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The file, as people know it.
    pub name: String,
    /// Bytes received so far.
    pub received_bytes: u64,
    /// Bytes that will come, where the sender says.
    pub total_bytes: Option<u64>,
}

/// Receives the progress of downloads, from any thread.
pub type OnTransfer = Arc<dyn Fn(&Transfer) + Send + Sync>;

/// The sha256 of a file's contents, in hexadecimal.
///
/// # Errors
/// When it cannot be read.
pub fn sha256_of(path: &Path) -> Result<String> {
    let reading = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(reading)?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk).with_context(reading)? {
            0 => return Ok(hexadecimal(hasher)),
            count => hasher.update(&chunk[..count]),
        }
    }
}

/// Gets `url` into `target`, replacing what is there. On failure the target is as it was and nothing else stays behind.
pub(super) fn download(url: &str, target: &Path, file: &Pinned, on_transfer: &dyn Fn(&Transfer)) -> Result<()> {
    let folder = target.parent().context("a download needs a folder to go to")?;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let client = reqwest::blocking::Client::builder()
        .user_agent(concat!("rlvr/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TIMEOUT)
        .build()
        .context("no HTTP client")?;
    let mut response = client.get(url).send().map_err(|error| {
        let mut cause: &dyn std::error::Error = &error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        anyhow!("{url} cannot be reached ({cause})")
    })?;
    if !response.status().is_success() {
        bail!("{url} answers {}", response.status());
    }
    let mut transfer = Transfer { name: file.local.to_owned(), received_bytes: 0, total_bytes: response.content_length() };
    let (part, mut writer) = Part::beside(target)?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        on_transfer(&transfer);
        let count = response.read(&mut chunk).with_context(|| format!("{url} broke off after {} bytes", transfer.received_bytes))?;
        if count == 0 {
            break;
        }
        hasher.update(&chunk[..count]);
        writer.write_all(&chunk[..count]).with_context(|| format!("cannot write {}", part.0.display()))?;
        transfer.received_bytes += count as u64;
    }
    let found = hexadecimal(hasher);
    if found != file.sha256 {
        bail!("{url} gave {} bytes with sha256 {found}, expected {}; nothing was kept", transfer.received_bytes, file.sha256);
    }
    writer.sync_all().with_context(|| format!("cannot write {}", part.0.display()))?;
    drop(writer);
    std::fs::rename(&part.0, target).with_context(|| format!("cannot rename {} to {}", part.0.display(), target.display()))
}

fn hexadecimal(hasher: Sha256) -> String {
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file that is not there yet: removed when dropped, unless it was renamed away before.
struct Part(PathBuf);

impl Part {
    /// A new file in the target's folder, under a name that no other process or thread takes.
    fn beside(target: &Path) -> Result<(Self, File)> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = target.with_added_extension(format!("{}-{number}.part", std::process::id()));
        let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok((Self(path), file))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Gone already when the download succeeded; otherwise there is nobody left to tell.
        let _ = std::fs::remove_file(&self.0);
    }
}
