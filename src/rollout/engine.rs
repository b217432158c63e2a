//! The engine: each worker schedules, computes and samples its share of the requests until all responses are complete.

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

/// The error when the model's logits are not finite, so that nothing can be sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NonFiniteLogits;

impl std::fmt::Display for NonFiniteLogits {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        out.write_str("the model's logits are not finite; the weights are corrupt or training has diverged")
    }
}

impl std::error::Error for NonFiniteLogits {}

/// Samples responses with a decoder, on several workers.
pub struct Engine<'a> {
    /// The model.
    pub decoder: &'a Decoder,
    /// The workers that the requests are divided among.
    pub workers: &'a Workers,
    /// Limits of batch size and memory.
    pub settings: &'a EngineSettings,
    /// Ids of the tokens that end a response.
    pub end_tokens: &'a [u32],
    /// Ids from here on have no text and are never sampled.
    pub vocabulary: usize,
    /// Checked before every token.
    pub interrupt: &'a Interrupt,
}

impl Engine<'_> {
    /// Samples one completion per request, in the order of the requests. Workers call `observe` with every event.
    ///
    /// # Errors
    /// If a request is empty or exceeds the context length, a kernel fails, the logits are not finite ([`NonFiniteLogits`]), or a stop was
    /// requested ([`Interrupted`](crate::interrupt::Interrupted)).
    pub fn generate(&self, requests: &[Request], sampling: &SamplingSettings, observe: &(dyn Fn(Event) + Sync)) -> Result<Vec<Completion>> {
        let context_length = self.decoder.config.context_length;
        for request in requests {
            let length = request.ids.len();
            ensure!(length > 0, "a prompt has no tokens, expected at least one");
            ensure!(request.max_new_tokens > 0, "a response of at most 0 tokens was requested; max_new_tokens must be at least 1");
            ensure!(
                length + request.max_new_tokens <= context_length,
                "a prompt of {length} tokens and up to {} new ones exceed the model's context length of {context_length}; lower max_new_tokens",
                request.max_new_tokens
            );
        }
        let workers = self.workers.count();
        let dealt = self.workers.run(|worker| {
            let indices: Vec<usize> = (worker..requests.len()).step_by(workers).collect();
            let mut worker = Worker::new(self, requests, &indices, sampling, observe)?;
            worker.run()?;
            Ok(worker.completions)
        })?;
        let mut completions: Vec<Option<Completion>> = vec![None; requests.len()];
        for (worker, done) in dealt.into_iter().enumerate() {
            done.into_iter().enumerate().for_each(|(i, completion)| completions[worker + i * workers] = Some(completion));
        }
        completions.into_iter().map(|completion| completion.ok_or_else(|| anyhow::anyhow!("a request was not answered"))).collect()
    }
}

/// The state of one worker in a call. Requests and prompts are numbered within the worker.
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
    /// Logits `[1, v]` after each resident prompt.
    prompt_logits: HashMap<usize, Tensor>,
    completions: Vec<Completion>,
    ended: Vec<bool>,
}

/// Sampled tokens that the host has not read yet: one for each of `requests`, in chunks.
struct Pending {
    requests: Vec<usize>,
    chosen: Vec<PendingSample>,
}

impl Pending {
    /// The tokens `[n]` of each chunk, if the device has them before the host does.
    fn on_device(&self) -> Option<Vec<&Tensor>> {
        self.chosen.iter().map(PendingSample::on_device).collect()
    }

    /// The pending tokens `[n]` of the requests `continuing`, which must be in the order of `self.requests`.
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
        let (mut prompts, mut numbers, mut of_request) = (Vec::<Arc<[u32]>>::new(), HashMap::<&[u32], usize>::new(), Vec::new());
        for request in indices.iter().map(|r| &requests[*r]) {
            of_request.push(*numbers.entry(&request.ids).or_insert_with(|| {
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
        let cache = allocate(engine.decoder, blocks, load.least_blocks())?;
        let truncated = sampling.records_sampling_mask.then(MaskedSample::default);
        let empty = Completion { ids: Vec::new(), logprobs: Vec::new(), finish: FinishReason::Length, truncated };
        Ok(Self {
            engine,
            requests,
            indices,
            sampling,
            observe,
            limits,
            scheduler: Scheduler::new(cache.blocks(), limits.running, &load.prompts, &of_request),
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

    /// Runs until all requests are complete. If the device samples tokens before the host reads them, the next pass starts before they are
    /// read: the end of a sequence is then noticed one token late, and the extra token is dropped.
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
                tracing::warn!(running, half = running / 2, "the device is out of memory: fewer responses are sampled at once");
            }
        }
        tracing::debug!(requests = self.indices.len(), preemptions = self.scheduler.preemptions, "worker done");
        Ok(())
    }

    /// Admits sequences, then computes and samples one token of every running sequence.
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

    /// Computes new prompts, recomputes preempted sequences, and samples the next token of every admitted sequence.
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
            // Copy even a single row: sampling overwrites the logits, and other sequences may need those of the same prompt.
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

    /// Computes whole sequences and fills their cache blocks. Returns the logits after the last token of each, `[n, v]`.
    fn prefill(&self, sequences: &[(&[u32], &[u32])]) -> Result<Tensor> {
        let (mut packed, mut slots, mut last) = (Packed::new(), Vec::new(), Vec::new());
        for (tokens, table) in sequences {
            last.push(packed.push_segment(tokens, 0, 0..0).end as u32 - 1);
            slots.extend((0..tokens.len()).map(|t| slot(table, t)));
        }
        let hidden = self.engine.decoder.prefill(&packed, &self.cache, &slots)?;
        self.engine.decoder.logits(&hidden, &last)
    }

    /// Computes the newest token of every running sequence that continues, and samples the next one. The newest tokens may be pending.
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
        let mut chosen = Vec::new();
        for (index, sequences) in continuing.chunks(self.limits.logit_rows).enumerate() {
            let first = (index * self.limits.logit_rows) as u32;
            let rows: Vec<u32> = (first..first + sequences.len() as u32).collect();
            let logits = self.engine.decoder.logits(&hidden, &rows)?;
            chosen.push(self.sample_rows(sequences.iter().map(|sequence| (sequence.request, sequence.generated)), logits)?);
        }
        self.sampled(&requests);
        Ok(Some(Pending { requests, chosen }))
    }

    /// Starts to sample the next token of each `(request, number of generated tokens)` from its row of logits.
    fn sample_rows(&self, sequences: impl Iterator<Item = (usize, usize)>, logits: Tensor) -> Result<PendingSample> {
        let limit = self.engine.vocabulary.min(logits.dim(1)?);
        let uniforms: Vec<f32> =
            sequences.map(|(request, generated)| self.sampling.uniform(&self.requests[self.indices[request]], generated)).collect();
        let choice = SamplingParams { temperature: self.sampling.temperature, filter: self.sampling.filter, uniforms: &uniforms };
        match self.sampling.records_sampling_mask {
            true => Ok(self.kernels().sample_with_mask(logits, limit, &choice)?),
            false => Ok(self.kernels().sample(logits, limit, &choice)?),
        }
    }

    /// Counts one more token for each of `requests`, which must be in the order of the running sequences.
    fn sampled(&mut self, requests: &[usize]) {
        let mut requests = requests.iter().peekable();
        for sequence in &mut self.scheduler.running {
            if requests.next_if_eq(&&sequence.request).is_some() {
                sequence.generated += 1;
            }
        }
    }

    /// Samples and commits the first tokens of newly admitted sequences.
    fn sample_now(&mut self, sequences: &[Sequence], logits: Tensor) -> Result<()> {
        let chosen = self.sample_rows(sequences.iter().map(|sequence| (sequence.request, sequence.generated)), logits)?;
        let requests: Vec<usize> = sequences.iter().map(|sequence| sequence.request).collect();
        self.sampled(&requests);
        self.commit(Some(Pending { requests, chosen: vec![chosen] }))
    }

    /// Reads pending tokens, records them, and finishes complete sequences.
    fn commit(&mut self, pending: Option<Pending>) -> Result<()> {
        let Some(Pending { requests, chosen }) = pending else { return Ok(()) };
        let mut requests = requests.into_iter();
        for chosen in chosen {
            let drawn = chosen.read()?;
            for (row, request) in (0..drawn.tokens.len()).zip(&mut requests) {
                if self.ended[request] {
                    continue;
                }
                let among_kept = drawn.truncated.as_ref().map_or(0.0, |truncated| truncated.logprobs[row]);
                if !drawn.logprobs[row].is_finite() || !among_kept.is_finite() {
                    return Err(NonFiniteLogits.into());
                }
                self.record(request, &drawn, row);
            }
        }
        Ok(())
    }

    fn record(&mut self, request: usize, drawn: &SamplerOutput, row: usize) {
        let (completion, token) = (&mut self.completions[request], drawn.tokens[row]);
        completion.ids.push(token);
        completion.logprobs.push(drawn.logprobs[row]);
        if let (Some(record), Some(truncated)) = (&mut completion.truncated, &drawn.truncated) {
            record.kept.push_runs(truncated.kept.runs(row));
            record.logprobs.push(truncated.logprobs[row]);
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

/// Allocates a cache of `blocks` blocks. While the device is out of memory, retries with half as many, but not fewer than `least`.
fn allocate(decoder: &Decoder, blocks: usize, least: usize) -> Result<Cache> {
    match decoder.cache(blocks) {
        Err(error) if is_out_of_memory(&error) && blocks > least => {
            tracing::warn!(blocks, "the device has no memory for this key/value cache: retrying with half the size");
            allocate(decoder, (blocks / 2).max(least), least)
        }
        cache => cache,
    }
}

/// The cache slot of token number `t` of a sequence.
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
