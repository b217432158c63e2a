//! `rlvr bench`

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};

use super::arguments::{ComputeArgs, transfers};
use super::numbers::{COUNT_FROM_1, setting, within};
use crate::bench::{Bench, Ceilings, Machine, Measurement, Repeats, State, WORKS, trace};
use crate::config;
use crate::config::range::{Range, between};
use crate::flow::{Problem, Prompt};
use crate::input::{Line, Lines};
use crate::lanes::Lanes;
use crate::metrics::table;
use crate::model::{Decoder, initial, shapes};
use crate::source;
use crate::text::{ChatSettings, Text};
use crate::train::RunSettings;
use crate::usage::usage;

#[derive(Debug, Args)]
pub struct BenchArgs {
    /// tiny (embedded), a folder in Hugging Face layout, or a hub name
    #[arg(long, default_value = "tiny")]
    model: String,
    #[arg(
        long,
        value_name = "NAME",
        conflicts_with_all = ["model", "prompt"],
        help = format!("Random weights of a known shape instead: {}", crate::model::shapes::names())
    )]
    shape: Option<String>,
    /// What to measure, with commas between: score, rollout, update, step
    #[arg(long, default_value = "rollout,update,step")]
    work: String,
    /// Responses to the one prompt
    #[arg(long, default_value_t = 128, allow_negative_numbers = true, value_parser = setting::<usize>("rollout.group_size"))]
    sequences: usize,
    /// Response lengths, one a line (default: what the model itself produces)
    #[arg(long, value_name = "FILE", conflicts_with = "sequences")]
    lengths: Option<PathBuf>,
    /// All responses of one length
    #[arg(long, value_name = "TOKENS", conflicts_with = "lengths", allow_negative_numbers = true, value_parser = setting::<u32>("rollout.max_new"))]
    response_tokens: Option<u32>,
    /// Write the lengths that are used, for another program to do the same work
    #[arg(long, value_name = "FILE")]
    write_lengths: Option<PathBuf>,
    /// The question
    #[arg(long, default_value = "What is 334+556?")]
    prompt: String,
    /// A prompt of so many arbitrary tokens instead (150 with --shape)
    #[arg(long, value_name = "TOKENS", conflicts_with = "prompt", allow_negative_numbers = true, value_parser = setting::<u32>("rollout.max_new"))]
    prompt_tokens: Option<u32>,
    /// Most tokens in a response
    #[arg(long, default_value_t = 80, allow_negative_numbers = true, value_parser = setting::<usize>("rollout.max_new"))]
    max_new: usize,
    /// Repeat each work for about this long
    #[arg(long, default_value_t = 5.0, allow_negative_numbers = true, value_parser = within::<f64>(SECONDS))]
    seconds: f64,
    /// Repeat each work at least so many times
    #[arg(long, value_name = "TIMES", default_value_t = 3, allow_negative_numbers = true, value_parser = within::<usize>(COUNT_FROM_1))]
    repeats: usize,
    /// A work whose first run takes longer is measured by that run
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = within::<f64>(SECONDS))]
    once_from: Option<f64>,
    /// Leave out the extra repeat that times every operation by itself
    #[arg(long)]
    no_breakdown: bool,
    /// A setting of the run, as in rlvr train: --set rollout.engine.max_running=1024
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Write the machine, its ceilings, the settings and every measurement
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a Chrome trace of one more step, every operation waited for
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Lanes: 1 lets one product use all cores; 0 decides by the model's size
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = setting::<usize>("train.lanes"))]
    lanes: usize,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// What a measurement may be asked to take, in seconds.
const SECONDS: Range = between(0.0, 1e6);

/// What is measured.
struct Subject {
    decoder: Decoder,
    /// None where only the shape is known.
    text: Option<Text>,
    end_tokens: Vec<u32>,
}

/// Tokens of the prompt where there is no tokenizer and nothing is said.
const PROMPT_TOKENS: u32 = 150;
/// Standard deviation of random weights.
const WEIGHT_SCALE: f32 = 0.02;
/// Operations in the table.
const SHOWN_OPERATIONS: usize = 12;

pub fn run(args: BenchArgs) -> Result<()> {
    let works: Vec<&str> = args.work.split(',').map(str::trim).collect();
    for work in &works {
        let known = WORKS.contains(work).then_some(());
        usage(known.with_context(|| format!("unknown work \"{work}\"; known are {}", WORKS.join(", "))))?;
    }
    let settings = usage(settings(&args))?;
    let subject = subject(&args)?;
    let decoder = &subject.decoder;
    let lanes = Lanes::new(if args.lanes == 0 { decoder.usual_lanes() } else { args.lanes })?;
    let repeats = Repeats {
        least: args.repeats,
        seconds: args.seconds,
        once_from_s: args.once_from.unwrap_or(f64::INFINITY),
        breakdown: !args.no_breakdown,
    };
    let vocabulary = subject.text.as_ref().map_or(decoder.config.vocabulary, Text::vocabulary);
    let (prompt, lengths) = (prompt(&args, &subject, vocabulary)?, Vec::new());
    let mut bench = Bench { decoder, vocabulary, lanes: &lanes, settings: &settings, prompt, lengths, repeats };
    bench.lengths = lengths_of(&args, &bench, &subject.end_tokens)?;
    if let Some(path) = &args.write_lengths {
        let text: String = bench.lengths.iter().map(|length| format!("{length}\n")).collect();
        write(path, &text)?;
    }
    let (responses, tokens) = (bench.lengths.len(), bench.lengths.iter().sum::<usize>());
    tell!("{responses} responses of {tokens} tokens together to a prompt of {}, {} lanes", bench.prompt.ids.len(), lanes.count());

    let (machine, ceilings) = (Machine::of(decoder, &lanes), Ceilings::measure(decoder, &lanes)?);
    show_ceilings(&machine, &ceilings);
    let (mut state, mut measurements) = (State::default(), Vec::new());
    for work in works {
        let measurement = bench.measure(work, &ceilings, &mut state)?;
        say!("{}", serde_json::to_string(&measurement)?);
        measurements.push(measurement);
        // Written after each work: what was measured stays, whatever comes after.
        if let Some(path) = &args.json {
            let all = json!({
                "machine": machine,
                "ceilings": ceilings,
                "measurements": measurements,
                "prompt_tokens": bench.prompt.ids.len(),
                "sequences": responses,
                "response_tokens": tokens,
                "shape": args.shape,
                "settings": settings,
            });
            write(path, &format!("{all:#}\n"))?;
        }
    }
    show(&measurements);
    if let Some(path) = &args.profile {
        let events = trace::events(&bench.record("step", &mut state)?.spans);
        write(path, &Value::Array(events).to_string())?;
    }
    Ok(())
}

/// The defaults that fit the model, then `--set`.
fn settings(args: &BenchArgs) -> Result<RunSettings> {
    let layers = config::layers(None, &args.sets)?;
    let mut settings = config::resolve(&RunSettings::defaults_for(args.shape.as_deref().unwrap_or(&args.model)), &layers)?;
    settings.rollout.max_new = args.max_new;
    Ok(settings)
}

/// Loads the model, or makes one of the shape, with what computes it.
fn subject(args: &BenchArgs) -> Result<Subject> {
    let kernels = args.compute.open(args.shape.as_deref().unwrap_or(&args.model))?;
    let Some(name) = &args.shape else {
        let model = source::load(&args.model, &ChatSettings::default(), &kernels, &transfers())?;
        return Ok(Subject { decoder: model.decoder, text: Some(model.text), end_tokens: model.end_tokens });
    };
    let shape = shapes::by_name(name).with_context(|| format!("--shape {name}: no such shape; known are {}", shapes::names()));
    let config = usage(shape)?.read()?;
    let weights = initial::random(&config, 0, WEIGHT_SCALE)?;
    Ok(Subject { end_tokens: config.end_tokens.clone(), decoder: Decoder::new(config, weights)?.on(kernels)?, text: None })
}

/// The question, or arbitrary tokens.
fn prompt(args: &BenchArgs, subject: &Subject, vocabulary: usize) -> Result<Prompt> {
    let question = args.prompt.clone();
    let problem = Problem { question, ..Problem::default() };
    let tokens = args.prompt_tokens.or(subject.text.is_none().then_some(PROMPT_TOKENS));
    match (&subject.text, tokens) {
        (Some(text), None) => text.prompt(Arc::new(problem), ""),
        (_, tokens) => {
            let ids = (0..tokens.unwrap_or(PROMPT_TOKENS).max(1)).map(|t| (t * 7919) % vocabulary as u32);
            Ok(Prompt { problem: Arc::new(problem), text: String::new(), ids: ids.collect() })
        }
    }
}

fn lengths_of(args: &BenchArgs, bench: &Bench, end_tokens: &[u32]) -> Result<Vec<usize>> {
    match (&args.lengths, args.response_tokens) {
        (Some(path), _) => {
            let length = |line: Result<Line>| {
                let line = line?;
                line.text.parse().with_context(|| format!("{}: expected a length", line.place))
            };
            Lines::open(path)?.map(length).collect()
        }
        (None, Some(tokens)) => Ok(vec![tokens as usize; args.sequences]),
        (None, None) => bench.own_lengths(args.sequences, end_tokens),
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn show_ceilings(machine: &Machine, ceilings: &Ceilings) {
    let [rows, k, n] = ceilings.widest;
    let giga = |rate: f64| format!("{:.1}", rate / 1e9);
    tell!(
        "{}, {} kernels in {}: {} GB/s copied; {} GFLOP/s in products of {side} x {side} x {side}, {} in {rows} x {k} x {n}",
        machine.device,
        machine.kernels,
        machine.dtype,
        giga(ceilings.copy_bytes_per_s),
        giga(ceilings.square_flops),
        giga(ceilings.widest_flops),
        side = ceilings.square_side,
    );
}

fn show(measurements: &[Measurement]) {
    let ms = |seconds: f64| format!("{:.1}", seconds * 1e3);
    let percent = |share: f64| format!("{:.0}%", share * 100.0);
    let row = |measurement: &Measurement| {
        vec![
            measurement.work.clone(),
            ms(measurement.median_s),
            ms(measurement.min_s),
            ms(measurement.max_s),
            format!("{:.0}", measurement.tokens_per_s),
            format!("{:.1}", measurement.flops / 1e9),
            percent(measurement.share_of_ceiling),
            percent(measurement.utilisation),
            percent(measurement.share_of_least),
            measurement.peak_bytes.map_or_else(|| "unknown".to_owned(), |bytes| format!("{:.2}", bytes as f64 / 1e9)),
        ]
    };
    let header = [
        "work",
        "median ms",
        "min",
        "max",
        "tokens/s",
        "GFLOP/s",
        "of the products' ceiling",
        "utilisation",
        "of the least time",
        "peak GB",
    ];
    tell!("{}", table(&header, &measurements.iter().map(row).collect::<Vec<_>>()));
    let operations = measurements.iter().flat_map(|measurement| {
        let total: f64 = measurement.breakdown.iter().map(|time| time.seconds).sum();
        measurement.breakdown.iter().take(SHOWN_OPERATIONS).map(move |time| {
            vec![
                measurement.work.clone(),
                time.operation.to_owned(),
                time.count.to_string(),
                ms(time.seconds),
                percent(time.seconds / total),
            ]
        })
    });
    let operations: Vec<Vec<String>> = operations.collect();
    if !operations.is_empty() {
        tell!("{}", table(&["work", "operation", "calls", "ms", "share"], &operations));
    }
}
