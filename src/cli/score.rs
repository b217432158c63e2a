//! `rlvr score`: computes log-probabilities of given completions.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};

use super::arguments::{ComputeArgs, download_progress};
use super::numbers::{COUNT_FROM_1, within};
use crate::checkpoint::Model;
use crate::metrics::jsonl;
use crate::model::Packed;
use crate::output::{Progress, progress};
use crate::source;
use crate::text::ChatSettings;
use crate::usage::usage;
use crate::workers::Workers;

#[derive(Debug, Args)]
pub struct ScoreArgs {
    /// Model to score with: tiny (embedded), a folder in Hugging Face format, or a hub name
    #[arg(long)]
    model: String,
    /// JSON Lines {"id", "prompt_ids", "completion_ids"} or {"id", "prompt", "completion"}
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Maximum number of tokens per worker in a batch
    #[arg(long, default_value_t = 4096, allow_negative_numbers = true, value_parser = within::<usize>(COUNT_FROM_1))]
    batch_tokens: usize,
    #[command(flatten)]
    compute: ComputeArgs,
}

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    id: Value,
    prompt_ids: Option<Vec<u32>>,
    completion_ids: Option<Vec<u32>>,
    prompt: Option<String>,
    completion: Option<String>,
}

/// A prompt and its completion, as token ids.
struct Pair {
    id: Value,
    prompt: Vec<u32>,
    completion: Vec<u32>,
}

pub fn run(args: ScoreArgs) -> Result<()> {
    let lines: Vec<(String, Line)> = usage(jsonl::read_input(&args.input))?;
    let shown = Progress::new();
    let kernels = args.compute.open(&args.model)?;
    let model = source::load(&args.model, &ChatSettings::default(), &kernels, &shown, &download_progress())?;
    let pairs = lines.into_iter().map(|(location, line)| pair(&model, line).context(location));
    let pairs = usage(pairs.collect::<Result<Vec<_>>>())?;
    let tokens: usize = pairs.iter().map(Pair::tokens).sum();
    shown.begin("scoring tokens");
    shown.expect(tokens);
    let workers = Workers::new(model.decoder.default_workers())?;
    let mut rest = pairs.as_slice();
    while !rest.is_empty() {
        let (batch, after) = rest.split_at(batch_size(rest, args.batch_tokens * workers.count()));
        // Each worker scores its share of the batch; results are printed in the order of the input lines.
        let shares = workers.run(|worker| {
            let share: Vec<&Pair> = batch.iter().skip(worker).step_by(workers.count()).collect();
            let packed = Packed::of_responses(share.iter().map(|pair| (pair.prompt.as_slice(), vec![pair.completion.as_slice()])));
            Ok((model.decoder.score(&packed, 1.0)?, packed.offsets))
        })?;
        for (index, pair) in batch.iter().enumerate() {
            let (scores, offsets) = &shares[index % workers.count()];
            let range = offsets[index / workers.count()]..offsets[index / workers.count() + 1];
            let logprobs = &scores.logprobs[range.clone()];
            ensure!(
                logprobs.iter().all(|logprob| logprob.is_finite()),
                "the log-probabilities of {} are not finite: the weights are corrupt",
                pair.id
            );
            let sum: f64 = logprobs.iter().map(|logprob| f64::from(*logprob)).sum();
            let line = json!({"id": pair.id, "logprobs": logprobs, "entropies": scores.entropies[range], "sum": sum});
            progress::aside(|| writeln!(std::io::stdout(), "{line}")).context("cannot write to stdout")?;
            shown.add_parts(pair.tokens());
        }
        rest = after;
    }
    shown.finish();
    Ok(())
}

impl Pair {
    fn tokens(&self) -> usize {
        self.prompt.len() + self.completion.len()
    }
}

/// Tokenizes a line and checks it against the model.
fn pair(model: &Model, line: Line) -> Result<Pair> {
    let Line { id, prompt_ids, completion_ids, prompt, completion } = line;
    let (prompt, completion) = match (prompt_ids, completion_ids, prompt, completion) {
        (Some(prompt), Some(completion), _, _) => (prompt, completion),
        (_, _, Some(prompt), Some(completion)) => (model.text.encode_with_bos(&prompt)?, model.text.encode(&completion)?),
        _ => bail!("expected prompt_ids and completion_ids, or prompt and completion"),
    };
    ensure!(!prompt.is_empty(), "the prompt has no tokens: give at least one, so that the completion's first token can be scored");
    let (tokens, context_length) = (prompt.len() + completion.len(), model.decoder.config.context_length);
    ensure!(
        prompt.len() <= context_length && tokens <= context_length + 1,
        "{tokens} tokens exceed the model's context length of {context_length}"
    );
    model.check_tokens(prompt.iter().chain(&completion))?;
    Ok(Pair { id, prompt, completion })
}

/// Returns the number of leading pairs that fit in `budget` tokens, at least one.
fn batch_size(pairs: &[Pair], budget: usize) -> usize {
    let mut total = 0;
    let fitting = pairs.iter().take_while(|pair| {
        total += pair.tokens();
        total <= budget
    });
    fitting.count().max(1)
}
