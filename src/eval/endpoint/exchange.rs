//! One request and what comes back: the answer, or why there is none and whom that concerns. It must never know whether it is tried again.

use std::error::Error;
use std::io::Read;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use reqwest::blocking::Response;
use reqwest::header::{LOCATION, RETRY_AFTER};
use reqwest::{StatusCode, Url};

use super::message::{self, Reply, Unusable};
use super::patience;

/// Most bytes of an answer: 16 MiB is several times the longest response that a model gives, written with escapes.
const LARGEST_ANSWER: u64 = 16 << 20;
/// Most bytes that are read of what a server says of a failure.
const LARGEST_COMPLAINT: u64 = 64 << 10;

/// What a failure concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// This attempt: another may succeed.
    Attempt,
    /// This request.
    Request,
    /// Every request: the address, the key or the model's name is wrong.
    Server,
}

impl Scope {
    fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            408 | 409 | 425 | 429 | 500..=599 => Self::Attempt,
            401 | 403 | 404 | 405 | 300..=399 => Self::Server,
            _ => Self::Request,
        }
    }
}

/// Why there is no reply.
pub(super) struct Failure {
    pub(super) scope: Scope,
    pub(super) reason: String,
    /// What the server asked to wait before the next attempt.
    pub(super) asked_wait: Option<Duration>,
    /// There was no connection at all.
    pub(super) unreachable: bool,
}

impl Failure {
    pub(super) fn of_attempt(reason: String) -> Self {
        Self { scope: Scope::Attempt, reason, asked_wait: None, unreachable: false }
    }
}

/// Sends a request and reads the answer, up to the limit.
pub(super) fn exchange(http: &reqwest::blocking::Client, url: Url, body: Vec<u8>) -> Result<Reply, Failure> {
    let sent = http.post(url).body(body).send();
    let response = sent.map_err(|error| Failure { unreachable: error.is_connect(), ..Failure::of_attempt(cause(&error)) })?;
    let (status, asked_wait) = (response.status(), asked_wait(&response));
    if status.is_redirection() {
        return Err(Failure { scope: Scope::Server, ..Failure::of_attempt(redirected(&response)) });
    }
    if !status.is_success() {
        let said = read(response, LARGEST_COMPLAINT).map_or_else(|_| String::new(), |body| message::complaint(&body));
        let reason = if said.is_empty() { status.to_string() } else { format!("{status}: {said}") };
        return Err(Failure { scope: Scope::of(status), asked_wait, ..Failure::of_attempt(reason) });
    }
    let body =
        read(response, LARGEST_ANSWER + 1).map_err(|error| Failure::of_attempt(format!("the answer broke off: {}", root(&error))))?;
    if body.len() as u64 > LARGEST_ANSWER {
        let reason = format!("the answer is larger than {} MiB, which no response is", LARGEST_ANSWER >> 20);
        return Err(Failure { scope: Scope::Request, ..Failure::of_attempt(reason) });
    }
    message::read(&body).map_err(|unusable| match unusable {
        Unusable::Broken(reason) => Failure::of_attempt(reason),
        Unusable::Withheld(reason) => Failure { scope: Scope::Request, ..Failure::of_attempt(reason) },
    })
}

fn read(response: Response, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    response.take(limit).read_to_end(&mut body)?;
    Ok(body)
}

/// Where a server wants its requests instead.
fn redirected(response: &Response) -> String {
    let place = response.headers().get(LOCATION).and_then(|place| place.to_str().ok()).and_then(|place| response.url().join(place).ok());
    let place = place.map_or_else(|| "another address, which it does not name".to_owned(), |place| place.to_string());
    format!("{}: it redirects to {place}, and no request is sent on: give the right address with --endpoint", response.status())
}

/// The full address of `path`: `/v1` goes between where the given one does not end in a version, and a path given already is not repeated.
pub(super) fn address(given: &str, path: &str) -> Result<Url> {
    let wanted = || format!("{given:?} is no address of a server: expected one such as http://localhost:8000/v1");
    let mut url = Url::parse(given.trim()).with_context(wanted)?;
    ensure!(matches!(url.scheme(), "http" | "https") && url.has_host(), "{}", wanted());
    ensure!(
        url.username().is_empty() && url.password().is_none(),
        "the address of the server has a name or password in it: put an API key into an environment variable instead"
    );
    let base = url.path().trim_end_matches('/');
    let base = ["/chat/completions", "/completions"].iter().find_map(|path| base.strip_suffix(path)).unwrap_or(base);
    let version = base.rsplit('/').next().and_then(|last| last.strip_prefix('v')).unwrap_or_default();
    let is_versioned = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
    let full = format!("{base}{}{path}", if is_versioned { "" } else { "/v1" });
    url.set_path(&full);
    Ok(url)
}

fn asked_wait(response: &Response) -> Option<Duration> {
    patience::asked(response.headers().get(RETRY_AFTER)?.to_str().ok()?, SystemTime::now())
}

/// The innermost cause, which says what happened; the outer ones repeat the address.
fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() { "no answer in time".to_owned() } else { root(error) }
}

fn root(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_with_and_without_a_path() {
        let check = |given: &str, expected: &str| assert_eq!(address(given, "/completions").unwrap().as_str(), expected);
        check("http://localhost:8000", "http://localhost:8000/v1/completions");
        check("http://localhost:8000/", "http://localhost:8000/v1/completions");
        check(" http://localhost:8000/v1/ ", "http://localhost:8000/v1/completions");
        check("https://host/some/where", "https://host/some/where/v1/completions");
        check("https://host/some/v4", "https://host/some/v4/completions");
        check("http://host/v1/chat/completions", "http://host/v1/completions");
        check("http://host/v1/completions", "http://host/v1/completions");
    }

    #[test]
    fn other_addresses_are_refused() {
        let check = |given: &str, expected: &str| {
            let error = format!("{:#}", address(given, "/completions").unwrap_err());
            assert!(error.contains(expected), "{error}");
        };
        check("localhost:8000", "expected one such as http://localhost:8000/v1");
        check("host/v1", "expected one such as");
        check("", "expected one such as");
        check("file:///v1", "expected one such as");
        check("http://me:secret@host/v1", "put an API key into an environment variable");
    }
}
