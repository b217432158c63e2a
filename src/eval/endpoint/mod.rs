//! A server with OpenAI's API as the generator of responses: vLLM, SGLang, llama.cpp's server and others. Decides which prompts to send,
//! and accounts for every request. Independent of how responses are graded.

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

/// Who renders the prompts.
pub enum Prompts {
    /// This program, with the checkpoint's tokenizer and template: `/v1/completions`.
    Rendered(ModelText),
    /// The server, from messages: `/v1/chat/completions`. A local copy of the checkpoint's text files, if any, supplies the stop tokens.
    Messages(Option<ModelText>),
}

/// A server and the form of its prompts.
pub struct Endpoint {
    settings: EndpointSettings,
    prompts: Prompts,
    client: Client,
}

/// A prompt ready to send.
struct PreparedPrompt {
    input: PromptInput,
    /// Length in tokens; `None` if it was not tokenized here.
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

    /// Returns the context length in tokens (prompt and response together), or `None` if the model's text files are not available here.
    pub fn context_length(&self) -> Option<usize> {
        self.text().map(|model| model.context_length)
    }

    fn text(&self) -> Option<&ModelText> {
        match &self.prompts {
            Prompts::Rendered(text) => Some(text),
            Prompts::Messages(text) => text.as_ref(),
        }
    }

    /// Prepares the prompt of a problem. Returns `None` if it leaves no room for a whole response in the context length.
    fn prompt(&self, request: &EvalRequest, max_new_tokens: usize) -> Result<Option<PreparedPrompt>> {
        let Prompts::Rendered(model) = &self.prompts else {
            // The server renders the prompt. If the model is known here, its template gives the length.
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
        // Servers add these tokens to every text, although the template has written them already. They leave token ids unchanged.
        let input = if model.text.adds_special_tokens() { PromptInput::Ids(prompt.ids) } else { PromptInput::Text(prompt.text) };
        Ok(Some(PreparedPrompt { input, tokens: Some(tokens) }))
    }

    fn body(&self, input: &PromptInput, request: &EvalRequest, generation: &GenerationConfig, end_texts: &[String]) -> Vec<u8> {
        let place = u64::from(request.number) << 32 | u64::from(request.sample);
        let sampling = Sampling {
            temperature: generation.temperature,
            top_p: generation.top_p,
            max_new_tokens: generation.max_new_tokens,
            // Keep the highest bit clear: some servers read a signed number, and llama.cpp takes the maximum as a request for a random
            // seed.
            seed: Stream::new(generation.seed, Purpose::Requests, place).next_u32() >> 1,
            end_tokens: self.text().map_or(&[], |model| &model.end_tokens),
            end_texts,
        };
        message::body(&self.settings.model, input, &sampling, self.settings.standard).to_string().into_bytes()
    }

    /// Returns the end tokens that are special tokens, as text. At most four, the limit of OpenAI's API.
    fn end_texts(&self) -> Vec<String> {
        let Some(ModelText { text, end_tokens, .. }) = self.text() else { return Vec::new() };
        let special = end_tokens.iter().filter(|id| text.decode(&[**id]).is_ok_and(|text| text.is_empty()));
        special.filter_map(|id| text.token(*id)).take(4).collect()
    }

    /// Returns the length of a response in tokens: as reported by the server, else as counted by the tokenizer here, else 0 for unknown.
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

    fn answer(&self, requests: &[EvalRequest], generation: &GenerationConfig, on_response: OnResponse) -> Result<()> {
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
        let report = self.client.send_all(&bodies, &|place, reply| {
            let tokens = self.length(&reply);
            anomalies.check(&reply, prompt_tokens[place], tokens);
            on_response(numbers[place], Response { text: reply.text, tokens, finish: Some(reply.finish) })
        });
        anomalies.warn(bodies.len());
        outcome(report, &numbers, requests)
    }
}

/// Counts replies that cast doubt on a score.
#[derive(Default)]
struct Anomalies {
    prompt_mismatches: AtomicUsize,
    unknown_lengths: AtomicUsize,
}

impl Anomalies {
    fn check(&self, reply: &Reply, prompt_tokens: Option<usize>, tokens: usize) {
        if prompt_tokens.zip(reply.prompt_tokens).is_some_and(|(here, there)| here != there) {
            self.prompt_mismatches.fetch_add(1, Ordering::Relaxed);
        }
        if tokens == 0 && !reply.text.is_empty() {
            self.unknown_lengths.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn warn(&self, requests: usize) {
        let (others, unknown) = (self.prompt_mismatches.load(Ordering::Relaxed), self.unknown_lengths.load(Ordering::Relaxed));
        if others > 0 {
            tracing::warn!(
                "{others} of {requests} prompts have a different number of tokens on the server: its tokenizer differs, or it adds tokens"
            );
        }
        if unknown > 0 {
            tracing::warn!("the server does not report the length of {unknown} of {requests} responses: they count as 0 tokens");
        }
    }
}

/// Converts the report of the client; `Ok` if every request was answered.
fn outcome(report: SendReport, numbers: &[usize], requests: &[EvalRequest]) -> Result<()> {
    let ended = match report.ended {
        Some(StopReason::ByCaller(error)) => return Err(error),
        Some(StopReason::ByServer(reason)) => Some(reason),
        None if report.failed.is_empty() => return Ok(()),
        None => None,
    };
    let name = |(place, reason): (usize, String)| {
        let request = &requests[numbers[place]];
        (request.problem.id.clone(), request.sample, reason)
    };
    let failed = report.failed.into_iter().map(name).collect();
    // Prompts that do not fit the context length were passed on as such.
    let answered = requests.len() - numbers.len() + report.answered;
    Err(FailedRequests { failed, ended, answered, wanted: requests.len() }.into())
}
