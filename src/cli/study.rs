//! `rlvr study`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;

use super::arguments::DataArgs;
use super::numbers::within;
use super::signals::{self, CtrlC};
use crate::config::range::whole;
use crate::interrupt::Interrupt;
use crate::output;
use crate::study::{Arm, Ending, Launcher, Schedule, Study};
use crate::train::RunSettings;
use crate::usage::usage;

#[derive(Debug, Args)]
pub struct StudyArgs {
    /// The study in TOML: a title, what all arms share, what they differ in, seeds
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where its runs go, each into ARM/seed-N; what is there already is kept and gone on with (default: runs/ and the file's name)
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Runs at work at the same time
    #[arg(long, default_value_t = 1, allow_negative_numbers = true, value_parser = within::<u16>(whole(1, 65_535)))]
    jobs: u16,
    /// Check every arm and stop: settings, names of models, examples and benchmarks; nothing is downloaded
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    data: DataArgs,
}

pub fn run(args: StudyArgs) -> Result<ExitCode> {
    let study = usage(Study::read(&args.file))?;
    let library = usage(args.data.library())?;
    let checked: Vec<Result<RunSettings>> = study.arms.iter().map(|arm| study.check(arm, &library)).collect();
    if args.dry_run {
        return told(&study, &checked);
    }
    let label = |(arm, settings): (&Arm, Result<RunSettings>)| settings.with_context(|| format!("arm {}", arm.label));
    let settings: Vec<RunSettings> = usage(study.arms.iter().zip(checked).map(label).collect())?;
    let stem = args.file.file_stem().unwrap_or_default();
    let out = args.out.clone().unwrap_or_else(|| Path::new("runs").join(stem));
    let launcher = Launcher {
        program: std::env::current_exe().context("cannot find this program again")?,
        data_dir: args.data.data_dir,
        jobs: args.jobs.into(),
        tell: &output::line,
    };
    let mut schedule = Schedule::open(&study, &settings, &out, launcher)?;
    tell!("{}", schedule.headline());
    let interrupt = Arc::new(Interrupt::default());
    interrupt.begin("the steps in progress of all runs");
    signals::listen(&interrupt, CtrlC::Finishes)?;
    let ending = schedule.run(&interrupt)?;
    say!("{}", schedule.table()?.markdown.trim_end());
    tell!("the table is in {} and {}", out.join("study.md").display(), out.join("study.json").display());
    match ending {
        Ending::Done => Ok(ExitCode::SUCCESS),
        Ending::Failed(runs) => bail!("{runs} of the study's runs failed; the same command goes on with what is left"),
        Ending::Interrupted(signal) => {
            tell!("interrupted; every run is saved: the same command goes on");
            Ok(ExitCode::from(128 + signal as u8))
        }
    }
}

/// A line for each arm; an arm that cannot be run makes the study fail.
fn told(study: &Study, checked: &[Result<RunSettings>]) -> Result<ExitCode> {
    for (arm, settings) in study.arms.iter().zip(checked) {
        match settings {
            Ok(settings) => say!("ok  {}: {}", arm.label, study.describe(settings)),
            Err(error) => say!("bad {}: {}", arm.label, format!("{error:#}").replace('\n', " ")),
        }
    }
    let bad = checked.iter().filter(|settings| settings.is_err()).count();
    usage(if bad == 0 { Ok(ExitCode::SUCCESS) } else { Err(anyhow!("{bad} of {} arms cannot be run", checked.len())) })
}
