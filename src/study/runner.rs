//! Executes the runs of a study, several at a time, each in its own process. Owns their order, the forwarding of signals, the progress
//! lines and the table. Skips finished runs and resumes stopped ones.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::launch::{ChildRun, lock};
use super::status::{Pace, RunPace, RunStatus, StudyStatus, last_step};
use super::{Arm, ArmResults, Progress, Study, Table, progress};
use crate::checkpoint::lock::FolderLock;
use crate::interrupt::Interrupt;
use crate::train::history::Summary;
use crate::train::{RunFolder, RunSettings};
use crate::usage::usage;

/// Interval for polling running processes.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Interval for showing how far the study is.
const SHOW_INTERVAL: Duration = Duration::from_millis(500);

/// How to start runs.
pub struct Launcher<'a> {
    /// Path of the `rlvr` program.
    pub program: PathBuf,
    /// Folder with the published files; `None` downloads them.
    pub data_dir: Option<PathBuf>,
    /// Maximum number of parallel runs.
    pub jobs: usize,
    /// Receives a line about each run that ends, and about what delays the others.
    pub print: &'a dyn Fn(&str),
    /// Receives a line about each run that starts.
    pub print_start: &'a dyn Fn(&str),
    /// Receives the state of the study at least once per second.
    pub show: &'a dyn Fn(&StudyStatus),
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
    failed: usize,
    /// The pace of the runs that ended in this process.
    pace: Pace,
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

/// A run in progress.
struct RunningRun<'a> {
    planned: PlannedRun<'a>,
    child: ChildRun,
    started: Instant,
    pace: RunPace,
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
    /// The process goes on after this step.
    Started(ChildRun, u64),
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
        let (failed, pace, is_waiting) = (0, Pace::default(), false);
        Ok(Self { study, settings, out, launcher, pending, count, finished, failed, pace, is_waiting, _lock })
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
        let mut running: Vec<RunningRun> = Vec::new();
        let (mut forwarded, mut shown) = ((None, false), None::<Instant>);
        loop {
            let (signal, is_urgent) = (interrupt.signal(), interrupt.stop_now());
            if let Some(signal) = signal.filter(|_| forwarded != (signal, is_urgent)) {
                running.iter_mut().for_each(|run| run.child.signal(signal, is_urgent));
                forwarded = (Some(signal), is_urgent);
            }
            if signal.is_none() {
                self.start_pending(&mut running)?;
            }
            if running.is_empty() && (self.pending.is_empty() || signal.is_some()) {
                break;
            }
            if shown.is_none_or(|shown| shown.elapsed() >= SHOW_INTERVAL) {
                running.iter_mut().for_each(RunningRun::observe);
                (self.launcher.show)(&self.status(&running));
                shown = Some(Instant::now());
            }
            std::thread::sleep(POLL_INTERVAL);
            for index in (0..running.len()).rev() {
                let Some(status) = running[index].child.try_wait()? else { continue };
                let mut run = running.swap_remove(index);
                run.observe();
                self.pace.add(&run.pace);
                if status.success() {
                    self.finished += 1;
                    self.report(&run.planned, run.started.elapsed())?;
                } else if !interrupt.stop_after_step() {
                    self.failed += 1;
                    (self.launcher.print)(&format!("{} failed ({status}); {}", run.planned.name(), run.child.log_tail()));
                }
            }
        }
        Ok(match (forwarded.0, self.failed) {
            (None, 0) => RunOutcome::Done,
            (None, failed) => RunOutcome::Failed(failed),
            (Some(signal), _) => RunOutcome::Interrupted(signal),
        })
    }

    /// Starts pending runs up to the maximum. Starts none after a run that another process is working on; the next call tries that run
    /// again.
    fn start_pending(&mut self, running: &mut Vec<RunningRun<'a>>) -> Result<()> {
        while running.len() < self.launcher.jobs {
            let Some(planned) = self.pending.pop_front() else { break };
            let recorded = last_step(&planned.root.join("metrics.jsonl"));
            match self.launch(&planned)? {
                Launch::Started(child, from) => {
                    let how = if from > 0 { format!("resumed after step {from}") } else { "started".to_owned() };
                    (self.launcher.print_start)(&format!("{}: {how}", planned.name()));
                    running.push(RunningRun { planned, child, started: Instant::now(), pace: RunPace::new(from, recorded) });
                }
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
        let (mut words, mut from) = (vec![OsString::from("train")], 0);
        match progress(&planned.root, &planned.settings)? {
            Progress::Done => return Ok(Launch::AlreadyDone),
            Progress::Stopped(step) => {
                from = step;
                words.extend(["--resume".into(), planned.root.clone().into()]);
            }
            state => {
                if state == Progress::NotResumable {
                    std::fs::remove_dir_all(&planned.root).with_context(|| format!("cannot remove {}", planned.root.display()))?;
                }
                words.extend(planned.arm.arguments(planned.seed));
                words.extend(["--out".into(), planned.root.clone().into()]);
            }
        }
        words.extend(self.launcher.data_dir.iter().flat_map(|path| [OsString::from("--data-dir"), path.into()]));
        let child = ChildRun::start(&self.launcher.program, &words, &planned.root, lock)?;
        Ok(Launch::Started(child, from))
    }

    /// Returns how far the study is.
    fn status(&self, running: &[RunningRun]) -> StudyStatus {
        let mut pace = self.pace;
        running.iter().for_each(|run| pace.add(&run.pace));
        let remaining: Vec<u64> = running.iter().map(|run| run.steps().saturating_sub(run.pace.step)).collect();
        let pending: Vec<u64> = self.pending.iter().map(|planned| planned.settings.train.steps).collect();
        StudyStatus {
            finished: self.finished,
            failed: self.failed,
            count: self.count,
            left: pace.left(&remaining, &pending, self.launcher.jobs),
            running: running.iter().map(RunningRun::status).collect(),
        }
    }

    /// Prints a line for a finished run, and updates the table.
    fn report(&self, planned: &PlannedRun, elapsed: Duration) -> Result<()> {
        let (name, print) = (planned.name(), self.launcher.print);
        let summary = read_summary(&planned.root, &planned.settings)?;
        for record in summary.iter().flat_map(|summary| &summary.missing) {
            print(&format!("{name} lost a record: {record}"));
        }
        let passes = summary.and_then(|summary| summary.last).map(|last| last.passes).unwrap_or_default();
        let is_shown = |pass: &String| self.study.passes.is_empty() || self.study.passes.contains(pass);
        let passes = passes.iter().filter(|(pass, _)| is_shown(pass)).map(|(pass, score)| format!("{pass} {:.1}%", score.mean() * 100.0));
        let passes = passes.collect::<Vec<_>>().join(", ");
        print(&format!("[{}/{}] {name}: {passes} ({:.0} s)", self.finished, self.count, elapsed.as_secs_f64()));
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

impl PlannedRun<'_> {
    /// Returns the run's arm and seed, for messages.
    fn name(&self) -> String {
        format!("{}, seed {}", self.arm.label, self.seed)
    }
}

impl RunningRun<'_> {
    fn steps(&self) -> u64 {
        self.planned.settings.train.steps
    }

    fn observe(&mut self) {
        self.pace.observe(&self.planned.root.join("metrics.jsonl"), self.started.elapsed());
    }

    fn status(&self) -> RunStatus {
        let RunPace { step, train_accuracy, .. } = self.pace;
        RunStatus { name: self.planned.name(), step, steps: self.steps(), train_accuracy, elapsed: self.started.elapsed() }
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
