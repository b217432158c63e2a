//! Many requests to one server: so many at once, each tried until it is answered or will never be. It must never know what is asked.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};

use super::exchange::{Failure, Scope, address, exchange};
use super::message::Reply;
use super::patience;
use super::settings::EndpointSettings;
use crate::interrupt::Interrupt;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// How often a wait looks whether to stop.
const LOOK: Duration = Duration::from_millis(50);
/// Keys that are shorter are no secret, and would cut words apart.
const SHORTEST_KEY: usize = 4;
/// So many requests given up one after the other, with no response between them, and the server counts as out of order.
const MOST_GIVEN_UP_IN_A_ROW: usize = 16;

/// A way to one server.
pub struct Client {
    http: reqwest::blocking::Client,
    url: Url,
    concurrency: usize,
    retries: u32,
    first_wait: Duration,
    timeout: Duration,
    key: Option<String>,
    interrupt: Arc<Interrupt>,
}

/// What is left after the asking.
#[derive(Default)]
pub struct Unanswered {
    /// How many replies were told.
    pub answered: usize,
    /// Requests that were given up, by number, with the reason.
    pub given_up: Vec<(usize, String)>,
    /// Why the rest was not asked for any more, where that is so.
    pub ended: Option<Ended>,
}

/// Why a server is asked no more.
pub enum Ended {
    /// Whoever was told a reply could not go on.
    ByCaller(anyhow::Error),
    /// The server refuses everything or is out of order.
    ByServer(String),
}

impl Client {
    /// A client for `path` below the server's address.
    ///
    /// # Errors
    /// When the settings are none that a request can be sent with.
    pub fn new(settings: &EndpointSettings, path: &str) -> Result<Self> {
        ensure!(settings.concurrency > 0, "no request can be under way at a concurrency of 0: give at least 1");
        ensure!(!settings.timeout.is_zero(), "no answer comes within a time-out of 0 seconds: give at least 1");
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        if let Some(key) = &settings.key {
            // The cause is left out: it may quote the key.
            let mut value = HeaderValue::from_str(&format!("Bearer {key}"))
                .map_err(|_| anyhow::anyhow!("the API key has characters that no header can have (a line break?)"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let http = reqwest::blocking::Client::builder()
            .user_agent(concat!("rlvr/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .connect_timeout(CONNECT_TIMEOUT.min(settings.timeout))
            .timeout(settings.timeout)
            // A redirected POST would be sent on as a GET, or with its key to another host.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("no HTTP client")?;
        let url = address(&settings.url, path)?;
        let EndpointSettings { concurrency, retries, first_wait, timeout, key, interrupt, .. } = settings.clone();
        Ok(Self { http, url, concurrency, retries, first_wait, timeout, key, interrupt })
    }

    /// Where requests go.
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// Sends every body and tells each reply once, from any thread and in any order. An error of `on_reply` ends the asking, as does a server that
    /// refuses everything or is out of order.
    pub fn ask(&self, bodies: &[Vec<u8>], on_reply: &(dyn Fn(usize, Reply) -> Result<()> + Sync)) -> Unanswered {
        let asking = Asking { interrupt: self.interrupt.clone(), ..Asking::default() };
        let next = AtomicUsize::new(0);
        let work = || {
            while !asking.is_over() {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(body) = bodies.get(number) else { break };
                match self.insist(body, &asking) {
                    Answer::Reply(reply) => {
                        asking.in_a_row.store(0, Ordering::Relaxed);
                        asking.tell(|| on_reply(number, reply));
                    }
                    Answer::Failure(failure) => asking.give_up(number, failure),
                    Answer::Over => {}
                }
            }
        };
        std::thread::scope(|scope| (0..self.concurrency.min(bodies.len())).for_each(|_| _ = scope.spawn(work)));
        let mut state = asking.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        state.unanswered.given_up.sort_unstable_by_key(|(number, _)| *number);
        state.unanswered
    }

    /// One request, tried until there is a reply or there will be none.
    fn insist(&self, body: &[u8], asking: &Asking) -> Answer {
        let mut waits = patience::waits(self.first_wait, self.retries);
        if !asking.wait_for_pauses() {
            return Answer::Over;
        }
        loop {
            let mut failure = match self.attempt(body, asking) {
                Some(Ok(reply)) => return Answer::Reply(reply),
                Some(Err(failure)) => failure,
                None => return Answer::Over,
            };
            failure.reason = self.without_key(failure.reason);
            let own = waits.next().filter(|_| failure.scope == Scope::Attempt);
            let Some(own) = own else { return Answer::Failure(failure) };
            let wait = own + failure.asked_wait.unwrap_or_default();
            asking.say_retry(&failure.reason, wait);
            if let Some(asked) = failure.asked_wait {
                asking.pause(asked);
            }
            if !asking.wait(wait) {
                return Answer::Over;
            }
        }
    }

    /// One attempt, on a thread of its own that is left behind where the asking ends before the answer comes: none then.
    fn attempt(&self, body: &[u8], asking: &Asking) -> Option<Result<Reply, Failure>> {
        let (http, url, body) = (self.http.clone(), self.url.clone(), body.to_vec());
        let (sender, receiver) = channel();
        std::thread::spawn(move || sender.send(exchange(&http, url, body)));
        // The client's own time-out begins anew with each part of an answer that trickles in.
        let end = Instant::now() + self.timeout + LOOK;
        loop {
            match receiver.recv_timeout(LOOK) {
                Ok(result) => return Some(result),
                Err(RecvTimeoutError::Disconnected) => return Some(Err(Failure::of_attempt("the request could not be sent".to_owned()))),
                Err(RecvTimeoutError::Timeout) if asking.is_interrupted() => return None,
                Err(RecvTimeoutError::Timeout) if Instant::now() >= end => {
                    return Some(Err(Failure::of_attempt("no answer in time".to_owned())));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// What a server says may repeat the key that it was sent.
    fn without_key(&self, text: String) -> String {
        match &self.key {
            Some(key) if key.len() >= SHORTEST_KEY => text.replace(key.as_str(), "[the API key]"),
            _ => text,
        }
    }
}

/// What came of a request in the end.
enum Answer {
    Reply(Reply),
    Failure(Failure),
    /// Nothing: the asking is over.
    Over,
}

/// What the requests under way share.
#[derive(Default)]
struct Asking {
    state: Mutex<State>,
    changed: Condvar,
    in_a_row: AtomicUsize,
    said: AtomicBool,
    interrupt: Arc<Interrupt>,
}

#[derive(Default)]
struct State {
    unanswered: Unanswered,
    paused_until: Option<Instant>,
}

impl Asking {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the asking where a stop was asked for.
    fn is_interrupted(&self) -> bool {
        let interrupted = self.interrupt.check().err();
        interrupted.into_iter().for_each(|interrupted| self.end(Ended::ByCaller(interrupted.into())));
        interrupted.is_some()
    }

    fn is_over(&self) -> bool {
        self.is_interrupted() || self.state().unanswered.ended.is_some()
    }

    fn end(&self, ended: Ended) {
        self.state().unanswered.ended.get_or_insert(ended);
        self.changed.notify_all();
    }

    /// Tells a reply, unless telling has failed before.
    fn tell(&self, tell: impl FnOnce() -> Result<()>) {
        if matches!(self.state().unanswered.ended, Some(Ended::ByCaller(_))) {
            return;
        }
        match tell() {
            Ok(()) => self.state().unanswered.answered += 1,
            Err(error) => self.end(Ended::ByCaller(error)),
        }
    }

    /// What the server asks of one request holds for all that were not sent yet. Those that were keep to their own waits: each refusal would hold
    /// up all the others again.
    fn pause(&self, wait: Duration) {
        let mut state = self.state();
        state.paused_until = state.paused_until.max(Some(Instant::now() + wait));
    }

    /// Waits until no pause is left; false when the asking ends before.
    fn wait_for_pauses(&self) -> bool {
        self.wait_until(|state| state.paused_until)
    }

    /// Waits; false when the asking ends before.
    fn wait(&self, wait: Duration) -> bool {
        let time = Instant::now() + wait;
        self.wait_until(|_| Some(time))
    }

    fn wait_until(&self, time: impl Fn(&State) -> Option<Instant>) -> bool {
        while !self.is_over() {
            let state = self.state();
            let left = time(&state).map_or(Duration::ZERO, |time| time.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return true;
            }
            drop(self.changed.wait_timeout(state, left.min(LOOK)).unwrap_or_else(PoisonError::into_inner));
        }
        false
    }

    fn give_up(&self, number: usize, failure: Failure) {
        let Failure { scope, reason, unreachable, .. } = failure;
        let in_a_row = if scope == Scope::Attempt { self.in_a_row.fetch_add(1, Ordering::Relaxed) + 1 } else { 0 };
        if scope == Scope::Server {
            self.end(Ended::ByServer(format!("the server refuses: {reason}")));
        } else if unreachable {
            self.end(Ended::ByServer(format!("the server cannot be reached: {reason}")));
        } else if in_a_row == MOST_GIVEN_UP_IN_A_ROW {
            self.end(Ended::ByServer(format!("{in_a_row} requests in a row failed in every attempt, the last one so: {reason}")));
        }
        self.state().unanswered.given_up.push((number, reason));
    }

    /// The first failure of many is worth a line that everybody sees.
    fn say_retry(&self, reason: &str, wait: Duration) {
        let wait_s = wait.as_secs_f64();
        if self.said.swap(true, Ordering::Relaxed) {
            tracing::debug!(wait_s, "a request failed and is sent again: {reason}");
        } else {
            tracing::warn!(wait_s, "a request failed and is sent again, as are others from here on: {reason}");
        }
    }
}
