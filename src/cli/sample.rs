//! `rlvr sample`

mod ask;
mod output;

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::arguments::{ChatArgs, ComputeArgs, transfers};
use super::numbers::setting;
use crate::draw::Purpose;
use crate::interrupt::Interrupt;
use crate::kernels::Filter;
use crate::lanes::Lanes;
use crate::metrics::jsonl;
use crate::rollout::limits::EngineSettings;
use crate::rollout::{Engine, Request, SamplingSettings};
use crate::source;
use crate::usage::usage;
use ask::{Ask, Asked};
use output::Output;

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("asked").required(true).args(["prompt", "input"]))]
pub struct SampleArgs {
    /// tiny (embedded), a folder in Hugging Face layout, or a hub name
    #[arg(long)]
    model: String,
    /// The question (or, with --raw, the text to continue)
    #[arg(long)]
    prompt: Option<String>,
    /// JSON lines {"id", "prompt"}, {"id", "messages": [{"role", "content"}, ...]} or {"id", "prompt_ids"}; answers are JSON lines in their order
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Responses to each prompt
    #[arg(short, default_value_t = 1, allow_negative_numbers = true, value_parser = setting::<usize>("rollout.group_size"))]
    n: usize,
    /// Sampling temperature; 0 takes the likeliest token
    #[arg(long, default_value_t = 0.6, allow_negative_numbers = true, value_parser = temperature)]
    temperature: f32,
    /// Only the k likeliest tokens; 0 is off
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = setting::<usize>("rollout.top_k"))]
    top_k: usize,
    /// Only the likeliest tokens that together reach this probability
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true, value_parser = setting::<f32>("rollout.top_p"))]
    top_p: f32,
    /// Only tokens at least this share of the likeliest one's probability
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true, value_parser = setting::<f32>("rollout.min_p"))]
    min_p: f32,
    /// Most tokens in a response (default: what the window leaves, at most 512)
    #[arg(long, allow_negative_numbers = true, value_parser = setting::<usize>("rollout.max_new"))]
    max_new: Option<usize>,
    /// Seed
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = setting::<u64>("seed"))]
    seed: u64,
    /// Ask through the chat template (the default)
    #[arg(long, conflicts_with = "raw")]
    chat: bool,
    /// Continue the text as it is, without the chat template
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    chat_args: ChatArgs,
    /// One JSON object a response, instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: ComputeArgs,
}

pub fn run(args: SampleArgs) -> Result<()> {
    let filter = Filter { top_k: args.top_k, top_p: args.top_p, min_p: args.min_p };
    let asks = usage(asks(&args))?;
    let chat = usage(args.chat_args.settings(asks.iter().any(|ask| ask.needs_template(args.raw))))?;
    let model = source::load(&args.model, &chat, &args.compute.open(&args.model)?, &transfers())?;
    let asked: Vec<Asked> = usage(asks.into_iter().map(|ask| ask.read(&model, args.raw, args.max_new)).collect())?;

    let request = |(prompt, sample): (usize, usize)| Request {
        ids: asked[prompt].ids.clone(),
        max_new: asked[prompt].max_new,
        purpose: Purpose::Sampling,
        step: 0,
        prompt: prompt as u32,
        sample: sample as u32,
    };
    let requests: Vec<Request> = (0..asked.len()).flat_map(|prompt| (0..args.n).map(move |sample| (prompt, sample))).map(request).collect();
    let sampling = SamplingSettings { temperature: args.temperature, filter, records_kept: false, seed: args.seed };
    let lanes = Lanes::new(model.decoder.usual_lanes().min(requests.len().max(1)))?;
    let engine = Engine {
        decoder: &model.decoder,
        lanes: &lanes,
        settings: &EngineSettings::default(),
        end_tokens: &model.end_tokens,
        vocabulary: model.text.vocabulary(),
        interrupt: &Interrupt::default(),
    };
    let output = match (&args.input, args.json, args.n) {
        (None, false, 1) => Output::stream(&model.text),
        (None, false, _) => Output::text(&model.text),
        _ => Output::json(&model.text, asked.iter().map(|asked| asked.id.clone()).collect(), args.n),
    };
    engine.generate(&requests, &sampling, &|event| output.hear(event))?;
    output.end()
}

/// What is asked, checked as far as can be before a model is read.
fn asks(args: &SampleArgs) -> Result<Vec<Ask>> {
    match (&args.prompt, &args.input) {
        (Some(prompt), _) => Ok(vec![Ask::text(prompt)]),
        (None, Some(path)) => {
            let asks = jsonl::read_input(path)?.into_iter().map(|(place, line)| Ask::line(place, line, args.raw));
            asks.collect()
        }
        (None, None) => Ok(Vec::new()),
    }
}

/// A temperature, where 0 takes the likeliest token.
fn temperature(text: &str) -> std::result::Result<f32, String> {
    let parsed = setting::<f32>("rollout.temperature")(text);
    if text.parse() == Ok(0.0f32) { Ok(0.0) } else { parsed.map_err(|error| error.replace("be a", "be 0, or a")) }
}
