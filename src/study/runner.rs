//! Executes the runs of a study, several at a time, each in its own process. Owns their order, the forwarding of signals, the progress
//! lines and the table. Skips finished runs and resumes stopped ones.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::launch::{ChildRun, lock};
use super::{Arm, ArmResults, Progress, Study, Table, progress};
use crate::checkpoint::lock::FolderLock;
use crate::interrupt::Interrupt;
use crate::train::history::Summary;
use crate::train::{RunFolder, RunSettings};
use crate::usage::usage;

/// Interval for polling running processes.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How to start runs.
pub struct Launcher<'a> {
    /// Path of the `rlvr` program.
    pub program: PathBuf,
    /// Folder with the published files; `None` downloads them.
    pub data_dir: Option<PathBuf>,
    /// Maximum number of parallel runs.
    pub jobs: usize,
    /// Receives progress lines.
    pub print: &'a dyn Fn(&str),
}

/// The runs of a study, in a folder locked for this process.
pub struct StudyRunner<'a> {
    study: &'a Study,
    settings: &'a [RunSettings],
    out: &'a Path,
    launcher: Launcher<'a>,
    /// Unfinished runs, in the order of execution.
    pending: VecDeque<PlannedRun<'a>>,
    /// Number of all runs.
    count: usize,
    finished: usize,
    /// True after printing that the next run waits for another process.
    is_waiting: bool,
    _lock: FolderLock,
}

/// A run of the study.
struct PlannedRun<'a> {
    arm: &'a Arm,
    seed: u64,
    settings: RunSettings,
    root: PathBuf,
}

/// How executing the runs ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunOutcome {
    /// All runs are done.
    Done,
    /// This many runs failed.
    Failed(usize),
    /// The signal with this number stopped the study; all runs are saved.
    Interrupted(usize),
}

/// The result of starting a run.
enum Launch {
    Started(ChildRun),
    /// The run needs no process: it outlived an earlier study process and is done.
    AlreadyDone,
    /// Another process is working on the run.
    InUse,
}

impl<'a> StudyRunner<'a> {
    /// Creates and locks the folder `out`, and determines the state of each run. `settings` has one entry per arm, in order.
    ///
    /// # Errors
    /// If the folder cannot be created, another process uses it, or a run in it has different settings.
    pub fn open(study: &'a Study, settings: &'a [RunSettings], out: &'a Path, launcher: Launcher<'a>) -> Result<Self> {
        std::fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
        let _lock = FolderLock::acquire(out)?;
        let planned_runs = planned_runs(study, settings, out);
        let count = planned_runs.len();
        let states: Vec<Progress> = usage(planned_runs.iter().map(|planned| progress(&planned.root, &planned.settings)).collect())?;
        let pending: VecDeque<PlannedRun> =
            planned_runs.into_iter().zip(states).filter(|(_, state)| *state != Progress::Done).map(|(planned, _)| planned).collect();
        let finished = count - pending.len();
        Ok(Self { study, settings, out, launcher, pending, count, finished, is_waiting: false, _lock })
    }

    /// Describes the size of the study in one line.
    pub fn headline(&self) -> String {
        let Self { study, count: runs, finished: done, .. } = self;
        let already_done = if *done > 0 { format!(", {done} of them already done") } else { String::new() };
        let (title, arms, seeds) = (&study.title, study.arms.len(), study.seeds.len());
        format!("{title}: {arms} arms x {seeds} seeds = {runs} runs in {}{already_done}", self.out.display())
    }

    /// Executes all unfinished runs. A failed run does not stop the others. A signal stops all runs after they are saved.
    ///
    /// # Errors
    /// If a process cannot be started or polled, a run cannot be read, or the table cannot be written.
    pub fn run(&mut self, interrupt: &Interrupt) -> Result<RunOutcome> {
        let mut running: Vec<(PlannedRun, ChildRun, Instant)> = Vec::new();
        let (mut failed, mut forwarded) = (0, (None, false));
        loop {
            let (signal, is_urgent) = (interrupt.signal(), interrupt.stop_now());
            if let Some(signal) = signal.filter(|_| forwarded != (signal, is_urgent)) {
                running.iter_mut().for_each(|(_, run, _)| run.signal(signal, is_urgent));
                forwarded = (Some(signal), is_urgent);
            }
            if signal.is_none() {
                self.start_pending(&mut running)?;
            }
            if running.is_empty() && (self.pending.is_empty() || signal.is_some()) {
                break;
            }
            std::thread::sleep(POLL_INTERVAL);
            for index in (0..running.len()).rev() {
                let (planned, run, started) = &mut running[index];
                let Some(status) = run.try_wait()? else { continue };
                if status.success() {
                    self.finished += 1;
                    self.report(planned, started.elapsed())?;
                } else if !interrupt.stop_after_step() {
                    failed += 1;
                    let (label, seed) = (&planned.arm.label, planned.seed);
                    (self.launcher.print)(&format!("{label}, seed {seed} failed ({status}); {}", run.log_tail()));
                }
                running.swap_remove(index);
            }
        }
        Ok(match (forwarded.0, failed) {
            (None, 0) => RunOutcome::Done,
            (None, failed) => RunOutcome::Failed(failed),
            (Some(signal), _) => RunOutcome::Interrupted(signal),
        })
    }

    /// Starts pending runs up to the maximum. Starts none after a run that another process is working on; the next call tries that run
    /// again.
    fn start_pending(&mut self, running: &mut Vec<(PlannedRun<'a>, ChildRun, Instant)>) -> Result<()> {
        while running.len() < self.launcher.jobs {
            let Some(planned) = self.pending.pop_front() else { break };
            match self.launch(&planned)? {
                Launch::Started(run) => running.push((planned, run, Instant::now())),
                Launch::AlreadyDone => {
                    self.finished += 1;
                    self.report(&planned, Duration::ZERO)?;
                }
                Launch::InUse => {
                    if !self.is_waiting {
                        let root = planned.root.display();
                        (self.launcher.print)(&format!(
                            "waiting for another process that is working on {root}, perhaps a run that outlived its study"
                        ));
                    }
                    self.is_waiting = true;
                    self.pending.push_front(planned);
                    break;
                }
            }
            self.is_waiting = false;
        }
        Ok(())
    }

    /// Starts a run, or resumes a stopped one.
    fn launch(&self, planned: &PlannedRun) -> Result<Launch> {
        let Some(lock) = lock(&planned.root)? else { return Ok(Launch::InUse) };
        // A run started by hand also locks its folder.
        if FolderLock::holder(&planned.root).is_some() {
            return Ok(Launch::InUse);
        }
        let mut words = vec![OsString::from("train")];
        match progress(&planned.root, &planned.settings)? {
            Progress::Done => return Ok(Launch::AlreadyDone),
            Progress::Stopped(_) => words.extend(["--resume".into(), planned.root.clone().into()]),
            state => {
                if state == Progress::NotResumable {
                    std::fs::remove_dir_all(&planned.root).with_context(|| format!("cannot remove {}", planned.root.display()))?;
                }
                words.extend(planned.arm.arguments(planned.seed));
                words.extend(["--out".into(), planned.root.clone().into()]);
            }
        }
        words.extend(self.launcher.data_dir.iter().flat_map(|path| [OsString::from("--data-dir"), path.into()]));
        ChildRun::start(&self.launcher.program, &words, &planned.root, lock).map(Launch::Started)
    }

    /// Prints a line for a finished run, and updates the table.
    fn report(&self, planned: &PlannedRun, elapsed: Duration) -> Result<()> {
        let (label, seed, print) = (&planned.arm.label, planned.seed, self.launcher.print);
        let summary = read_summary(&planned.root, &planned.settings)?;
        for record in summary.iter().flat_map(|summary| &summary.missing) {
            print(&format!("{label}, seed {seed} lost a record: {record}"));
        }
        let passes = summary.and_then(|summary| summary.last).map(|last| last.passes).unwrap_or_default();
        let is_shown = |pass: &String| self.study.passes.is_empty() || self.study.passes.contains(pass);
        let passes = passes.iter().filter(|(pass, _)| is_shown(pass)).map(|(pass, score)| format!("{pass} {:.1}%", score.mean() * 100.0));
        let passes = passes.collect::<Vec<_>>().join(", ");
        print(&format!("[{}/{}] {label}, seed {seed}: {passes} ({:.0} s)", self.finished, self.count, elapsed.as_secs_f64()));
        self.table().map(drop)
    }

    /// Makes the table of the finished runs, and writes it to the folder.
    ///
    /// # Errors
    /// If the record of a run cannot be read, or the table cannot be written.
    pub fn table(&self) -> Result<Table> {
        let runs = |(arm, settings): (&Arm, &RunSettings)| {
            let run = |seed: &u64| anyhow::Ok((*seed, read_summary(&folder(self.out, arm, *seed), settings)?));
            let runs = self.study.seeds.iter().map(run).collect::<Result<_>>()?;
            anyhow::Ok(ArmResults { label: arm.label.clone(), folder: arm.folder.clone(), settings: settings.clone(), runs })
        };
        let arms: Vec<ArmResults> = self.study.arms.iter().zip(self.settings).map(runs).collect::<Result<_>>()?;
        let table = Table::of(&self.study.title, &self.study.axes, &self.study.passes, &arms);
        std::fs::create_dir_all(self.out).with_context(|| format!("cannot create {}", self.out.display()))?;
        table.write(self.out)?;
        Ok(table)
    }
}

/// Lists all runs: first those with the first seed of each arm, then those with the second, so that a stopped study has results for every
/// arm.
fn planned_runs<'a>(study: &'a Study, settings: &[RunSettings], out: &Path) -> Vec<PlannedRun<'a>> {
    let of_seed = |seed: u64| {
        let planned = move |(arm, settings): (&'a Arm, &RunSettings)| PlannedRun {
            arm,
            seed,
            settings: RunSettings { seed, ..settings.clone() },
            root: folder(out, arm, seed),
        };
        study.arms.iter().zip(settings).map(planned).collect::<Vec<_>>()
    };
    study.seeds.iter().flat_map(|seed| of_seed(*seed)).collect()
}

/// Returns the folder of a run: `OUT/ARM/seed-N`.
fn folder(out: &Path, arm: &Arm, seed: u64) -> PathBuf {
    out.join(&arm.folder).join(format!("seed-{seed}"))
}

/// Reads the summary of a finished run of a study with these settings. `None` for an unfinished run, whose figures would be from an earlier
/// step.
///
/// # Errors
/// If the folder or its summary cannot be read.
pub fn read_summary(root: &Path, settings: &RunSettings) -> Result<Option<Summary>> {
    if !root.join("config.toml").exists() {
        return Ok(None);
    }
    let (folder, found) = RunFolder::open(root)?;
    if folder.resumable_steps()?.last().is_none_or(|step| *step < settings.train.steps.max(found.train.steps)) {
        return Ok(None);
    }
    let path = folder.summary();
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is corrupt", path.display())).map(Some)
}
