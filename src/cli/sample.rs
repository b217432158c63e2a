//! `rlvr sample`: samples responses to prompts.

mod interactive;
mod output;
mod prompt;

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::arguments::{ChatArgs, ComputeArgs, download_progress};
use super::numbers::setting;
use crate::interrupt::Interrupt;
use crate::kernels::Filter;
use crate::metrics::jsonl;
use crate::output::Progress;
use crate::rng::Purpose;
use crate::rollout::limits::EngineSettings;
use crate::rollout::{Engine, Event, Request, SamplingSettings};
use crate::source;
use crate::usage::usage;
use crate::workers::Workers;
use output::Output;
use prompt::{EncodedPrompt, PromptInput};

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("prompts").required(true).args(["prompt", "input", "interactive"]))]
pub struct SampleArgs {
    /// Model to sample from: tiny (embedded), a folder in Hugging Face format, or a hub name
    #[arg(long)]
    model: String,
    /// Question to answer (with --raw, text to continue)
    #[arg(long)]
    prompt: Option<String>,
    /// JSON Lines with prompts: {"id", "prompt"}, {"id", "messages": [{"role", "content"}, ...]} or {"id", "prompt_ids"}; responses are
    /// printed as JSON Lines in the same order
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Answer questions as you type them, one by one; /help lists the commands. Without a terminal, each line of stdin is a question
    #[arg(long, conflicts_with = "json")]
    interactive: bool,
    /// Number of responses to each prompt
    #[arg(short, default_value_t = 1, allow_negative_numbers = true, value_parser = setting::<usize>("rollout.group_size"))]
    n: usize,
    /// Sampling temperature; 0 is greedy decoding
    #[arg(long, default_value_t = 0.6, allow_negative_numbers = true, value_parser = temperature)]
    temperature: f32,
    /// Sample only from the k most likely tokens; 0 is off
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = setting::<usize>("rollout.top_k"))]
    top_k: usize,
    /// Sample only from the most likely tokens that together reach this probability; 1 is off
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true, value_parser = setting::<f32>("rollout.top_p"))]
    top_p: f32,
    /// Sample only tokens with at least this share of the most likely token's probability; 0 is off
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true, value_parser = setting::<f32>("rollout.min_p"))]
    min_p: f32,
    /// Maximum number of tokens in a response (default: up to 512, as far as the context length allows)
    #[arg(long, visible_alias = "max-new", allow_negative_numbers = true, value_parser = setting::<usize>("rollout.max_new_tokens"))]
    max_new_tokens: Option<usize>,
    /// Seed of the sampled tokens
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = setting::<u64>("seed"))]
    seed: u64,
    /// Apply the chat template to the prompt (the default)
    #[arg(long, conflicts_with = "raw")]
    chat: bool,
    /// Continue the text without applying the chat template
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    chat_args: ChatArgs,
    /// Print one JSON object per response instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: ComputeArgs,
}

pub fn run(args: SampleArgs) -> Result<()> {
    let filter = Filter { top_k: args.top_k, top_p: args.top_p, min_p: args.min_p };
    let inputs = usage(inputs(&args))?;
    let chat =
        usage(args.chat_args.settings(inputs.iter().any(|input| input.needs_template(args.raw)) || (args.interactive && !args.raw)))?;
    let progress = Progress::new();
    let model = source::load(&args.model, &chat, &args.compute.open(&args.model)?, &progress, &download_progress())?;
    let sampling = SamplingSettings { temperature: args.temperature, filter, records_sampling_mask: false, seed: args.seed };
    if args.interactive {
        progress.finish();
        return interactive::run(&args, &model, sampling);
    }
    let prompts: Vec<EncodedPrompt> = usage(inputs.into_iter().map(|input| input.encode(&model, args.raw, args.max_new_tokens)).collect())?;

    let requests = requests(&prompts, args.n);
    let workers = Workers::new(model.decoder.default_workers().min(requests.len().max(1)))?;
    let engine = Engine {
        decoder: &model.decoder,
        workers: &workers,
        settings: &EngineSettings::default(),
        end_tokens: &model.end_tokens,
        vocabulary: model.text.vocabulary(),
        interrupt: &Interrupt::default(),
    };
    let streams = args.input.is_none() && !args.json && args.n == 1;
    if streams && std::io::stdout().is_terminal() {
        // The text itself shows what happens.
        progress.finish();
    } else {
        progress.begin("sampling responses");
        progress.expect(requests.len());
    }
    let output = if streams {
        Output::stream(&model.text)
    } else if args.input.is_none() && !args.json {
        Output::text(&model.text)
    } else {
        Output::json(&model.text, prompts.iter().map(|prompt| prompt.id.clone()).collect(), args.n)
    };
    let observe = |event: Event| {
        match event {
            Event::Token { .. } => progress.add_token(),
            Event::Finished { .. } => progress.add(),
        }
        output.on_event(event);
    };
    engine.generate(&requests, &sampling, &observe)?;
    progress.finish();
    output.finish()
}

/// Returns `count` requests for each prompt, in order.
fn requests(prompts: &[EncodedPrompt], count: usize) -> Vec<Request> {
    let request = |(prompt, sample): (usize, usize)| Request {
        ids: prompts[prompt].ids.clone(),
        max_new_tokens: prompts[prompt].max_new_tokens,
        purpose: Purpose::Sampling,
        step: 0,
        prompt: prompt as u32,
        sample: sample as u32,
    };
    (0..prompts.len()).flat_map(|prompt| (0..count).map(move |sample| (prompt, sample))).map(request).collect()
}

/// Reads the prompts, and checks everything that needs no model.
fn inputs(args: &SampleArgs) -> Result<Vec<PromptInput>> {
    match (&args.prompt, &args.input) {
        (Some(prompt), _) => Ok(vec![PromptInput::text(prompt)]),
        (None, Some(path)) => {
            let inputs = jsonl::read_input(path)?.into_iter().map(|(location, line)| PromptInput::line(location, line, args.raw));
            inputs.collect()
        }
        (None, None) => Ok(Vec::new()),
    }
}

/// Parses a temperature; 0 is greedy decoding.
fn temperature(text: &str) -> std::result::Result<f32, String> {
    let parsed = setting::<f32>("rollout.temperature")(text);
    if text.parse() == Ok(0.0f32) { Ok(0.0) } else { parsed.map_err(|error| error.replace("be a", "be 0, or a")) }
}
