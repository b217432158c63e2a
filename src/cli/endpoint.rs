//! A server that answers in place of a model here: the arguments that say how.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;

use super::arguments::transfers;
use super::numbers::within;
use crate::config::range::whole;
use crate::data::hub::ModelName;
use crate::eval::{Endpoint, EndpointSettings, Prompts};
use crate::interrupt::Interrupt;
use crate::source;
use crate::text::ChatSettings;
use crate::usage::usage;

/// Looked at where no other variable is named.
const KEY_VARIABLE: &str = "OPENAI_API_KEY";

#[derive(Debug, Args)]
#[command(next_help_heading = "A server that answers")]
pub struct EndpointArgs {
    /// Let this OpenAI-compatible server answer (vLLM, SGLang, llama.cpp): --model still says whose tokenizer and template write the prompts
    #[arg(long, value_name = "URL", conflicts_with_all = ["device", "kernels", "dtype", "batch_invariant", "max_running"])]
    endpoint: Option<String>,
    /// Send questions to /v1/chat/completions, where the server writes the prompts
    #[arg(long, requires = "endpoint")]
    endpoint_chat: bool,
    /// What the server calls the model (default: as --model has it)
    #[arg(long, value_name = "NAME", requires = "endpoint")]
    endpoint_model: Option<String>,
    /// Most requests under way at once; changes no request
    #[arg(long, value_name = "N", requires = "endpoint", default_value_t = EndpointSettings::default().concurrency, allow_negative_numbers = true, value_parser = within::<usize>(whole(1, 10_000)))]
    endpoint_concurrency: usize,
    /// Longest wait for one answer
    #[arg(long, value_name = "SECONDS", requires = "endpoint", default_value_t = EndpointSettings::default().timeout.as_secs(), allow_negative_numbers = true, value_parser = within::<u64>(whole(1, 1_000_000)))]
    endpoint_timeout: u64,
    /// Most attempts at a request after the first, with waits of half a second, one, two, ... up to a minute between them
    #[arg(long, value_name = "N", requires = "endpoint", default_value_t = EndpointSettings::default().retries, allow_negative_numbers = true, value_parser = within::<u32>(whole(0, 1000)))]
    endpoint_retries: u32,
    /// The environment variable that holds an API key (default: OPENAI_API_KEY, where it is set)
    #[arg(long, value_name = "VARIABLE", requires = "endpoint")]
    endpoint_key_env: Option<String>,
    /// Send only what OpenAI's own interface knows, to servers that refuse top_k, min_p, repetition_penalty and stop_token_ids
    #[arg(long, requires = "endpoint")]
    endpoint_standard: bool,
}

impl EndpointArgs {
    /// The server, where one is named; `model` says whose text it reads.
    pub fn open(&self, model: &str, chat: &ChatSettings, interrupt: &Arc<Interrupt>) -> Result<Option<Endpoint>> {
        let Some(url) = &self.endpoint else { return Ok(None) };
        let key = usage(self.key())?;
        let prompts = self.prompts(model, chat)?;
        let date = match &prompts {
            Prompts::Rendered(model) if model.text.prints_date() => chat.date.clone().unwrap_or_default(),
            _ => String::new(),
        };
        let settings = EndpointSettings {
            url: url.clone(),
            model: self.endpoint_model.clone().unwrap_or_else(|| served_name(model)),
            key,
            concurrency: self.endpoint_concurrency,
            timeout: Duration::from_secs(self.endpoint_timeout),
            retries: self.endpoint_retries,
            date,
            standard: self.endpoint_standard,
            interrupt: interrupt.clone(),
            ..EndpointSettings::default()
        };
        usage(Endpoint::new(settings, prompts)).map(Some)
    }

    fn prompts(&self, model: &str, chat: &ChatSettings) -> Result<Prompts> {
        if !self.endpoint_chat {
            let text = source::text(model, chat, &transfers()).with_context(|| {
                format!("no tokenizer and template of {model} to write prompts with; --endpoint-chat lets the server write them")
            })?;
            if let Some(text) = text {
                return Ok(Prompts::Rendered(text));
            }
            tell!("{model} is no folder and no name on the hub: the server writes the prompts, as with --endpoint-chat");
        }
        usage(refuse_template(chat))?;
        let text = source::text_at_hand(model, &ChatSettings::default()).unwrap_or_else(|error| {
            tracing::info!("end tokens are left to the server: {error:#}");
            None
        });
        Ok(Prompts::Messages(text))
    }

    fn key(&self) -> Result<Option<String>> {
        let name = self.endpoint_key_env.as_deref().unwrap_or(KEY_VARIABLE);
        let key = std::env::var(name).ok().filter(|key| !key.is_empty());
        if key.is_none() && self.endpoint_key_env.is_some() {
            return Err(anyhow!("the environment variable {name} holds no API key: set it, or leave out --endpoint-key-env"));
        }
        Ok(key)
    }
}

fn refuse_template(chat: &ChatSettings) -> Result<()> {
    ensure!(chat.template.is_none(), "--chat-template has no effect where the server writes the prompts: give it to the server");
    Ok(())
}

/// Servers know a model of the hub without its revision.
fn served_name(model: &str) -> String {
    match ModelName::parse(model) {
        Ok(name) if !std::path::Path::new(model).exists() => format!("{}/{}", name.owner, name.name),
        _ => model.to_owned(),
    }
}
