//! The measurements of a step under their metric names. Also decides whether a response is readable text.

use std::collections::BTreeMap;

use super::critic::CriticReport;
use super::dynamic_sampling;
use super::settings::RunSettings;
use super::update::UpdateReport;
use crate::flow::{FinishReason, ScoredRollout};
use crate::metrics::{Phase, PhaseTimes};
use crate::reward::Rewards;

/// The measurements of one step.
pub struct Measures {
    /// The number of attempts to replace groups without signal.
    pub further_batches: usize,
    /// The time spent in each phase of the step, up to its last update.
    pub times: PhaseTimes,
    /// The results of the updates.
    pub updated: Updated,
}

/// The results of a step's updates.
pub struct Updated {
    /// The policy's report; its token count is 0 while a critic warms up.
    pub report: UpdateReport,
    /// The critic's report; `None` without a critic.
    pub critic: Option<CriticReport>,
    /// The mean over responses of the KL penalty that is added to the reward.
    pub penalty: f64,
    /// Why the first skipped update was skipped (loss or gradient not finite); `None` if none was.
    pub skipped: Option<String>,
}

/// Returns the step's metrics, by the names of [`catalog`](crate::metrics::catalog), which says when each is present.
pub fn metrics(settings: &RunSettings, rewards: &Rewards, scored: &[ScoredRollout], measures: &Measures) -> Vec<(String, f64)> {
    let fixed = step_metrics(settings, scored, measures).into_iter().map(|(name, value)| (name.to_owned(), value));
    fixed.chain(reward_metrics(settings, rewards, scored, measures.updated.penalty)).collect()
}

/// Returns the metrics with fixed names, except rewards. `actor/*` and the logprob gap are absent while a critic warms up.
fn step_metrics(settings: &RunSettings, scored: &[ScoredRollout], measures: &Measures) -> Vec<(&'static str, f64)> {
    let Updated { report, critic, skipped, .. } = &measures.updated;
    let lengths = || scored.iter().map(|scored| scored.rollout.completion.ids.len() as f64);
    let tokens: f64 = lengths().sum();
    let prompt_tokens = mean(scored, |scored| scored.rollout.prompt.ids.len() as f32);
    let without_signal = dynamic_sampling::without_signal(scored, settings.rollout.group_size).len();
    let step_s = measures.times.of_all(&[Phase::Sample, Phase::Reward, Phase::Reference, Phase::Critic, Phase::Update, Phase::Optimizer]);
    let mut metrics = vec![
        ("train/accuracy", mean(scored, |scored| f32::from(scored.correct))),
        ("train/boxed_share", mean(scored, |scored| f32::from(scored.boxed))),
        ("reward/zero_std_share", without_signal as f64 / settings.rollout.groups as f64),
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
        ("response_length/clip_ratio", mean(scored, |scored| f32::from(scored.rollout.completion.finish == FinishReason::Length))),
        ("prompt_length/mean", prompt_tokens),
        ("rollout/logprob_gap_max", report.gap_max),
        ("rollout/logprob_gap_mean", report.gap_mean),
        ("watch/garbled_share", mean(scored, |scored| f32::from(is_garbled(&scored.rollout.text, &scored.rollout.completion.ids)))),
        ("watch/skipped", f64::from(u8::from(skipped.is_some()))),
        ("perf/step_s", step_s),
        ("perf/response_tokens_per_s", tokens / step_s),
    ];
    if report.terms.tokens == 0.0 {
        // The policy is not updated while a critic warms up.
        metrics.retain(|(name, _)| !name.starts_with("actor/") && !name.starts_with("rollout/logprob_gap"));
    }
    if let Some(report) = critic {
        metrics.extend(report.metrics());
    }
    metrics
}

/// Returns the metrics of rewards, except those that another metric already has: the mean of `outcome` is `train/accuracy`, and that of
/// `format` is `train/boxed_share`. Recorded rewards may come from another program, so a replay has all of them.
fn reward_metrics(settings: &RunSettings, rewards: &Rewards, scored: &[ScoredRollout], penalty: f64) -> Vec<(String, f64)> {
    let is_replay = !settings.rollout.replay.is_empty();
    let of_each = || scored.iter().map(|scored| f64::from(scored.reward));
    let mean = mean(scored, |scored| scored.reward);
    let mut metrics = Vec::new();
    if is_replay || !rewards.is_outcome_alone() {
        metrics.push(("reward/mean".to_owned(), mean));
        metrics.push(("reward/max".to_owned(), of_each().fold(f64::NEG_INFINITY, f64::max)));
        metrics.push(("reward/min".to_owned(), of_each().fold(f64::INFINITY, f64::min)));
    }
    if settings.reward.kl != 0.0 {
        metrics.push(("reward/with_kl/mean".to_owned(), mean + penalty));
    }
    let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
    scored.iter().flat_map(|scored| &scored.rewards).for_each(|(name, reward)| *sums.entry(name).or_default() += f64::from(*reward));
    let is_new = |name: &str| is_replay || (rewards.count() > 1 && !["outcome", "format"].contains(&name));
    let terms = sums.into_iter().filter(|(name, _)| is_new(name));
    metrics.extend(terms.map(|(name, sum)| (format!("reward/{name}/mean"), sum / scored.len() as f64)));
    metrics
}

/// Returns the mean of a value over responses; 0 without responses.
pub fn mean(scored: &[ScoredRollout], value: impl Fn(&ScoredRollout) -> f32) -> f64 {
    scored.iter().map(|scored| f64::from(value(scored))).sum::<f64>() / scored.len().max(1) as f64
}

/// The fewest consecutive copies of a token that can make a response garbled; fewer may be a row of zeros or a line of dashes.
const MIN_REPEATS: usize = 16;

/// True if a response contains replacement or control characters, or a run of at least 16 copies of one token that makes up at least half
/// of it. A replacement character at the very end does not count, because the token limit may have cut a character there.
pub fn is_garbled(text: &str, ids: &[u32]) -> bool {
    let complete = text.strip_suffix(char::REPLACEMENT_CHARACTER).unwrap_or(text);
    let is_broken = |c: char| c == char::REPLACEMENT_CHARACTER || (c.is_control() && !c.is_whitespace());
    let run = longest_run(ids);
    complete.contains(is_broken) || (run >= MIN_REPEATS && 2 * run >= ids.len())
}

fn longest_run(ids: &[u32]) -> usize {
    ids.chunk_by(|one, next| one == next).map(<[u32]>::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_garbled_detects_broken_characters_and_repeated_tokens() {
        let check = |text: &str, ids: &[u32], expected: bool| assert_eq!(is_garbled(text, ids), expected, "{text:?} {ids:?}");
        let words: Vec<u32> = (0..60).collect();
        check("Step by step, 4+6=10.\n\tSo \\boxed{10}. 東京 naïve 🙂", &words, false);
        check("cut in the middle of a charact\u{FFFD}", &words, false);
        check("broken \u{FFFD} inside", &words, true);
        check("\u{FFFD}\u{FFFD}", &words, true);
        check("bell \u{7}", &words, true);
        check("", &[], false);
        // Twenty repeats are fine among eighty tokens, but not among thirty. A short response cannot have enough repeats.
        check("1000", &[&words[..], &[7; 20]].concat(), false);
        check("aaaa", &[&words[..10], &[7; 20]].concat(), true);
        check("aaaa", &[7; 12], false);
    }
}
