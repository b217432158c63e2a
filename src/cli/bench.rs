//! `rlvr bench`: measures speed on this machine.

mod case;
mod exchange;
mod show;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::arguments::{ComputeArgs, download_progress};
use super::examples;
use super::numbers::{COUNT_FROM_1, setting, within};
use crate::bench::{Bench, Ceilings, Machine, Repeats, State, WORKLOADS, Workload, trace};
use crate::config;
use crate::config::range::{Range, between};
use crate::flow::{Problem, Prompt};
use crate::kernels::Kernels;
use crate::model::{Decoder, init, known_models};
use crate::output::Progress;
use crate::source;
use crate::text::{ChatSettings, Text};
use crate::train::RunSettings;
use crate::usage::usage;
use crate::workers::Workers;
use case::{Case, CaseReport};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct BenchArgs {
    #[command(subcommand)]
    other: Option<Other>,
    /// Model to measure: tiny (embedded), a folder in Hugging Face format, or a hub name
    #[arg(long, default_value = "tiny")]
    model: String,
    #[arg(
        long,
        value_name = "NAME",
        conflicts_with_all = ["model", "prompt"],
        help = format!("Measure random weights of a known shape instead: {}", crate::model::known_models::names())
    )]
    shape: Option<String>,
    #[arg(long, default_value = "rollout,update,step", help = format!("Comma-separated workloads to measure: {WORKLOADS}"))]
    work: String,
    /// Measure several cases in one process (repeat the flag); each is a list such as "name=long work=rollout sequences=64
    /// lengths=lognormal:760:3072 batch-invariant=true"
    #[arg(long = "case", value_name = "WORDS", conflicts_with_all = ["profile", "write_lengths"])]
    cases: Vec<String>,
    #[arg(
        long,
        allow_negative_numbers = true,
        value_parser = setting::<usize>("rollout.group_size"),
        help = format!("Number of responses to the prompt (default: {})", case::SEQUENCES)
    )]
    sequences: Option<usize>,
    /// Response lengths: a file with one length per line, or lognormal:MEAN:LONGEST, whose mean is MEAN after 3% of the lengths are cut at
    /// LONGEST (default: the lengths that the model produces)
    #[arg(long, value_name = "FILE|lognormal:MEAN:LONGEST")]
    lengths: Option<String>,
    /// Number of tokens in every response
    #[arg(long, value_name = "TOKENS", conflicts_with = "lengths", allow_negative_numbers = true, value_parser = setting::<u32>("rollout.max_new_tokens"))]
    response_tokens: Option<u32>,
    /// Write the response lengths to a file, so that another program can repeat the same work
    #[arg(long, value_name = "FILE")]
    write_lengths: Option<PathBuf>,
    /// Question that the responses answer
    #[arg(long, default_value = "What is 334+556?")]
    prompt: String,
    /// Use this many arbitrary tokens as the prompt instead of --prompt (default with --shape: 150)
    #[arg(long, value_name = "TOKENS", conflicts_with = "prompt", allow_negative_numbers = true, value_parser = setting::<u32>("rollout.max_new_tokens"))]
    prompt_tokens: Option<u32>,
    /// Maximum number of tokens in a response
    #[arg(long, visible_alias = "max-new", default_value_t = 80, allow_negative_numbers = true, value_parser = setting::<usize>("rollout.max_new_tokens"))]
    max_new_tokens: usize,
    /// Repeat each workload for about this many seconds
    #[arg(long, default_value_t = 5.0, allow_negative_numbers = true, value_parser = within::<f64>(SECONDS))]
    seconds: f64,
    /// Repeat each workload at least this many times
    #[arg(long, value_name = "TIMES", default_value_t = 3, allow_negative_numbers = true, value_parser = within::<usize>(COUNT_FROM_1))]
    repeats: usize,
    /// Measure a workload only once if its first run takes longer than this many seconds
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = within::<f64>(SECONDS))]
    once_from: Option<f64>,
    /// Skip the extra repeat that times each operation; it synchronizes after each one, so its times mean little on a GPU
    #[arg(long)]
    no_breakdown: bool,
    /// Do not measure the machine's peak rates, or what share of them each workload reaches
    #[arg(long)]
    no_ceilings: bool,
    /// Start no workload later than this many seconds after the program starts
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = within::<f64>(SECONDS))]
    limit: Option<f64>,
    /// Override a setting of the run, as in rlvr train: --set rollout.engine.max_running=1024
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Print the machine, its peak rates, the settings and every measurement as one JSON document instead of tables, or write it to FILE
    /// in addition to the tables
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    json: Option<Option<PathBuf>>,
    /// Write a Chrome trace of one extra step, synchronized after each operation
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Number of worker threads; 1 lets each matrix product use all cores, 0 chooses by the model's size
    #[arg(long, visible_alias = "lanes", default_value_t = 0, allow_negative_numbers = true, value_parser = setting::<usize>("train.workers"))]
    workers: usize,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// What can be measured besides work with a model.
#[derive(Debug, Subcommand)]
enum Other {
    /// Measure how fast the processes of a run exchange data: mpirun -n 2 rlvr bench exchange
    #[command(after_help = examples::BENCH_EXCHANGE)]
    Exchange(exchange::ExchangeArgs),
}

/// Range of the flags in seconds.
const SECONDS: Range = between(0.0, 1e6);

/// The model to measure.
struct Subject {
    decoder: Decoder,
    /// `None` with `--shape`, which has no tokenizer.
    text: Option<Text>,
    end_tokens: Vec<u32>,
}

/// Default prompt length in tokens without a tokenizer.
const PROMPT_TOKENS: u32 = 150;
/// Standard deviation of random weights.
const WEIGHT_SCALE: f32 = 0.02;

pub fn run(mut args: BenchArgs) -> Result<()> {
    if let Some(Other::Exchange(args)) = args.other.take() {
        return exchange::run(args);
    }
    let started = Instant::now();
    let cases = usage(Case::all(&args))?;
    let settings = usage(settings(&args))?;
    // Opens the kernels of cases with the opposite batch invariance before any measurement, so that a machine without them fails early.
    let is_opposite = |case: &Case| case.batch_invariant != args.compute.batch_invariant;
    let opposite = cases.iter().any(is_opposite).then(|| args.open(!args.compute.batch_invariant)).transpose()?;
    let progress = Progress::new();
    let subject = subject(&args, &progress)?;
    let decoder = &subject.decoder;
    let workers = Workers::new(if args.workers == 0 { decoder.default_workers() } else { args.workers })?;
    let machine = Machine::of(decoder, &workers);
    progress.begin("measuring the limits of this machine");
    let ceilings = (!args.no_ceilings).then(|| Ceilings::measure(decoder, &workers)).transpose()?;
    show::machine(&machine, ceilings.as_ref());
    let prompt = prompt(&args, &subject)?;
    let mut report = Report { machine, ceilings, prompt_tokens: prompt.ids.len(), cases: cases.iter().map(Case::report).collect() };
    report.write(&args, &settings)?;
    for (number, case) in cases.iter().enumerate() {
        let runner =
            CaseRunner { args: &args, case, subject: &subject, settings: &settings, workers: &workers, progress: &progress, started };
        let moved = opposite.as_ref().filter(|_| is_opposite(case)).map(|kernels| decoder.on(kernels.clone())).transpose();
        let done = moved.and_then(|moved| {
            let bench = runner.bench(moved.as_ref().unwrap_or(decoder), prompt.clone());
            runner.run(bench, &mut report, number)
        });
        match done {
            Err(error) if case.name.is_none() => return Err(error),
            Err(error) => {
                message!("{}: {error:#}", case.name.as_deref().unwrap_or_default());
                report.cases[number].error = Some(format!("{error:#}"));
                report.write(&args, &settings)?;
            }
            Ok(()) => {}
        }
    }
    progress.finish();
    match args.json {
        Some(None) => print_result!("{}", report.document(&args, &settings)),
        _ => show::measurements(&report.cases),
    }
    let failed: Vec<&str> = report.cases.iter().filter(|case| case.error.is_some()).filter_map(|case| case.name.as_deref()).collect();
    if !failed.is_empty() {
        bail!("{} of {} cases failed: {}", failed.len(), cases.len(), failed.join(", "));
    }
    Ok(())
}

/// Measures one case.
struct CaseRunner<'a> {
    args: &'a BenchArgs,
    case: &'a Case,
    subject: &'a Subject,
    settings: &'a RunSettings,
    workers: &'a Workers,
    progress: &'a Progress,
    started: Instant,
}

impl<'a> CaseRunner<'a> {
    fn bench(&self, decoder: &'a Decoder, prompt: Prompt) -> Bench<'a> {
        let repeats = Repeats {
            min_repeats: self.args.repeats,
            seconds: self.args.seconds,
            skip_repeats_above_s: self.args.once_from.unwrap_or(f64::INFINITY),
            breakdown: !self.args.no_breakdown,
        };
        let vocabulary = self.subject.vocabulary();
        Bench { decoder, vocabulary, workers: self.workers, settings: self.settings, prompt, lengths: Vec::new(), repeats }
    }

    /// Measures the workloads in order. Writes the report after each one, so that a later failure loses nothing.
    fn run(&self, mut bench: Bench, report: &mut Report, number: usize) -> Result<()> {
        let name = self.case.name.as_ref().map_or_else(String::new, |name| format!("{name}: "));
        let is_late = |report: &Report| {
            let is_late = self.args.limit.is_some_and(|limit| self.started.elapsed().as_secs_f64() > limit);
            if is_late {
                message!("{name}no time left for {}", report.cases[number].not_run.join(", "));
            }
            is_late
        };
        if is_late(report) {
            return Ok(());
        }
        self.progress.begin(format!("{name}sampling lengths"));
        bench.lengths = self.case.lengths.numbers(&bench, &self.subject.end_tokens)?;
        if let Some(path) = &self.case.write_lengths {
            let text: String = bench.lengths.iter().map(|length| format!("{length}\n")).collect();
            write(path, &text)?;
        }
        report.cases[number].start(&bench.lengths);
        let (responses, tokens) = (bench.lengths.len(), bench.lengths.iter().sum::<usize>());
        message!(
            "{name}{responses} responses with {tokens} tokens in total, a prompt of {} tokens, {} workers",
            bench.prompt.ids.len(),
            self.workers.count()
        );
        let mut state = State::default();
        for workload in &self.case.workloads {
            if is_late(report) {
                return Ok(());
            }
            report.cases[number].not_run.remove(0);
            self.progress.begin(format!("{name}measuring {workload}"));
            let measurement = bench.measure(*workload, report.ceilings.as_ref(), &mut state)?;
            message!("{name}{}: {:.1} ms, {:.0} tokens/s", measurement.work, measurement.median_s * 1e3, measurement.tokens_per_s);
            report.cases[number].measurements.push(measurement);
            report.write(self.args, self.settings)?;
        }
        if let Some(path) = &self.args.profile {
            let events = trace::events(&bench.record(Workload::Step, &mut state)?.spans);
            write(path, &Value::Array(events).to_string())?;
        }
        Ok(())
    }
}

/// The content of the `--json` document.
struct Report {
    machine: Machine,
    ceilings: Option<Ceilings>,
    prompt_tokens: usize,
    cases: Vec<CaseReport>,
}

impl Report {
    /// Writes the document to the file that `--json` names, if any.
    fn write(&self, args: &BenchArgs, settings: &RunSettings) -> Result<()> {
        let Some(path) = args.json.as_ref().and_then(Option::as_ref) else { return Ok(()) };
        write(path, &format!("{:#}\n", self.document(args, settings)))
    }

    /// Returns the document. A single unnamed case is at the top level; several are in a list.
    fn document(&self, args: &BenchArgs, settings: &RunSettings) -> Value {
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
        all
    }
}

impl BenchArgs {
    /// True if the command may be one of several ranks.
    pub fn knows_ranks(&self) -> bool {
        matches!(self.other, Some(Other::Exchange(_)))
    }

    /// Opens the kernels that the flags select, with the given batch invariance.
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

/// Resolves the settings: the model's defaults, then `--set`, then `--max-new-tokens`.
fn settings(args: &BenchArgs) -> Result<RunSettings> {
    let layers = config::layers(None, &args.sets)?;
    let mut settings = config::resolve(&RunSettings::defaults_for(args.shape.as_deref().unwrap_or(&args.model)), &layers)?;
    settings.rollout.max_new_tokens = args.max_new_tokens;
    Ok(settings)
}

/// Loads the model, or makes random weights for `--shape`.
fn subject(args: &BenchArgs, progress: &Progress) -> Result<Subject> {
    let kernels = args.open(args.compute.batch_invariant)?;
    let Some(name) = &args.shape else {
        let model = source::load(&args.model, &ChatSettings::default(), &kernels, progress, &download_progress())?;
        return Ok(Subject { decoder: model.decoder, text: Some(model.text), end_tokens: model.end_tokens });
    };
    let shape = known_models::by_name(name).with_context(|| format!("unknown shape {name:?}; expected one of {}", known_models::names()));
    let config = usage(shape)?.read()?;
    progress.begin("making random weights");
    let weights = init::random(&config, 0, WEIGHT_SCALE)?;
    Ok(Subject { end_tokens: config.end_tokens.clone(), decoder: Decoder::new(config, weights)?.on(kernels)?, text: None })
}

/// Builds the prompt: the question, or arbitrary tokens.
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
