//! Responses as they come: one as its tokens do, several in the order of their prompts, each as soon as it and those before it are complete.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::flow::{Completion, Finish};
use crate::output::for_stdout;
use crate::rollout::Event;
use crate::text::{Text, TokenStream};

/// Hears of tokens and responses from all lanes, and prints.
pub struct Output<'a>(Mutex<State<'a>>);

struct State<'a> {
    text: &'a Text,
    form: Form<'a>,
    /// Complete responses that wait for one before them, by their requests.
    waiting: BTreeMap<usize, Completion>,
    next: usize,
    different: BTreeSet<String>,
    /// The first failure: there is nobody to tell before the end.
    failed: Option<anyhow::Error>,
}

enum Form<'a> {
    /// One response, token by token.
    Stream(Option<TokenStream<'a>>),
    /// One response a line.
    Text,
    /// One object a line, with the prompts' ids; so many responses to each.
    Json { ids: Vec<Value>, samples: usize },
}

impl<'a> Output<'a> {
    pub fn stream(text: &'a Text) -> Self {
        Self::new(text, Form::Stream(Some(text.stream())))
    }

    pub fn text(text: &'a Text) -> Self {
        Self::new(text, Form::Text)
    }

    pub fn json(text: &'a Text, ids: Vec<Value>, samples: usize) -> Self {
        Self::new(text, Form::Json { ids, samples })
    }

    fn new(text: &'a Text, form: Form<'a>) -> Self {
        Self(Mutex::new(State { text, form, waiting: BTreeMap::new(), next: 0, different: BTreeSet::new(), failed: None }))
    }

    pub fn hear(&self, event: Event) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.failed.is_none() {
            state.failed = state.hear(event).err();
        }
    }

    /// Says how the responses differ, or what went wrong in between.
    pub fn end(self) -> Result<()> {
        let state = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = state.failed {
            return Err(error);
        }
        if matches!(state.form, Form::Text) && std::io::stderr().is_terminal() {
            tell!("{} responses, {} different", state.next, state.different.len());
        }
        Ok(())
    }
}

impl State<'_> {
    fn hear(&mut self, event: Event) -> Result<()> {
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
        let cut = if *finish == Finish::Length { " [cut off]" } else { "" };
        print(&format!("{}:{text}{cut}\n", self.next))?;
        self.different.insert(text);
        Ok(())
    }
}

/// Unlike `print!`, a reader that went away is an error, not a panic; and a model's text does not steer a terminal.
fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(for_stdout(text).as_bytes()).and_then(|()| stdout.flush()).context("cannot write to the standard output")
}
