//! Fetches the files of one hub repository at one revision, and explains each failure to the user in one sentence.

use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use anyhow::{Result, anyhow};
use hf_hub::progress::{DownloadEvent, ProgressEvent, ProgressHandler};
use hf_hub::repository::RepoTypeModel;
use hf_hub::{HFError, HFRepositorySync};

use super::checks::{self, DownloadLock, Heartbeat};
use super::name::ModelName;
use crate::data::fetch::{DownloadProgress, OnProgress};

/// The hub did not respond, or is unavailable. A cached copy can be used instead.
#[derive(Debug)]
pub(super) struct Unreachable(String);

impl std::fmt::Display for Unreachable {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Error for Unreachable {}

/// A repository at one revision, with everything needed to fetch its files.
#[derive(Clone)]
pub(super) struct Source<'a> {
    pub(super) model: &'a ModelName,
    pub(super) repository: HFRepositorySync<RepoTypeModel>,
    pub(super) cache: PathBuf,
    pub(super) offline: bool,
    pub(super) timeout: Duration,
    pub(super) revision: Option<String>,
    pub(super) lock: DownloadLock,
    pub(super) on_progress: OnProgress,
}

impl Source<'_> {
    /// Returns the same repository at another revision.
    pub(super) fn at(&self, revision: Option<String>) -> Self {
        Self { revision, ..self.clone() }
    }

    /// Fetches a file that the checkpoint needs.
    ///
    /// # Errors
    /// As for [`Source::file`], and if the repository (or, offline, the cache) has no such file.
    pub(super) fn required(&self, name: &str) -> Result<PathBuf> {
        self.file(name)?.ok_or_else(|| self.why_missing(name))
    }

    /// Returns the cached path of a complete file, downloading it if needed. `None` if the repository (or, offline, the cache) has no such
    /// file. Offline, a corrupt file counts as missing.
    ///
    /// # Errors
    /// If the download fails or is corrupt, or a file cannot be read or deleted.
    pub(super) fn file(&self, name: &str) -> Result<Option<PathBuf>> {
        let (path, transfer) = self.request(name)?;
        let Some(path) = path else { return Ok(None) };
        if !transfer.started() && !self.lock.was_interrupted() {
            return Ok(Some(path));
        }
        let Some(corruption) = checks::find_corruption(&path, transfer.expected())? else { return Ok(Some(path)) };
        if self.offline {
            return Ok(None);
        }
        checks::remove(&path)?;
        if transfer.started() {
            let model = self.model;
            return Err(anyhow!(
                "the download of {name} of {model} is corrupt ({corruption}) and was deleted: run the same command again, or give a local copy with --model DIR"
            ));
        }
        // An interrupted download left a corrupt file, which is now deleted: fetch it again.
        self.file(name)
    }

    /// Requests the file from hf-hub. Returns its path, if it exists, and the listener that observed the transfer.
    fn request(&self, name: &str) -> Result<(Option<PathBuf>, Arc<Listener>)> {
        let (heartbeats, heartbeat_receiver) = mpsc::channel();
        let listener = Arc::new(Listener {
            name: name.to_owned(),
            on_progress: OnProgress::clone(&self.on_progress),
            lock: self.lock.clone(),
            heartbeats: Mutex::new(heartbeats.clone()),
            started: AtomicBool::new(false),
            expected: AtomicU64::new(0),
            received: AtomicU64::new(0),
        });
        let request = self.repository.clone();
        let (file, offline, revision) = (name.to_owned(), self.offline, self.revision.clone());
        let progress = SharedListener(Arc::clone(&listener));
        let call = move || {
            let request = request.download_file().filename(file).local_files_only(offline).progress(progress);
            request.maybe_revision(revision).send()
        };
        let path = match checks::call_with_timeout(self.timeout, heartbeats, &heartbeat_receiver, call) {
            None => Err(self.no_response()),
            Some(Ok(path)) => Ok(Some(path)),
            Some(Err(HFError::EntryNotFound { .. } | HFError::LocalEntryNotFound { .. })) => Ok(None),
            Some(Err(error)) => Err(self.explain(name, &error)),
        };
        Ok((path?, listener))
    }

    /// Finds out why a file is missing, because the hub's response does not distinguish missing files, repositories and revisions.
    fn why_missing(&self, name: &str) -> anyhow::Error {
        let model = self.model;
        if self.offline {
            return anyhow!(
                "{model} is incomplete in the hub's cache ({name} is missing) and HF_HUB_OFFLINE forbids downloads: unset it, or give a local copy with --model DIR"
            );
        }
        let (repository, wanted) = (self.repository.clone(), model.revision.clone());
        let (heartbeats, heartbeat_receiver) = mpsc::channel();
        let call = move || {
            let known = repository.exists().send()?;
            let revision = match wanted {
                Some(revision) if known => repository.revision_exists().revision(&revision).send()?,
                _ => true,
            };
            Ok::<_, HFError>((known, revision))
        };
        match checks::call_with_timeout(self.timeout, heartbeats, &heartbeat_receiver, call) {
            None => self.no_response(),
            Some(Err(error)) => self.explain(name, &error),
            Some(Ok((false, _))) => self.no_such_model(),
            Some(Ok((true, false))) => self.no_such_revision(),
            Some(Ok((true, true))) => {
                anyhow!("{model} on the hub has no {name}, which a checkpoint needs: give a folder that has it with --model DIR")
            }
        }
    }

    /// Returns the error for a hub that does not respond.
    fn no_response(&self) -> anyhow::Error {
        let (model, seconds) = (self.model, self.timeout.as_secs());
        Unreachable(format!(
            "the hub did not respond for {seconds} s to a request for {model}: run the same command again (HF_HUB_DOWNLOAD_TIMEOUT sets the timeout in seconds), or give a local copy with --model DIR"
        ))
        .into()
    }

    /// Explains an error in one sentence that says what happened and what to do.
    fn explain(&self, name: &str, error: &HFError) -> anyhow::Error {
        let model = self.model;
        let remedy = "run the same command again later, or give a local copy with --model DIR";
        match error {
            HFError::AuthRequired { .. } if token_from_env() => {
                anyhow!("the hub rejects the token in HF_TOKEN for {model}: set a valid token, or unset HF_TOKEN if the model is public")
            }
            HFError::RepoNotFound { .. } | HFError::AuthRequired { .. } => self.no_such_model(),
            HFError::RevisionNotFound { .. } => self.no_such_revision(),
            HFError::Forbidden { .. } => {
                anyhow!(
                    "the current token has no access to {model}: accept the model's conditions on the hub, or set HF_TOKEN to another token"
                )
            }
            HFError::RateLimited { .. } => {
                Unreachable(format!("the hub limits the rate of requests for {model} (429 Too Many Requests): {remedy}")).into()
            }
            HFError::Http { context } if context.status.is_server_error() => {
                Unreachable(format!("the hub failed ({}) on the request for {name} of {model}: {remedy}", context.status)).into()
            }
            HFError::Request { source, .. } if source.is_body() || source.is_decode() => {
                anyhow!(
                    "the transfer of {name} was interrupted ({}): run the same command again; complete files of {model} are kept",
                    root_cause(source)
                )
            }
            HFError::Request { source, .. } => {
                Unreachable(format!("cannot reach the hub for {model}: {}; give a local copy with --model DIR", root_cause(source))).into()
            }
            HFError::CacheLockTimeout { .. } => {
                anyhow!(
                    "another program is downloading {name} of {model} into the same cache: wait for it, then run the same command again"
                )
            }
            HFError::Io(cause) => {
                anyhow!("cannot store {name} of {model} in {}: {cause}; set HF_HOME to another folder", self.cache.display())
            }
            HFError::MalformedResponse { what, .. } => {
                anyhow!(
                    "the response to the request for {name} of {model} does not come from a hub ({}): check HF_ENDPOINT",
                    one_line(what)
                )
            }
            other => anyhow!("cannot download {name} of {model}: {}; give a local copy with --model DIR", one_line(&other.to_string())),
        }
    }

    fn no_such_model(&self) -> anyhow::Error {
        let ModelName { owner, name, .. } = self.model;
        anyhow!("the hub has no model {owner}/{name}, or it is private or gated: check the name, or set HF_TOKEN to a token with access")
    }

    fn no_such_revision(&self) -> anyhow::Error {
        let ModelName { owner, name, revision } = self.model;
        anyhow!(
            "the model {owner}/{name} has no revision {:?}: check its branches and tags on the hub",
            revision.as_deref().unwrap_or("main")
        )
    }
}

fn token_from_env() -> bool {
    std::env::var_os("HF_TOKEN").is_some_and(|token| !token.is_empty())
}

fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    one_line(&cause.to_string())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Turns hf-hub's events into heartbeats and calls of our progress callback.
struct Listener {
    name: String,
    on_progress: OnProgress,
    lock: DownloadLock,
    heartbeats: Mutex<mpsc::Sender<Heartbeat>>,
    started: AtomicBool,
    /// The announced size in bytes; 0 if unknown.
    expected: AtomicU64,
    received: AtomicU64,
}

impl Listener {
    /// True if a transfer from the hub has started; false if the file was in the cache.
    fn started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    /// Returns the size in bytes that the hub announced, if any.
    fn expected(&self) -> Option<u64> {
        Some(self.expected.load(Ordering::Acquire)).filter(|&bytes| bytes > 0)
    }

    fn report(&self, received_bytes: u64, total_bytes: u64) {
        if self.received.swap(received_bytes, Ordering::AcqRel) != received_bytes {
            // After a timeout the receiver is gone.
            let _ = self.heartbeats.lock().unwrap_or_else(PoisonError::into_inner).send(Heartbeat);
        }
        let total_bytes = Some(total_bytes).filter(|&total| total > 0);
        (self.on_progress)(&DownloadProgress { name: self.name.clone(), received_bytes, total_bytes });
    }
}

/// A shared listener, to implement hf-hub's trait.
struct SharedListener(Arc<Listener>);

impl ProgressHandler for SharedListener {
    fn on_progress(&self, event: &ProgressEvent) {
        let ProgressEvent::Download(event) = event else { return };
        match event {
            DownloadEvent::Start { total_bytes, .. } => {
                self.0.lock.mark_started();
                self.0.started.store(true, Ordering::Release);
                self.0.expected.store(*total_bytes, Ordering::Release);
                self.0.report(0, *total_bytes);
            }
            DownloadEvent::Progress { files } => files.iter().for_each(|file| self.0.report(file.bytes_completed, file.total_bytes)),
            DownloadEvent::AggregateProgress { bytes_completed, total_bytes, .. } => self.0.report(*bytes_completed, *total_bytes),
            DownloadEvent::Complete => {}
        }
    }
}
