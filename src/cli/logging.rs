//! Structured logs on stderr: warnings only by default, more with `-v` or `RUST_LOG`.

use std::io::IsTerminal;

use anyhow::{Result, anyhow};
use clap::{ArgAction, Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::output::Stderr;

/// How much is logged, and in which format.
#[derive(Debug, Args)]
#[command(next_help_heading = "Logging options")]
pub struct LoggingArgs {
    /// Log more to stderr: -v for events, -vv for details (or set RUST_LOG)
    #[arg(short, long, action = ArgAction::Count, global = true)]
    verbose: u8,
    /// Format of log lines
    #[arg(long, value_enum, default_value = "text", global = true)]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// Starts logging to stderr.
pub fn start(args: &LoggingArgs) -> Result<()> {
    let level = ["rlvr=warn", "rlvr=info", "rlvr=debug"][usize::from(args.verbose.min(2))];
    let filter = match std::env::var("RUST_LOG") {
        Ok(filter) if args.verbose == 0 => EnvFilter::try_new(filter)?,
        _ => EnvFilter::try_new(level)?,
    };
    // Spans log their duration when they close, which shows where a slow step spends its time.
    let close = tracing_subscriber::fmt::format::FmtSpan::CLOSE;
    // Writing to a closed stderr does not end the run. Colors are for terminals only; tracing escapes control characters in messages.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Stderr).with_ansi(std::io::stderr().is_terminal());
    let builder = builder.with_span_events(close);
    let started = match args.log_format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    started.map_err(|error| anyhow!("cannot start logging: {error}"))
}
