//! Generates responses with a server that has OpenAI's API, such as vLLM, SGLang or llama.cpp's server. Decides which prompts to send, and
//! accounts for every request. Independent of how responses are graded.

mod backoff;
mod client;
mod http;
mod message;
mod settings;

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use rand::Rng;

use super::generator::{EvalRequest, FailedRequests, GenerationConfig, Generator, Identity, OnResponse, Response};
use crate::checkpoint::ModelText;
use crate::flow::FinishReason;
use crate::rng::{Purpose, Stream};
use crate::text::Message;
use client::{Client, SendReport, StopReason};
use message::{PromptInput, Reply, Sampling};
pub use settings::EndpointSettings;

/// Where prompts are rendered, and so which API is used.
pub enum Prompts {
    /// In this program, with the checkpoint's tokenizer and chat template: `/v1/completions`.
    Rendered(ModelText),
    /// On the server, from messages: `/v1/chat/completions`. A local copy of the checkpoint's text files, if any, provides the end tokens
    /// and the context length.
    Messages(Option<ModelText>),
}

/// A server, and where its prompts are rendered.
pub struct Endpoint {
    settings: EndpointSettings,
    prompts: Prompts,
    client: Client,
}

/// A prompt ready to send.
struct PreparedPrompt {
    input: PromptInput,
    /// The length in tokens; `None` if the server tokenizes the prompt.
    tokens: Option<usize>,
}

impl Endpoint {
    /// Creates the client for a server. Sends nothing yet.
    ///
    /// # Errors
    /// If the address or the API key is invalid, or the concurrency or the timeout is 0.
    pub fn new(settings: EndpointSettings, prompts: Prompts) -> Result<Self> {
        let path = match &prompts {
            Prompts::Rendered(_) => "/completions",
            Prompts::Messages(_) => "/chat/completions",
        };
        let client = Client::new(&settings, path)?;
        Ok(Self { settings, prompts, client })
    }

    /// Returns the context length in tokens (prompt and response together), or `None` without the checkpoint's text files.
    pub fn context_length(&self) -> Option<usize> {
        self.text().map(|model| model.context_length)
    }

    fn text(&self) -> Option<&ModelText> {
        match &self.prompts {
            Prompts::Rendered(text) => Some(text),
            Prompts::Messages(text) => text.as_ref(),
        }
    }

    /// Prepares the prompt of a problem. Returns `None` if it leaves no room for `max_new_tokens` in the context length.
    fn prompt(&self, request: &EvalRequest, max_new_tokens: usize) -> Result<Option<PreparedPrompt>> {
        let Prompts::Rendered(model) = &self.prompts else {
            // The server renders the prompt. With the text files, render it here too, to learn its length.
            let known =
                self.text().and_then(|model| Some((model.text.prompt(request.problem.clone(), "").ok()?.ids.len(), model.context_length)));
            if known.is_some_and(|(tokens, context_length)| tokens + max_new_tokens > context_length) {
                return Ok(None);
            }
            let problem = &request.problem;
            ensure!(
                problem.prefill.is_empty(),
                "{}: a chat server cannot continue a partial answer: remove the final assistant turn from the data",
                problem.id
            );
            let mut messages = problem.context.clone();
            messages.push(Message::new("user", &problem.question));
            return Ok(Some(PreparedPrompt { input: PromptInput::Messages(messages), tokens: None }));
        };
        let prompt = model
            .text
            .prompt(request.problem.clone(), "")
            .with_context(|| format!("cannot render the prompt of {}", request.problem.id))?;
        let tokens = prompt.ids.len();
        if tokens + max_new_tokens > model.context_length {
            return Ok(None);
        }
        // Servers add these special tokens to every text, although the template has already written them, but leave token ids unchanged.
        let input = if model.text.adds_special_tokens() { PromptInput::Ids(prompt.ids) } else { PromptInput::Text(prompt.text) };
        Ok(Some(PreparedPrompt { input, tokens: Some(tokens) }))
    }

    fn body(&self, input: &PromptInput, request: &EvalRequest, generation: &GenerationConfig, end_texts: &[String]) -> Vec<u8> {
        let address = u64::from(request.number) << 32 | u64::from(request.sample);
        let sampling = Sampling {
            temperature: generation.temperature,
            top_p: generation.top_p,
            max_new_tokens: generation.max_new_tokens,
            // Clear the highest bit: some servers parse a signed number, and llama.cpp interprets the largest as a request for a random
            // seed.
            seed: Stream::new(generation.seed, Purpose::Requests, address).next_u32() >> 1,
            end_tokens: self.text().map_or(&[], |model| &model.end_tokens),
            end_texts,
        };
        message::body(&self.settings.model, input, &sampling, self.settings.standard).to_string().into_bytes()
    }

    /// Returns the texts of the end tokens that are special tokens; at most four, the limit of OpenAI's API.
    fn end_texts(&self) -> Vec<String> {
        let Some(ModelText { text, end_tokens, .. }) = self.text() else { return Vec::new() };
        let special = end_tokens.iter().filter(|id| text.decode(&[**id]).is_ok_and(|text| text.is_empty()));
        special.filter_map(|id| text.token(*id)).take(4).collect()
    }

    /// Returns the length of a response in tokens, as reported by the server or else as counted by the local tokenizer; 0 if neither is
    /// known.
    fn length(&self, reply: &Reply) -> usize {
        let counted = || Some(self.text()?.text.encode(&reply.text).ok()?.len() + usize::from(reply.finish == FinishReason::Stop));
        reply.tokens.or_else(counted).unwrap_or(0)
    }
}

impl Generator for Endpoint {
    fn identity(&self) -> Identity {
        let rendered = matches!(self.prompts, Prompts::Rendered(_));
        let template = self.text().filter(|_| rendered).and_then(|model| model.text.template_checksum());
        let unknown = "the server's";
        Identity {
            model: self.settings.model.clone(),
            revision: unknown.to_owned(),
            dtype: "the server's dtype".to_owned(),
            device: self.client.url().to_owned(),
            kernels: unknown.to_owned(),
            template: template.unwrap_or(unknown).to_owned(),
            date: self.settings.date.clone(),
        }
    }

    fn generate(&self, requests: &[EvalRequest], generation: &GenerationConfig, on_response: OnResponse) -> Result<()> {
        let end_texts = self.end_texts();
        let (mut numbers, mut bodies, mut prompt_tokens) = (Vec::new(), Vec::new(), Vec::new());
        for (number, request) in requests.iter().enumerate() {
            match self.prompt(request, generation.max_new_tokens)? {
                None => on_response(number, Response { text: String::new(), tokens: 0, finish: None })?,
                Some(PreparedPrompt { input, tokens }) => {
                    numbers.push(number);
                    bodies.push(self.body(&input, request, generation, &end_texts));
                    prompt_tokens.push(tokens);
                }
            }
        }
        let anomalies = Anomalies::default();
        let report = self.client.send_all(&bodies, &|index, reply| {
            let tokens = self.length(&reply);
            anomalies.check(&reply, prompt_tokens[index], tokens);
            on_response(numbers[index], Response { text: reply.text, tokens, finish: Some(reply.finish) })
        });
        anomalies.warn(bodies.len());
        outcome(report, &numbers, requests)
    }
}

/// Counts replies that cast doubt on the score.
#[derive(Default)]
struct Anomalies {
    prompt_mismatches: AtomicUsize,
    unknown_lengths: AtomicUsize,
}

impl Anomalies {
    fn check(&self, reply: &Reply, prompt_tokens: Option<usize>, tokens: usize) {
        if prompt_tokens.zip(reply.prompt_tokens).is_some_and(|(ours, theirs)| ours != theirs) {
            self.prompt_mismatches.fetch_add(1, Ordering::Relaxed);
        }
        if tokens == 0 && !reply.text.is_empty() {
            self.unknown_lengths.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn warn(&self, requests: usize) {
        let (mismatches, unknown) = (self.prompt_mismatches.load(Ordering::Relaxed), self.unknown_lengths.load(Ordering::Relaxed));
        if mismatches > 0 {
            tracing::warn!(
                "{mismatches} of {requests} prompts have a different number of tokens on the server: its tokenizer differs, or it adds tokens"
            );
        }
        if unknown > 0 {
            tracing::warn!("the server does not report the length of {unknown} of {requests} responses: they count as 0 tokens");
        }
    }
}

/// Converts the client's report; `Ok` if every request was answered. `numbers` maps the index of a body to the index of its request.
fn outcome(report: SendReport, numbers: &[usize], requests: &[EvalRequest]) -> Result<()> {
    let ended = match report.ended {
        Some(StopReason::ByCaller(error)) => return Err(error),
        Some(StopReason::ByServer(reason)) => Some(reason),
        None if report.failed.is_empty() => return Ok(()),
        None => None,
    };
    let describe = |(index, reason): (usize, String)| {
        let request = &requests[numbers[index]];
        (request.problem.id.clone(), request.sample, reason)
    };
    let failed = report.failed.into_iter().map(describe).collect();
    // Prompts that do not fit the context length were not sent, but have been passed on.
    let answered = requests.len() - numbers.len() + report.answered;
    Err(FailedRequests { failed, ended, answered, requests: requests.len() }.into())
}
