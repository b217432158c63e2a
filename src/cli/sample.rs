//! `rlvr sample`

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::source::{self, DeviceArgs};
use crate::checkpoint::Model;
use crate::draw::Purpose;
use crate::flow::{Finish, Problem};
use crate::kernels::sample::Filter;
use crate::lanes::Lanes;
use crate::rollout::engine::EngineSettings;
use crate::rollout::{Engine, Event, Request, SamplingSettings};

#[derive(Debug, Args)]
pub struct SampleArgs {
    /// tiny (embedded), a folder in Hugging Face layout, or a hub name
    #[arg(long)]
    model: String,
    /// The question (or, with --raw, the text to continue)
    #[arg(long)]
    prompt: String,
    /// Responses
    #[arg(short, default_value_t = 1)]
    n: usize,
    /// Sampling temperature; 0 takes the likeliest token
    #[arg(long, default_value_t = 0.6)]
    temperature: f32,
    /// Only the k likeliest tokens; 0 is off
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Only the likeliest tokens that together reach this probability
    #[arg(long, default_value_t = 1.0)]
    top_p: f32,
    /// Only tokens at least this share of the likeliest one's probability
    #[arg(long, default_value_t = 0.0)]
    min_p: f32,
    /// Most tokens in a response (default: what the window leaves, at most 512)
    #[arg(long)]
    max_new: Option<usize>,
    /// Seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Continue the text as it is, without the chat template
    #[arg(long)]
    raw: bool,
    /// One JSON object a response, instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

pub fn run(args: SampleArgs) -> Result<()> {
    tracing::debug!(device = args.device.device, "device");
    let model = source::load(&args.model)?;
    let ids: Arc<[u32]> = if args.raw {
        model.text.encode(&args.prompt)?.into()
    } else {
        let problem = Problem {
            id: String::new(),
            question: args.prompt.clone(),
            answer: String::new(),
            subject: String::new(),
            level: String::new(),
        };
        model.text.prompt(Arc::new(problem), "")?.ids
    };
    let max_new = args.max_new.unwrap_or_else(|| model.decoder.config.window.saturating_sub(ids.len()).min(512));
    let request = |sample| Request { ids: ids.clone(), max_new, purpose: Purpose::Sampling, step: 0, prompt: 0, sample };
    let requests: Vec<Request> = (0..args.n as u32).map(request).collect();
    let filter = Filter { top_k: args.top_k, top_p: args.top_p, min_p: args.min_p };
    let sampling = SamplingSettings { temperature: args.temperature, filter, seed: args.seed };
    let lanes = Lanes::new(Lanes::usual(model.decoder.config.parameters()).min(args.n.max(1)))?;
    let engine = Engine {
        decoder: &model.decoder,
        lanes: &lanes,
        settings: &EngineSettings::default(),
        end_tokens: &model.end_tokens,
        vocabulary: model.text.vocabulary(),
    };
    let stream = (args.n == 1 && !args.json).then(|| Stream::new(&model));
    let observe = |event: Event| {
        if let (Some(stream), Event::Token { token, .. }) = (&stream, event) {
            stream.push(token);
        }
    };
    let completions = engine.generate(&requests, &sampling, &observe)?;
    if stream.is_some() {
        println!();
        return Ok(());
    }
    let mut same: BTreeMap<String, usize> = BTreeMap::new();
    for (sample, completion) in completions.iter().enumerate() {
        let text = model.text.decode(&completion.ids)?;
        if args.json {
            let sum: f64 = completion.logprobs.iter().map(|logprob| f64::from(*logprob)).sum();
            println!(
                "{}",
                json!({"sample": sample, "text": text, "completion_ids": completion.ids, "logprobs": completion.logprobs, "sum": sum, "finish": completion.finish})
            );
        } else {
            let cut = if completion.finish == Finish::Length { " [cut off]" } else { "" };
            println!("{sample}:{text}{cut}");
        }
        *same.entry(text).or_default() += 1;
    }
    if std::io::stderr().is_terminal() {
        eprintln!("{} responses, {} different", args.n, same.len());
    }
    Ok(())
}

/// Text as its tokens come.
struct Stream<'a>(Mutex<crate::text::TokenStream<'a>>);

impl<'a> Stream<'a> {
    fn new(model: &'a Model) -> Self {
        Self(Mutex::new(model.text.stream()))
    }

    fn push(&self, token: u32) {
        let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(text) = stream.push(token) {
            print!("{text}");
            // A reader that went away is noticed at the end.
            let _ = std::io::stdout().flush();
        }
    }
}
