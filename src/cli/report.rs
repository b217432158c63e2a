//! `rlvr report`: writes a report about a run as one HTML file.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::checkpoint::write_file;
use crate::report::{ReportOptions, ResponseLimit, RunRecord, run_page};
use crate::usage::usage;

/// Printed at the end of the help text.
pub const EXAMPLES: &str = "\
Examples:
  rlvr report runs/tiny-334+556                     writes runs/tiny-334+556/report.html
  rlvr report runs/tiny-334+556 -o first-run.html   writes another file
  rlvr report runs/tiny-334+556 --responses all     includes all responses of the base model, at saturation and at the end

The file is complete: it needs no network and can be sent as it is. A run in progress can be reported too.";

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Run folder, as rlvr train writes it
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// File to write (default: report.html in the run folder)
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Responses to include: as many as fit this number of bytes, compressed, or all
    #[arg(long, value_name = "BYTES|all", default_value = "1200000", value_parser = response_limit)]
    responses: ResponseLimit,
}

pub fn run(args: ReportArgs) -> Result<()> {
    let record = usage(RunRecord::read(&args.run))?;
    let page = run_page(&record, &ReportOptions { responses: args.responses })?;
    let path = args.output.unwrap_or_else(|| args.run.join("report.html"));
    let html = page.html();
    write_file(&path, html.as_bytes())?;
    for missing in &record.missing {
        message!("{missing}");
    }
    message!("wrote {} ({} kB): open it in a browser", path.display(), html.len().div_ceil(1000));
    print_result!("{}", path.display());
    Ok(())
}

fn response_limit(text: &str) -> Result<ResponseLimit, String> {
    if text == "all" {
        return Ok(ResponseLimit::All);
    }
    text.parse().map(ResponseLimit::Bytes).map_err(|_| "expected a number of bytes, or all".to_owned())
}
