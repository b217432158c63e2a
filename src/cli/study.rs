//! `rlvr study`: runs a grid of training runs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;

use super::arguments::{DataArgs, JsonArgs};
use super::numbers::within;
use super::signals::{self, CtrlC};
use crate::config::range::whole;
use crate::dist::World;
use crate::dist::launch::{self, Gpus, gpus::VISIBLE};
use crate::interrupt::Interrupt;
use crate::kernels::{DeviceChoice, gpu_info};
use crate::output::{self, Headline, Progress, duration};
use crate::source;
use crate::study::{Arm, Launcher, RunOutcome, RunStatus, SlotGpus, Study, StudyRunner, StudyStatus};
use crate::train::RunSettings;
use crate::usage::usage;

#[derive(Debug, Args)]
pub struct StudyArgs {
    /// Study file (TOML): title, shared settings, arms or axes, seeds
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Folder for the runs, each in ARM/seed-N; finished runs are kept and stopped runs resumed (default: runs/FILE without .toml)
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Number of runs in parallel; under mpirun or srun, that of each process
    #[arg(long, default_value_t = 1, allow_negative_numbers = true, value_parser = within::<u16>(whole(1, 65_535)))]
    jobs: u16,
    /// Check the settings, models, examples and benchmarks of every arm without downloading anything, and exit
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    json: JsonArgs,
}

pub fn run(args: StudyArgs) -> Result<ExitCode> {
    launch::refuse_torchrun("study")?;
    let world = launch::join(Gpus::All)?;
    let study = usage(Study::read(&args.file))?;
    let store = usage(args.data.store())?;
    let checked: Vec<Result<RunSettings>> = study.arms.iter().map(|arm| study.check(arm, &store)).collect();
    if args.dry_run {
        return print_checks(&study, &checked);
    }
    let label = |(arm, settings): (&Arm, Result<RunSettings>)| settings.with_context(|| format!("arm {}", arm.label));
    let settings: Vec<RunSettings> = usage(study.arms.iter().zip(checked).map(label).collect())?;
    let stem = args.file.file_stem().unwrap_or_default();
    let out = args.out.clone().unwrap_or_else(|| Path::new("runs").join(stem));
    let progress = if world.is_first() { Progress::new() } else { Progress::hidden() };
    let launcher = Launcher {
        program: std::env::current_exe().context("cannot find the path of this program")?,
        data_dir: args.data.data_dir,
        jobs: args.jobs.into(),
        gpus: slot_gpus(&world, &settings)?,
        print: &output::print_message,
        // In a terminal, the display names the runs in progress.
        print_start: &|line| {
            if !progress.is_drawn() {
                output::print_message(line)
            }
        },
        show: &|status| show(&progress, status),
    };
    let mut runner = StudyRunner::open(world.clone(), &study, &settings, &out, launcher)?;
    message!("{}", runner.headline());
    let interrupt = Arc::new(Interrupt::default());
    interrupt.begin("the steps in progress of all runs");
    signals::listen(&interrupt, CtrlC::Finishes)?;
    let ending = runner.run(&interrupt)?;
    progress.finish();
    if world.is_first() {
        let table = runner.table()?;
        args.json.print(|| Ok(table.json), || print_result!("{}", table.markdown.trim_end()))?;
        message!("the table is in {} and {}", out.join("study.md").display(), out.join("study.json").display());
    }
    match ending {
        RunOutcome::Done => Ok(ExitCode::SUCCESS),
        RunOutcome::Failed(runs) => bail!("{runs} of the study's runs failed: run the same command again to retry them"),
        RunOutcome::Interrupted(signal) => {
            message!("interrupted; every run is saved: run the same command again to continue");
            Ok(ExitCode::from(128 + signal as u8))
        }
    }
}

/// Finds the GPUs for the runs of this process. Does not ask the driver if no run can use one.
fn slot_gpus(world: &World, settings: &[RunSettings]) -> Result<SlotGpus> {
    let may_use_gpu = settings.iter().any(|settings| source::device(&settings.compute, &settings.model) != DeviceChoice::Cpu);
    let count = || if may_use_gpu { gpu_info::count() } else { 0 };
    let rank_on_host = launch::Launch::of_this_process()?.map_or(0, |launch| launch.local_rank);
    Ok(SlotGpus::new(std::env::var(VISIBLE).ok().as_deref(), count, rank_on_host, world.ranks_on_host()))
}

/// Shows the finished runs of all, the time left, and a line for each run in progress.
fn show(progress: &Progress, status: &StudyStatus) {
    let StudyStatus { finished, failed, count, running, left, is_waiting } = status;
    let failed = (*failed > 0).then(|| format!("{failed} failed"));
    let fields = failed.into_iter().chain([format!("{} running", running.len())]).collect();
    progress.set_headline(Headline { done: *finished as u64, total: *count as u64, fields }, *left);
    let line = |run: &RunStatus| {
        let accuracy = run.train_accuracy.map_or_else(String::new, |accuracy| format!(", train {:.1}%", 100.0 * accuracy));
        format!("{}: step {}/{}{accuracy}, {}", run.name, run.step, run.steps, duration(run.elapsed))
    };
    let waiting = is_waiting.then(|| "waiting for another process".to_owned());
    progress.set_parts(running.iter().map(line).chain(waiting).collect());
}

/// Prints a line for each arm. Returns an error if an arm cannot be run.
fn print_checks(study: &Study, checked: &[Result<RunSettings>]) -> Result<ExitCode> {
    for (arm, settings) in study.arms.iter().zip(checked) {
        match settings {
            Ok(settings) => print_result!("ok  {}: {}", arm.label, study.describe(settings)),
            Err(error) => print_result!("bad {}: {}", arm.label, format!("{error:#}").replace('\n', " ")),
        }
    }
    let bad = checked.iter().filter(|settings| settings.is_err()).count();
    usage(if bad == 0 { Ok(ExitCode::SUCCESS) } else { Err(anyhow!("{bad} of {} arms cannot be run", checked.len())) })
}
