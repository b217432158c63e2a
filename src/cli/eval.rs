//! `rlvr eval`

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, anyhow};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::endpoint::EndpointArgs;
use super::source::{self, ChatArgs, ComputeArgs, DataArgs};
use super::usage;
use super::verify::GraderArg;
use crate::eval::conditions::Conditions;
use crate::eval::statistics::Estimate;
use crate::eval::store::{self, Store};
use crate::eval::{EvalSet, EvalSettings, Evaluator, LocalModel, Lost, Pass, sets};
use crate::lanes::Lanes;
use crate::metrics::table;
use crate::rollout::limits::EngineSettings;
use crate::text;

#[derive(Debug, Args)]
pub struct EvalArgs {
    /// tiny (embedded), a folder in Hugging Face layout, or a hub name; with --endpoint also any name that the server knows
    #[arg(long)]
    model: String,
    /// Sets, with commas between: math500, aime24, aime25, amc23, minerva_math, olympiadbench, paper, tiny, tiny-validation
    #[arg(long)]
    benchmarks: String,
    /// At most this many problems of each set
    #[arg(long, default_value_t = 0)]
    limit: usize,
    /// Most tokens in a response (default: 80 for the embedded model's sets, 3072 for others)
    #[arg(long)]
    max_new: Option<usize>,
    /// Responses to each problem, instead of the set's own number (sampled passes only)
    #[arg(long)]
    samples: Option<usize>,
    /// Seed of sampled responses
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Whose notion of equality decides
    #[arg(long, value_enum, default_value = "strict")]
    grader: GraderArg,
    /// Words that are counted as self-reflection, with commas between
    #[arg(long, value_name = "WORDS")]
    reflection_words: Option<String>,
    /// A new folder for graded responses and scores; responses are written as they come
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on with what --out holds, under the same conditions: only responses that are missing are sampled
    #[arg(long, requires = "out")]
    resume: bool,
    /// Most sequences that run at once (default: 256 on the CPU, 1024 on a GPU); changes no response
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_running: usize,
    #[command(flatten)]
    chat: ChatArgs,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    compute: ComputeArgs,
    #[command(flatten)]
    endpoint: EndpointArgs,
}

pub fn run(args: EvalArgs) -> Result<()> {
    let sets = usage(asked(&args))?;
    if let Some(out) = args.out.as_ref().filter(|_| !args.resume) {
        usage(Store::ensure_free(out))?;
    }
    let mut chat = usage(args.chat.settings(true))?;
    chat.date = Some(match chat.date {
        Some(date) => date,
        None => begun(&args)?.unwrap_or_else(text::today),
    });
    let settings = settings(&args, &sets);
    if let Some(endpoint) = args.endpoint.open(&args.model, &chat)? {
        usage(endpoint.window().map_or(Ok(()), |window| super::train::room_to_answer(settings.max_new, window, &sets)))?;
        return evaluate(&args, &sets, Evaluator { answerer: &endpoint, settings: &settings, store: None });
    }
    let model = source::load_with(&args.model, &chat, &args.compute.open(&args.model)?)?;
    usage(super::train::room_to_answer(settings.max_new, model.decoder.config.window, &sets))?;
    let lanes = Lanes::new(model.decoder.usual_lanes())?;
    let engine = EngineSettings { max_running: args.max_running, ..EngineSettings::default() };
    let date = chat.date.filter(|_| model.text.prints_date()).unwrap_or_default();
    let answerer = LocalModel { model: &model, revision: source::revision(&args.model)?, date, lanes: &lanes, engine: &engine };
    let evaluator = Evaluator { answerer: &answerer, settings: &settings, store: None };
    evaluate(&args, &sets, evaluator)
}

/// Has the sets answered, keeps what comes, and tells the scores. Whoever answers.
fn evaluate(args: &EvalArgs, sets: &[EvalSet], evaluator: Evaluator) -> Result<()> {
    let conditions = evaluator.conditions(sets);
    let open = |out: &PathBuf| if args.resume { Store::resume(out, &conditions) } else { Store::create(out, &conditions) };
    let store = usage(args.out.as_ref().map(open).transpose())?;
    let responses: usize = conditions.values().map(|pass| pass.problems * pass.samples).sum();
    let bar = ProgressBar::new(responses as u64).with_style(ProgressStyle::with_template("{bar:24} {pos}/{len} responses, {eta} left")?);
    let passes = Evaluator { store: store.as_ref(), ..evaluator }.evaluate(sets, &|| bar.inc(1));
    bar.finish_and_clear();
    let passes = passes.map_err(|error| match &args.out {
        Some(out) if error.is::<Lost>() => {
            error.context(format!("{} keeps what was answered, and --resume asks for the rest", out.display()))
        }
        None if error.is::<Lost>() => error.context("nothing of this is kept without --out"),
        _ => error,
    })?;
    passes.iter().for_each(|pass| println!("{}", line(pass)));
    tell(&passes);
    if let (Some(store), Some(out)) = (store, &args.out) {
        store.write_scores(&passes.iter().map(|pass| (pass.name.clone(), pass.score.clone())).collect())?;
        eprintln!("Graded responses are in {}", out.display());
    }
    Ok(())
}

/// The sets, with as many responses as are asked for.
fn asked(args: &EvalArgs) -> Result<Vec<EvalSet>> {
    let mut sets = sets::by_name(&args.benchmarks, args.limit, &args.data.library()?, super::train::way)?;
    if sets.is_empty() {
        return Err(anyhow!("--benchmarks names no set"));
    }
    if let Some(samples) = args.samples {
        let sampled = sets.iter_mut().flat_map(|set| &mut set.decodings).filter(|decoding| decoding.temperature > 0.0);
        sampled.for_each(|decoding| decoding.samples = samples.max(1));
    }
    Ok(sets)
}

fn settings(args: &EvalArgs, sets: &[EvalSet]) -> EvalSettings {
    let defaults = EvalSettings::default();
    let of_tiny = sets.iter().all(|set| set.name.starts_with("tiny"));
    EvalSettings {
        max_new: args.max_new.unwrap_or(if of_tiny { 80 } else { defaults.max_new }),
        limit: args.limit,
        benchmarks: args.benchmarks.clone(),
        seed: args.seed,
        grader: args.grader.into(),
        reflection_words: args.reflection_words.clone().unwrap_or(defaults.reflection_words),
        ..defaults
    }
}

/// The date of an evaluation that goes on: prompts that print one keep it.
fn begun(args: &EvalArgs) -> Result<Option<String>> {
    let Some(out) = args.out.as_ref().filter(|_| args.resume) else { return Ok(None) };
    let conditions: BTreeMap<String, Conditions> = store::read_conditions(out)?.unwrap_or_default();
    Ok(conditions.into_values().map(|pass| pass.identity.date).find(|date| !date.is_empty()))
}

/// A pass for programs: everything that moves a score stands beside it.
fn line(pass: &Pass) -> Value {
    let mut line = json!(pass.conditions);
    line["pass"] = json!(pass.name);
    line["score"] = json!(pass.score);
    line["times"] = json!(pass.times);
    line
}

/// The scores for people.
fn tell(passes: &[Pass]) {
    let mut rows = Vec::new();
    for pass in passes {
        let score = &pass.score;
        rows.push(vec![
            pass.name.clone(),
            score.problems.to_string(),
            interval(score.accuracy),
            score.accuracy_with_fallback.map_or_else(String::new, |accuracy| percent(accuracy.mean)),
            percent(score.boxed),
            percent(score.cut_off),
            format!("{:.1}", score.mean_tokens),
            score.too_long.to_string(),
            percent(score.reflecting),
            percent(score.repeated_tails),
            percent(score.foreign_letters),
        ]);
    }
    let header = [
        "pass",
        "problems",
        "accuracy [95%]",
        "unboxed counted",
        "boxed",
        "cut off",
        "tokens",
        "too long",
        "reflects",
        "repeats",
        "not ASCII",
    ];
    eprintln!("{}", table(&header, &rows));
    let sampled: Vec<Vec<String>> = passes.iter().filter_map(several).collect();
    if !sampled.is_empty() {
        eprintln!("{}", table(&["pass", "avg@k", "pass@2", "pass@k", "majority of k", "k"], &sampled));
    }
    for pass in passes {
        for (title, parts) in [("subject", &pass.score.by_subject), ("level", &pass.score.by_level)] {
            let rows: Vec<Vec<String>> =
                parts.iter().map(|(name, part)| vec![name.clone(), part.problems.to_string(), interval(part.accuracy)]).collect();
            if !rows.is_empty() {
                eprintln!("{}", table(&[&format!("{} by {title}", pass.name), "problems", "accuracy [95%]"], &rows));
            }
        }
    }
    for pass in passes.iter().filter(|pass| pass.score.too_long > 0) {
        let (name, count) = (&pass.name, pass.score.too_long);
        eprintln!("{name}: {count} of {} prompts do not fit the model's window and count as wrong", pass.score.problems);
    }
    if let Some(pass) = passes.first() {
        eprintln!("{}", under(&pass.conditions));
    }
    let sum = |what: fn(&Pass) -> f64| passes.iter().map(what).sum::<f64>();
    let (elapsed_s, grading_s) = (sum(|pass| pass.times.elapsed_s), sum(|pass| pass.times.grading_s));
    let answered = sum(|pass| pass.times.answered as f64);
    eprintln!(
        "{answered} responses in {elapsed_s:.1} s, {:.1} a second; grading took {:.2}% of the time",
        answered / elapsed_s.max(1e-9),
        grading_s / elapsed_s.max(1e-9) * 100.0
    );
}

/// A pass of several samples.
fn several(pass: &Pass) -> Option<Vec<String>> {
    let (score, k) = (&pass.score, pass.score.samples);
    (k > 1).then(|| {
        let at = |k: usize| interval(k.checked_sub(1).and_then(|item| score.pass_at.get(item)).copied());
        vec![pass.name.clone(), interval(score.accuracy), at(2), at(k), interval(score.majority), k.to_string()]
    })
}

/// What all passes have in common.
fn under(conditions: &Conditions) -> String {
    let Conditions { identity, max_new, seed, grader, grader_version, rlvr, .. } = conditions;
    let short = |text: &str| text.trim_start_matches("sha256:").chars().take(12).collect::<String>();
    format!(
        "{} ({}) in {} on {}, {} kernels, template {}, at most {max_new} new tokens, seed {seed}, grader {} version {grader_version}, rlvr {rlvr}",
        identity.model,
        short(&identity.revision),
        identity.dtype,
        identity.device,
        identity.kernels,
        short(&identity.template),
        json!(grader).as_str().unwrap_or_default(),
    )
}

/// "12.5% [8.1, 17.0]"
pub fn interval(estimate: Option<Estimate>) -> String {
    estimate.map_or_else(String::new, |a| format!("{:.1}% [{:.1}, {:.1}]", a.mean * 100.0, a.low * 100.0, a.high * 100.0))
}

fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}
