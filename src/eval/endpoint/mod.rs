//! A server that speaks OpenAI's protocol as the one who answers: vLLM, SGLang, llama.cpp's server and others. Owns which prompts go there and
//! that none is lost on the way; it must never know how answers are graded.

mod client;
mod exchange;
mod message;
mod patience;
mod settings;

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use rand::Rng;

use super::answerer::{Answered, Answerer, Asking, EvalRequest, Identity, Lost, OnAnswered};
use crate::checkpoint::ModelText;
use crate::draw::{Purpose, Stream};
use crate::flow::Finish;
use crate::text::Message;
use client::{Client, Ended, Unanswered};
use message::{Reply, Sampling, Wording};
pub use settings::EndpointSettings;

/// Who writes the prompts.
pub enum Prompts {
    /// This program, with the checkpoint's tokenizer and template: `/v1/completions`.
    Rendered(ModelText),
    /// The server, from messages: `/v1/chat/completions`. What ends a response is said where a copy of the checkpoint's text is at hand.
    Messages(Option<ModelText>),
}

/// A server with the prompts that it gets.
pub struct Endpoint {
    settings: EndpointSettings,
    prompts: Prompts,
    client: Client,
}

/// A prompt on its way.
struct Asked {
    wording: Wording,
    /// Its length in tokens, where it was tokenized here.
    tokens: Option<usize>,
}

impl Endpoint {
    /// A server by its settings; nothing is sent yet.
    ///
    /// # Errors
    /// When a setting is none that requests can be sent with.
    pub fn new(settings: EndpointSettings, prompts: Prompts) -> Result<Self> {
        let path = match &prompts {
            Prompts::Rendered(_) => "/completions",
            Prompts::Messages(_) => "/chat/completions",
        };
        let client = Client::new(&settings, path)?;
        Ok(Self { settings, prompts, client })
    }

    /// Most tokens of prompt and response together, where the model is known here.
    pub fn window(&self) -> Option<usize> {
        self.text().map(|model| model.window)
    }

    fn text(&self) -> Option<&ModelText> {
        match &self.prompts {
            Prompts::Rendered(text) => Some(text),
            Prompts::Messages(text) => text.as_ref(),
        }
    }

    /// The prompt of a problem; none where it leaves no room for a whole response in the model's window.
    fn prompt(&self, request: &EvalRequest, max_new: usize) -> Result<Option<Asked>> {
        let Prompts::Rendered(model) = &self.prompts else {
            // The server writes the prompt; where the model is known here, its template says how long that will be.
            let known = self.text().and_then(|model| Some((model.text.prompt(request.problem.clone(), "").ok()?.ids.len(), model.window)));
            if known.is_some_and(|(tokens, window)| tokens + max_new > window) {
                return Ok(None);
            }
            let problem = &request.problem;
            ensure!(
                problem.prefill.is_empty(),
                "{}: a chat server cannot go on from the beginning of an answer; take the assistant's turn at the end out of the data",
                problem.id
            );
            let mut messages = problem.context.clone();
            messages.push(Message::new("user", &problem.question));
            return Ok(Some(Asked { wording: Wording::Messages(messages), tokens: None }));
        };
        let prompt = model.text.prompt(request.problem.clone(), "").with_context(|| format!("cannot render {}", request.problem.id))?;
        let tokens = prompt.ids.len();
        if tokens + max_new > model.window {
            return Ok(None);
        }
        // Servers put such tokens before every text, though the template has written them already; token ids they take as they are.
        let wording = if model.text.adds_special_tokens() { Wording::Ids(prompt.ids) } else { Wording::Text(prompt.text) };
        Ok(Some(Asked { wording, tokens: Some(tokens) }))
    }

    fn body(&self, wording: &Wording, request: &EvalRequest, asking: &Asking, end_texts: &[String]) -> Vec<u8> {
        let place = u64::from(request.number) << 32 | u64::from(request.sample);
        let sampling = Sampling {
            temperature: asking.temperature,
            top_p: asking.top_p,
            max_new: asking.max_new,
            // The highest bit stays empty: some servers read a signed number, and llama.cpp takes the highest one for a wish to be random.
            seed: Stream::new(asking.seed, Purpose::Requests, place).next_u32() >> 1,
            end_tokens: self.text().map_or(&[], |model| &model.end_tokens),
            end_texts,
        };
        message::body(&self.settings.model, wording, &sampling, self.settings.standard).to_string().into_bytes()
    }

    /// The end tokens as text, where that is text of their own; OpenAI's interface takes four.
    fn end_texts(&self) -> Vec<String> {
        let Some(ModelText { text, end_tokens, .. }) = self.text() else { return Vec::new() };
        let special = end_tokens.iter().filter(|id| text.decode(&[**id]).is_ok_and(|said| said.is_empty()));
        special.filter_map(|id| text.token(*id)).take(4).collect()
    }

    /// The length of a response: as the server says, else as the tokenizer here has it, else unknown (0).
    fn length(&self, reply: &Reply) -> usize {
        let counted = || Some(self.text()?.text.encode(&reply.text).ok()?.len() + usize::from(reply.finish == Finish::Stop));
        reply.tokens.or_else(counted).unwrap_or(0)
    }
}

impl Answerer for Endpoint {
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

    fn answer(&self, requests: &[EvalRequest], asking: &Asking, on_answered: OnAnswered) -> Result<()> {
        let end_texts = self.end_texts();
        let (mut numbers, mut bodies, mut prompt_tokens) = (Vec::new(), Vec::new(), Vec::new());
        for (number, request) in requests.iter().enumerate() {
            match self.prompt(request, asking.max_new)? {
                None => on_answered(number, Answered { text: String::new(), tokens: 0, finish: None })?,
                Some(Asked { wording, tokens }) => {
                    numbers.push(number);
                    bodies.push(self.body(&wording, request, asking, &end_texts));
                    prompt_tokens.push(tokens);
                }
            }
        }
        let doubts = Doubts::default();
        let unanswered = self.client.ask(&bodies, &|place, reply| {
            let tokens = self.length(&reply);
            doubts.look(&reply, prompt_tokens[place], tokens);
            on_answered(numbers[place], Answered { text: reply.text, tokens, finish: Some(reply.finish) })
        });
        doubts.say(bodies.len());
        outcome(unanswered, &numbers, requests)
    }
}

/// What replies say that casts doubt on a score, counted.
#[derive(Default)]
struct Doubts {
    other_prompts: AtomicUsize,
    unknown_lengths: AtomicUsize,
}

impl Doubts {
    fn look(&self, reply: &Reply, prompt_tokens: Option<usize>, tokens: usize) {
        if prompt_tokens.zip(reply.prompt_tokens).is_some_and(|(here, there)| here != there) {
            self.other_prompts.fetch_add(1, Ordering::Relaxed);
        }
        if tokens == 0 && !reply.text.is_empty() {
            self.unknown_lengths.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn say(&self, requests: usize) {
        let (others, unknown) = (self.other_prompts.load(Ordering::Relaxed), self.unknown_lengths.load(Ordering::Relaxed));
        if others > 0 {
            tracing::warn!(
                "{others} of {requests} prompts have another number of tokens on the server than here: it has another tokenizer, or adds tokens"
            );
        }
        if unknown > 0 {
            tracing::warn!("the server does not say how long {unknown} of {requests} responses are: they count as 0 tokens");
        }
    }
}

/// Nothing where everything was answered.
fn outcome(unanswered: Unanswered, numbers: &[usize], requests: &[EvalRequest]) -> Result<()> {
    let ended = match unanswered.ended {
        Some(Ended::ByCaller(error)) => return Err(error),
        Some(Ended::ByServer(reason)) => Some(reason),
        None if unanswered.given_up.is_empty() => return Ok(()),
        None => None,
    };
    let name = |(place, reason): (usize, String)| {
        let request = &requests[numbers[place]];
        (request.problem.id.clone(), request.sample, reason)
    };
    let given_up = unanswered.given_up.into_iter().map(name).collect();
    // What does not fit the model's window was told as such.
    let answered = requests.len() - numbers.len() + unanswered.answered;
    Err(Lost { given_up, ended, answered, wanted: requests.len() }.into())
}
