//! What stderr shows: how much, in which format and with which colors.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Result, anyhow};
use clap::{ArgAction, Args, ColorChoice, CommandFactory, FromArgMatches, ValueEnum};
use tracing_subscriber::EnvFilter;

use super::Cli;
use crate::output::mode::{self, Format};
use crate::output::{self, Level, Mode, Stderr};

/// How much is shown, and in which format.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output options")]
pub struct LoggingArgs {
    /// Show more on stderr: -v for notes and events, -vv for details (or set RUST_LOG)
    #[arg(short, long, action = ArgAction::Count, global = true, conflicts_with = "quiet")]
    verbose: u8,
    /// Show only warnings, errors and results
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Colors in help, messages and tables: auto uses them in a terminal, unless NO_COLOR is set
    #[arg(long, value_enum, default_value = "auto", value_name = "WHEN", global = true)]
    color: ColorChoice,
    /// Format of stderr: json prints one JSON object per line, with "timestamp", "level" and "message"
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT", global = true)]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// Parses the command line. Help, the version and usage errors are printed in the color and the format that it asks for.
///
/// # Errors
/// Returns the exit code if there is nothing to run: 0 after help or the version, 2 after a usage error.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, ExitCode> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    // These options also apply if the command line is invalid, so they are looked up before it is parsed.
    let color = value_of(&arguments, "--color").and_then(|text| ColorChoice::from_str(&text, true).ok()).unwrap_or_default();
    set_colors(color);
    let parsed = Cli::command().color(color).try_get_matches_from(&arguments).and_then(|matches| {
        let name = matches.subcommand_name().unwrap_or_default().to_owned();
        Cli::from_arg_matches(&matches).map(|cli| Cli { name, ..cli })
    });
    parsed.map_err(|error| {
        if error.use_stderr() && value_of(&arguments, "--log-format").is_some_and(|format| format.eq_ignore_ascii_case("json")) {
            mode::set(Mode { format: Format::Json, ..Mode::default() });
            output::print_error(error.render().to_string().trim_start_matches("error: ").trim_end());
        } else {
            // Nobody reads the text of a closed stream.
            let _ = error.print();
        }
        ExitCode::from(error.exit_code() as u8)
    })
}

/// Returns the last value of a flag, as in `--color never` and `--color=never`; `None` if it is not given before `--`.
fn value_of(arguments: &[OsString], flag: &str) -> Option<String> {
    let texts: Vec<&str> =
        arguments.iter().map(|argument| argument.to_str().unwrap_or_default()).take_while(|text| *text != "--").collect();
    let value = |(index, text): (usize, &&str)| match text.strip_prefix(flag)? {
        "" => texts.get(index + 1).map(|value| (*value).to_owned()),
        rest => rest.strip_prefix('=').map(str::to_owned),
    };
    texts.iter().enumerate().filter_map(value).next_back()
}

/// Turns the colors of both streams on or off.
fn set_colors(choice: ColorChoice) {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let chosen = match choice {
        ColorChoice::Always => Some(true),
        ColorChoice::Never => Some(false),
        ColorChoice::Auto if is_plain => Some(false),
        ColorChoice::Auto => is_set("CLICOLOR_FORCE").then_some(true),
    };
    // Otherwise each stream has colors if it is a terminal.
    if let Some(chosen) = chosen {
        console::set_colors_enabled(chosen);
        console::set_colors_enabled_stderr(chosen);
    }
}

/// Sets the mode of stderr and starts logging to it.
pub fn start(args: &LoggingArgs) -> Result<()> {
    let format = match args.log_format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    let least = match (args.quiet, args.verbose) {
        (true, _) => Level::Warning,
        (false, 0) => Level::Info,
        (false, _) => Level::Detail,
    };
    mode::set(Mode { format, least });
    let level = ["rlvr=warn", "rlvr=info", "rlvr=debug"][usize::from(args.verbose.min(2))];
    let filter = match std::env::var("RUST_LOG") {
        Ok(filter) if args.verbose == 0 => EnvFilter::try_new(filter)?,
        _ => EnvFilter::try_new(level)?,
    };
    // Spans log their duration when they close, which shows where a slow step spends its time.
    let close = tracing_subscriber::fmt::format::FmtSpan::CLOSE;
    // Writing to a closed stderr does not end the run. tracing escapes control characters in messages.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Stderr);
    let builder = builder.with_ansi(console::colors_enabled_stderr()).with_span_events(close);
    let started = match format {
        Format::Text => builder.with_target(false).try_init(),
        // The message and the fields of an event are at the top level, as those of other messages.
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow!("cannot start logging: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_of_finds_the_last_value_of_a_flag() {
        let check = |arguments: &[&str], expected: Option<&str>| {
            let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
            assert_eq!(value_of(&arguments, "--color").as_deref(), expected, "{arguments:?}");
        };
        check(&["rlvr", "train"], None);
        check(&["rlvr", "--color", "never", "train"], Some("never"));
        check(&["rlvr", "train", "--color=always", "--color=never"], Some("never"));
        check(&["rlvr", "train", "--colors=always"], None);
        check(&["rlvr", "x", "--", "--color=always"], None);
        check(&["rlvr", "train", "--color"], None);
    }
}
