//! Prints responses while they are sampled: a single one token by token; several in the order of their prompts, each as soon as it and all
//! earlier ones are complete.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::flow::{Completion, FinishReason};
use crate::output::{for_stdout, progress};
use crate::rollout::Event;
use crate::text::{Text, TokenStream};

/// Receives tokens and responses from all workers, and prints them.
pub struct Output<'a>(Mutex<State<'a>>);

struct State<'a> {
    text: &'a Text,
    form: Form<'a>,
    /// Complete responses that wait for an earlier one, by the index of their request.
    waiting: BTreeMap<usize, Completion>,
    /// Index of the request to print next.
    next: usize,
    /// The distinct texts among the printed responses.
    distinct: BTreeSet<String>,
    /// The first error, which [`Output::finish`] returns.
    error: Option<anyhow::Error>,
}

enum Form<'a> {
    /// One response, token by token; `None` once it is finished.
    Stream(Option<TokenStream<'a>>),
    /// One line per response.
    Text,
    /// One JSON object per response, with the prompts' ids and the number of responses to each prompt.
    Json { ids: Vec<Value>, samples: usize },
}

impl<'a> Output<'a> {
    /// Prints one response token by token.
    pub fn stream(text: &'a Text) -> Self {
        Self::new(text, Form::Stream(Some(text.stream())))
    }

    /// Prints one line per response.
    pub fn text(text: &'a Text) -> Self {
        Self::new(text, Form::Text)
    }

    /// Prints one JSON object per response; `ids` are those of the prompts, `samples` the responses to each.
    pub fn json(text: &'a Text, ids: Vec<Value>, samples: usize) -> Self {
        Self::new(text, Form::Json { ids, samples })
    }

    fn new(text: &'a Text, form: Form<'a>) -> Self {
        Self(Mutex::new(State { text, form, waiting: BTreeMap::new(), next: 0, distinct: BTreeSet::new(), error: None }))
    }

    /// Prints the tokens or responses that an event completes. Keeps the first error for [`Output::finish`].
    pub fn on_event(&self, event: Event) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.error.is_none() {
            state.error = state.on_event(event).err();
        }
    }

    /// On a terminal, prints the number of distinct responses.
    ///
    /// # Errors
    /// If a response could not be decoded or printed.
    pub fn finish(self) -> Result<()> {
        let state = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = state.error {
            return Err(error);
        }
        if matches!(state.form, Form::Text) && std::io::stderr().is_terminal() {
            message!("{} responses, {} distinct", state.next, state.distinct.len());
        }
        Ok(())
    }
}

impl State<'_> {
    fn on_event(&mut self, event: Event) -> Result<()> {
        match (event, &mut self.form) {
            (Event::Token { token, .. }, Form::Stream(Some(stream))) => print(&stream.push(token)?),
            (Event::Finished { .. }, Form::Stream(stream)) => {
                let rest = stream.take().map(TokenStream::finish).transpose()?.unwrap_or_default();
                print(&format!("{rest}\n"))
            }
            (Event::Finished { request, completion }, _) => {
                self.waiting.insert(request, completion.clone());
                while let Some(completion) = self.waiting.remove(&self.next) {
                    self.line(&completion)?;
                    self.next += 1;
                }
                Ok(())
            }
            (Event::Token { .. }, _) => Ok(()),
        }
    }

    fn line(&mut self, completion: &Completion) -> Result<()> {
        let text = self.text.decode(&completion.ids)?;
        let Completion { ids: completion_ids, logprobs, finish, .. } = completion;
        if let Form::Json { ids, samples } = &self.form {
            let sum: f64 = logprobs.iter().map(|logprob| f64::from(*logprob)).sum();
            let (id, sample) = (&ids[self.next / samples], self.next % samples);
            let line = json!({"id": id, "sample": sample, "text": text, "completion_ids": completion_ids, "logprobs": logprobs, "sum": sum, "finish": finish});
            return print(&format!("{line}\n"));
        }
        let cut = if *finish == FinishReason::Length { " [cut off]" } else { "" };
        print(&format!("{}:{text}{cut}\n", self.next))?;
        self.distinct.insert(text);
        Ok(())
    }
}

/// Like `print!`, but returns an error instead of panicking when stdout is closed, escapes control characters on a terminal, and appears
/// above the progress there.
fn print(text: &str) -> Result<()> {
    let write = || {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(for_stdout(text).as_bytes()).and_then(|()| stdout.flush())
    };
    let written = if std::io::stdout().is_terminal() { progress::aside(write) } else { write() };
    written.context("cannot write to stdout")
}
