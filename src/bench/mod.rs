//! Measurements of the program on the machine that it is on: rollouts, updates and whole steps of a model at given lengths, beside the ceilings
//! that are measured there. Each work is warmed up, repeated, and reported by its median.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};

use crate::draw::Purpose;
use crate::flow::{Completion, Prompt};
use crate::interrupt::Interrupt;
use crate::kernels::Timed;
use crate::kernels::timed::{Record, Recorder};
use crate::lanes::Lanes;
use crate::model::{Decoder, Gradients, Packed};
use crate::optim::AdamW;
use crate::rollout::limits::Load;
use crate::rollout::{Engine, Request};
use crate::train::RunSettings;
use crate::train::plan::Activations;
use crate::train::rollouts::sampling;
use crate::train::update::{Packing, Sample, Updater, apply};

pub mod ceilings;
pub mod counts;
pub mod measurement;
pub mod trace;

pub use ceilings::Ceilings;
use counts::{Counts, Responses};
pub use measurement::{Machine, Measurement};

/// What can be measured.
pub const WORKS: [&str; 4] = ["score", "rollout", "update", "step"];

/// Tokens that are scored at once, as `rlvr score` does by itself.
const SCORE_TOKENS: usize = 4096;

/// The work: one prompt and the lengths of its responses.
pub struct Bench<'a> {
    /// The model.
    pub decoder: &'a Decoder,
    /// Token ids from here on have no text.
    pub vocabulary: usize,
    /// Where work is dealt to.
    pub lanes: &'a Lanes,
    /// Sampling, loss and optimizer.
    pub settings: &'a RunSettings,
    /// The prompt of all responses.
    pub prompt: Prompt,
    /// Response lengths in tokens.
    pub lengths: Vec<usize>,
    /// How often and how long.
    pub repeats: Repeats,
}

/// How often a work is repeated.
#[derive(Clone, Copy, Debug)]
pub struct Repeats {
    /// Times at least.
    pub least: usize,
    /// For about so many seconds.
    pub seconds: f64,
    /// A work whose first run takes longer, in seconds, is not repeated.
    pub once_from_s: f64,
    /// Once more for a breakdown by operation.
    pub breakdown: bool,
}

/// What a work goes on with: the state that updates are measured with, and the latest rollouts.
#[derive(Default)]
pub struct State {
    trainer: Option<Trainer>,
    completions: Option<Vec<Completion>>,
}

struct Trainer {
    completions: Vec<Completion>,
    reference: Option<Decoder>,
    gradients: Vec<Gradients>,
    optimizer: AdamW,
}

/// Sorted times in seconds.
struct Times {
    sorted_s: Vec<f64>,
    warmed_up: bool,
}

impl Bench<'_> {
    /// Lengths that the model itself produces.
    pub fn own_lengths(&self, count: usize, end_tokens: &[u32]) -> Result<Vec<usize>> {
        let completions = self.generate(self.decoder, &vec![self.settings.rollout.max_new; count], end_tokens)?;
        Ok(completions.into_iter().map(|completion| completion.ids.len()).collect())
    }

    /// Measures a work.
    pub fn measure(&self, work: &str, ceilings: &Ceilings, state: &mut State) -> Result<Measurement> {
        self.prepare(work, state)?;
        measurement::forget_process_peak();
        let times = self.repeat(|| self.run(work, state, None))?;
        let (process_bytes, mut device_bytes) = (measurement::process_peak(), self.device_bytes());
        let mut breakdown = Vec::new();
        if self.repeats.breakdown {
            let record = self.record(work, state)?;
            device_bytes = device_bytes.max(record.used_bytes);
            breakdown = measurement::breakdown(&record.spans);
        }
        let tokens = self.lengths.iter().sum::<usize>() as f64;
        let (counts, flops) = (self.counts(work), self.parameter_flops(work, tokens));
        let median_s = times.sorted_s[times.sorted_s.len() / 2];
        let all = counts.useful_flop + counts.reference_flop;
        let least_s = all / ceilings.product_flops() + counts.bytes / ceilings.copy_bytes_per_s;
        Ok(Measurement {
            work: work.to_owned(),
            median_s,
            min_s: times.sorted_s[0],
            max_s: times.sorted_s[times.sorted_s.len() - 1],
            repeats: times.sorted_s.len(),
            warmed_up: times.warmed_up,
            tokens_per_s: tokens / median_s,
            flops: flops / median_s,
            share_of_ceiling: flops / median_s / ceilings.widest_flops,
            useful_flop: counts.useful_flop,
            reference_flop: counts.reference_flop,
            utilisation: counts.useful_flop / median_s / ceilings.product_flops(),
            utilisation_with_reference: all / median_s / ceilings.product_flops(),
            least_s,
            share_of_least: least_s / median_s,
            peak_bytes: device_bytes.or(process_bytes),
            peak_of: if device_bytes.is_some() { "device" } else { "process" },
            breakdown,
        })
    }

    /// Runs a work once with every operation timed.
    pub fn record(&self, work: &str, state: &mut State) -> Result<Record> {
        self.prepare(work, state)?;
        let recorder = Recorder::new();
        self.run(work, state, Some(&recorder))?;
        Ok(recorder.take())
    }

    /// Runs a work once.
    fn run(&self, work: &str, state: &mut State, recorder: Option<&Arc<Recorder>>) -> Result<()> {
        let wrapped = recorder.map(|recorder| timed(self.decoder, recorder, None)).transpose()?;
        let policy = wrapped.as_ref().unwrap_or(self.decoder);
        let enter = |part| recorder.into_iter().for_each(|recorder| recorder.enter(part));
        if work == "score" {
            enter("score");
            return self.score(policy);
        }
        if matches!(work, "rollout" | "step") {
            enter("rollouts");
            state.completions = Some(self.generate(policy, &self.lengths, &[])?);
        }
        if let Some(trainer) = state.trainer.as_mut().filter(|_| matches!(work, "update" | "step")) {
            let reference = trainer.reference.as_ref();
            let reference = reference.zip(recorder).map(|(decoder, recorder)| timed(decoder, recorder, Some("reference")));
            let reference = reference.transpose()?;
            self.update(policy, reference.as_ref(), trainer, enter)?;
        }
        Ok(())
    }

    fn device_bytes(&self) -> Option<u64> {
        self.decoder.kernels().memory().map(|memory| memory.peak)
    }

    /// Operations of the parameters alone.
    fn parameter_flops(&self, work: &str, tokens: f64) -> f64 {
        let parameters = self.decoder.config.computed_parameters() as f64;
        // Forward 2, backward 4, the reference's forward 2.
        let update = parameters * tokens * if self.settings.loss.kl != 0.0 { 8.0 } else { 6.0 };
        match work {
            // Scoring computes the prompt for every response, a rollout once for all.
            "score" => 2.0 * parameters * (tokens + (self.lengths.len() * self.prompt.ids.len()) as f64),
            "rollout" => 2.0 * parameters * tokens,
            "update" => update,
            _ => 2.0 * parameters * tokens + update,
        }
    }

    fn counts(&self, work: &str) -> Counts {
        let responses = Responses::new(&self.decoder.config, self.decoder.kernels(), self.prompt.ids.len(), &self.lengths);
        let rollout = || responses.rollout(self.settings.rollout.engine.max_running.max(1));
        let update = || responses.update(self.settings.loss.kl != 0.0);
        match work {
            "score" => responses.score(),
            "rollout" => rollout(),
            "update" => update(),
            _ => rollout() + update(),
        }
    }

    /// Scores responses of the given lengths, each after its own copy of the prompt; which tokens they are does not matter to the time.
    fn score(&self, decoder: &Decoder) -> Result<()> {
        let vocabulary = self.vocabulary as u32;
        let response = |(row, length): (usize, &usize)| (0..*length as u32).map(|t| (t * 7919 + row as u32 * 31) % vocabulary).collect();
        let responses: Vec<Vec<u32>> = self.lengths.iter().enumerate().map(response).collect();
        let lanes = self.lanes.count();
        let longest = self.prompt.ids.len() + self.lengths.iter().max().unwrap_or(&0);
        let batches: Vec<&[Vec<u32>]> = responses.chunks((SCORE_TOKENS / longest).max(1)).collect();
        let scored = self.lanes.run(|lane| {
            let mut tokens = 0;
            for batch in batches.iter().skip(lane).step_by(lanes) {
                let packed = Packed::of_responses(batch.iter().map(|response| (&*self.prompt.ids, vec![response.as_slice()])));
                tokens += decoder.score(&packed, 1.0)?.logprobs.len();
            }
            Ok(tokens)
        })?;
        let tokens: usize = scored.into_iter().sum();
        ensure!(tokens == self.lengths.iter().sum::<usize>(), "{tokens} tokens were scored");
        Ok(())
    }

    /// Makes what updates need besides the model; rollouts and scores do without.
    fn prepare(&self, work: &str, state: &mut State) -> Result<()> {
        if state.trainer.is_some() || !matches!(work, "update" | "step") {
            return Ok(());
        }
        let completions = match state.completions.take() {
            Some(completions) => completions,
            None => self.generate(self.decoder, &self.lengths, &[])?,
        };
        state.trainer = Some(Trainer {
            completions,
            reference: (self.settings.loss.kl != 0.0).then(|| self.decoder.deep_copy()).transpose()?,
            gradients: (0..self.lanes.count()).map(|_| Gradients::zeros(self.decoder, None)).collect::<Result<_>>()?,
            optimizer: AdamW::new(self.settings.optim.clone(), self.decoder.kernels(), &self.decoder.weights.entries())?,
        });
        Ok(())
    }

    /// One update by `policy`, with `reference` in the place of the trainer's where it is given.
    fn update(&self, policy: &Decoder, reference: Option<&Decoder>, trainer: &mut Trainer, enter: impl Fn(&'static str)) -> Result<()> {
        let reference = reference.or(trainer.reference.as_ref());
        let interrupt = Interrupt::default();
        let longest = self.lengths.iter().max().copied().unwrap_or(0);
        let load = Load { prompts: vec![self.prompt.ids.len()], requests: self.lengths.len(), max_new: longest };
        let Activations { micro_batch_tokens, recompute } = Activations::of(&policy.config, self.settings, &load, &policy.target());
        let packing = Packing { lanes: self.lanes, micro_batch_tokens, recompute, interrupt: &interrupt };
        let updater = Updater { settings: self.settings, packing, policy, reference };
        let advantages = |i: usize, completion: &Completion| vec![if i.is_multiple_of(2) { 1.0 } else { -1.0 }; completion.ids.len()];
        let sample = |(i, completion)| Sample { advantages: advantages(i, completion), ..Sample::of(&self.prompt.ids, completion) };
        enter(trace::GRADIENT);
        let samples: Vec<Sample> = trainer.completions.iter().enumerate().map(sample).collect();
        let reference = updater.loss_reference(&samples)?;
        let report = updater.gradient(&samples, reference.as_deref(), &trainer.gradients)?;
        enter("optimizer");
        apply(self.settings, policy, None, report, &trainer.gradients, &mut trainer.optimizer).map(|_| ())
    }

    /// Times of a work, warmed up once; those of a long one are that first one.
    fn repeat(&self, mut work: impl FnMut() -> Result<()>) -> Result<Times> {
        let mut once = || -> Result<f64> {
            let start = Instant::now();
            work()?;
            self.decoder.kernels().device().synchronize()?;
            Ok(start.elapsed().as_secs_f64())
        };
        let first_s = once()?;
        if first_s > self.repeats.once_from_s {
            return Ok(Times { sorted_s: vec![first_s], warmed_up: false });
        }
        let (mut sorted_s, began) = (Vec::new(), Instant::now());
        while sorted_s.len() < self.repeats.least.max(1) || began.elapsed().as_secs_f64() < self.repeats.seconds {
            sorted_s.push(once()?);
        }
        sorted_s.sort_by(f64::total_cmp);
        Ok(Times { sorted_s, warmed_up: true })
    }

    fn generate(&self, decoder: &Decoder, lengths: &[usize], end_tokens: &[u32]) -> Result<Vec<Completion>> {
        let engine = Engine {
            decoder,
            lanes: self.lanes,
            settings: &self.settings.rollout.engine,
            end_tokens,
            // Every row, as the peers draw.
            vocabulary: decoder.config.vocabulary,
            interrupt: &Interrupt::default(),
        };
        let request = |(sample, max_new): (usize, &usize)| Request {
            ids: self.prompt.ids.clone(),
            max_new: *max_new,
            purpose: Purpose::Sampling,
            step: 0,
            prompt: 0,
            sample: sample as u32,
        };
        let requests: Vec<Request> = lengths.iter().enumerate().map(request).collect();
        engine.generate(&requests, &sampling(self.settings), &|_| ())
    }
}

/// The same decoder, its weights shared, with every operation recorded.
fn timed(decoder: &Decoder, recorder: &Arc<Recorder>, part: Option<&'static str>) -> Result<Decoder> {
    decoder.on(Arc::new(Timed::around(decoder.shared_kernels(), recorder.clone(), part)))
}
