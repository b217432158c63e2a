//! `rlvr eval`: evaluates a model on benchmarks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use clap::Args;

use super::arguments::{ChatArgs, ComputeArgs, DataArgs, JsonArgs, download_progress};
use super::endpoint::EndpointArgs;
use super::numbers::setting;
use super::processes::ProcessesArgs;
use super::scores;
use super::signals::{self, CtrlC};
use super::verify::GraderArg;
use crate::data::benchmark::Decoding;
use crate::dist;
use crate::dist::launch::Gpus;
use crate::eval::conditions::Conditions;
use crate::eval::settings::PUBLISHED;
use crate::eval::store::{self, Store};
use crate::eval::{EvalSet, EvalSettings, Evaluator, FailedRequests, LocalModel, sets};
use crate::interrupt::{Interrupt, Interrupted};
use crate::output::{Progress, shell};
use crate::rollout::limits::EngineSettings;
use crate::source;
use crate::text;
use crate::tiny::answer_style;
use crate::usage::usage;
use crate::workers::Workers;

#[derive(Debug, Args)]
#[command(mut_arg("processes", |arg| arg.conflicts_with("endpoint")))]
pub struct EvalArgs {
    /// Model to evaluate: tiny (embedded), a folder in Hugging Face format, or a hub name; with --endpoint, also any name that the server
    /// knows
    #[arg(long)]
    model: String,
    #[arg(long, required_unless_present = "benchmark_file", help = format!("Comma-separated benchmarks: {}", sets::known()))]
    benchmarks: Option<String>,
    /// Benchmark of your own: JSON Lines with "question" and "answer", and optionally "id", "subject", "level", "unit", "tolerance" or
    /// "choices"
    #[arg(long, value_name = "FILE")]
    benchmark_file: Vec<PathBuf>,
    /// Evaluate at most this many problems of each benchmark; 0 evaluates all
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = setting::<usize>("eval.limit"))]
    limit: usize,
    /// Maximum number of tokens in a response (default: 80 for the embedded model's benchmarks, 3072 for others)
    #[arg(long, visible_alias = "max-new", allow_negative_numbers = true, value_parser = setting::<usize>("eval.max_new_tokens"))]
    max_new_tokens: Option<usize>,
    /// Responses per problem in sampled passes (default: the published number of each benchmark)
    #[arg(long, allow_negative_numbers = true, value_parser = setting::<usize>("rollout.group_size"))]
    samples: Option<usize>,
    /// Decoding for all benchmarks: greedy, t0.6x8 (8 samples at temperature 0.6) or t0.6p0.95x8 (with top-p 0.95); by default, each
    /// benchmark is decoded as published
    #[arg(long, value_name = "DECODING")]
    decoding: Option<String>,
    /// Seed of sampled responses
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = setting::<u64>("eval.seed"))]
    seed: u64,
    /// Grader that decides whether an answer equals the gold answer
    #[arg(long, value_enum, default_value = "strict")]
    grader: GraderArg,
    /// Comma-separated words that count as self-reflection
    #[arg(long, value_name = "WORDS")]
    reflection_words: Option<String>,
    /// Folder to create for graded responses and scores; responses are saved as they finish
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Continue an interrupted evaluation in --out under the same conditions; samples only the missing responses
    #[arg(long, requires = "out")]
    resume: bool,
    /// Maximum number of sequences that run at once (0: 256 on the CPU, 1024 on a GPU); does not change the responses
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true, value_parser = setting::<usize>("rollout.engine.max_running"))]
    max_running: usize,
    #[command(flatten)]
    processes: ProcessesArgs,
    #[command(flatten)]
    chat: ChatArgs,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    compute: ComputeArgs,
    #[command(flatten)]
    endpoint: EndpointArgs,
    #[command(flatten)]
    json: JsonArgs,
}

pub fn run(args: EvalArgs) -> Result<ExitCode> {
    if let Some(code) = args.processes.start()? {
        return Ok(code);
    }
    let world = dist::launch::join(Gpus::Own)?;
    let sets = usage(requested_sets(&args))?;
    if let Some(out) = args.out.as_ref().filter(|_| !args.resume && world.is_first()) {
        usage(Store::ensure_absent(out))?;
    }
    let mut chat = usage(args.chat.settings(true))?;
    chat.date = Some(match chat.date {
        Some(date) => date,
        None => world.from_first(recorded_date(&args)?.unwrap_or_else(text::today))?,
    });
    let settings = settings(&args, &sets);
    let progress = if world.is_first() { Progress::with_lines() } else { Progress::hidden() };
    let interrupt = Arc::new(Interrupt::default());
    if let Some(endpoint) = args.endpoint.open(&args.model, &chat, &interrupt)? {
        usage(if world.size() == 1 { Ok(()) } else { Err(anyhow!("--endpoint needs one process: the server does the work")) })?;
        usage(
            endpoint
                .context_length()
                .map_or(Ok(()), |context_length| sets::ensure_prompt_fits(settings.max_new_tokens, context_length, &sets)),
        )?;
        signals::listen(&interrupt, CtrlC::Stops)?;
        return evaluate(&args, &sets, Evaluator { generator: &endpoint, settings: &settings, store: None, world: &world }, &progress);
    }
    let kernels = args.compute.open(&args.model)?;
    let (world, members) = source::share(&world, &*kernels)?;
    members.iter().for_each(|line| message!("{line}"));
    let model = source::load(&args.model, &chat, &kernels, &progress, &download_progress())?;
    usage(sets::ensure_prompt_fits(settings.max_new_tokens, model.decoder.config.context_length, &sets))?;
    signals::listen(&interrupt, CtrlC::Stops)?;
    let workers = Workers::new(world.workers_of_rank(model.decoder.default_workers()))?;
    let engine = EngineSettings { max_running: args.max_running, ..EngineSettings::default() };
    let date = chat.date.filter(|_| model.text.prints_date()).unwrap_or_default();
    let generator = LocalModel {
        model: &model,
        revision: source::revision(&args.model, &progress)?,
        date,
        workers: &workers,
        engine: &engine,
        interrupt: &interrupt,
        progress: &progress,
    };
    let evaluator = Evaluator { generator: &generator, settings: &settings, store: None, world: &world };
    evaluate(&args, &sets, evaluator, &progress)
}

/// Evaluates a local model or an endpoint on the sets, stores the responses in `--out`, and prints the scores.
fn evaluate(args: &EvalArgs, sets: &[EvalSet], evaluator: Evaluator, progress: &Progress) -> Result<ExitCode> {
    let conditions = evaluator.conditions(sets);
    let open = |out: &PathBuf| if args.resume { Store::resume(out, &conditions) } else { Store::create(out, &conditions) };
    let is_first = evaluator.world.is_first();
    let store = usage(args.out.as_ref().filter(|_| is_first).map(open).transpose())?;
    let passes = Evaluator { store: store.as_ref(), ..evaluator }.evaluate(sets, progress);
    progress.finish();
    if let Some(Interrupted { signal }) = passes.as_ref().err().and_then(|error| error.downcast_ref()) {
        match &args.out {
            Some(out) => {
                message!(
                    "interrupted; the finished responses are saved in {}: run the same command with --resume to continue",
                    out.display()
                )
            }
            None => message!("interrupted; no responses are saved: add --out to save them"),
        }
        return Ok(ExitCode::from(128 + *signal as u8));
    }
    let passes = passes.map_err(|error| match &args.out {
        Some(out) if error.is::<FailedRequests>() => error.context(format!(
            "the finished responses are saved in {} (run the same command with --resume to retry the rest)",
            out.display()
        )),
        None if error.is::<FailedRequests>() => error.context("no responses are saved without --out"),
        _ => error,
    })?;
    if !is_first {
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(store) = store {
        store.write_scores(passes.iter().map(|pass| (pass.name.clone(), pass.score.clone())).collect())?;
    }
    scores::print(&passes, &scores::experiment(&args.model), args.json)?;
    print_next(args);
    Ok(ExitCode::SUCCESS)
}

/// Says where the graded responses are and what to do with them.
fn print_next(args: &EvalArgs) {
    match &args.out {
        Some(out) => {
            let out = out.to_string_lossy();
            let command = shell::command(&[&["compare"], &["OTHER"], &[&out]], "  ");
            message!("\nThe graded responses are in {out}. To compare them with another evaluation, problem by problem:\n{command}");
        }
        None => message!("\nThe graded responses are not saved: add --out DIR to keep, show and compare them."),
    }
}

/// Loads the requested sets, with the requested decoding and number of samples.
fn requested_sets(args: &EvalArgs) -> Result<Vec<EvalSet>> {
    let benchmarks = args.benchmarks.as_deref().unwrap_or_default();
    let mut sets = sets::by_name(benchmarks, args.limit, &args.data.store()?, answer_style::style_name)?;
    args.benchmark_file.iter().try_for_each(|path| sets::add_file(&mut sets, path, args.limit))?;
    if sets.is_empty() {
        return Err(anyhow!("--benchmarks is empty: name at least one benchmark"));
    }
    sets::decode(&mut sets, args.decoding.as_deref().unwrap_or(PUBLISHED))?;
    if let Some(samples) = args.samples {
        let sampled = sets.iter_mut().flat_map(|set| &mut set.decodings).filter(|decoding| decoding.temperature > 0.0);
        sampled.for_each(|decoding| decoding.samples = samples.max(1));
        let greedy = sets.iter().filter(|set| set.decodings.contains(&Decoding::GREEDY)).map(|set| set.name.as_str());
        let greedy = greedy.collect::<Vec<_>>().join(", ");
        if samples > 1 && !greedy.is_empty() {
            message!(
                "--samples applies to sampled passes only: {greedy} is decoded greedily, once (use --decoding t0.6x{samples} to sample it)"
            );
        }
    }
    Ok(sets)
}

fn settings(args: &EvalArgs, sets: &[EvalSet]) -> EvalSettings {
    let defaults = EvalSettings::default();
    let of_tiny = sets.iter().all(|set| set.name.starts_with("tiny"));
    EvalSettings {
        max_new_tokens: args.max_new_tokens.unwrap_or(if of_tiny { 80 } else { defaults.max_new_tokens }),
        limit: args.limit,
        benchmarks: args.benchmarks.clone().unwrap_or_default(),
        decoding: args.decoding.clone().unwrap_or(defaults.decoding),
        seed: args.seed,
        grader: args.grader.into(),
        reflection_words: args.reflection_words.clone().unwrap_or(defaults.reflection_words),
        ..defaults
    }
}

/// Returns the date in the prompts of the evaluation to resume, so that new prompts show the same date. `None` if no prompt shows it.
fn recorded_date(args: &EvalArgs) -> Result<Option<String>> {
    let Some(out) = args.out.as_ref().filter(|_| args.resume) else { return Ok(None) };
    let conditions: BTreeMap<String, Conditions> = store::read_conditions(out)?.unwrap_or_default();
    Ok(conditions.into_values().map(|pass| pass.identity.date).find(|date| !date.is_empty()))
}
