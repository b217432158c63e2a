//! `rlvr bench`

mod case;
mod show;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};

use super::arguments::{ComputeArgs, transfers};
use super::numbers::{COUNT_FROM_1, setting, within};
use crate::bench::{Bench, Ceilings, Machine, Repeats, State, WORKS, Work, trace};
use crate::config;
use crate::config::range::{Range, between};
use crate::flow::{Problem, Prompt};
use crate::kernels::Kernels;
use crate::lanes::Lanes;
use crate::model::{Decoder, initial, shapes};
use crate::source;
use crate::text::{ChatSettings, Text};
use crate::train::RunSettings;
use crate::usage::usage;
use case::{Case, CaseReport};

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
    #[arg(long, default_value = "rollout,update,step", help = format!("Workloads to measure, separated by commas: {WORKS}"))]
    work: String,
    /// Measure several cases in one process; each is a list such as "name=long work=rollout sequences=64 lengths=lognormal:760:3072
    /// batch-invariant=true"
    #[arg(long = "case", value_name = "WORDS", conflicts_with_all = ["profile", "write_lengths"])]
    cases: Vec<String>,
    #[arg(
        long,
        allow_negative_numbers = true,
        value_parser = setting::<usize>("rollout.group_size"),
        help = format!("Number of responses to the one prompt (default: {})", case::SEQUENCES)
    )]
    sequences: Option<usize>,
    /// Response lengths: a file with one length per line, or lognormal:MEAN:LONGEST, whose mean is MEAN after 3% of the lengths are cut at
    /// LONGEST (default: what the model itself produces)
    #[arg(long, value_name = "FILE|lognormal:MEAN:LONGEST")]
    lengths: Option<String>,
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
    /// Skip the extra repeat that times each operation. It waits for the device after each one, so its times say little on a GPU
    #[arg(long)]
    no_breakdown: bool,
    /// Skip the measurement of the machine's ceilings, and the shares of them
    #[arg(long)]
    no_ceilings: bool,
    /// Start no workload later than this, counted from the start of the program
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = within::<f64>(SECONDS))]
    limit: Option<f64>,
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

pub fn run(args: BenchArgs) -> Result<()> {
    let began = Instant::now();
    let cases = usage(Case::all(&args))?;
    let settings = usage(settings(&args))?;
    // Opened before anything is measured, so that a machine without such kernels fails early.
    let is_other = |case: &Case| case.batch_invariant != args.compute.batch_invariant;
    let other = cases.iter().any(is_other).then(|| args.open(!args.compute.batch_invariant)).transpose()?;
    let subject = subject(&args)?;
    let decoder = &subject.decoder;
    let lanes = Lanes::new(if args.lanes == 0 { decoder.usual_lanes() } else { args.lanes })?;
    let machine = Machine::of(decoder, &lanes);
    let ceilings = (!args.no_ceilings).then(|| Ceilings::measure(decoder, &lanes)).transpose()?;
    show::machine(&machine, ceilings.as_ref());
    let prompt = prompt(&args, &subject)?;
    let mut report = Report { machine, ceilings, prompt_tokens: prompt.ids.len(), cases: cases.iter().map(Case::report).collect() };
    report.write(&args, &settings)?;
    for (number, case) in cases.iter().enumerate() {
        let measured = Measured { args: &args, case, subject: &subject, settings: &settings, lanes: &lanes, began };
        let moved = other.as_ref().filter(|_| is_other(case)).map(|kernels| decoder.on(kernels.clone())).transpose();
        let done = moved.and_then(|moved| {
            let bench = measured.bench(moved.as_ref().unwrap_or(decoder), prompt.clone());
            measured.run(bench, &mut report, number)
        });
        match done {
            Err(error) if case.name.is_none() => return Err(error),
            Err(error) => {
                tell!("{}: {error:#}", case.name.as_deref().unwrap_or_default());
                report.cases[number].error = Some(format!("{error:#}"));
                report.write(&args, &settings)?;
            }
            Ok(()) => {}
        }
    }
    show::measurements(&report.cases);
    let failed: Vec<&str> = report.cases.iter().filter(|case| case.error.is_some()).filter_map(|case| case.name.as_deref()).collect();
    if !failed.is_empty() {
        bail!("{} of {} cases failed: {}", failed.len(), cases.len(), failed.join(", "));
    }
    Ok(())
}

/// A case while it is measured.
struct Measured<'a> {
    args: &'a BenchArgs,
    case: &'a Case,
    subject: &'a Subject,
    settings: &'a RunSettings,
    lanes: &'a Lanes,
    began: Instant,
}

impl<'a> Measured<'a> {
    fn bench(&self, decoder: &'a Decoder, prompt: Prompt) -> Bench<'a> {
        let repeats = Repeats {
            least: self.args.repeats,
            seconds: self.args.seconds,
            once_from_s: self.args.once_from.unwrap_or(f64::INFINITY),
            breakdown: !self.args.no_breakdown,
        };
        let vocabulary = self.subject.vocabulary();
        Bench { decoder, vocabulary, lanes: self.lanes, settings: self.settings, prompt, lengths: Vec::new(), repeats }
    }

    /// Measures the workloads in order. The report is written after each, so that a later failure loses nothing.
    fn run(&self, mut bench: Bench, report: &mut Report, number: usize) -> Result<()> {
        let name = self.case.name.as_ref().map_or_else(String::new, |name| format!("{name}: "));
        let is_late = |report: &Report| {
            let is_late = self.args.limit.is_some_and(|limit| self.began.elapsed().as_secs_f64() > limit);
            if is_late {
                tell!("{name}no time was left for {}", report.cases[number].not_run.join(", "));
            }
            is_late
        };
        if is_late(report) {
            return Ok(());
        }
        bench.lengths = self.case.lengths.numbers(&bench, &self.subject.end_tokens)?;
        if let Some(path) = &self.case.write_lengths {
            let text: String = bench.lengths.iter().map(|length| format!("{length}\n")).collect();
            write(path, &text)?;
        }
        report.cases[number].began(&bench.lengths);
        let (responses, tokens) = (bench.lengths.len(), bench.lengths.iter().sum::<usize>());
        tell!(
            "{name}{responses} responses with {tokens} tokens in total to a prompt of {}, {} lanes",
            bench.prompt.ids.len(),
            self.lanes.count()
        );
        let mut state = State::default();
        for work in &self.case.works {
            if is_late(report) {
                return Ok(());
            }
            report.cases[number].not_run.remove(0);
            let measurement = bench.measure(*work, report.ceilings.as_ref(), &mut state)?;
            let mut line = serde_json::to_value(&measurement)?;
            if let Some(name) = &self.case.name {
                line["case"] = json!(name);
            }
            say!("{line}");
            report.cases[number].measurements.push(measurement);
            report.write(self.args, self.settings)?;
        }
        if let Some(path) = &self.args.profile {
            let events = trace::events(&bench.record(Work::Step, &mut state)?.spans);
            write(path, &Value::Array(events).to_string())?;
        }
        Ok(())
    }
}

/// Everything that is written to `--json`.
struct Report {
    machine: Machine,
    ceilings: Option<Ceilings>,
    prompt_tokens: usize,
    cases: Vec<CaseReport>,
}

impl Report {
    /// Writes the file. A single case is at the top level, several are in a list.
    fn write(&self, args: &BenchArgs, settings: &RunSettings) -> Result<()> {
        let Some(path) = &args.json else { return Ok(()) };
        let mut all = json!({
            "machine": self.machine,
            "ceilings": self.ceilings,
            "prompt_tokens": self.prompt_tokens,
            "shape": args.shape,
            "settings": settings,
            "limit_s": args.limit,
        });
        let cases = match &*self.cases {
            [only] if only.name.is_none() => json!(only),
            several => json!({"cases": several}),
        };
        if let (Some(all), Value::Object(cases)) = (all.as_object_mut(), cases) {
            all.extend(cases);
        }
        write(path, &format!("{all:#}\n"))
    }
}

impl BenchArgs {
    /// Opens the kernels.
    fn open(&self, batch_invariant: bool) -> Result<Arc<dyn Kernels>> {
        let ComputeArgs { device, kernels, dtype, .. } = self.compute;
        ComputeArgs { device, kernels, dtype, batch_invariant }.open(self.shape.as_deref().unwrap_or(&self.model))
    }
}

impl Subject {
    fn vocabulary(&self) -> usize {
        self.text.as_ref().map_or(self.decoder.config.vocabulary, Text::vocabulary)
    }
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
    let kernels = args.open(args.compute.batch_invariant)?;
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
fn prompt(args: &BenchArgs, subject: &Subject) -> Result<Prompt> {
    let question = args.prompt.clone();
    let problem = Problem { question, ..Problem::default() };
    let tokens = args.prompt_tokens.or(subject.text.is_none().then_some(PROMPT_TOKENS));
    match (&subject.text, tokens) {
        (Some(text), None) => text.prompt(Arc::new(problem), ""),
        (_, tokens) => {
            let ids = (0..tokens.unwrap_or(PROMPT_TOKENS).max(1)).map(|t| (t * 7919) % subject.vocabulary() as u32);
            Ok(Prompt { problem: Arc::new(problem), text: String::new(), ids: ids.collect() })
        }
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
