//! `rlvr report`: writes a report about a run as one HTML file.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::checkpoint::write_file;
use crate::report::{ReportOptions, RunRecord, run_page};
use crate::usage::usage;

/// Printed at the end of the help text.
pub const EXAMPLES: &str = "\
Examples:
  rlvr report runs/tiny-334+556                     writes runs/tiny-334+556/report.html
  rlvr report runs/tiny-334+556 -o first-run.html   writes another file

The file is complete: it needs no network and can be sent as it is. A run in progress can be reported too.";

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Run folder, as rlvr train writes it
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// File to write (default: report.html in the run folder)
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub fn run(args: ReportArgs) -> Result<()> {
    let record = usage(RunRecord::read(&args.run))?;
    let page = run_page(&record, &ReportOptions::default())?;
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
