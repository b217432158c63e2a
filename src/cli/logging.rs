//! Structured logs on stderr: quiet unless asked, `RUST_LOG` understood.

use std::io::IsTerminal;

use anyhow::{Result, anyhow};
use clap::{ArgAction, Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::output::Stderr;

#[derive(Debug, Args)]
pub struct LoggingArgs {
    /// Say more on stderr: -v events, -vv details (RUST_LOG is understood too)
    #[arg(short, long, action = ArgAction::Count, global = true)]
    verbose: u8,
    /// How log lines look
    #[arg(long, value_enum, default_value = "text", global = true)]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

pub fn start(args: &LoggingArgs) -> Result<()> {
    let level = ["rlvr=warn", "rlvr=info", "rlvr=debug"][usize::from(args.verbose.min(2))];
    let filter = match std::env::var("RUST_LOG") {
        Ok(filter) if args.verbose == 0 => EnvFilter::try_new(filter)?,
        _ => EnvFilter::try_new(level)?,
    };
    // Spans close with their duration: that is what a slow step is looked for in.
    let close = tracing_subscriber::fmt::format::FmtSpan::CLOSE;
    // A reader who has gone ends no run, and colours are for terminals; the library shows control characters in messages as escapes.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Stderr).with_ansi(std::io::stderr().is_terminal());
    let builder = builder.with_span_events(close);
    let started = match args.log_format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    started.map_err(|error| anyhow!("cannot start logging: {error}"))
}
