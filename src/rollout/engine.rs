//! The rollout engine: each worker schedules, computes and samples its share of the requests until all responses are complete.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use candle_core::Tensor;

use super::limits::{EngineLoad, EngineSettings, Limits};
use super::request::{Event, Request, SamplingSettings};
use super::scheduler::{Admission, Scheduler, Sequence};
use crate::flow::{Completion, FinishReason, MaskedSample};
use crate::interrupt::Interrupt;
use crate::kernels::{BLOCK, Indices, Kernels, PendingSample, SamplerOutput, SamplingParams, is_out_of_memory};
use crate::model::decoder::Cache;
use crate::model::{Decoder, Packed};
use crate::workers::Workers;

/// The model's logits are not finite, so no token can be sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NonFiniteLogits;

impl std::fmt::Display for NonFiniteLogits {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        out.write_str("the model's logits are not finite: the weights are corrupt or training has diverged")
    }
}

impl std::error::Error for NonFiniteLogits {}

/// Samples responses with a decoder, on several workers.
pub struct Engine<'a> {
    /// The model.
    pub decoder: &'a Decoder,
    /// The workers that the requests are divided among.
    pub workers: &'a Workers,
    /// Limits on batch sizes and memory.
    pub settings: &'a EngineSettings,
    /// Ids of the tokens that end a response.
    pub end_tokens: &'a [u32],
    /// The tokenizer's vocabulary size. Larger ids have no text and are never sampled.
    pub vocabulary: usize,
    /// Checked before each step of a worker.
    pub interrupt: &'a Interrupt,
}

impl Engine<'_> {
    /// Samples one completion per request and returns them in the order of the requests. Workers call `observe` with every event,
    /// concurrently.
    ///
    /// # Errors
    /// If a prompt is empty, `max_new_tokens` is 0 or exceeds the context length, the configured cache is too small, a kernel fails, the
    /// logits are not finite ([`NonFiniteLogits`]), or an immediate stop was requested ([`Interrupted`](crate::interrupt::Interrupted)).
    pub fn generate(&self, requests: &[Request], sampling: &SamplingSettings, observe: &(dyn Fn(Event) + Sync)) -> Result<Vec<Completion>> {
        let context_length = self.decoder.config.context_length;
        for request in requests {
            let length = request.ids.len();
            ensure!(length > 0, "a prompt has no tokens; it must have at least one");
            ensure!(request.max_new_tokens > 0, "max_new_tokens is 0; it must be at least 1");
            ensure!(
                length + request.max_new_tokens <= context_length,
                "a prompt of {length} tokens and up to {} new ones exceed the model's context length of {context_length}: lower max_new_tokens",
                request.max_new_tokens
            );
        }
        let workers = self.workers.count();
        let completions_by_worker = self.workers.run(|worker| {
            let indices: Vec<usize> = (worker..requests.len()).step_by(workers).collect();
            let mut worker = Worker::new(self, requests, &indices, sampling, observe)?;
            worker.run()?;
            Ok(worker.completions)
        })?;
        let mut completions: Vec<Option<Completion>> = vec![None; requests.len()];
        for (worker, done) in completions_by_worker.into_iter().enumerate() {
            done.into_iter().enumerate().for_each(|(i, completion)| completions[worker + i * workers] = Some(completion));
        }
        completions.into_iter().map(|completion| completion.ok_or_else(|| anyhow::anyhow!("a request was not answered"))).collect()
    }
}

/// The state of one worker during a call. Unless noted otherwise, requests and prompts are numbered within the worker.
struct Worker<'a> {
    engine: &'a Engine<'a>,
    requests: &'a [Request],
    /// The index in `requests` of each of the worker's requests.
    indices: &'a [usize],
    sampling: &'a SamplingSettings,
    observe: &'a (dyn Fn(Event) + Sync),
    limits: Limits,
    prompts: Vec<Arc<[u32]>>,
    scheduler: Scheduler,
    cache: Cache,
    /// The logits `[1, v]` after each resident prompt.
    prompt_logits: HashMap<usize, Tensor>,
    completions: Vec<Completion>,
    ended: Vec<bool>,
}

/// Sampled tokens that the host has not read yet: one for each of `requests`, in order.
struct Pending {
    requests: Vec<usize>,
    /// The tokens in chunks of rows.
    chunks: Vec<PendingSample>,
}

impl Pending {
    /// Returns the tokens `[n]` of each chunk on the device; `None` if the kernels return tokens to the host right away.
    fn on_device(&self) -> Option<Vec<&Tensor>> {
        self.chunks.iter().map(PendingSample::on_device).collect()
    }

    /// Returns the pending tokens `[n]` of the requests `continuing`, which must be in the order of `self.requests`.
    fn tokens(&self, continuing: &[usize], kernels: &dyn Kernels) -> Result<Tensor> {
        let tokens = match self.on_device().unwrap_or_default().as_slice() {
            [tokens] => (*tokens).clone(),
            several => kernels.stack(several)?,
        };
        if continuing == self.requests {
            return Ok(tokens);
        }
        let mut rows = self.requests.iter().enumerate();
        let rows = continuing.iter().map(|request| rows.find(|(_, pending)| *pending == request).map(|(row, _)| row as u32));
        let rows: Vec<u32> = rows.collect::<Option<_>>().context("a running sequence has no pending token")?;
        let count = tokens.elem_count();
        Ok(kernels.gather(&tokens.reshape((count, 1))?, &kernels.indices(&rows)?)?.flatten_all()?)
    }
}

impl<'a> Worker<'a> {
    fn new(
        engine: &'a Engine<'a>,
        requests: &'a [Request],
        indices: &'a [usize],
        sampling: &'a SamplingSettings,
        observe: &'a (dyn Fn(Event) + Sync),
    ) -> Result<Self> {
        let (mut prompts, mut index_of, mut prompt_of_request) = (Vec::<Arc<[u32]>>::new(), HashMap::<&[u32], usize>::new(), Vec::new());
        for request in indices.iter().map(|r| &requests[*r]) {
            prompt_of_request.push(*index_of.entry(&request.ids).or_insert_with(|| {
                prompts.push(request.ids.clone());
                prompts.len() - 1
            }));
        }
        let load = EngineLoad {
            prompts: prompts.iter().map(|prompt| prompt.len()).collect(),
            requests: indices.len(),
            max_new_tokens: indices.iter().map(|r| requests[*r].max_new_tokens).max().unwrap_or(0),
        };
        let (settings, target, workers, config) =
            (engine.settings, engine.decoder.target(), engine.workers.count(), &engine.decoder.config);
        let limits = settings.limits(&target, workers);
        let blocks = settings.blocks(config, &target, workers, &load)?;
        let cache = allocate(engine.decoder, blocks, load.min_blocks())?;
        let masked = sampling.records_sampling_mask.then(MaskedSample::default);
        let empty = Completion { ids: Vec::new(), logprobs: Vec::new(), finish: FinishReason::Length, masked };
        Ok(Self {
            engine,
            requests,
            indices,
            sampling,
            observe,
            limits,
            scheduler: Scheduler::new(cache.blocks(), limits.running, &load.prompts, &prompt_of_request),
            cache,
            prompts,
            prompt_logits: HashMap::new(),
            completions: vec![empty; indices.len()],
            ended: vec![false; indices.len()],
        })
    }

    fn kernels(&self) -> &'a dyn Kernels {
        self.engine.decoder.kernels()
    }

    /// Runs until all requests are complete. If sampled tokens stay on the device, the next pass starts before the host reads them; the
    /// host then notices the end of a sequence one token late and drops the extra token.
    fn run(&mut self) -> Result<()> {
        let mut pending = None;
        while !self.scheduler.is_done() {
            self.engine.interrupt.check()?;
            if let Err(error) = self.step(&mut pending) {
                let running = self.scheduler.running.len();
                if !is_out_of_memory(&error) || running < 2 {
                    return Err(error);
                }
                self.commit(pending.take())?;
                self.prompt_logits.clear();
                self.scheduler.preempt_all();
                self.limits.prefill_tokens /= 2;
                tracing::warn!(running, half = running / 2, "the device is out of memory: sampling half as many responses at once");
            }
        }
        tracing::debug!(requests = self.indices.len(), preemptions = self.scheduler.preemptions, "worker done");
        Ok(())
    }

    /// Admits sequences, then samples one token for every running sequence.
    fn step(&mut self, pending: &mut Option<Pending>) -> Result<()> {
        if self.scheduler.can_admit() || !self.scheduler.can_append_slots() {
            self.commit(pending.take())?;
        }
        if pending.is_none() {
            let admission = self.scheduler.admit();
            self.start(&admission)?;
        }
        self.scheduler.append_slots();
        let next = self.advance(pending.as_ref())?;
        self.commit(pending.take())?;
        match next {
            Some(next) if next.on_device().is_some() => *pending = Some(next),
            next => self.commit(next)?,
        }
        Ok(())
    }

    /// Computes new prompts and preempted sequences, then samples the next token of every admitted sequence.
    fn start(&mut self, admission: &Admission) -> Result<()> {
        for group in by_tokens(&admission.prefill, self.limits.prefill_tokens, |(prompt, _)| self.prompts[*prompt].len()) {
            let sequences: Vec<(&[u32], &[u32])> =
                group.iter().map(|(prompt, table)| (&*self.prompts[*prompt], table.as_slice())).collect();
            let logits = self.prefill(&sequences)?;
            for (row, (prompt, _)) in group.iter().enumerate() {
                self.prompt_logits.insert(*prompt, logits.narrow(0, row, 1)?.contiguous()?);
            }
        }
        self.cache.copy_blocks(&admission.copies, self.engine.decoder)?;
        for sequences in admission.fresh.chunks(self.limits.logit_rows) {
            let rows = sequences.iter().map(|sequence| &self.prompt_logits[&sequence.prompt]).collect::<Vec<_>>();
            // `stack` copies even a single row: sampling overwrites its logits, and other sequences of the prompt may need them.
            let logits = self.kernels().stack(&rows)?;
            self.sample_now(sequences, logits)?;
        }
        for sequence in &admission.restored {
            let tokens = [&self.prompts[sequence.prompt], self.completions[sequence.request].ids.as_slice()].concat();
            let logits = self.prefill(&[(&tokens, &sequence.table)])?;
            self.sample_now(std::slice::from_ref(sequence), logits)?;
        }
        let scheduler = &self.scheduler;
        self.prompt_logits.retain(|prompt, _| scheduler.is_resident(*prompt));
        Ok(())
    }

    /// Computes whole sequences `(tokens, cache blocks)` and fills their blocks. Returns the logits `[n, v]` after the last token of each.
    fn prefill(&self, sequences: &[(&[u32], &[u32])]) -> Result<Tensor> {
        let (mut packed, mut slots, mut last) = (Packed::new(), Vec::new(), Vec::new());
        for (tokens, table) in sequences {
            last.push(packed.push_segment(tokens, 0, 0..0).end as u32 - 1);
            slots.extend((0..tokens.len()).map(|t| slot(table, t)));
        }
        let hidden = self.engine.decoder.prefill(&packed, &self.cache, &slots)?;
        self.engine.decoder.logits(&hidden, &last)
    }

    /// Computes the newest token, possibly still pending, of every running sequence below its `max_new_tokens`, and samples the next one.
    /// Returns `None` if there is no such sequence.
    fn advance(&mut self, pending: Option<&Pending>) -> Result<Option<Pending>> {
        let continues = |sequence: &&Sequence| sequence.generated < self.requests[self.indices[sequence.request]].max_new_tokens;
        let continuing: Vec<&Sequence> = self.scheduler.running.iter().filter(continues).collect();
        if continuing.is_empty() {
            return Ok(None);
        }
        let requests: Vec<usize> = continuing.iter().map(|sequence| sequence.request).collect();
        let counts: Vec<usize> = continuing.iter().map(|sequence| self.prompts[sequence.prompt].len() + sequence.generated).collect();
        let tables: Vec<&[u32]> = continuing.iter().map(|sequence| sequence.table.as_slice()).collect();
        let slots: Vec<u32> = tables.iter().zip(&counts).map(|(table, count)| slot(table, count - 1)).collect();
        let newest: Vec<u32>;
        let tokens = match pending {
            Some(pending) => Indices::Device(pending.tokens(&requests, self.kernels())?),
            None => {
                newest = continuing.iter().map(|sequence| self.completions[sequence.request].ids[sequence.generated - 1]).collect();
                self.kernels().indices(&newest)?
            }
        };
        let hidden = self.engine.decoder.decode(&tokens, &counts, &tables, &slots, &self.cache)?;
        let mut chunks = Vec::new();
        for (index, sequences) in continuing.chunks(self.limits.logit_rows).enumerate() {
            let first = (index * self.limits.logit_rows) as u32;
            let rows: Vec<u32> = (first..first + sequences.len() as u32).collect();
            let logits = self.engine.decoder.logits(&hidden, &rows)?;
            chunks.push(self.sample_rows(sequences.iter().map(|sequence| (sequence.request, sequence.generated)), logits)?);
        }
        self.count_sampled(&requests);
        Ok(Some(Pending { requests, chunks }))
    }

    /// Samples the next token of each `(request, number of generated tokens)` from its row of logits.
    fn sample_rows(&self, sequences: impl Iterator<Item = (usize, usize)>, logits: Tensor) -> Result<PendingSample> {
        let limit = self.engine.vocabulary.min(logits.dim(1)?);
        let uniforms: Vec<f32> =
            sequences.map(|(request, generated)| self.sampling.uniform(&self.requests[self.indices[request]], generated)).collect();
        let params = SamplingParams { temperature: self.sampling.temperature, filter: self.sampling.filter, uniforms: &uniforms };
        match self.sampling.records_sampling_mask {
            true => Ok(self.kernels().sample_with_mask(logits, limit, &params)?),
            false => Ok(self.kernels().sample(logits, limit, &params)?),
        }
    }

    /// Counts one more token for each of `requests`, which must be in the order of the running sequences.
    fn count_sampled(&mut self, requests: &[usize]) {
        let mut requests = requests.iter().peekable();
        for sequence in &mut self.scheduler.running {
            if requests.next_if_eq(&&sequence.request).is_some() {
                sequence.generated += 1;
            }
        }
    }

    /// Samples and commits the first tokens of newly admitted sequences.
    fn sample_now(&mut self, sequences: &[Sequence], logits: Tensor) -> Result<()> {
        let chunk = self.sample_rows(sequences.iter().map(|sequence| (sequence.request, sequence.generated)), logits)?;
        let requests: Vec<usize> = sequences.iter().map(|sequence| sequence.request).collect();
        self.count_sampled(&requests);
        self.commit(Some(Pending { requests, chunks: vec![chunk] }))
    }

    /// Reads pending tokens, appends them to the completions, and finishes complete sequences.
    fn commit(&mut self, pending: Option<Pending>) -> Result<()> {
        let Some(Pending { requests, chunks }) = pending else { return Ok(()) };
        let mut requests = requests.into_iter();
        for chunk in chunks {
            let sampled = chunk.read()?;
            for (row, request) in (0..sampled.tokens.len()).zip(&mut requests) {
                if self.ended[request] {
                    continue;
                }
                let masked_logprob = sampled.masked.as_ref().map_or(0.0, |masked| masked.logprobs[row]);
                if !sampled.logprobs[row].is_finite() || !masked_logprob.is_finite() {
                    return Err(NonFiniteLogits.into());
                }
                self.append_token(request, &sampled, row);
            }
        }
        Ok(())
    }

    fn append_token(&mut self, request: usize, sampled: &SamplerOutput, row: usize) {
        let (completion, token) = (&mut self.completions[request], sampled.tokens[row]);
        completion.ids.push(token);
        completion.logprobs.push(sampled.logprobs[row]);
        if let (Some(record), Some(masked)) = (&mut completion.masked, &sampled.masked) {
            record.mask.push_runs(masked.mask.runs(row));
            record.logprobs.push(masked.logprobs[row]);
        }
        (self.observe)(Event::Token { request: self.indices[request], token });
        let stopped = self.engine.end_tokens.contains(&token);
        if stopped {
            completion.finish = FinishReason::Stop;
        }
        if stopped || completion.ids.len() >= self.requests[self.indices[request]].max_new_tokens {
            self.ended[request] = true;
            self.scheduler.finish(request);
            (self.observe)(Event::Finished { request: self.indices[request], completion });
        }
    }
}

/// Allocates a cache with `blocks` blocks. If the device is out of memory, retries with half as many until `min`.
fn allocate(decoder: &Decoder, blocks: usize, min: usize) -> Result<Cache> {
    match decoder.cache(blocks) {
        Err(error) if is_out_of_memory(&error) && blocks > min => {
            tracing::warn!(blocks, "the key/value cache does not fit in the device's memory: retrying with half the blocks");
            allocate(decoder, (blocks / 2).max(min), min)
        }
        cache => cache,
    }
}

/// Returns the cache slot of a sequence's token `t` (from 0), given the sequence's blocks.
fn slot(table: &[u32], t: usize) -> u32 {
    table[t / BLOCK] * BLOCK as u32 + (t % BLOCK) as u32
}

/// Groups consecutive items whose sizes add up to at most `budget`. Each group has at least one item.
fn by_tokens<T>(items: &[T], budget: usize, size: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let (mut groups, mut start, mut total) = (Vec::new(), 0, 0);
    for (index, item) in items.iter().enumerate() {
        if index > start && total + size(item) > budget {
            groups.push(&items[start..index]);
            (start, total) = (index, 0);
        }
        total += size(item);
    }
    if start < items.len() {
        groups.push(&items[start..]);
    }
    groups
}

#[cfg(test)]
mod tests;
