//! Sends requests to an MLflow server. Knows its paths and its errors, and nothing about runs.

use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow};
use reqwest::blocking::{Client as Http, RequestBuilder};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use serde_json::Value;

use super::server::{Credentials, Server};
use crate::metrics::tracking::queue::Trouble;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(20);
/// The longest part of a server's message that is shown, in characters.
const MAX_MESSAGE: usize = 300;

/// A connection to a server.
pub(super) struct Client {
    http: Http,
    address: String,
    credentials: Credentials,
}

/// Why a request failed.
#[derive(Debug)]
pub(super) struct Failure {
    /// The status of the reply; `None` if there was none.
    pub(super) status: Option<u16>,
    error: Error,
}

impl Client {
    pub(super) fn new(server: &Server) -> Result<Self> {
        let http = Http::builder()
            .user_agent(concat!("rlvr/", env!("CARGO_PKG_VERSION")))
            .default_headers(HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            // Following a redirect could turn the POST into a GET, or send the credentials to another host.
            .redirect(Policy::none())
            .build()
            .context("cannot create an HTTP client")?;
        Ok(Self { http, address: server.address().to_owned(), credentials: server.credentials.clone() })
    }

    /// Sends a GET request of the REST API, with one query parameter.
    pub(super) fn get(&self, path: &str, name: &str, value: &str) -> Result<Value, Failure> {
        let url = reqwest::Url::parse_with_params(&self.api(path), [(name, value)]);
        let url = url.map_err(|error| Failure { status: None, error: error.into() })?;
        self.send(self.http.get(url), path)
    }

    /// Sends a POST request of the REST API.
    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.send(self.http.post(self.api(path)).body(body.to_string()), path)
    }

    /// Uploads a file through the server's artifact proxy.
    pub(super) fn put_artifact(&self, path: &str, content: Vec<u8>) -> Result<(), Failure> {
        let url = format!("{}/api/2.0/mlflow-artifacts/artifacts/{path}", self.address);
        self.send(self.http.put(url).header(CONTENT_TYPE, "application/octet-stream").body(content), path).map(drop)
    }

    fn api(&self, path: &str) -> String {
        format!("{}/api/2.0/mlflow/{path}", self.address)
    }

    fn send(&self, request: RequestBuilder, path: &str) -> Result<Value, Failure> {
        let request = match &self.credentials {
            Credentials::None => request,
            Credentials::Basic { username, password } => request.basic_auth(username, Some(password)),
            Credentials::Bearer(token) => {
                // Leave out the cause, because it may quote the token.
                let value = HeaderValue::from_str(&format!("Bearer {token}"));
                let mut value = value.map_err(|_| Failure {
                    status: Some(401),
                    error: anyhow!("MLFLOW_TRACKING_TOKEN has characters that are not allowed in an HTTP header (a line break?)"),
                })?;
                value.set_sensitive(true);
                request.header(AUTHORIZATION, value)
            }
        };
        let reply = request.send().and_then(|reply| Ok((reply.status().as_u16(), reply.text()?)));
        let (status, text) = reply.map_err(|error| Failure { status: None, error: anyhow!("{path}: {}", cause(&error)) })?;
        let json = serde_json::from_str::<Value>(&text);
        if (200..300).contains(&status) {
            let json = if text.trim().is_empty() { Ok(Value::Null) } else { json };
            return json.map_err(|_| Failure { status: None, error: anyhow!("{path}: the reply is not JSON; is it an MLflow server?") });
        }
        let said = json.ok().and_then(|json| Some(json.get("message")?.as_str()?.to_owned())).unwrap_or(text);
        let said: String = said.chars().take(MAX_MESSAGE).collect();
        Err(Failure { status: Some(status), error: anyhow!("{path}: status {status}: {}", said.trim()) })
    }
}

impl Failure {
    /// Makes the failure of a reply without an expected field.
    pub(super) fn lacks(path: &str, field: &str) -> Self {
        Self { status: None, error: anyhow!("{path}: the reply has no `{field}`; is it an MLflow server?") }
    }
}

impl From<Failure> for Trouble {
    /// A server that is overloaded, being restarted or unreachable may answer later; other errors stay.
    fn from(Failure { status, error }: Failure) -> Self {
        match status {
            Some(status) if status < 500 && !matches!(status, 408 | 425 | 429) => Self::Refused(error),
            _ => Self::Temporary(error),
        }
    }
}

/// Describes an error with its innermost cause, such as "connection refused". Leaves out the URL, which the message has already.
fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
