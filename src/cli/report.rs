//! `rlvr report`: writes the report about runs or a study as one HTML file, or serves it while the runs go. Also serves it for
//! `rlvr train --report`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::signals::{self, CtrlC};
use crate::interrupt::Interrupt;
use crate::report::subject::{Subject, write_page};
use crate::report::watch::ReportServer;
use crate::report::{ReportOptions, ResponseLimit, ResponseSource};
use crate::usage::usage;

/// How often a served report looks for a signal.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Run folders, or the folder of one study
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// File to write, or - for stdout (default: report.html in the folder of the run or study; in this folder for several runs)
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Responses to include: as many as fit this number of bytes, compressed, or all (a served report always has all)
    #[arg(long, value_name = "BYTES|all", default_value = "1200000", value_parser = response_limit)]
    responses: ResponseLimit,
    /// Serve the report on this machine and keep it up to date until Ctrl-C, instead of writing a file; the folder may not exist yet
    #[arg(long, conflicts_with = "output")]
    watch: bool,
    /// With --watch: the port on 127.0.0.1 (default: one that is free)
    #[arg(long, value_name = "N", requires = "watch")]
    port: Option<u16>,
}

pub fn run(args: ReportArgs) -> Result<ExitCode> {
    let subject = Subject::of(&args.runs);
    if args.watch {
        return watch(subject, args.port);
    }
    let options = ReportOptions { responses: ResponseSource::Page(args.responses) };
    let told = subject.tell(&options)?;
    let (html, file) = (told.page.html(), args.output.unwrap_or_else(|| subject.default_file()));
    if file == Path::new("-") {
        print_result!("{html}");
        return Ok(ExitCode::SUCCESS);
    }
    usage(write_page(&file, &html))?;
    told.missing.iter().for_each(|what| message!("{what}"));
    message!("wrote {} ({} kB): open it in a browser", file.display(), html.len().div_ceil(1000));
    print_result!("{}", file.display());
    Ok(ExitCode::SUCCESS)
}

/// Serves the report until a signal ends the program.
fn watch(subject: Subject, port: Option<u16>) -> Result<ExitCode> {
    for path in subject.paths.iter().filter(|path| !path.exists()) {
        message!("{} does not exist yet: the report shows it when its run has started", path.display());
    }
    let interrupt = Arc::new(Interrupt::default());
    signals::listen(&interrupt, CtrlC::Stops)?;
    let server = ReportServer::start(subject, port.unwrap_or(0))?;
    message!("the report is at {} until you press Ctrl-C", server.url());
    let signal = loop {
        match interrupt.signal() {
            Some(signal) => break signal,
            None => std::thread::sleep(POLL_INTERVAL),
        }
    };
    Ok(ExitCode::from(128 + signal as u8))
}

/// The report of a run in progress, served until the run ends.
pub struct LiveReport {
    subject: Subject,
    server: ReportServer,
}

impl LiveReport {
    /// Starts to serve the report about the run in `root`, which may not exist yet.
    pub fn start(root: &Path, port: Option<u16>) -> Result<Self> {
        let subject = Subject::of(&[root.to_owned()]);
        let server = ReportServer::start(subject.clone(), port.unwrap_or(0))?;
        message!("the report is at {} until the run ends", server.url());
        Ok(Self { subject, server })
    }

    /// Writes the report to the run's folder and ends the server. The run is done, so a report that cannot be written is no failure.
    pub fn finish(self) {
        let file = self.subject.default_file();
        let written = self.subject.tell(&ReportOptions::default()).and_then(|told| write_page(&file, &told.page.html()));
        self.server.finish();
        match written {
            Ok(()) => message!("the report is no longer served; it is in {}", file.display()),
            Err(error) => message!("the report is no longer served, and cannot be written: {error:#}"),
        }
    }
}

fn response_limit(text: &str) -> Result<ResponseLimit, String> {
    if text == "all" {
        return Ok(ResponseLimit::All);
    }
    text.parse().map(ResponseLimit::Bytes).map_err(|_| "expected a number of bytes, or all".to_owned())
}
