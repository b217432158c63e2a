//! The engine: each lane schedules, computes and samples its share of the requests until all have ended.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Result, ensure};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::pages::Pages;
use super::request::{Request, SamplingSettings};
use super::scheduler::{Admission, Scheduler, Sequence};
use crate::flow::{Completion, Finish};
use crate::kernels::{BLOCK, Choice};
use crate::lanes::Lanes;
use crate::model::decoder::Cache;
use crate::model::{Decoder, ModelConfig, Packed, block};

/// Rows of logits held at once.
const LOGIT_ROWS: usize = 256;

/// The engine's limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineSettings {
    /// Most sequences that run at once, over all lanes.
    pub max_running: usize,
    /// Most memory for the key/value cache, over all lanes, in MiB.
    pub kv_cache_mib: usize,
    /// Most prompt tokens computed in one pass.
    pub prefill_tokens: usize,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self { max_running: 256, kv_cache_mib: 4096, prefill_tokens: 2048 }
    }
}

/// What happened to a request, told as it happens, from any lane.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A token was sampled.
    Token {
        /// The request's number.
        request: usize,
        /// The token.
        token: u32,
    },
    /// The response is complete.
    Finished {
        /// The request's number.
        request: usize,
        /// All of it.
        completion: &'a Completion,
    },
}

/// Samples responses with a decoder.
pub struct Engine<'a> {
    /// The model.
    pub decoder: &'a Decoder,
    /// Where sequences are dealt to.
    pub lanes: &'a Lanes,
    /// The limits.
    pub settings: &'a EngineSettings,
    /// Tokens that end a response.
    pub end_tokens: &'a [u32],
    /// Token ids from here on have no text and are never sampled.
    pub vocabulary: usize,
}

impl Engine<'_> {
    /// Samples one completion per request, in the order of the requests.
    pub fn generate(&self, requests: &[Request], sampling: &SamplingSettings, observe: &(dyn Fn(Event) + Sync)) -> Result<Vec<Completion>> {
        let window = self.decoder.config.window;
        for request in requests {
            let length = request.ids.len();
            ensure!(length > 0, "a prompt without tokens cannot be continued");
            ensure!(request.max_new > 0, "a response of at most 0 tokens was asked for; max_new must be at least 1");
            ensure!(
                length + request.max_new <= window,
                "a prompt of {length} tokens and up to {} new ones do not fit the model's window of {window}; lower max_new",
                request.max_new
            );
        }
        let lanes = self.lanes.count();
        let dealt = self.lanes.run(|lane| {
            let own: Vec<usize> = (lane..requests.len()).step_by(lanes).collect();
            Lane::new(self, requests, &own, sampling, observe)?.run()
        })?;
        let mut completions: Vec<Option<Completion>> = vec![None; requests.len()];
        for (lane, done) in dealt.into_iter().enumerate() {
            done.into_iter().enumerate().for_each(|(i, completion)| completions[lane + i * lanes] = Some(completion));
        }
        completions.into_iter().map(|completion| completion.ok_or_else(|| anyhow::anyhow!("a request was not answered"))).collect()
    }
}

/// One lane's share of a call.
struct Lane<'a> {
    engine: &'a Engine<'a>,
    requests: &'a [Request],
    /// Numbers of the lane's requests in `requests`.
    own: &'a [usize],
    sampling: &'a SamplingSettings,
    observe: &'a (dyn Fn(Event) + Sync),
    prompts: Vec<Arc<[u32]>>,
    scheduler: Scheduler,
    cache: Cache,
    /// Logits `[1, v]` after each resident prompt.
    prompt_logits: HashMap<usize, Tensor>,
    completions: Vec<Completion>,
}

impl<'a> Lane<'a> {
    fn new(
        engine: &'a Engine<'a>,
        requests: &'a [Request],
        own: &'a [usize],
        sampling: &'a SamplingSettings,
        observe: &'a (dyn Fn(Event) + Sync),
    ) -> Result<Self> {
        let (mut prompts, mut numbers, mut of_request) = (Vec::<Arc<[u32]>>::new(), HashMap::<&[u32], usize>::new(), Vec::new());
        for request in own.iter().map(|r| &requests[*r]) {
            of_request.push(*numbers.entry(&request.ids).or_insert_with(|| {
                prompts.push(request.ids.clone());
                prompts.len() - 1
            }));
        }
        let max_new = own.iter().map(|r| requests[*r].max_new).max().unwrap_or(0);
        let lengths: Vec<usize> = prompts.iter().map(|prompt| prompt.len()).collect();
        let (settings, lanes, config) = (engine.settings, engine.lanes.count(), &engine.decoder.config);
        let max_running = settings.running(lanes);
        let blocks = settings.blocks(config, lanes, &lengths, max_running.min(own.len()), max_new)?;
        Ok(Self {
            engine,
            requests,
            own,
            sampling,
            observe,
            scheduler: Scheduler::new(blocks, max_running, &lengths, &of_request),
            cache: engine.decoder.cache(blocks)?,
            prompts,
            prompt_logits: HashMap::new(),
            completions: vec![Completion { ids: Vec::new(), logprobs: Vec::new(), finish: Finish::Length }; own.len()],
        })
    }

    fn run(mut self) -> Result<Vec<Completion>> {
        while !self.scheduler.is_done() {
            let admission = self.scheduler.admit();
            self.start(&admission)?;
            self.scheduler.make_room();
            self.advance()?;
        }
        tracing::debug!(requests = self.own.len(), preemptions = self.scheduler.preemptions, "lane done");
        Ok(self.completions)
    }

    /// Computes new prompts, restores preempted sequences, and samples the next token of every admitted sequence.
    fn start(&mut self, admission: &Admission) -> Result<()> {
        for group in by_tokens(&admission.prefill, self.engine.settings.prefill_tokens, |(prompt, _)| self.prompts[*prompt].len()) {
            let sequences: Vec<(&[u32], &[u32])> =
                group.iter().map(|(prompt, table)| (&*self.prompts[*prompt], table.as_slice())).collect();
            let logits = self.prefill(&sequences)?;
            for (row, (prompt, _)) in group.iter().enumerate() {
                self.prompt_logits.insert(*prompt, logits.narrow(0, row, 1)?.contiguous()?);
            }
        }
        self.cache.copy_blocks(&admission.copies, self.engine.decoder)?;
        for sequences in admission.fresh.chunks(LOGIT_ROWS) {
            let rows = sequences.iter().map(|sequence| &self.prompt_logits[&sequence.prompt]).collect::<Vec<_>>();
            // A copy even of a single row: choosing uses it up, and the prompt may be asked again.
            let logits = Tensor::cat(&rows, 0)?.copy()?;
            self.sample(sequences, logits)?;
        }
        for sequence in &admission.restored {
            let tokens = [&self.prompts[sequence.prompt], self.completions[sequence.request].ids.as_slice()].concat();
            let logits = self.prefill(&[(&tokens, &sequence.table)])?;
            self.sample(std::slice::from_ref(sequence), logits)?;
        }
        let scheduler = &self.scheduler;
        self.prompt_logits.retain(|prompt, _| scheduler.is_resident(*prompt));
        Ok(())
    }

    /// Computes whole sequences into their blocks; logits after each one's last token.
    fn prefill(&self, sequences: &[(&[u32], &[u32])]) -> Result<Tensor> {
        let (mut packed, mut slots, mut last) = (Packed::new(), Vec::new(), Vec::new());
        for (tokens, table) in sequences {
            last.push(packed.push_segment(tokens, 0, 0..0).end as u32 - 1);
            slots.extend((0..tokens.len()).map(|t| slot(table, t)));
        }
        let hidden = self.engine.decoder.prefill(&packed, &self.cache, &slots)?;
        self.engine.decoder.logits(&hidden, &last)
    }

    /// Computes the newest token of every running sequence and samples the next.
    fn advance(&mut self) -> Result<()> {
        let running = self.scheduler.running.clone();
        if running.is_empty() {
            return Ok(());
        }
        let tokens: Vec<u32> = running.iter().map(|sequence| self.completions[sequence.request].ids[sequence.generated - 1]).collect();
        let counts: Vec<usize> = running.iter().map(|sequence| self.prompts[sequence.prompt].len() + sequence.generated).collect();
        let tables: Vec<&[u32]> = running.iter().map(|sequence| sequence.table.as_slice()).collect();
        let slots: Vec<u32> = tables.iter().zip(&counts).map(|(table, count)| slot(table, count - 1)).collect();
        let hidden = self.engine.decoder.decode(&tokens, &counts, &tables, &slots, &self.cache)?;
        for (index, sequences) in running.chunks(LOGIT_ROWS).enumerate() {
            let first = (index * LOGIT_ROWS) as u32;
            let rows: Vec<u32> = (first..first + sequences.len() as u32).collect();
            let logits = self.engine.decoder.logits(&hidden, &rows)?;
            self.sample(sequences, logits)?;
        }
        Ok(())
    }

    /// Chooses one token per sequence from its row of logits, records it, and ends what is complete.
    fn sample(&mut self, sequences: &[Sequence], logits: Tensor) -> Result<()> {
        let limit = self.engine.vocabulary.min(logits.dim(1)?);
        let uniform = |sequence: &Sequence| {
            let request = &self.requests[self.own[sequence.request]];
            self.sampling.uniform(request, self.completions[sequence.request].ids.len())
        };
        let uniforms: Vec<f32> = sequences.iter().map(uniform).collect();
        let choice = Choice { temperature: self.sampling.temperature, filter: self.sampling.filter, uniforms: &uniforms };
        let (chosen, logprobs) = self.engine.decoder.kernels().choose(logits, limit, &choice)?;
        for ((sequence, token), logprob) in sequences.iter().zip(chosen).zip(logprobs) {
            ensure!(logprob.is_finite(), "the model's logits are not finite; the weights are broken or training has diverged");
            self.record(sequence.request, token, logprob);
        }
        Ok(())
    }

    fn record(&mut self, request: usize, token: u32, logprob: f32) {
        let completion = &mut self.completions[request];
        completion.ids.push(token);
        completion.logprobs.push(logprob);
        (self.observe)(Event::Token { request: self.own[request], token });
        let tokens = completion.ids.len();
        let ended = self.engine.end_tokens.contains(&token);
        if ended {
            completion.finish = Finish::Stop;
        }
        if ended || tokens >= self.requests[self.own[request]].max_new {
            self.scheduler.finish(request);
            (self.observe)(Event::Finished { request: self.own[request], completion });
        } else if let Some(sequence) = self.scheduler.running.iter_mut().find(|sequence| sequence.request == request) {
            sequence.generated = tokens;
        }
    }
}

/// The requests of one call as numbers: what its memory depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// Lengths of the distinct prompts.
    pub prompts: Vec<usize>,
    /// Requests.
    pub requests: usize,
    /// Most tokens of a response.
    pub max_new: usize,
}

/// What a call of the engine holds at most, in bytes, over all lanes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineBytes {
    /// The key/value cache; it fills as responses grow.
    pub cache: usize,
    /// One pass over the running sequences, or over prompts.
    pub pass: usize,
    /// Logits.
    pub logits: usize,
}

impl EngineSettings {
    fn running(&self, lanes: usize) -> usize {
        self.max_running.div_ceil(lanes).max(1)
    }

    /// Blocks of a lane's cache: what its sequences can use at most, within the memory allowed, and at least what the longest one needs.
    fn blocks(&self, config: &ModelConfig, lanes: usize, prompts: &[usize], running: usize, max_new: usize) -> Result<usize> {
        let longest = prompts.iter().max().copied().unwrap_or(0);
        let least = Pages::blocks_for(longest + max_new) + 1;
        let wanted = running * least + prompts.iter().map(|prompt| Pages::blocks_for(*prompt)).sum::<usize>();
        let block_bytes = Cache::block_bytes(config);
        let allowed = (self.kv_cache_mib << 20) / lanes / block_bytes;
        ensure!(
            least <= allowed,
            "one sequence of {} tokens needs {} MiB of key/value cache, allowed are {} a lane; raise rollout.engine.kv_cache_mib or lower max_new",
            longest + max_new,
            (least * block_bytes).div_ceil(1 << 20),
            self.kv_cache_mib / lanes
        );
        Ok(wanted.clamp(least, allowed))
    }

    /// The memory of a call, from the sizes that it allocates.
    pub fn bytes(&self, config: &ModelConfig, lanes: usize, load: &Load) -> Result<EngineBytes> {
        let own = load.requests.div_ceil(lanes);
        let prompts = &load.prompts[..load.prompts.len().min(own)];
        let running = self.running(lanes).min(own);
        let blocks = self.blocks(config, lanes, prompts, running, load.max_new)?;
        let (longest, together) = (prompts.iter().max().copied().unwrap_or(0), prompts.iter().sum::<usize>());
        let rows = running.max(together.min(self.prefill_tokens)).max(longest);
        // Prompts that are admitted together each leave a row, and the first tokens are drawn from a copy.
        let logit_rows = running.min(LOGIT_ROWS) + prompts.len().min(running);
        Ok(EngineBytes {
            cache: lanes * blocks * Cache::block_bytes(config),
            pass: lanes * rows * block::pass_bytes(config),
            logits: lanes * logit_rows * config.vocabulary * size_of::<f32>(),
        })
    }
}

/// Where token number `t` of a sequence lies in the cache.
fn slot(table: &[u32], t: usize) -> u32 {
    table[t / BLOCK] * BLOCK as u32 + (t % BLOCK) as u32
}

/// Consecutive items whose sizes add up to at most `budget` (one item at least).
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
#[path = "engine_tests.rs"]
mod tests;
