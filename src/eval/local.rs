//! Generates responses with a model in this program.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use candle_core::DType;

use super::generator::{EvalRequest, GenerationConfig, Generator, Identity, OnResponse, Response};
use crate::checkpoint::Model;
use crate::flow::Completion;
use crate::interrupt::Interrupt;
use crate::kernels::{Filter, device_name};
use crate::output::Progress;
use crate::rng::Purpose;
use crate::rollout::limits::EngineSettings;
use crate::rollout::{Engine, Event, Request, SamplingSettings};
use crate::workers::Workers;

/// A model with the engine that samples from it.
pub struct LocalModel<'a> {
    /// The model.
    pub model: &'a Model,
    /// The version of the weights: a commit, a checksum, or a step of a run.
    pub revision: String,
    /// The date that the chat template inserts as today's date; empty if it inserts none.
    pub date: String,
    /// The worker threads that compute the sequences.
    pub workers: &'a Workers,
    /// The limits of the engine.
    pub engine: &'a EngineSettings,
    /// Stops generation at the next token when interrupted. Responses complete by then have been passed on.
    pub interrupt: &'a Interrupt,
    /// Counts the sampled tokens.
    pub progress: &'a Progress,
}

impl Generator for LocalModel<'_> {
    fn identity(&self) -> Identity {
        let (text, kernels) = (&self.model.text, self.model.decoder.kernels());
        Identity {
            model: self.model.name.clone(),
            revision: self.revision.clone(),
            dtype: if kernels.dtype() == DType::BF16 { "bf16" } else { "f32" }.to_owned(),
            device: device_name(kernels.device()),
            kernels: kernels.backend().to_owned(),
            template: text.template_checksum().unwrap_or("none").to_owned(),
            date: self.date.clone(),
        }
    }

    /// Generates nothing for a prompt that leaves no room for a response of `max_new_tokens` in the context length; its `finish` is `None`.
    fn generate(&self, eval_requests: &[EvalRequest], generation: &GenerationConfig, on_response: OnResponse) -> Result<()> {
        let max_prompt_tokens = self.model.decoder.config.context_length.saturating_sub(generation.max_new_tokens);
        let (mut requests, mut numbers) = (Vec::new(), Vec::new());
        let mut prompts: HashMap<u32, Arc<[u32]>> = HashMap::new();
        for (number, EvalRequest { problem, number: prompt, sample }) in eval_requests.iter().enumerate() {
            let ids = match prompts.get(prompt) {
                Some(ids) => ids.clone(),
                None => self.model.text.prompt(problem.clone(), "")?.ids,
            };
            prompts.insert(*prompt, ids.clone());
            if ids.len() > max_prompt_tokens {
                on_response(number, Response { text: String::new(), tokens: 0, finish: None })?;
                continue;
            }
            let (purpose, max_new_tokens) = (Purpose::Evaluation, generation.max_new_tokens);
            requests.push(Request { ids, max_new_tokens, purpose, step: 0, prompt: *prompt, sample: *sample });
            numbers.push(number);
        }
        let filter = Filter { top_p: generation.top_p as f32, ..Filter::default() };
        let sampling =
            SamplingSettings { temperature: generation.temperature as f32, filter, records_sampling_mask: false, seed: generation.seed };
        let engine = Engine {
            decoder: &self.model.decoder,
            workers: self.workers,
            settings: self.engine,
            end_tokens: &self.model.end_tokens,
            vocabulary: self.model.text.vocabulary(),
            interrupt: self.interrupt,
        };
        let failure = Mutex::new(None);
        let report = |request: usize, completion: &Completion| {
            let text = self.model.text.decode(&completion.ids)?;
            on_response(numbers[request], Response { text, tokens: completion.ids.len(), finish: Some(completion.finish) })
        };
        let observe = |event: Event| match event {
            Event::Token { .. } => self.progress.add_token(),
            Event::Finished { request, completion } => {
                if let Err(error) = report(request, completion) {
                    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
        };
        engine.generate(&requests, &sampling, &observe)?;
        failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}
