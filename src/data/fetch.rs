//! Downloads one pinned file atomically: writes a temporary file next to the target, verifies its checksum, and renames it. Also defines
//! the types that report download progress. Independent of what a file contains.

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
/// The limit for a whole download. The largest pinned file has a few megabytes.
const TIMEOUT: Duration = Duration::from_secs(600);

/// The progress of one download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownloadProgress {
    /// The file's display name.
    pub name: String,
    /// The number of bytes received.
    pub received_bytes: u64,
    /// The size of the file in bytes; `None` if the server does not send it.
    pub total_bytes: Option<u64>,
}

/// A callback that receives download progress. It may run on any thread.
pub type OnProgress = Arc<dyn Fn(&DownloadProgress) + Send + Sync>;

/// Returns the SHA-256 of a file's contents in lowercase hexadecimal.
///
/// # Errors
/// If the file cannot be read.
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

/// Downloads `url` to `target`, replacing an existing file. On failure the target is unchanged and no temporary file remains.
///
/// # Errors
/// If the server cannot be reached or returns an error, the transfer is interrupted, the checksum differs from `file`'s, or a file cannot
/// be written.
pub(super) fn download(url: &str, target: &Path, file: &Pinned, on_progress: &dyn Fn(&DownloadProgress)) -> Result<()> {
    let folder = target.parent().context("the download target has no parent folder")?;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let client = reqwest::blocking::Client::builder()
        .user_agent(concat!("rlvr/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TIMEOUT)
        .build()
        .context("cannot create an HTTP client")?;
    let mut response = client.get(url).send().map_err(|error| {
        let mut cause: &dyn std::error::Error = &error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        anyhow!("cannot reach {url} ({cause})")
    })?;
    if !response.status().is_success() {
        bail!("{url} returned {}", response.status());
    }
    let mut transfer = DownloadProgress { name: file.local.to_owned(), received_bytes: 0, total_bytes: response.content_length() };
    let (part, mut writer) = PartialFile::next_to(target)?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        on_progress(&transfer);
        let count = response
            .read(&mut chunk)
            .with_context(|| format!("the transfer of {url} was interrupted after {} bytes", transfer.received_bytes))?;
        if count == 0 {
            break;
        }
        hasher.update(&chunk[..count]);
        writer.write_all(&chunk[..count]).with_context(|| format!("cannot write {}", part.0.display()))?;
        transfer.received_bytes += count as u64;
    }
    let found = hexadecimal(hasher);
    if found != file.sha256 {
        bail!("{url} sent {} bytes with sha256 {found}, expected {}; the download was discarded", transfer.received_bytes, file.sha256);
    }
    writer.sync_all().with_context(|| format!("cannot write {}", part.0.display()))?;
    drop(writer);
    std::fs::rename(&part.0, target).with_context(|| format!("cannot rename {} to {}", part.0.display(), target.display()))
}

fn hexadecimal(hasher: Sha256) -> String {
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A partial download. Dropping it deletes the file unless it has been renamed.
struct PartialFile(PathBuf);

impl PartialFile {
    /// Creates a file next to the target, with a name that no other process or thread uses.
    fn next_to(target: &Path) -> Result<(Self, File)> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = target.with_added_extension(format!("{}-{number}.part", std::process::id()));
        let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok((Self(path), file))
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        // After a successful download the file is already gone. After a failed one, the original error matters more.
        let _ = std::fs::remove_file(&self.0);
    }
}
