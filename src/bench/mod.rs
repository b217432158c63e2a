//! Measurements of the program on the machine that it is on: rollouts, updates and whole steps of a model at given lengths, and the ceiling that
//! its products could reach. Each work is warmed up, repeated, and reported by its median.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::checkpoint::Model;
use crate::draw::Purpose;
use crate::flow::{Completion, Prompt, Rollout, Scored};
use crate::kernels::product;
use crate::lanes::Lanes;
use crate::model::Weights;
use crate::optim::AdamW;
use crate::rollout::{Engine, Request};
use crate::train::RunSettings;
use crate::train::rollouts::sampling;
use crate::train::update::{Sample, Updater};

/// What can be measured.
pub const WORKS: [&str; 3] = ["rollout", "update", "step"];

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
    /// Floating-point operations per second at the median, counted as 2 per parameter and token forward and 6 with the backward pass.
    pub flops: f64,
    /// As a share of what the machine's products reach at the model's own widths.
    pub share_of_ceiling: f64,
}

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
        let config = &self.model.decoder.config;
        let parameters = config.parameters() as f64;
        let tokens = self.lengths.iter().sum::<usize>() as f64;
        let scored = self.scored()?;
        let advantages: Vec<f32> = (0..scored.len()).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
        let reference = (self.settings.loss.kl != 0.0).then(|| self.model.decoder.deep_copy()).transpose()?;
        let updater = Updater { settings: self.settings, lanes: self.lanes, policy: &self.model.decoder, reference: reference.as_ref() };
        let gradients = (0..self.lanes.count()).map(|_| Weights::zeros(config)).collect::<Result<Vec<_>>>()?;
        let mut optimizer = AdamW::new(self.settings.optim.clone(), config)?;
        let mut update = || -> Result<()> {
            let samples: Vec<Sample> =
                scored.iter().zip(&advantages).map(|(scored, a)| Sample { scored, advantage: *a, old: None }).collect();
            let report = updater.gradient(&samples, &gradients)?;
            updater.apply(report, &gradients, &mut optimizer).map(|_| ())
        };
        // Forward 2, backward 4, the reference's forward 2.
        let update_flops = parameters * tokens * if reference.is_some() { 8.0 } else { 6.0 };
        let mut measurements = Vec::new();
        for work in works {
            let (times, flops) = match *work {
                "rollout" => (self.repeat(|| self.generate(&self.lengths, &[]).map(|_| ()))?, 2.0 * parameters * tokens),
                "update" => (self.repeat(&mut update)?, update_flops),
                _ => {
                    let step = || self.generate(&self.lengths, &[]).and_then(|_| update());
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

    /// Operations per second of the model's widest product, on all lanes at once.
    fn ceiling(&self) -> Result<f64> {
        let config = &self.model.decoder.config;
        let (rows, k, n) = (512, config.hidden, 2 * config.feed_forward);
        let times = self.repeat(|| {
            self.lanes
                .run(|_| {
                    let weight = &self.model.decoder.weights.blocks.first().context("a model without blocks")?.gate_up;
                    let x = crate::kernels::tensor(vec![0.5; rows * k], (rows, k))?;
                    for _ in 0..50 {
                        product::product(&x, weight, None)?;
                    }
                    Ok(())
                })
                .map(|_| ())
        })?;
        Ok(50.0 * self.lanes.count() as f64 * 2.0 * (rows * k * n) as f64 / times[times.len() / 2])
    }

    /// Sorted times of a work, warmed up twice.
    fn repeat(&self, mut work: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
        (0..2).try_for_each(|_| work())?;
        let (mut times, began) = (Vec::new(), Instant::now());
        while times.len() < 5 || began.elapsed().as_secs_f64() < self.seconds {
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
            vocabulary: self.model.text.vocabulary(),
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
