//! The quantities that pictures of several runs show: where a run records them, and how their axis is labeled.

use crate::plot::chart::Unit;
use crate::report::RunRecord;

/// A quantity of a run by step.
pub struct Quantity {
    /// A part of the picture's `id`.
    pub id: &'static str,
    /// The title of the picture.
    pub title: &'static str,
    /// The label of the y axis, with the unit.
    pub label: &'static str,
    /// What the quantity is, in one sentence.
    pub about: &'static str,
    /// How its numbers are written.
    pub unit: Unit,
    /// Its lowest and highest possible value.
    pub limits: (f64, f64),
    /// True for a quantity that is measured at evaluations, and not at every step.
    pub at_evaluations: bool,
    /// Returns `(step, value)` in order of steps.
    pub of: fn(&RunRecord) -> Vec<(u64, f64)>,
}

/// Shares.
const SHARE: (f64, f64) = (0.0, 1.0);
/// Quantities that are never negative.
const POSITIVE: (f64, f64) = (0.0, f64::INFINITY);

/// Returns the accuracies, the first pictures of a comparison.
pub fn accuracies() -> [Quantity; 3] {
    let accuracy = |id, title, about, at_evaluations, of| Quantity {
        id,
        title,
        label: "accuracy",
        about,
        unit: Unit::Percent,
        limits: SHARE,
        at_evaluations,
        of,
    };
    [
        accuracy("greedy", "Held-out accuracy, greedy", "Mean over the greedy passes; only boxed answers count.", true, |run| {
            held_out(run, true)
        }),
        accuracy("sampled", "Held-out accuracy, sampled", "Mean over the sampled passes; only boxed answers count.", true, |run| {
            held_out(run, false)
        }),
        accuracy("train", "Train accuracy", "Share of correct training responses.", false, |run| run.metrics.points("train/accuracy")),
    ]
}

/// Returns the quantities that describe how the runs trained.
pub fn training() -> Vec<Quantity> {
    let of = |id, title, label, about, unit, limits, of| Quantity { id, title, label, about, unit, limits, at_evaluations: false, of };
    vec![
        of("entropy", "Entropy", "nats per token", "Mean over response tokens.", Unit::Number, POSITIVE, |run| {
            run.metrics.points("actor/entropy")
        }),
        of("length", "Response length", "tokens", "Mean over the training responses.", Unit::Number, POSITIVE, |run| {
            run.metrics.points("response_length/mean")
        }),
        of("gradient", "Gradient norm", "norm", "Before clipping.", Unit::Number, POSITIVE, |run| run.metrics.points("actor/grad_norm")),
        of("kl", "KL divergence", "nats per token", "From the reference, as estimated in the loss.", Unit::Number, POSITIVE, |run| {
            run.metrics.points("actor/kl_loss")
        }),
        of("boxed", "Boxed answers in training", "share of responses", "Responses with a complete box.", Unit::Percent, SHARE, |run| {
            run.metrics.points("train/boxed_share")
        }),
        of("signal", "Groups with signal", "share of groups", "Groups whose rewards are not all equal.", Unit::Percent, SHARE, |run| {
            run.metrics.points("reward/zero_std_share").into_iter().map(|(step, share)| (step, 1.0 - share)).collect()
        }),
        of("cut-off", "Responses cut off", "share of responses", "Responses that reached the token limit.", Unit::Percent, SHARE, |run| {
            run.metrics.points("response_length/clip_ratio")
        }),
        Quantity {
            at_evaluations: true,
            ..of("held-out-boxed", "Boxed answers, held-out", "share of responses", "Mean over all passes.", Unit::Percent, SHARE, boxed)
        },
        of("step-time", "Time per step", "time", "Without evaluation.", Unit::Seconds, POSITIVE, |run| run.metrics.points("perf/step_s")),
    ]
}

/// Returns the mean accuracy over the greedy or sampled passes at each evaluation.
pub fn held_out(run: &RunRecord, greedy: bool) -> Vec<(u64, f64)> {
    let evaluations = run.history().evaluations;
    evaluations.iter().filter_map(|one| Some((one.step, one.accuracy(greedy)?))).collect()
}

/// Returns the accuracy in one pass at each evaluation.
pub fn accuracy_in(run: &RunRecord, pass: &str) -> Vec<(u64, f64)> {
    run.evaluations.iter().filter_map(|one| Some((one.step, one.scores.get(pass)?.accuracy?.mean))).collect()
}

fn boxed(run: &RunRecord) -> Vec<(u64, f64)> {
    let mean = |scores: Vec<f64>| (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64);
    let shares = run.evaluations.iter().map(|one| (one.step, one.scores.values().map(|score| score.boxed).collect()));
    shares.filter_map(|(step, shares)| Some((step, mean(shares)?))).collect()
}
