//! One repository of the hub at one revision: its files, one at a time, and each failure as one sentence.

use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use anyhow::{Result, anyhow};
use hf_hub::progress::{DownloadEvent, ProgressEvent, ProgressHandler};
use hf_hub::repository::RepoTypeModel;
use hf_hub::{HFError, HFRepositorySync};

use super::guard::{self, Sign, Turn};
use super::name::ModelName;
use crate::data::fetch::{OnTransfer, Transfer};

/// The hub did not answer, or only that it cannot: a copy in the cache may do.
#[derive(Debug)]
pub(super) struct Unreachable(String);

impl std::fmt::Display for Unreachable {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Error for Unreachable {}

#[derive(Clone)]
pub(super) struct Source<'a> {
    pub(super) model: &'a ModelName,
    pub(super) repository: HFRepositorySync<RepoTypeModel>,
    pub(super) cache: PathBuf,
    pub(super) offline: bool,
    pub(super) patience: Duration,
    pub(super) revision: Option<String>,
    pub(super) turn: Turn,
    pub(super) on_transfer: OnTransfer,
}

impl Source<'_> {
    /// The same repository at another revision.
    pub(super) fn at(&self, revision: Option<String>) -> Self {
        Self { revision, ..self.clone() }
    }

    pub(super) fn required(&self, name: &str) -> Result<PathBuf> {
        self.file(name)?.ok_or_else(|| self.why_missing(name))
    }

    /// The file in the cache, whole, downloaded if need be; none where the repository (or, offline, the cache) has no such file.
    pub(super) fn file(&self, name: &str) -> Result<Option<PathBuf>> {
        let (path, transfer) = self.ask(name)?;
        let Some(path) = path else { return Ok(None) };
        if !transfer.started() && !self.turn.unfinished() {
            return Ok(Some(path));
        }
        let Some(damage) = guard::damage(&path, transfer.expected())? else { return Ok(Some(path)) };
        if self.offline {
            return Ok(None);
        }
        guard::remove(&path)?;
        if transfer.started() {
            let model = self.model;
            return Err(anyhow!(
                "{name} of {model} came damaged ({damage}) and was thrown away: run the same command again, or give a local copy with --model DIR"
            ));
        }
        // What a run that broke off had left: once more, now with a transfer.
        self.file(name)
    }

    /// What hf-hub gives for the file, and what was heard of its transfer.
    fn ask(&self, name: &str) -> Result<(Option<PathBuf>, Arc<Listener>)> {
        let (signs, heard) = mpsc::channel();
        let listener = Arc::new(Listener {
            name: name.to_owned(),
            on_transfer: OnTransfer::clone(&self.on_transfer),
            turn: self.turn.clone(),
            signs: Mutex::new(signs.clone()),
            started: AtomicBool::new(false),
            expected: AtomicU64::new(0),
            received: AtomicU64::new(0),
        });
        let request = self.repository.clone();
        let (file, offline, revision) = (name.to_owned(), self.offline, self.revision.clone());
        let progress = Heard(Arc::clone(&listener));
        let call = move || {
            let request = request.download_file().filename(file).local_files_only(offline).progress(progress);
            request.maybe_revision(revision).send()
        };
        let path = match guard::patiently(self.patience, signs, &heard, call) {
            None => Err(self.silence()),
            Some(Ok(path)) => Ok(Some(path)),
            Some(Err(HFError::EntryNotFound { .. } | HFError::LocalEntryNotFound { .. })) => Ok(None),
            Some(Err(error)) => Err(self.explained(name, &error)),
        };
        Ok((path?, listener))
    }

    /// A missing file may mean a missing repository or revision: the hub answers alike.
    fn why_missing(&self, name: &str) -> anyhow::Error {
        let model = self.model;
        if self.offline {
            return anyhow!(
                "{model} is not complete in the hub's cache ({name} is missing) and HF_HUB_OFFLINE forbids to download it: unset it, or give a local copy with --model DIR"
            );
        }
        let (repository, wanted) = (self.repository.clone(), model.revision.clone());
        let (signs, heard) = mpsc::channel();
        let call = move || {
            let known = repository.exists().send()?;
            let revision = match wanted {
                Some(revision) if known => repository.revision_exists().revision(&revision).send()?,
                _ => true,
            };
            Ok::<_, HFError>((known, revision))
        };
        match guard::patiently(self.patience, signs, &heard, call) {
            None => self.silence(),
            Some(Err(error)) => self.explained(name, &error),
            Some(Ok((false, _))) => self.no_such_model(),
            Some(Ok((true, false))) => self.no_such_revision(),
            Some(Ok((true, true))) => {
                anyhow!("{model} on the hub has no {name}; a checkpoint needs it: give a folder that has it with --model DIR")
            }
        }
    }

    fn silence(&self) -> anyhow::Error {
        let (model, seconds) = (self.model, self.patience.as_secs());
        Unreachable(format!(
            "the hub said nothing for {seconds} s while {model} was asked for: run the same command again (HF_HUB_DOWNLOAD_TIMEOUT is the wait in seconds), or give a local copy with --model DIR"
        ))
        .into()
    }

    /// One sentence: what happened and what to do.
    fn explained(&self, name: &str, error: &HFError) -> anyhow::Error {
        let model = self.model;
        let remedy = "run the same command again later, or give a local copy with --model DIR";
        match error {
            HFError::AuthRequired { .. } if token_by_environment() => {
                anyhow!("the hub does not accept the token in HF_TOKEN for {model}: set a valid one, or unset it if the model is public")
            }
            HFError::RepoNotFound { .. } | HFError::AuthRequired { .. } => self.no_such_model(),
            HFError::RevisionNotFound { .. } => self.no_such_revision(),
            HFError::Forbidden { .. } => {
                anyhow!("the token in use may not read {model}: accept its conditions on the hub, or set HF_TOKEN to another token")
            }
            HFError::RateLimited { .. } => {
                Unreachable(format!("the hub asks to wait (429 Too Many Requests) before it gives {model}: {remedy}")).into()
            }
            HFError::Http { context } if context.status.is_server_error() => {
                Unreachable(format!("the hub fails ({}) when asked for {name} of {model}: {remedy}", context.status)).into()
            }
            HFError::Request { source, .. } if source.is_body() || source.is_decode() => {
                anyhow!(
                    "the transfer of {name} broke off ({}): run the same command again, files of {model} that are complete are kept",
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
                anyhow!("cannot keep {name} of {model} in {}: {cause}; HF_HOME names another place", self.cache.display())
            }
            HFError::MalformedResponse { what, .. } => {
                anyhow!("the server does not answer as the hub does for {name} of {model} ({}): check HF_ENDPOINT", one_line(what))
            }
            other => anyhow!("cannot download {name} of {model}: {}; give a local copy with --model DIR", one_line(&other.to_string())),
        }
    }

    fn no_such_model(&self) -> anyhow::Error {
        let ModelName { owner, name, .. } = self.model;
        anyhow!(
            "the hub has no model {owner}/{name}, or it is private or gated: check the name, or set HF_TOKEN to a token that may read it"
        )
    }

    fn no_such_revision(&self) -> anyhow::Error {
        let ModelName { owner, name, revision } = self.model;
        anyhow!(
            "the model {owner}/{name} has no revision {:?}: check its branches and tags on the hub",
            revision.as_deref().unwrap_or("main")
        )
    }
}

fn token_by_environment() -> bool {
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

/// Passes hf-hub's events on as ours, and as signs of life.
struct Listener {
    name: String,
    on_transfer: OnTransfer,
    turn: Turn,
    signs: Mutex<mpsc::Sender<Sign>>,
    started: AtomicBool,
    expected: AtomicU64,
    received: AtomicU64,
}

impl Listener {
    /// Whether anything was taken from the hub rather than found in the cache.
    fn started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    /// The size that the hub announced.
    fn expected(&self) -> Option<u64> {
        Some(self.expected.load(Ordering::Acquire)).filter(|&bytes| bytes > 0)
    }

    fn tell(&self, received_bytes: u64, total_bytes: u64) {
        if self.received.swap(received_bytes, Ordering::AcqRel) != received_bytes {
            // Nobody listens any more when the wait was given up.
            let _ = self.signs.lock().unwrap_or_else(PoisonError::into_inner).send(Sign);
        }
        let total_bytes = Some(total_bytes).filter(|&total| total > 0);
        (self.on_transfer)(&Transfer { name: self.name.clone(), received_bytes, total_bytes });
    }
}

/// hf-hub's trait for a listener that is shared.
struct Heard(Arc<Listener>);

impl ProgressHandler for Heard {
    fn on_progress(&self, event: &ProgressEvent) {
        let ProgressEvent::Download(event) = event else { return };
        match event {
            DownloadEvent::Start { total_bytes, .. } => {
                self.0.turn.started();
                self.0.started.store(true, Ordering::Release);
                self.0.expected.store(*total_bytes, Ordering::Release);
                self.0.tell(0, *total_bytes);
            }
            DownloadEvent::Progress { files } => files.iter().for_each(|file| self.0.tell(file.bytes_completed, file.total_bytes)),
            DownloadEvent::AggregateProgress { bytes_completed, total_bytes, .. } => self.0.tell(*bytes_completed, *total_bytes),
            DownloadEvent::Complete => {}
        }
    }
}
