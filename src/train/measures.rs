//! What a step measured, and the names under which it is recorded.

use super::critic::CriticReport;
use super::garbled::is_garbled;
use super::resample;
use super::settings::RunSettings;
use super::update::UpdateReport;
use crate::flow::{Finish, Scored};

/// What one step measured.
pub struct Measures {
    /// Batches sampled to replace groups without signal.
    pub further_batches: usize,
    /// Seconds of sampling and rewarding.
    pub generate_s: f64,
    /// Seconds of all updates.
    pub update_s: f64,
    /// What the updates were.
    pub updated: Updated,
}

/// What a step's updates were.
pub struct Updated {
    /// The policy's; without tokens while a critic warms up.
    pub report: UpdateReport,
    /// The critic's, where there is one.
    pub critic: Option<CriticMeasures>,
    /// What KL in the reward took from a response on average.
    pub penalty: f64,
    /// Why an update was skipped, if one was: its loss or gradient was not finite.
    pub skipped: Option<String>,
}

/// What the critic's part of a step measured.
pub struct CriticMeasures {
    /// Its values and its loss.
    pub report: CriticReport,
    /// Seconds.
    pub elapsed_s: f64,
}

/// The step's metrics under verl's names, with ours beside them.
pub fn metrics(settings: &RunSettings, scored: &[Scored], measures: &Measures) -> Vec<(&'static str, f64)> {
    let Updated { report, critic, penalty, skipped } = &measures.updated;
    let lengths = || scored.iter().map(|scored| scored.rollout.completion.ids.len() as f64);
    let tokens: f64 = lengths().sum();
    let rewards = || scored.iter().map(|scored| f64::from(scored.reward));
    let prompt_tokens = mean(scored, |scored| scored.rollout.prompt.ids.len() as f32);
    let without_signal = resample::without_signal(scored, settings.rollout.group_size).len();
    let step_s = measures.generate_s + measures.update_s;
    let score = mean(scored, |scored| scored.reward);
    let mut metrics = vec![
        ("train/accuracy", mean(scored, |scored| f32::from(scored.correct))),
        ("train/boxed", mean(scored, |scored| f32::from(scored.boxed))),
        ("critic/score/mean", score),
        ("critic/score/max", rewards().fold(f64::NEG_INFINITY, f64::max)),
        ("critic/score/min", rewards().fold(f64::INFINITY, f64::min)),
        ("critic/rewards/mean", score + penalty),
        ("reward/zero_std_groups", without_signal as f64 / settings.rollout.groups as f64),
        ("rollout/further_batches", measures.further_batches as f64),
        ("rollout/temperature", f64::from(settings.rollout.temperature)),
        ("actor/loss", report.terms.loss(&settings.loss)),
        ("actor/pg_loss", report.terms.policy),
        ("actor/kl_loss", report.terms.kl),
        ("actor/entropy_coeff", f64::from(settings.loss.entropy)),
        ("actor/entropy", report.terms.per_token(report.terms.token_entropy)),
        ("actor/pg_clipfrac", report.terms.per_token(report.terms.clipped)),
        ("actor/ppo_kl", report.terms.per_token(report.terms.old_kl)),
        ("actor/grad_norm", report.grad_norm),
        ("actor/lr", report.lr),
        ("response_length/mean", tokens / scored.len() as f64),
        ("response_length/max", lengths().fold(0.0, f64::max)),
        ("response_length/clip_ratio", mean(scored, |scored| f32::from(scored.rollout.completion.finish == Finish::Length))),
        ("prompt_length/mean", prompt_tokens),
        ("rollout/logprob_gap_max", report.gap_max),
        ("rollout/logprob_gap_mean", report.gap_mean),
        ("watch/garbled_share", mean(scored, |scored| f32::from(is_garbled(&scored.rollout.text, &scored.rollout.completion.ids)))),
        ("watch/skipped", f64::from(u8::from(skipped.is_some()))),
        ("perf/time_per_step", step_s),
        ("perf/generate_s", measures.generate_s),
        ("perf/update_s", measures.update_s),
        ("perf/throughput", tokens / step_s),
    ];
    if report.terms.tokens == 0.0 {
        // The critic's warm-up: the policy was not asked.
        metrics.retain(|(name, _)| !name.starts_with("actor/") && !name.starts_with("rollout/logprob_gap"));
    }
    if let Some(CriticMeasures { report, elapsed_s }) = critic {
        metrics.extend(report.metrics());
        metrics.push(("perf/critic_s", *elapsed_s));
    }
    metrics
}

/// The mean of a value over responses.
pub fn mean(scored: &[Scored], value: impl Fn(&Scored) -> f32) -> f64 {
    scored.iter().map(|scored| f64::from(value(scored))).sum::<f64>() / scored.len().max(1) as f64
}
