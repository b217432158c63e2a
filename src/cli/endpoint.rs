//! Arguments of commands that can get responses from a server instead of a local model.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;

use super::arguments::download_progress;
use super::numbers::within;
use crate::config::range::whole;
use crate::data::hub::ModelName;
use crate::eval::{Endpoint, EndpointSettings, Prompts};
use crate::interrupt::Interrupt;
use crate::source;
use crate::text::ChatSettings;
use crate::usage::usage;

/// Environment variable with the API key, unless `--endpoint-key-env` names another.
const KEY_VARIABLE: &str = "OPENAI_API_KEY";

/// The server, and how requests are sent to it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Server options")]
pub struct EndpointArgs {
    /// Get responses from this OpenAI-compatible server (vLLM, SGLang, llama.cpp); --model still selects the tokenizer and chat template
    #[arg(long, value_name = "URL", conflicts_with_all = ["device", "kernels", "dtype", "batch_invariant", "max_running"])]
    endpoint: Option<String>,
    /// Send questions to /v1/chat/completions and let the server apply its chat template
    #[arg(long, requires = "endpoint")]
    endpoint_chat: bool,
    /// Name of the model on the server (default: the value of --model)
    #[arg(long, value_name = "NAME", requires = "endpoint")]
    endpoint_model: Option<String>,
    /// Maximum number of concurrent requests; does not change the requests
    #[arg(long, value_name = "N", requires = "endpoint", default_value_t = EndpointSettings::default().concurrency, allow_negative_numbers = true, value_parser = within::<usize>(whole(1, 10_000)))]
    endpoint_concurrency: usize,
    /// Timeout of one request in seconds
    #[arg(long, value_name = "SECONDS", requires = "endpoint", default_value_t = EndpointSettings::default().timeout.as_secs(), allow_negative_numbers = true, value_parser = within::<u64>(whole(1, 1_000_000)))]
    endpoint_timeout: u64,
    /// Maximum number of retries per request, after waits of 0.5, 1, 2, ... seconds (60 at most)
    #[arg(long, value_name = "N", requires = "endpoint", default_value_t = EndpointSettings::default().retries, allow_negative_numbers = true, value_parser = within::<u32>(whole(0, 1000)))]
    endpoint_retries: u32,
    /// Environment variable with the API key (default: OPENAI_API_KEY, if set)
    #[arg(long, value_name = "VARIABLE", requires = "endpoint")]
    endpoint_key_env: Option<String>,
    /// Send only parameters of OpenAI's own API, for servers that reject top_k, min_p, repetition_penalty and stop_token_ids
    #[arg(long, requires = "endpoint")]
    endpoint_standard: bool,
}

impl EndpointArgs {
    /// Opens the server; `None` without `--endpoint`. `model` selects the tokenizer and chat template.
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
            let text = source::text(model, chat, &download_progress()).with_context(|| {
                format!("cannot write prompts without the tokenizer and chat template of {model}; let the server write them with --endpoint-chat")
            })?;
            if let Some(text) = text {
                return Ok(Prompts::Rendered(text));
            }
            message!("{model} is neither a folder nor a name on the hub: the server writes the prompts, as with --endpoint-chat");
        }
        usage(refuse_template(chat))?;
        let text = source::cached_text(model, &ChatSettings::default()).unwrap_or_else(|error| {
            tracing::info!("the server decides about end tokens: {error:#}");
            None
        });
        Ok(Prompts::Messages(text))
    }

    fn key(&self) -> Result<Option<String>> {
        let name = self.endpoint_key_env.as_deref().unwrap_or(KEY_VARIABLE);
        let key = std::env::var(name).ok().filter(|key| !key.is_empty());
        if key.is_none() && self.endpoint_key_env.is_some() {
            return Err(anyhow!("the environment variable {name} is not set: set it to the API key, or omit --endpoint-key-env"));
        }
        Ok(key)
    }
}

fn refuse_template(chat: &ChatSettings) -> Result<()> {
    ensure!(
        chat.template.is_none(),
        "--chat-template has no effect when the server writes the prompts: configure the template on the server"
    );
    Ok(())
}

/// Returns the model's name without its hub revision, as servers know it.
fn served_name(model: &str) -> String {
    match ModelName::parse(model) {
        Ok(name) if !std::path::Path::new(model).exists() => format!("{}/{}", name.owner, name.name),
        _ => model.to_owned(),
    }
}
