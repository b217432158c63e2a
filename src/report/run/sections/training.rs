//! The section about training: one small chart for each quantity of the update, and the time by phase.

use maud::{Markup, html};

use crate::metrics::PhaseTimes;
use crate::plot::chart::{Axis, Line, LineChart, LineStyle, Sample, Scale, Size, StackedChart, Unit};
use crate::report::page::Section;
use crate::report::page::charts::{TRAIN, element_id, step_axis};
use crate::report::page::figure::{Figure, data_of, grid};
use crate::report::page::numbers::{duration, percent, six_digits};
use crate::report::record::run_record::RunRecord;
use crate::report::run::curves::saturation_mark;
use crate::report::run::facts::Facts;

/// A quantity with a chart.
struct Quantity {
    title: &'static str,
    /// The keys in `metrics.jsonl`, the current name first.
    keys: &'static [&'static str],
    /// The label of the axis, with the unit.
    label: &'static str,
    unit: Unit,
    scale: Scale,
    caption: &'static str,
}

const fn quantity(title: &'static str, keys: &'static [&'static str], label: &'static str, unit: Unit, caption: &'static str) -> Quantity {
    Quantity { title, keys, label, unit, scale: Scale::Linear, caption }
}

const fn logarithmic(quantity: Quantity) -> Quantity {
    Quantity { scale: Scale::Log, ..quantity }
}

#[rustfmt::skip] // a row is a line
const QUANTITIES: &[Quantity] = &[
    quantity("Reward", &["reward/mean", "train/accuracy"], "mean reward", Unit::Number, "Mean reward of the step's responses, before any KL penalty."),
    quantity("Groups with signal", &[WITH_SIGNAL], "groups", Unit::Percent, "Share of groups whose rewards differ. The others give no gradient with a group baseline."),
    quantity("Entropy", &["actor/entropy"], "nats per token", Unit::Number, "Mean entropy of the policy over response tokens, at the rollout temperature. Near 0, all samples are alike."),
    quantity("KL divergence", &["actor/kl_loss"], "nats", Unit::Number, "From the reference model, as the loss has it, without its coefficient."),
    quantity("Response length", &["response_length/mean"], "tokens", Unit::Number, "Mean length of training responses."),
    quantity("Cut-off responses", &["response_length/clip_ratio"], "responses", Unit::Percent, "Share of training responses that reached the token limit."),
    logarithmic(quantity("Gradient norm", &["actor/grad_norm"], "norm, log scale", Unit::Number, "Before clipping.")),
    quantity("Clipped tokens", &["actor/pg_clipfrac"], "tokens", Unit::Percent, "Share of response tokens whose probability ratio was clipped."),
    quantity("Policy change in a step", &["actor/ppo_kl"], "nats per token", Unit::Number, "KL divergence of the policy from the one that sampled."),
    quantity("Learning rate", &["actor/lr"], "learning rate", Unit::Number, "As the schedule set it."),
    quantity("Temperature", &["rollout/temperature"], "temperature", Unit::Number, "Of training responses."),
    quantity("Entropy coefficient", &["actor/entropy_coeff"], "coefficient", Unit::Number, "Of the entropy bonus."),
    quantity("Sampler and trainer", &["rollout/logprob_gap_max"], "nats", Unit::Number, "Largest difference between a token's log-probability in sampler and trainer."),
    quantity("Unreadable responses", &["watch/garbled_share"], "responses", Unit::Percent, "Share of training responses with broken characters or one token repeated over half of their length."),
    quantity("Value loss", &["critic/vf_loss"], "loss", Unit::Number, "Of the critic."),
    quantity("Explained variance", &["critic/vf_explained_var"], "of the returns", Unit::Percent, "Share of the returns' variance that the critic explains."),
    quantity("Throughput", &["perf/response_tokens_per_s"], "tokens per second", Unit::Number, "Response tokens of a step divided by its time."),
];

/// Not a key: the share of groups with signal, computed from the share without.
const WITH_SIGNAL: &str = "groups with signal";

/// Steps in the mean that smooths a chart: a fiftieth of the run.
const SMOOTHING: usize = 50;
/// The most points of a mean in a picture.
const POINTS: usize = 150;
/// The most steps in a CSV file.
const CSV_STEPS: usize = 4000;
/// The most bars of time in the chart of phases.
const TIME_BUCKETS: u64 = 60;

/// Writes the section; `None` without a training step.
pub fn section(run: &RunRecord, facts: &Facts) -> Option<Section> {
    let steps = run.metrics.steps.len();
    if steps == 0 {
        return None;
    }
    let window = (steps / SMOOTHING).max(1);
    let found: Vec<(&Quantity, Vec<Sample>)> =
        QUANTITIES.iter().map(|quantity| (quantity, quantity.points(run))).filter(|(_, points)| !points.is_empty()).collect();
    let (constant, varying): (Vec<_>, Vec<_>) = found.into_iter().partition(|(_, points)| is_constant(points));
    let mut figures: Vec<Figure> = varying.iter().map(|(quantity, points)| quantity.figure(facts, points, window)).collect();
    let time = time_figure(run, facts);
    let body = html! {
        p {
            "Each step trains on the responses that it samples. "
            @if window > 1 { "Pale lines are single steps, strong lines the mean of " (window) " steps." }
            @if csv_stride(steps) > 1 {
                " The CSV files have one step in " (csv_stride(steps)) "; all are in " code { "metrics.jsonl" } " in the run's folder."
            }
        }
        (grid(&figures))
        @if !constant.is_empty() { (constants(&constant)) }
        @if let Some(figure) = &time { (figure.markup()) (time_table(run)) }
        (all_metrics(run))
    };
    figures.extend(time);
    Some(Section { id: "training".to_owned(), title: "Training".to_owned(), body, data: data_of(&figures) })
}

/// Returns the points of the first key that the run has, as `(step, value)` rounded to six digits; a missing number is a gap.
pub fn points_of(run: &RunRecord, keys: &[&str]) -> Vec<Sample> {
    let Some(column) = keys.iter().find_map(|key| run.metrics.column(key)) else { return Vec::new() };
    run.metrics.steps.iter().zip(column).map(|(step, value)| Sample::new(*step as f64, six_digits(*value))).collect()
}

impl Quantity {
    fn points(&self, run: &RunRecord) -> Vec<Sample> {
        if self.keys != [WITH_SIGNAL] {
            return points_of(run, self.keys);
        }
        let mut points = points_of(run, &["reward/zero_std_share"]);
        points.iter_mut().for_each(|point| point.y = six_digits(1.0 - point.y));
        points
    }

    fn figure(&self, facts: &Facts, points: &[Sample], window: usize) -> Figure {
        let line = |points: Vec<Sample>, style| Line { name: lower_first(self.title), points, style };
        let mut lines = vec![line(points.to_vec(), LineStyle::Plain(TRAIN))];
        if window > 1 {
            lines[0].style = LineStyle::Faint(TRAIN);
            let mean = smoothed(points, window);
            // Between two points of the mean, most of its steps are the same.
            let stride = mean.len().div_ceil(POINTS).min(window).max(1);
            lines.push(line(
                mean.into_iter().rev().step_by(stride).collect::<Vec<_>>().into_iter().rev().collect(),
                LineStyle::Plain(TRAIN),
            ));
        }
        // The title names the quantity, and the section says what pale and strong lines are.
        lines.iter_mut().for_each(|line| line.name.clear());
        let ends = [points.first(), points.last()].map(|point| point.map_or(f64::NAN, |point| point.y));
        let chart = LineChart {
            title: format!("{} by training step", self.title),
            description: format!("{} From {} to {}.", self.caption, self.unit.text(ends[0]), self.unit.text(ends[1])),
            x: step_axis(),
            y: Axis { scale: self.scale, ..Axis::new(self.label, self.unit) },
            lines,
            marks: saturation_mark(facts),
            levels: Vec::new(),
            size: Size::Small,
        };
        // The file has single steps; the smoothed line follows from them.
        let every = points.iter().step_by(csv_stride(points.len())).copied().collect();
        let data = LineChart { lines: vec![line(every, LineStyle::Plain(TRAIN))], ..chart.clone() };
        Figure {
            id: element_id("training", self.title),
            title: self.title.to_owned(),
            caption: html! { (self.caption) },
            svg: chart.svg(),
            csv: data.csv(),
            ..Figure::default()
        }
    }
}

/// Writes a title inside a sentence: `entropy`, but `KL divergence`.
fn lower_first(title: &str) -> String {
    let mut letters = title.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() => first.to_lowercase().chain(letters).collect(),
        _ => title.to_owned(),
    }
}

/// Returns the distance of the steps in CSV files, so that a page about a run of any length can be sent by mail.
pub fn csv_stride(steps: usize) -> usize {
    steps.div_ceil(CSV_STEPS).max(1)
}

/// True if a quantity never changes, so that a sentence says all about it.
fn is_constant(points: &[Sample]) -> bool {
    points.len() > 1 && points.iter().all(|point| point.y.to_bits() == points[0].y.to_bits())
}

/// Averages the finite values among the last `window` points, fewer at the start.
pub fn smoothed(points: &[Sample], window: usize) -> Vec<Sample> {
    let mean_until = |index: usize| {
        let recent = points[(index + 1).saturating_sub(window)..=index].iter().map(|point| point.y).filter(|y| y.is_finite());
        let (sum, count) = recent.fold((0.0, 0), |(sum, count), y| (sum + y, count + 1));
        Sample::new(points[index].x, sum / f64::from(count))
    };
    (0..points.len()).map(mean_until).collect()
}

fn constants(constant: &[(&Quantity, Vec<Sample>)]) -> Markup {
    let values: Vec<String> = constant
        .iter()
        .map(|(quantity, points)| format!("{} ({}) {}", lower_first(quantity.title), quantity.label, quantity.unit.text(points[0].y)))
        .collect();
    html! { p.detail { "The same at every step: " (values.join("; ")) "." } }
}

/// The times of phases, averaged over equal numbers of steps, so that evaluations and checkpoints are spread over the steps between them.
fn time_figure(run: &RunRecord, facts: &Facts) -> Option<Figure> {
    let phases: Vec<(&str, &[f64])> = phases().filter_map(|(name, key)| Some((name, run.metrics.column(key)?))).collect();
    let steps = &run.metrics.steps;
    if phases.is_empty() || steps.len() < 2 {
        return None;
    }
    let width = (steps.len() as u64).div_ceil(TIME_BUCKETS).max(run.settings.eval.every.min(steps.len() as u64 / 2)).max(1) as usize;
    let mean = |values: &[f64]| {
        let finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        six_digits(finite.iter().sum::<f64>() / finite.len().max(1) as f64)
    };
    let layers: Vec<(String, Vec<f64>)> =
        phases.iter().map(|(name, column)| ((*name).to_owned(), column.chunks(width).map(mean).collect())).collect();
    let layers = layers.into_iter().filter(|(_, values): &(String, Vec<f64>)| values.iter().any(|value| *value > 0.0)).collect();
    let chart = StackedChart {
        title: "Time per step by phase".to_owned(),
        description: "Seconds per training step in each phase of the loop.".to_owned(),
        x: step_axis(),
        y: Axis::new("time per step", Unit::Seconds),
        layers,
        xs: steps.chunks(width).map(|steps| steps[steps.len() - 1] as f64).collect(),
        size: Size::Full,
    };
    let saturation = facts.saturation.map(|step| format!(" Train accuracy saturates at step {step}.")).unwrap_or_default();
    Some(Figure {
        id: "time-by-phase".to_owned(),
        title: "Time by phase".to_owned(),
        caption: html! {
            @if width == 1 { "Seconds of each step." } @else { "Mean seconds per step over " (width) " steps each, with evaluations and checkpoints spread over them." }
            (saturation)
        },
        svg: chart.svg(),
        narrow: Some(chart.narrow_svg()),
        csv: chart.csv(),
    })
}

/// Returns the name and the key of each phase, in the order of a step.
fn phases() -> impl Iterator<Item = (&'static str, &'static str)> {
    let name = |key: &'static str| key.strip_prefix("perf/phase/").and_then(|name| name.strip_suffix("_s")).unwrap_or(key);
    PhaseTimes::default().metrics().into_iter().map(move |(key, _)| (name(key), key))
}

fn time_table(run: &RunRecord) -> Markup {
    let total = |key: &str| run.metrics.column(key).map(|column| column.iter().copied().filter(|value| value.is_finite()).sum::<f64>());
    let phases: Vec<(&str, f64)> = phases().filter_map(|(name, key)| Some((name, total(key)?))).filter(|one| one.1 > 0.0).collect();
    let sum: f64 = phases.iter().map(|(_, seconds)| seconds).sum();
    html! {
        div.scroll tabindex="0" role="region" aria-label="Time by phase" {
            table.results {
                thead { tr { th scope="col" { "phase" } th scope="col" { "time" } th scope="col" { "share" } } }
                tbody {
                    @for (name, seconds) in &phases {
                        tr { th scope="row" { (name) } td { (duration(*seconds)) } td { (percent(seconds / sum)) } }
                    }
                    tr { th scope="row" { "all phases" } td { (duration(sum)) } td { (percent(1.0)) } }
                }
            }
        }
    }
}

/// A table of every recorded number, for quantities without a chart.
fn all_metrics(run: &RunRecord) -> Markup {
    let row = |(key, column): (&str, &[f64])| {
        let finite: Vec<f64> = column.iter().copied().filter(|value| value.is_finite()).collect();
        let (first, last) = (*finite.first()?, *finite.last()?);
        let (low, high) = finite.iter().fold((first, first), |(low, high), value| (value.min(low), value.max(high)));
        Some((key.to_owned(), finite.len(), [first, last, low, high].map(|value| six_digits(value).to_string())))
    };
    let rows: Vec<_> = run.metrics.columns().filter_map(row).collect();
    html! {
        details {
            summary { "All " (rows.len()) " recorded metrics" }
            div.scroll tabindex="0" role="region" aria-label="All recorded metrics" {
                table.results {
                    thead {
                        tr {
                            th scope="col" { "metric" } th scope="col" { "steps" } th scope="col" { "first" } th scope="col" { "last" }
                            th scope="col" { "lowest" } th scope="col" { "highest" }
                        }
                    }
                    tbody {
                        @for (key, steps, values) in &rows {
                            tr { th scope="row" { code { (key) } } td { (steps) } @for value in values { td { (value) } } }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothed_averages_over_gaps() {
        let points: Vec<Sample> = [1.0, f64::NAN, 3.0, 5.0].iter().enumerate().map(|(x, y)| Sample::new(x as f64, *y)).collect();
        assert_eq!(smoothed(&points, 2).iter().map(|point| point.y).collect::<Vec<_>>(), [1.0, 1.0, 3.0, 4.0]);
        assert!(smoothed(&points[1..2], 2)[0].y.is_nan());
        assert_eq!(["Entropy", "KL divergence", ""].map(lower_first), ["entropy", "KL divergence", ""]);
        assert!(is_constant(&[points[0], points[0]]) && !is_constant(&points) && !is_constant(&points[..1]));
    }
}
