//! How a server is asked.

use std::sync::Arc;
use std::time::Duration;

use crate::interrupt::Interrupt;

/// How a server is asked.
#[derive(Clone)]
pub struct EndpointSettings {
    /// Its address, with or without `/v1`.
    pub url: String,
    /// What the model is called there.
    pub model: String,
    /// An API key, where one is wanted.
    pub key: Option<String>,
    /// Most requests under way at once.
    pub concurrency: usize,
    /// Longest wait for one answer.
    pub timeout: Duration,
    /// Most attempts after the first.
    pub retries: u32,
    /// The wait before the first of them; each one after waits twice as long, up to a minute.
    pub first_wait: Duration,
    /// The date that prompts print as today's; empty where they print none.
    pub date: String,
    /// Says only what OpenAI's own interface knows: no top-k, no min-p, no repetition penalty, no end tokens by their ids.
    pub standard: bool,
    /// Ends the asking; answers under way are not waited for.
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
            first_wait: Duration::from_millis(500),
            date: String::new(),
            standard: false,
            interrupt: Arc::default(),
        }
    }
}
