//! The settings of a connection to a server.

use std::sync::Arc;
use std::time::Duration;

use crate::interrupt::Interrupt;

/// The settings of a connection to a server.
#[derive(Clone)]
pub struct EndpointSettings {
    /// The server's address, with or without `/v1`.
    pub url: String,
    /// The model's name on the server.
    pub model: String,
    /// The API key; `None` if the server needs none.
    pub key: Option<String>,
    /// The maximum number of concurrent requests.
    pub concurrency: usize,
    /// The maximum wait for one response.
    pub timeout: Duration,
    /// The maximum number of retries per request.
    pub retries: u32,
    /// The wait before the first retry. It doubles with each further retry, up to a minute.
    pub initial_backoff: Duration,
    /// The date that the chat template inserts as today's date; empty if it inserts none.
    pub date: String,
    /// True to send only fields of OpenAI's API: no top-k, min-p, repetition penalty or end token ids.
    pub standard: bool,
    /// Stops sending when interrupted, without waiting for pending responses.
    pub interrupt: Arc<Interrupt>,
}

impl Default for EndpointSettings {
    fn default() -> Self {
        Self {
            url: String::new(),
            model: String::new(),
            key: None,
            concurrency: 32,
            timeout: Duration::from_secs(600),
            retries: 8,
            initial_backoff: Duration::from_millis(500),
            date: String::new(),
            standard: false,
            interrupt: Arc::default(),
        }
    }
}
