//! `rlvr eval`

use std::path::PathBuf;

use anyhow::{Result, anyhow};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::beside;
use super::source::{self, ChatArgs, ComputeArgs, DataArgs};
use super::usage;
use crate::checkpoint::{ensure_free, write_file, write_folder};
use crate::eval::{EvalSettings, Evaluator, sets};
use crate::lanes::Lanes;
use crate::metrics::{JsonLines, table};
use crate::rollout::engine::EngineSettings;

#[derive(Debug, Args)]
pub struct EvalArgs {
    /// tiny (embedded), a folder in Hugging Face layout, or a hub name
    #[arg(long)]
    model: String,
    /// Sets, with commas between: math500, aime24, aime25, amc23, minerva_math, olympiadbench, paper (these six), tiny, tiny-validation,
    /// arc_easy, arc_challenge, all
    #[arg(long, required_unless_present = "benchmark_file")]
    benchmarks: Option<String>,
    /// A set of your own, JSON lines {"question", "answer"}, and where wanted "id", "subject", "level", "unit", "tolerance", "choices"
    #[arg(long, value_name = "FILE")]
    benchmark_file: Vec<PathBuf>,
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
    /// A new folder for graded responses and scores
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    chat: ChatArgs,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    compute: ComputeArgs,
}

pub fn run(args: EvalArgs) -> Result<()> {
    let benchmarks = args.benchmarks.unwrap_or_default();
    let mut sets = usage(sets::by_name(&benchmarks, args.limit, &args.data.library()?, super::train::way))?;
    args.benchmark_file.iter().try_for_each(|path| usage(sets::add_file(&mut sets, path, args.limit)))?;
    if sets.is_empty() {
        return usage(Err(anyhow!("--benchmarks names no set")));
    }
    if let Some(out) = &args.out {
        usage(ensure_free(out))?;
    }
    let chat = usage(args.chat.settings(true))?;
    if let Some(samples) = args.samples {
        let sampled = sets.iter_mut().flat_map(|set| &mut set.decodings).filter(|decoding| decoding.temperature > 0.0);
        sampled.for_each(|decoding| decoding.samples = samples.max(1));
    }
    let of_tiny = sets.iter().all(|set| set.name.starts_with("tiny"));
    let max_new = args.max_new.unwrap_or(if of_tiny { 80 } else { EvalSettings::default().max_new });
    let settings = EvalSettings { max_new, limit: args.limit, benchmarks, seed: args.seed, ..EvalSettings::default() };
    let model = source::load_with(&args.model, &chat, &args.compute.open(&args.model)?)?;
    usage(super::train::room_to_answer(max_new, model.decoder.config.window, &sets))?;
    let lanes = Lanes::new(model.decoder.usual_lanes())?;
    let responses: usize =
        sets.iter().map(|set| set.problems.len() * set.decodings.iter().map(|decoding| decoding.samples).sum::<usize>()).sum();
    let bar = ProgressBar::new(responses as u64).with_style(ProgressStyle::with_template("{bar:24} {pos}/{len} responses, {eta} left")?);
    let evaluator = Evaluator { model: &model, lanes: &lanes, engine: &EngineSettings::default(), settings: &settings };
    let passes = evaluator.evaluate(&sets, &|| bar.inc(1))?;
    bar.finish_and_clear();

    let subject = beside::subject(&args.model);
    let mut rows = Vec::new();
    for pass in &passes {
        let score = &pass.score;
        let paper = beside::figure(&subject, pass, max_new);
        // Everything that moves a score stands beside it.
        println!(
            "{}",
            json!({"model": model.name, "set": pass.set, "temperature": pass.decoding.temperature, "samples": pass.decoding.samples,
                "max_new": max_new, "seed": args.seed, "dtype": "float32", "device": "cpu", "grader": settings.grader, "score": score,
                "published": paper.as_ref().map(beside::record)})
        );
        let interval =
            score.accuracy.map_or_else(String::new, |a| format!("{:.1}% [{:.1}, {:.1}]", a.mean * 100.0, a.low * 100.0, a.high * 100.0));
        let fallback = score.accuracy_with_fallback.map_or_else(String::new, |a| format!("{:.1}%", a.mean * 100.0));
        let percent = |share: f64| format!("{:.1}%", share * 100.0);
        rows.push(vec![
            pass.name(),
            score.problems.to_string(),
            interval,
            fallback,
            percent(score.boxed),
            percent(score.cut_off),
            format!("{:.1}", score.mean_tokens),
            score.too_long.to_string(),
            paper.as_ref().map_or_else(String::new, beside::cell),
        ]);
    }
    let mut header = vec!["pass", "problems", "accuracy [95%]", "unboxed counted", "boxed", "cut off", "tokens", "too long"];
    if rows.iter().all(|row: &Vec<String>| row.last().is_some_and(String::is_empty)) {
        rows.iter_mut().for_each(|row| drop(row.pop()));
    } else {
        header.push("paper");
        eprintln!("{}", beside::note());
    }
    eprintln!("{}\n{} in float32 on the CPU, at most {max_new} new tokens", table(&header, &rows), model.name);
    if let Some(out) = &args.out {
        write_folder(out, |path| {
            for pass in &passes {
                let mut lines = JsonLines::create(&path.join(format!("{}.jsonl", pass.name())))?;
                pass.answers.iter().try_for_each(|answer| lines.write(answer))?;
            }
            let scores: serde_json::Map<_, _> = passes.iter().map(|pass| (pass.name(), json!(pass.score))).collect();
            write_file(&path.join("scores.json"), serde_json::to_string_pretty(&scores)?.as_bytes())
        })?;
        eprintln!("Graded responses are in {}", out.display());
    }
    Ok(())
}
