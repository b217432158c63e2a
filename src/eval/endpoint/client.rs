//! Sends many requests to one server, several at a time, and retries each until it succeeds or fails permanently. Independent of the
//! contents of the requests.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};

use super::backoff;
use super::http::{Failure, Scope, address, send};
use super::message::Reply;
use super::settings::EndpointSettings;
use crate::interrupt::Interrupt;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// The interval at which waits check whether to stop.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// The minimum length of a key that is hidden in messages. A shorter key is not a secret, and replacing it would mangle words.
const MIN_KEY_LENGTH: usize = 4;
/// The number of consecutive failed requests after which the server counts as down.
const MAX_CONSECUTIVE_FAILURES: usize = 16;

/// A client for one server.
pub struct Client {
    http: reqwest::blocking::Client,
    url: Url,
    concurrency: usize,
    retries: u32,
    initial_backoff: Duration,
    timeout: Duration,
    key: Option<String>,
    interrupt: Arc<Interrupt>,
}

/// The result of [`Client::send_all`].
#[derive(Default)]
pub struct SendReport {
    /// The number of replies passed on.
    pub answered: usize,
    /// The failed requests as `(index, reason)`, in index order.
    pub failed: Vec<(usize, String)>,
    /// Why the remaining requests were not sent; `None` if all were sent.
    pub ended: Option<StopReason>,
}

/// The reason why the client stopped sending requests.
pub enum StopReason {
    /// The callback for replies returned an error, or a stop was requested.
    ByCaller(anyhow::Error),
    /// The server rejects all requests, cannot be reached, or failed too many requests in a row.
    ByServer(String),
}

impl Client {
    /// Creates a client for `path` below the server's address.
    ///
    /// # Errors
    /// If the address or the API key is invalid, or the concurrency or the timeout is 0.
    pub fn new(settings: &EndpointSettings, path: &str) -> Result<Self> {
        ensure!(settings.concurrency > 0, "the concurrency is 0, so no request can be sent: set it to at least 1");
        ensure!(!settings.timeout.is_zero(), "the timeout is 0 seconds, so every request would fail: set it to at least 1");
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        if let Some(key) = &settings.key {
            // Leave out the cause, because it may quote the key.
            let mut value = HeaderValue::from_str(&format!("Bearer {key}"))
                .map_err(|_| anyhow::anyhow!("the API key has characters that are not allowed in an HTTP header (a line break?)"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let http = reqwest::blocking::Client::builder()
            .user_agent(concat!("rlvr/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .connect_timeout(CONNECT_TIMEOUT.min(settings.timeout))
            .timeout(settings.timeout)
            // Following a redirect could turn the POST into a GET, or send the key to another host.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("cannot create an HTTP client")?;
        let url = address(&settings.url, path)?;
        let EndpointSettings { concurrency, retries, initial_backoff, timeout, key, interrupt, .. } = settings.clone();
        Ok(Self { http, url, concurrency, retries, initial_backoff, timeout, key, interrupt })
    }

    /// Returns the URL that requests are sent to.
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// Sends every body and passes each reply, with the index of its body, to `on_reply`, from any thread and in any order. Stops if
    /// `on_reply` returns an error, if interrupted, or if the server rejects all requests, cannot be reached, or fails too many requests in
    /// a row.
    pub fn send_all(&self, bodies: &[Vec<u8>], on_reply: &(dyn Fn(usize, Reply) -> Result<()> + Sync)) -> SendReport {
        let session = Session { interrupt: self.interrupt.clone(), ..Session::default() };
        let next = AtomicUsize::new(0);
        let work = || {
            while !session.is_stopped() {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(body) = bodies.get(number) else { break };
                match self.send_with_retries(body, &session) {
                    Outcome::Reply(reply) => {
                        session.consecutive_failures.store(0, Ordering::Relaxed);
                        session.deliver(|| on_reply(number, reply));
                    }
                    Outcome::Failure(failure) => session.fail(number, failure),
                    Outcome::Stopped => {}
                }
            }
        };
        std::thread::scope(|scope| (0..self.concurrency.min(bodies.len())).for_each(|_| _ = scope.spawn(work)));
        let mut state = session.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        state.report.failed.sort_unstable_by_key(|(number, _)| *number);
        state.report
    }

    /// Sends one request until it is answered, fails permanently, or has no retries left.
    fn send_with_retries(&self, body: &[u8], session: &Session) -> Outcome {
        let mut waits = backoff::waits(self.initial_backoff, self.retries);
        if !session.wait_for_pauses() {
            return Outcome::Stopped;
        }
        loop {
            let mut failure = match self.attempt(body, session) {
                Some(Ok(reply)) => return Outcome::Reply(reply),
                Some(Err(failure)) => failure,
                None => return Outcome::Stopped,
            };
            failure.reason = self.without_key(failure.reason);
            let backoff = waits.next().filter(|_| failure.scope == Scope::Attempt);
            let Some(backoff) = backoff else { return Outcome::Failure(failure) };
            let wait = backoff + failure.retry_after.unwrap_or_default();
            session.log_retry(&failure.reason, wait);
            if let Some(requested) = failure.retry_after {
                session.pause(requested);
            }
            if !session.wait(wait) {
                return Outcome::Stopped;
            }
        }
    }

    /// Makes one attempt on a new thread. Returns `None` and abandons the thread if interrupted before the reply arrives.
    fn attempt(&self, body: &[u8], session: &Session) -> Option<Result<Reply, Failure>> {
        let (http, url, body) = (self.http.clone(), self.url.clone(), body.to_vec());
        let (sender, receiver) = channel();
        std::thread::spawn(move || sender.send(send(&http, url, body)));
        // Needed as well because the HTTP client restarts its timeout whenever a part of the response arrives.
        let deadline = Instant::now() + self.timeout + POLL_INTERVAL;
        loop {
            match receiver.recv_timeout(POLL_INTERVAL) {
                Ok(result) => return Some(result),
                Err(RecvTimeoutError::Disconnected) => return Some(Err(Failure::of_attempt("the request could not be sent".to_owned()))),
                Err(RecvTimeoutError::Timeout) if session.is_interrupted() => return None,
                Err(RecvTimeoutError::Timeout) if Instant::now() >= deadline => {
                    return Some(Err(Failure::of_attempt("no response before the timeout".to_owned())));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Hides the key in a message, because a server may repeat it in an error.
    fn without_key(&self, text: String) -> String {
        match &self.key {
            Some(key) if key.len() >= MIN_KEY_LENGTH => text.replace(key.as_str(), "[the API key]"),
            _ => text,
        }
    }
}

/// The final result of one request.
enum Outcome {
    Reply(Reply),
    Failure(Failure),
    /// Sending stopped before there was a result.
    Stopped,
}

/// The state that all requests share.
#[derive(Default)]
struct Session {
    state: Mutex<State>,
    changed: Condvar,
    consecutive_failures: AtomicUsize,
    warned: AtomicBool,
    interrupt: Arc<Interrupt>,
}

#[derive(Default)]
struct State {
    report: SendReport,
    paused_until: Option<Instant>,
}

impl Session {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if interrupted; then also stops sending.
    fn is_interrupted(&self) -> bool {
        let interrupted = self.interrupt.check().err();
        interrupted.into_iter().for_each(|interrupted| self.end(StopReason::ByCaller(interrupted.into())));
        interrupted.is_some()
    }

    fn is_stopped(&self) -> bool {
        self.is_interrupted() || self.state().report.ended.is_some()
    }

    fn end(&self, ended: StopReason) {
        self.state().report.ended.get_or_insert(ended);
        self.changed.notify_all();
    }

    /// Passes on a reply, unless the callback has already failed or the client was interrupted.
    fn deliver(&self, callback: impl FnOnce() -> Result<()>) {
        if matches!(self.state().report.ended, Some(StopReason::ByCaller(_))) {
            return;
        }
        match callback() {
            Ok(()) => self.state().report.answered += 1,
            Err(error) => self.end(StopReason::ByCaller(error)),
        }
    }

    /// Applies a wait that the server requested to the first attempts of all requests not yet sent. Retries keep their own waits; otherwise
    /// each rejected request would delay all the others again.
    fn pause(&self, wait: Duration) {
        let mut state = self.state();
        state.paused_until = state.paused_until.max(Some(Instant::now() + wait));
    }

    /// Waits until the pause is over. Returns false if sending stops first.
    fn wait_for_pauses(&self) -> bool {
        self.wait_until(|state| state.paused_until)
    }

    /// Waits for a duration. Returns false if sending stops first.
    fn wait(&self, wait: Duration) -> bool {
        let time = Instant::now() + wait;
        self.wait_until(|_| Some(time))
    }

    fn wait_until(&self, time: impl Fn(&State) -> Option<Instant>) -> bool {
        while !self.is_stopped() {
            let state = self.state();
            let left = time(&state).map_or(Duration::ZERO, |time| time.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return true;
            }
            drop(self.changed.wait_timeout(state, left.min(POLL_INTERVAL)).unwrap_or_else(PoisonError::into_inner));
        }
        false
    }

    fn fail(&self, number: usize, failure: Failure) {
        let Failure { scope, reason, unreachable, .. } = failure;
        let consecutive_failures = if scope == Scope::Attempt { self.consecutive_failures.fetch_add(1, Ordering::Relaxed) + 1 } else { 0 };
        if scope == Scope::Server {
            self.end(StopReason::ByServer(format!("the server rejects all requests: {reason}")));
        } else if unreachable {
            self.end(StopReason::ByServer(format!("the server cannot be reached: {reason}")));
        } else if consecutive_failures == MAX_CONSECUTIVE_FAILURES {
            self.end(StopReason::ByServer(format!(
                "{consecutive_failures} requests in a row failed after all retries, the last one with: {reason}"
            )));
        }
        self.state().report.failed.push((number, reason));
    }

    /// Logs the first failure as a warning, and all others at debug level.
    fn log_retry(&self, reason: &str, wait: Duration) {
        let wait_s = wait.as_secs_f64();
        if self.warned.swap(true, Ordering::Relaxed) {
            tracing::debug!(wait_s, "a request failed, retrying: {reason}");
        } else {
            tracing::warn!(wait_s, "a request failed, retrying (later failures are logged at debug level): {reason}");
        }
    }
}
