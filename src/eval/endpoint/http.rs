//! Sends one request and reads the reply or classifies the failure. Does not retry.

use std::error::Error;
use std::io::Read;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use reqwest::blocking::Response;
use reqwest::header::{LOCATION, RETRY_AFTER};
use reqwest::{StatusCode, Url};

use super::backoff;
use super::message::{self, BodyError, Reply};

/// The maximum size of a response body in bytes: several times the longest response of a model, with escapes.
const MAX_BODY_BYTES: u64 = 16 << 20;
/// The maximum number of bytes read from an error body.
const MAX_ERROR_BYTES: u64 = 64 << 10;

/// The requests that a failure affects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// This attempt only; another one may succeed.
    Attempt,
    /// This request; other attempts would fail too.
    Request,
    /// Every request: the address, the key or the model name is wrong.
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

/// A failed attempt.
pub(super) struct Failure {
    /// The requests that the failure affects.
    pub(super) scope: Scope,
    /// The reason, for messages.
    pub(super) reason: String,
    /// The wait that the server requested before the next attempt, if any.
    pub(super) retry_after: Option<Duration>,
    /// True if no connection could be made.
    pub(super) unreachable: bool,
}

impl Failure {
    pub(super) fn of_attempt(reason: String) -> Self {
        Self { scope: Scope::Attempt, reason, retry_after: None, unreachable: false }
    }
}

/// Sends a request and reads the reply, up to the size limit.
///
/// # Errors
/// A [`Failure`] if there is no connection, a timeout, a redirect, an error status, or a body without a usable response.
pub(super) fn send(http: &reqwest::blocking::Client, url: Url, body: Vec<u8>) -> Result<Reply, Failure> {
    let sent = http.post(url).body(body).send();
    let response = sent.map_err(|error| Failure { unreachable: error.is_connect(), ..Failure::of_attempt(cause(&error)) })?;
    let (status, retry_after) = (response.status(), retry_after(&response));
    if status.is_redirection() {
        return Err(Failure { scope: Scope::Server, ..Failure::of_attempt(redirected(&response)) });
    }
    if !status.is_success() {
        let text = read(response, MAX_ERROR_BYTES).map_or_else(|_| String::new(), |body| message::error_text(&body));
        let reason = if text.is_empty() { status.to_string() } else { format!("{status}: {text}") };
        return Err(Failure { scope: Scope::of(status), retry_after, ..Failure::of_attempt(reason) });
    }
    let body =
        read(response, MAX_BODY_BYTES + 1).map_err(|error| Failure::of_attempt(format!("the response was cut off: {}", root(&error))))?;
    if body.len() as u64 > MAX_BODY_BYTES {
        let reason = format!("the response is larger than the maximum of {} MiB", MAX_BODY_BYTES >> 20);
        return Err(Failure { scope: Scope::Request, ..Failure::of_attempt(reason) });
    }
    message::read(&body).map_err(|error| match error {
        BodyError::Malformed(reason) => Failure::of_attempt(reason),
        BodyError::Withheld(reason) => Failure { scope: Scope::Request, ..Failure::of_attempt(reason) },
    })
}

fn read(response: Response, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    response.take(limit).read_to_end(&mut body)?;
    Ok(body)
}

/// Returns the message for a redirect.
fn redirected(response: &Response) -> String {
    let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
    let target = location.and_then(|location| response.url().join(location).ok());
    let target = target.map_or_else(|| "an unknown address".to_owned(), |target| target.to_string());
    format!("{}: the server redirects to {target}, which is not followed: give the right address with --endpoint", response.status())
}

/// Returns the full URL of `path` on a server. Inserts `/v1` if the address does not end in a version, and replaces a path of the API that
/// the address already has.
///
/// # Errors
/// If the address is not an HTTP URL, or contains a user name or password.
pub(super) fn address(given: &str, path: &str) -> Result<Url> {
    let invalid = || format!("{given:?} is not a server address: expected one such as http://localhost:8000/v1");
    let mut url = Url::parse(given.trim()).with_context(invalid)?;
    ensure!(matches!(url.scheme(), "http" | "https") && url.has_host(), "{}", invalid());
    ensure!(
        url.username().is_empty() && url.password().is_none(),
        "the server address contains a user name or password: put an API key into an environment variable instead"
    );
    let base = url.path().trim_end_matches('/');
    let base = ["/chat/completions", "/completions"].iter().find_map(|path| base.strip_suffix(path)).unwrap_or(base);
    let version = base.rsplit('/').next().and_then(|last| last.strip_prefix('v')).unwrap_or_default();
    let is_versioned = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
    let full = format!("{base}{}{path}", if is_versioned { "" } else { "/v1" });
    url.set_path(&full);
    Ok(url)
}

fn retry_after(response: &Response) -> Option<Duration> {
    backoff::parse_retry_after(response.headers().get(RETRY_AFTER)?.to_str().ok()?, SystemTime::now())
}

/// Returns the innermost cause, which says what happened; the outer ones repeat the address.
fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() { "no response before the timeout".to_owned() } else { root(error) }
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
    fn address_completes_the_path() {
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
    fn address_rejects_invalid_urls() {
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
