//! `rlvr bench`

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;

use super::source::{self, ComputeArgs};
use super::usage;
use crate::bench::{Bench, WORKS};
use crate::flow::{Problem, Prompt};
use crate::lanes::Lanes;
use crate::metrics::table;
use crate::train::RunSettings;

#[derive(Debug, Args)]
pub struct BenchArgs {
    /// tiny (embedded), a folder in Hugging Face layout, or a hub name
    #[arg(long, default_value = "tiny")]
    model: String,
    /// What to measure, with commas between: score, rollout, update, step
    #[arg(long, default_value = "rollout,update,step")]
    work: String,
    /// Responses to the one prompt
    #[arg(long, default_value_t = 128)]
    sequences: usize,
    /// Response lengths, one a line (default: what the model itself produces)
    #[arg(long, value_name = "FILE", conflicts_with = "sequences")]
    lengths: Option<PathBuf>,
    /// Write the lengths that are used, for another program to do the same work
    #[arg(long, value_name = "FILE")]
    write_lengths: Option<PathBuf>,
    /// The question
    #[arg(long, default_value = "What is 334+556?")]
    prompt: String,
    /// A prompt of so many arbitrary tokens instead
    #[arg(long, value_name = "TOKENS", conflicts_with = "prompt")]
    prompt_tokens: Option<u32>,
    /// Most tokens in a response
    #[arg(long, default_value_t = 80)]
    max_new: usize,
    /// Repeat each work for about this long
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Lanes: 1 lets one product use all cores; 0 decides by the model's size
    #[arg(long, default_value_t = 0)]
    lanes: usize,
    #[command(flatten)]
    compute: ComputeArgs,
}

pub fn run(args: BenchArgs) -> Result<()> {
    let works: Vec<&str> = args.work.split(',').map(str::trim).collect();
    for work in &works {
        usage(
            WORKS
                .iter()
                .find(|known| *known == work)
                .map(|_| ())
                .with_context(|| format!("unknown work \"{work}\"; known are {}", WORKS.join(", "))),
        )?;
    }
    let model = source::load(&args.model, &args.compute.open(&args.model)?)?;
    let mut settings = RunSettings::defaults_for(&args.model);
    settings.rollout.max_new = args.max_new;
    let question = args.prompt.clone();
    let problem = Problem { id: String::new(), question, answer: String::new(), subject: String::new(), level: String::new() };
    let prompt = match args.prompt_tokens {
        Some(count) => {
            let ids = (0..count.max(1)).map(|t| (t * 7919) % model.text.vocabulary() as u32);
            Prompt { problem: Arc::new(problem), text: String::new(), ids: ids.collect() }
        }
        None => model.text.prompt(Arc::new(problem), "")?,
    };
    let lanes = Lanes::new(if args.lanes == 0 { model.decoder.usual_lanes() } else { args.lanes })?;
    let mut bench = Bench { model: &model, lanes: &lanes, settings: &settings, prompt, lengths: Vec::new(), seconds: args.seconds };
    bench.lengths = match &args.lengths {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            let length = |(n, line): (usize, &str)| {
                line.trim().parse().with_context(|| format!("{}, line {}: expected a length", path.display(), n + 1))
            };
            text.lines().enumerate().map(length).collect::<Result<_>>()?
        }
        None => bench.own_lengths(args.sequences)?,
    };
    if let Some(path) = &args.write_lengths {
        let text: String = bench.lengths.iter().map(|length| format!("{length}\n")).collect();
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let (responses, tokens) = (bench.lengths.len(), bench.lengths.iter().sum::<usize>());
    eprintln!("{responses} responses of {tokens} tokens together to a prompt of {}, {} lanes", bench.prompt.ids.len(), lanes.count());
    let mut rows = Vec::new();
    for measurement in bench.measure(&works)? {
        println!("{}", serde_json::to_string(&measurement)?);
        let ms = |seconds: f64| format!("{:.1}", seconds * 1e3);
        rows.push(vec![
            measurement.work,
            ms(measurement.median_s),
            ms(measurement.min_s),
            ms(measurement.max_s),
            format!("{:.0}", measurement.tokens_per_s),
            format!("{:.1}", measurement.flops / 1e9),
            format!("{:.0}%", measurement.share_of_ceiling * 100.0),
        ]);
    }
    let header = ["work", "median ms", "min", "max", "tokens/s", "GFLOP/s", "of the products' ceiling"];
    eprintln!("{}", table(&header, &rows));
    Ok(())
}
