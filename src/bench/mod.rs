//! Measurements of the program on the machine that it is on: rollouts, updates and whole steps of a model at given lengths, and the ceiling that
//! its products could reach. Each work is warmed up, repeated, and reported by its median.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::checkpoint::Model;
use crate::draw::Purpose;
use crate::flow::{Completion, Prompt, Rollout, Scored};
use crate::kernels::cpu::{product, tensor};
use crate::lanes::Lanes;
use crate::model::{Decoder, Gradients, Packed};
use crate::optim::AdamW;
use crate::rollout::{Engine, Request};
use crate::train::RunSettings;
use crate::train::rollouts::sampling;
use crate::train::update::{Sample, Updater, apply};

/// What can be measured.
pub const WORKS: [&str; 4] = ["score", "rollout", "update", "step"];

/// One measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    /// What was measured.
    pub work: String,
    /// Median of the repeats, seconds.
    pub median_s: f64,
    /// Fastest.
    pub min_s: f64,
    /// Slowest.
    pub max_s: f64,
    /// Repeats.
    pub repeats: usize,
    /// Response tokens per second at the median.
    pub tokens_per_s: f64,
    /// Floating-point operations per second at the median, counted as 2 per computed parameter and token forward and 6 with the backward pass.
    pub flops: f64,
    /// As a share of what the machine's products reach at the model's own widths.
    pub share_of_ceiling: f64,
}

/// Tokens that are scored at once, as `rlvr score` does by itself.
const SCORE_TOKENS: usize = 4096;

/// The work: one prompt and the lengths of its responses.
pub struct Bench<'a> {
    /// The model.
    pub model: &'a Model,
    /// Where work is dealt to.
    pub lanes: &'a Lanes,
    /// Sampling, loss and optimizer.
    pub settings: &'a RunSettings,
    /// The prompt of all responses.
    pub prompt: Prompt,
    /// Response lengths in tokens.
    pub lengths: Vec<usize>,
    /// Repeat each work for about this long.
    pub seconds: f64,
}

/// The state that updates are measured with.
struct Trainer {
    scored: Vec<Scored>,
    reference: Option<Decoder>,
    gradients: Vec<Gradients>,
    optimizer: AdamW,
}

impl Bench<'_> {
    /// Lengths that the model itself produces.
    pub fn own_lengths(&self, count: usize) -> Result<Vec<usize>> {
        let completions = self.generate(&vec![self.settings.rollout.max_new; count], &self.model.end_tokens)?;
        Ok(completions.into_iter().map(|completion| completion.ids.len()).collect())
    }

    /// Measures the named works.
    pub fn measure(&self, works: &[&str]) -> Result<Vec<Measurement>> {
        for work in works {
            ensure!(WORKS.contains(work), "unknown work \"{work}\"; known are {}", WORKS.join(", "));
        }
        let ceiling = self.ceiling()?;
        let parameters = self.model.decoder.config.computed_parameters() as f64;
        let tokens = self.lengths.iter().sum::<usize>() as f64;
        // Scoring computes the prompt for every response, a rollout once for all.
        let prompts = (self.lengths.len() * self.prompt.ids.len()) as f64;
        let mut trainer = works.iter().any(|work| matches!(*work, "update" | "step")).then(|| self.trainer()).transpose()?;
        // Forward 2, backward 4, the reference's forward 2.
        let update_flops = parameters * tokens * if self.settings.loss.kl != 0.0 { 8.0 } else { 6.0 };
        let mut measurements = Vec::new();
        for work in works {
            let (times, flops) = match *work {
                "score" => (self.repeat(|| self.score())?, 2.0 * parameters * (tokens + prompts)),
                "rollout" => (self.repeat(|| self.generate(&self.lengths, &[]).map(|_| ()))?, 2.0 * parameters * tokens),
                "update" => (self.repeat(|| self.update(trainer.as_mut()))?, update_flops),
                _ => {
                    let step = || self.generate(&self.lengths, &[]).and_then(|_| self.update(trainer.as_mut()));
                    (self.repeat(step)?, 2.0 * parameters * tokens + update_flops)
                }
            };
            let median_s = times[times.len() / 2];
            measurements.push(Measurement {
                work: (*work).to_owned(),
                median_s,
                min_s: times[0],
                max_s: times[times.len() - 1],
                repeats: times.len(),
                tokens_per_s: tokens / median_s,
                flops: flops / median_s,
                share_of_ceiling: flops / median_s / ceiling,
            });
        }
        Ok(measurements)
    }

    /// Scores responses of the given lengths, each after its own copy of the prompt; which tokens they are does not matter to the time.
    fn score(&self) -> Result<()> {
        let vocabulary = self.model.text.vocabulary() as u32;
        let response = |(row, length): (usize, &usize)| (0..*length as u32).map(|t| (t * 7919 + row as u32 * 31) % vocabulary).collect();
        let responses: Vec<Vec<u32>> = self.lengths.iter().enumerate().map(response).collect();
        let lanes = self.lanes.count();
        let longest = self.prompt.ids.len() + self.lengths.iter().max().unwrap_or(&0);
        let batches: Vec<&[Vec<u32>]> = responses.chunks((SCORE_TOKENS / longest).max(1)).collect();
        let scored = self.lanes.run(|lane| {
            let mut tokens = 0;
            for batch in batches.iter().skip(lane).step_by(lanes) {
                let packed = Packed::of_responses(batch.iter().map(|response| (&*self.prompt.ids, vec![response.as_slice()])));
                tokens += self.model.decoder.score(&packed, 1.0)?.logprobs.len();
            }
            Ok(tokens)
        })?;
        let tokens: usize = scored.into_iter().sum();
        ensure!(tokens == self.lengths.iter().sum::<usize>(), "{tokens} tokens were scored");
        Ok(())
    }

    /// What updates need besides the model; rollouts and scores do without.
    fn trainer(&self) -> Result<Trainer> {
        let decoder = &self.model.decoder;
        Ok(Trainer {
            scored: self.scored()?,
            reference: (self.settings.loss.kl != 0.0).then(|| decoder.deep_copy()).transpose()?,
            gradients: (0..self.lanes.count()).map(|_| Gradients::zeros(decoder, None)).collect::<Result<_>>()?,
            optimizer: AdamW::new(self.settings.optim.clone(), decoder.kernels(), &decoder.weights.entries())?,
        })
    }

    fn update(&self, trainer: Option<&mut Trainer>) -> Result<()> {
        let Trainer { scored, reference, gradients, optimizer } = trainer.context("no trainer")?;
        let policy = &self.model.decoder;
        let updater = Updater { settings: self.settings, lanes: self.lanes, policy, reference: reference.as_ref() };
        let sample = |(i, scored)| Sample { scored, advantage: if i % 2 == 0 { 1.0 } else { -1.0 }, old: None };
        let report = updater.gradient(&scored.iter().enumerate().map(sample).collect::<Vec<_>>(), gradients)?;
        apply(self.settings, &self.model.decoder, None, report, gradients, optimizer).map(|_| ())
    }

    /// Operations per second of the model's widest product, on all lanes at once.
    fn ceiling(&self) -> Result<f64> {
        let config = &self.model.decoder.config;
        let (rows, k, n) = (512, config.hidden, 2 * config.feed_forward);
        let products = (20_000_000_000 / (2 * rows * k * n)).clamp(1, 50);
        let times = self.repeat(|| {
            self.lanes
                .run(|_| {
                    let weight = &self.model.decoder.weights.blocks.first().context("a model without blocks")?.gate_up;
                    let x = tensor(vec![0.5; rows * k], (rows, k))?;
                    for _ in 0..products {
                        product::product(&x, weight, None)?;
                    }
                    Ok(())
                })
                .map(|_| ())
        })?;
        Ok((products * self.lanes.count()) as f64 * 2.0 * (rows * k * n) as f64 / times[times.len() / 2])
    }

    /// Sorted times of a work, at least three, warmed up once.
    fn repeat(&self, mut work: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
        work()?;
        let (mut times, began) = (Vec::new(), Instant::now());
        while times.len() < 3 || began.elapsed().as_secs_f64() < self.seconds {
            let start = Instant::now();
            work()?;
            times.push(start.elapsed().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        Ok(times)
    }

    fn generate(&self, lengths: &[usize], end_tokens: &[u32]) -> Result<Vec<Completion>> {
        let engine = Engine {
            decoder: &self.model.decoder,
            lanes: self.lanes,
            settings: &self.settings.rollout.engine,
            end_tokens,
            // Every row, as the peers draw.
            vocabulary: self.model.decoder.config.vocabulary,
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

    fn scored(&self) -> Result<Vec<Scored>> {
        let completions = self.generate(&self.lengths, &[])?;
        let scored = completions.into_iter().enumerate().map(|(sample, completion)| {
            let rollout = Rollout { group: 0, sample, prompt: self.prompt.clone(), completion, text: String::new() };
            Scored { rollout, reward: 0.0, correct: false, boxed: false }
        });
        Ok(scored.collect())
    }
}
