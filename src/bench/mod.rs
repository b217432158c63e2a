//! Measures how fast a model samples, scores and trains on responses of given lengths, and compares it with the machine's measured ceilings.
//! Each workload is warmed up and repeated; the report shows the median time.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

use crate::dist::World;
use crate::flow::{Completion, FinishReason, Prompt};
use crate::interrupt::Interrupt;
use crate::kernels::Profiler;
use crate::kernels::profiler::{Record, Recorder};
use crate::model::gradients::GradientSum;
use crate::model::{Decoder, Gradients, Packed};
use crate::optim::AdamW;
use crate::rng::Purpose;
use crate::rollout::limits::EngineLoad;
use crate::rollout::{Engine, Request};
use crate::train::RunSettings;
use crate::train::plan::ActivationPlan;
use crate::train::rollouts::sampling;
use crate::train::update::{Packing, Sample, Sequence, Updater, apply};
use crate::workers::Workers;

pub mod ceilings;
pub mod cost;
mod decode;
pub mod exchange;
pub mod lengths;
pub mod measurement;
pub mod trace;
pub mod workload;

pub use ceilings::Ceilings;
use decode::Decoding;
pub use lengths::LogNormal;
pub use measurement::{Machine, Measurement};
pub use workload::{WORKLOADS, Workload};

/// Tokens per scoring batch, as in `rlvr score` by default.
const SCORE_TOKENS: usize = 4096;

/// A benchmark: a model, one prompt, and the lengths of the responses to it.
pub struct Bench<'a> {
    /// The model.
    pub decoder: &'a Decoder,
    /// Number of token ids that the tokenizer knows. The embedding may have more rows.
    pub vocabulary: usize,
    /// The threads that compute the workloads.
    pub workers: &'a Workers,
    /// Settings for sampling, loss and optimizer.
    pub settings: &'a RunSettings,
    /// The prompt that all responses answer.
    pub prompt: Prompt,
    /// Response lengths in tokens.
    pub lengths: Vec<usize>,
    /// How often to repeat a workload.
    pub repeats: Repeats,
}

/// How often a workload is repeated.
#[derive(Clone, Copy, Debug)]
pub struct Repeats {
    /// Minimum number of repeats.
    pub min_repeats: usize,
    /// Minimum total time of the repeats, in seconds.
    pub seconds: f64,
    /// A workload whose first run takes longer than this, in seconds, is not repeated.
    pub skip_repeats_above_s: f64,
    /// Whether to run the workload once more to time each operation.
    pub breakdown: bool,
}

/// State that workloads share: the trainer for updates, the latest rollouts, and a cache for decoding.
#[derive(Default)]
pub struct State {
    trainer: Option<Trainer>,
    completions: Option<Vec<Completion>>,
    decoding: Option<Decoding>,
}

struct Trainer {
    completions: Vec<Completion>,
    reference: Option<Decoder>,
    gradients: Vec<Gradients>,
    optimizer: AdamW,
}

/// Sorted times of the repeats, in seconds.
struct Times {
    sorted_s: Vec<f64>,
    warmed_up: bool,
    began_unix_ns: u64,
    ended_unix_ns: u64,
}

fn unix_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

impl Bench<'_> {
    /// Samples `count` responses and returns their lengths in tokens.
    ///
    /// # Errors
    /// If sampling fails.
    pub fn sampled_lengths(&self, count: usize, end_tokens: &[u32]) -> Result<Vec<usize>> {
        let completions = self.generate(self.decoder, &vec![self.settings.rollout.max_new_tokens; count], end_tokens)?;
        Ok(completions.into_iter().map(|completion| completion.ids.len()).collect())
    }

    /// Measures a workload, and relates it to the ceilings if they are given.
    ///
    /// # Errors
    /// If the workload fails, for example because it does not fit the device's memory.
    pub fn measure(&self, work: Workload, ceilings: Option<&Ceilings>, state: &mut State) -> Result<Measurement> {
        self.prepare(work, state)?;
        measurement::reset_peak_memory();
        let times = self.repeat(|| self.run(work, state, None))?;
        let (process_bytes, mut device_bytes) = (measurement::peak_rss_bytes(), self.device_bytes());
        let mut breakdown = Vec::new();
        if self.repeats.breakdown {
            let record = self.record(work, state)?;
            device_bytes = device_bytes.max(record.used_bytes);
            breakdown = measurement::breakdown(&record.spans);
        }
        let tokens = self.tokens(work) as f64;
        let (cost, parameter_flop) = (self.cost(work), self.parameter_flop(work, tokens));
        let median_s = times.sorted_s[times.sorted_s.len() / 2];
        let all_flop = cost.useful_flop + cost.reference_flop;
        let least_s = ceilings.map(|ceilings| all_flop / ceilings.product_flops() + cost.bytes / ceilings.copy_bytes_per_s);
        let utilization = |flop: f64| ceilings.map(|ceilings| flop / median_s / ceilings.product_flops());
        Ok(Measurement {
            work: work.to_string(),
            median_s,
            min_s: times.sorted_s[0],
            max_s: times.sorted_s[times.sorted_s.len() - 1],
            repeats: times.sorted_s.len(),
            warmed_up: times.warmed_up,
            began_unix_ns: times.began_unix_ns,
            ended_unix_ns: times.ended_unix_ns,
            tokens_per_s: tokens / median_s,
            flops: parameter_flop / median_s,
            share_of_ceiling: ceilings.map(|ceilings| parameter_flop / median_s / ceilings.widest_flops),
            useful_flop: cost.useful_flop,
            reference_flop: cost.reference_flop,
            utilisation: utilization(cost.useful_flop),
            utilisation_with_reference: utilization(all_flop),
            least_s,
            share_of_least: least_s.map(|least_s| least_s / median_s),
            peak_bytes: device_bytes.or(process_bytes),
            peak_of: if device_bytes.is_some() { "device" } else { "process" },
            breakdown,
        })
    }

    /// Runs a workload once and times every operation.
    ///
    /// # Errors
    /// If the workload fails.
    pub fn record(&self, work: Workload, state: &mut State) -> Result<Record> {
        self.prepare(work, state)?;
        let recorder = Recorder::new();
        self.run(work, state, Some(&recorder))?;
        Ok(recorder.take())
    }

    /// Runs a workload once.
    fn run(&self, work: Workload, state: &mut State, recorder: Option<&Arc<Recorder>>) -> Result<()> {
        let wrapped = recorder.map(|recorder| timed(self.decoder, recorder, None)).transpose()?;
        let policy = wrapped.as_ref().unwrap_or(self.decoder);
        let enter = |part| recorder.into_iter().for_each(|recorder| recorder.enter(part));
        match work {
            Workload::Score => {
                enter("score");
                return self.score(policy);
            }
            Workload::Decode(passes) => {
                enter("decode");
                return self.decode(policy, state.decoding.as_ref().context("decoding has no cache")?, passes);
            }
            Workload::Rollout | Workload::Step => {
                enter("rollouts");
                state.completions = Some(self.generate(policy, &self.lengths, &[])?);
            }
            Workload::Update | Workload::MicroBatch => {}
        }
        if work.trains() {
            let trainer = state.trainer.as_mut().context("an update has no trainer")?;
            let reference = trainer.reference.as_ref();
            let reference = reference.zip(recorder).map(|(decoder, recorder)| timed(decoder, recorder, Some("reference")));
            let reference = reference.transpose()?;
            self.update(work, policy, reference.as_ref(), trainer, enter)?;
        }
        Ok(())
    }

    fn device_bytes(&self) -> Option<u64> {
        self.decoder.kernels().memory().map(|memory| memory.peak)
    }

    /// Scores responses of the given lengths, each after its own copy of the prompt. Their tokens are arbitrary and do not affect the time.
    fn score(&self, decoder: &Decoder) -> Result<()> {
        let responses = self.arbitrary_responses();
        let workers = self.workers.count();
        let longest = self.prompt.ids.len() + self.lengths.iter().max().unwrap_or(&0);
        let batches: Vec<&[Vec<u32>]> = responses.chunks((SCORE_TOKENS / longest).max(1)).collect();
        let scored = self.workers.run(|worker| {
            let mut tokens = 0;
            for batch in batches.iter().skip(worker).step_by(workers) {
                let packed = Packed::of_responses(batch.iter().map(|response| (&*self.prompt.ids, vec![response.as_slice()])));
                tokens += decoder.score(&packed, 1.0)?.logprobs.len();
            }
            Ok(tokens)
        })?;
        let tokens: usize = scored.into_iter().sum();
        let expected: usize = self.lengths.iter().sum();
        ensure!(tokens == expected, "scored {tokens} tokens, expected {expected}");
        Ok(())
    }

    /// Returns responses of the given lengths with arbitrary tokens.
    fn arbitrary_responses(&self) -> Vec<Vec<u32>> {
        let vocabulary = self.vocabulary as u32;
        let response = |(row, length): (usize, &usize)| (0..*length as u32).map(|t| (t * 7919 + row as u32 * 31) % vocabulary).collect();
        self.lengths.iter().enumerate().map(response).collect()
    }

    /// Returns the indices of the responses in the first micro-batch of each worker.
    fn first_micro_batches(&self) -> Vec<usize> {
        let interrupt = Interrupt::default();
        let responses = self.arbitrary_responses();
        let sequence = |response| Sequence { prompt: &self.prompt.ids, response, mask: None };
        let sequences: Vec<Sequence> = responses.iter().map(|response| sequence(response)).collect();
        let mut batches = self.packing(&interrupt).micro_batches(&sequences);
        batches.truncate(self.workers.count());
        batches.concat()
    }

    fn packing<'b>(&'b self, interrupt: &'b Interrupt) -> Packing<'b> {
        let longest = self.lengths.iter().max().copied().unwrap_or(0);
        let load = EngineLoad { prompts: vec![self.prompt.ids.len()], requests: self.lengths.len(), max_new_tokens: longest };
        let plan = ActivationPlan::of(&self.decoder.config, self.settings, &load, &self.decoder.target());
        Packing {
            workers: self.workers,
            micro_batch_tokens: plan.micro_batch_tokens,
            checkpointing: plan.checkpointing,
            interrupt,
            progress: None,
            shards: None,
        }
    }

    /// Like `packing`, but puts all responses of a worker into one micro-batch, which may exceed the token budget because lengths vary.
    fn single_micro_batch_packing<'b>(&'b self, interrupt: &'b Interrupt) -> Packing<'b> {
        let packing = self.packing(interrupt);
        let tokens = self.tokens(Workload::MicroBatch).div_ceil(self.workers.count());
        Packing { micro_batch_tokens: packing.micro_batch_tokens.max(tokens), ..packing }
    }

    /// Prepares the state that a workload needs. Rollouts and scores need none.
    fn prepare(&self, work: Workload, state: &mut State) -> Result<()> {
        if let Workload::Decode(passes) = work {
            state.decoding = Some(self.decoding(passes)?);
        }
        if !work.trains() || state.trainer.is_some() {
            return Ok(());
        }
        let completions = match state.completions.take() {
            Some(completions) => completions,
            // Skips the rollouts, so that a profile shows only the micro-batch.
            None if work == Workload::MicroBatch => {
                let completion =
                    |ids: Vec<u32>| Completion { logprobs: vec![-1.0; ids.len()], ids, finish: FinishReason::Length, masked: None };
                self.arbitrary_responses().into_iter().map(completion).collect()
            }
            None => self.generate(self.decoder, &self.lengths, &[])?,
        };
        state.trainer = Some(Trainer {
            completions,
            reference: (self.settings.loss.kl != 0.0).then(|| self.decoder.deep_copy()).transpose()?,
            gradients: (0..self.workers.count()).map(|_| Gradients::zeros(self.decoder, None)).collect::<Result<_>>()?,
            optimizer: AdamW::new(self.settings.optim.clone(), self.decoder.kernels(), &self.decoder.weights.entries(), World::solo())?,
        });
        Ok(())
    }

    /// Runs one update of `policy` or, for `MicroBatch`, only the gradient of its first micro-batches. `reference` replaces the trainer's
    /// reference model if given.
    fn update(
        &self,
        work: Workload,
        policy: &Decoder,
        reference: Option<&Decoder>,
        trainer: &mut Trainer,
        enter: impl Fn(&'static str),
    ) -> Result<()> {
        let reference = reference.or(trainer.reference.as_ref());
        let interrupt = Interrupt::default();
        let packing = if work == Workload::MicroBatch { self.single_micro_batch_packing(&interrupt) } else { self.packing(&interrupt) };
        let updater = Updater { settings: self.settings, packing, policy, reference };
        let advantages = |i: usize, completion: &Completion| vec![if i.is_multiple_of(2) { 1.0 } else { -1.0 }; completion.ids.len()];
        let sample = |(i, completion)| Sample { advantages: advantages(i, completion), ..Sample::of(&self.prompt.ids, completion) };
        enter(trace::GRADIENT);
        let samples: Vec<Sample> = match work {
            Workload::MicroBatch => self.first_micro_batches().into_iter().map(|i| sample((i, &trainer.completions[i]))).collect(),
            _ => trainer.completions.iter().enumerate().map(sample).collect(),
        };
        let reference = updater.loss_reference(&samples)?;
        let report = updater.gradient(&samples, reference.as_deref(), &trainer.gradients)?;
        if work == Workload::MicroBatch {
            return trainer.gradients.iter().try_for_each(|gradients| gradients.clear(policy.kernels()));
        }
        enter("optimizer");
        apply(self.settings, policy, None, report, &trainer.gradients, &mut trainer.optimizer).map(|_| ())
    }

    /// Times repeated runs of a workload after one warm-up run. If the warm-up takes longer than `skip_repeats_above_s`, it is the only
    /// measurement.
    fn repeat(&self, mut work: impl FnMut() -> Result<()>) -> Result<Times> {
        let mut once = || -> Result<f64> {
            let start = Instant::now();
            work()?;
            self.decoder.kernels().device().synchronize()?;
            Ok(start.elapsed().as_secs_f64())
        };
        let began_unix_ns = unix_ns();
        let first_s = once()?;
        if first_s > self.repeats.skip_repeats_above_s {
            return Ok(Times { sorted_s: vec![first_s], warmed_up: false, began_unix_ns, ended_unix_ns: unix_ns() });
        }
        let (mut sorted_s, began, began_unix_ns) = (Vec::new(), Instant::now(), unix_ns());
        while sorted_s.len() < self.repeats.min_repeats.max(1) || began.elapsed().as_secs_f64() < self.repeats.seconds {
            sorted_s.push(once()?);
        }
        sorted_s.sort_by(f64::total_cmp);
        Ok(Times { sorted_s, warmed_up: true, began_unix_ns, ended_unix_ns: unix_ns() })
    }

    fn generate(&self, decoder: &Decoder, lengths: &[usize], end_tokens: &[u32]) -> Result<Vec<Completion>> {
        let engine = Engine {
            decoder,
            workers: self.workers,
            settings: &self.settings.rollout.engine,
            end_tokens,
            // Samples from all rows of the embedding, as the programs in benches/ do.
            vocabulary: decoder.config.vocabulary,
            interrupt: &Interrupt::default(),
        };
        let request = |(sample, max_new_tokens): (usize, &usize)| Request {
            ids: self.prompt.ids.clone(),
            max_new_tokens: *max_new_tokens,
            purpose: Purpose::Sampling,
            step: 0,
            prompt: 0,
            sample: sample as u32,
        };
        let requests: Vec<Request> = lengths.iter().enumerate().map(request).collect();
        engine.generate(&requests, &sampling(self.settings), &|_| ())
    }
}

/// Returns a decoder with the same weights, whose kernels record every operation.
fn timed(decoder: &Decoder, recorder: &Arc<Recorder>, part: Option<&'static str>) -> Result<Decoder> {
    decoder.on(Arc::new(Profiler::around(decoder.shared_kernels(), recorder.clone(), part)))
}
