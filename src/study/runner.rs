//! Executes the runs of a study, several at a time on each rank, each in its own process. Owns their order, the forwarding of signals, the
//! progress lines and the table. Skips finished runs and resumes stopped ones.
//!
//! The ranks meet regularly and tell each other what happened to their runs. From this, each rank draws the same conclusions: which runs it
//! starts next, and when all stop. A single process is a rank without others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::devices::SlotGpus;
use super::planned::{PlannedRun, folder, planned_runs, read_summary};
use super::queue::Queue;
use super::slots::{Event, RankReport, RunState, Slots};
use super::status::{Pace, RunStatus, StudyStatus};
use super::{Arm, ArmResults, Progress, Study, Table, progress};
use crate::checkpoint::lock::FolderLock;
use crate::dist::World;
use crate::interrupt::Interrupt;
use crate::train::RunSettings;
use crate::train::history::Summary;
use crate::usage::usage;

/// Interval for polling the runs of a single process.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Interval between meetings of several ranks.
const MEET_INTERVAL: Duration = Duration::from_millis(500);
/// Interval for showing how far the study is.
const SHOW_INTERVAL: Duration = Duration::from_millis(500);

/// How to start runs.
pub struct Launcher<'a> {
    /// Path of the `rlvr` program.
    pub program: PathBuf,
    /// Folder with the published files; `None` downloads them.
    pub data_dir: Option<PathBuf>,
    /// Maximum number of parallel runs on each rank.
    pub jobs: usize,
    /// The GPUs for the runs of this rank.
    pub gpus: SlotGpus,
    /// On rank 0, receives a line about each run that ends, and about what delays the others.
    pub print: &'a dyn Fn(&str),
    /// On rank 0, receives a line about each run that starts.
    pub print_start: &'a dyn Fn(&str),
    /// On rank 0, receives the state of the study at least once per second.
    pub show: &'a dyn Fn(&StudyStatus),
}

/// The runs of a study, in a folder that rank 0 has locked.
pub struct StudyRunner<'a> {
    world: World,
    study: &'a Study,
    settings: &'a [RunSettings],
    out: &'a Path,
    print: &'a dyn Fn(&str),
    print_start: &'a dyn Fn(&str),
    show: &'a dyn Fn(&StudyStatus),
    slots: Slots<'a>,
    /// The unfinished runs, in the order of execution.
    queue: Queue,
    finished: usize,
    failed: usize,
    /// The pace of the runs that ended.
    pace: Pace,
    /// The summaries of the runs that are done since the start, as their ranks read them: other machines may see a run's files later.
    summaries: BTreeMap<PathBuf, Option<Summary>>,
    _lock: Option<FolderLock>,
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

impl<'a> StudyRunner<'a> {
    /// Compares the study over all ranks. Rank 0 creates and locks the folder `out`, and determines the state of each run. `settings` has one
    /// entry per arm, in order.
    ///
    /// # Errors
    /// If the ranks differ, the folder cannot be created, another process uses it, or a run in it has different settings.
    pub fn open(world: World, study: &'a Study, settings: &'a [RunSettings], out: &'a Path, launcher: Launcher<'a>) -> Result<Self> {
        study.ensure_same_on_all_ranks(&world, settings, out, launcher.jobs)?;
        let runs = planned_runs(study, settings, out);
        let (mut states, mut lock) = (Vec::new(), None);
        if world.is_first() {
            std::fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
            lock = Some(FolderLock::acquire(out)?);
            let is_done = |planned: &PlannedRun| Ok(progress(&planned.root, &planned.settings)? == Progress::Done);
            states = usage(runs.iter().map(is_done).collect())?;
        }
        let states: Vec<bool> = world.from_first(states)?;
        let pending: Vec<usize> = (0..runs.len()).filter(|run| !states[*run]).collect();
        let (finished, jobs) = (runs.len() - pending.len(), launcher.jobs.min(runs.len()));
        let queue = Queue::new(pending, world.size(), jobs);
        let Launcher { program, data_dir, gpus, print, print_start, show, .. } = launcher;
        let slots = Slots::new(runs, jobs, program, data_dir, gpus);
        let (failed, pace, summaries) = (0, Pace::default(), BTreeMap::new());
        Ok(Self { world, study, settings, out, print, print_start, show, slots, queue, finished, failed, pace, summaries, _lock: lock })
    }

    /// Describes the size of the study in one line.
    pub fn headline(&self) -> String {
        let Self { study, slots, finished: done, .. } = self;
        let already_done = if *done > 0 { format!(", {done} of them already done") } else { String::new() };
        let (title, arms, seeds, runs) = (&study.title, study.arms.len(), study.seeds.len(), slots.runs.len());
        format!("{title}: {arms} arms x {seeds} seeds = {runs} runs in {}{already_done}", self.out.display())
    }

    /// Executes all unfinished runs. A failed run does not stop the others. A signal to any rank stops all runs after they are saved. Every
    /// rank calls it and gets the same outcome.
    ///
    /// # Errors
    /// If a process cannot be started or polled, a run cannot be read, the table cannot be written, or the connection fails.
    pub fn run(&mut self, interrupt: &Interrupt) -> Result<RunOutcome> {
        let interval = if self.world.size() == 1 { POLL_INTERVAL } else { MEET_INTERVAL };
        let (mut stop, mut shown) = (None, None::<Instant>);
        loop {
            let shows = shown.is_none_or(|shown| shown.elapsed() >= SHOW_INTERVAL);
            if shows {
                self.slots.observe();
            }
            self.slots.poll(stop.is_none())?;
            // Read after polling, since a launcher may have sent the signal that ended a run to this process, too.
            let signal = interrupt.signal().map(|signal| (signal, interrupt.stop_now()));
            let mut reports = self.world.gather(self.slots.report(signal))?;
            let agreed = strongest(&reports);
            if let Some((signal, is_urgent)) = agreed.filter(|_| stop != agreed) {
                self.slots.signal(signal, is_urgent);
            }
            stop = agreed;
            for (rank, report) in reports.iter_mut().enumerate() {
                for (run, event) in std::mem::take(&mut report.events) {
                    self.apply(rank, run, event, stop.is_some())?;
                }
            }
            if self.queue.is_done() || (stop.is_some() && reports.iter().all(|report| report.running.is_empty())) {
                break;
            }
            if stop.is_none() {
                self.start_dealt()?;
            }
            if shows {
                if self.world.is_first() {
                    (self.show)(&self.status(&reports[1..]));
                }
                shown = Some(Instant::now());
            }
            std::thread::sleep(interval);
        }
        Ok(match (stop, self.failed) {
            (None, 0) => RunOutcome::Done,
            (None, failed) => RunOutcome::Failed(failed),
            (Some((signal, _)), _) => RunOutcome::Interrupted(signal),
        })
    }

    /// Starts the pending runs that this rank has free slots for.
    fn start_dealt(&mut self) -> Result<()> {
        let own = self.world.rank();
        self.queue.deal().into_iter().filter(|(rank, _)| *rank == own).try_for_each(|(_, run)| self.slots.start(run))
    }

    /// Takes note of what happened to a run on a rank; rank 0 prints it.
    fn apply(&mut self, rank: usize, run: usize, event: Event, is_stopping: bool) -> Result<()> {
        let (is_first, name) = (self.world.is_first(), self.slots.runs[run].name());
        let print = |print: &dyn Fn(&str), text: String| {
            if is_first {
                print(&text)
            }
        };
        match event {
            Event::Started(0) => print(self.print_start, format!("{name}: started")),
            Event::Started(from) => print(self.print_start, format!("{name}: resumed after step {from}")),
            Event::InUse => {
                let root = self.slots.runs[run].root.display();
                let text = format!("waiting for another process that is working on {root}, perhaps a run that outlived its study");
                print(self.print, text);
            }
            Event::Done { summary, elapsed, pace } => {
                self.queue.release(rank);
                self.finished += 1;
                self.pace.add(&pace);
                let summary = summary.map(|summary| *summary);
                if is_first {
                    self.report(&name, summary.as_ref(), elapsed);
                }
                self.summaries.insert(self.slots.runs[run].root.clone(), summary);
                if is_first {
                    self.table()?;
                }
            }
            Event::Failed { reason, pace } => {
                self.queue.release(rank);
                self.pace.add(&pace);
                // A run that a signal has stopped has not failed.
                if !is_stopping {
                    self.failed += 1;
                    print(self.print, format!("{name} failed {reason}"));
                }
            }
        }
        Ok(())
    }

    /// Returns how far the study is. `others` are the reports of the other ranks.
    fn status(&self, others: &[RankReport]) -> StudyStatus {
        let own = self.slots.running();
        let running: Vec<&RunState> = own.iter().chain(others.iter().flat_map(|report| &report.running)).collect();
        let mut pace = self.pace;
        running.iter().for_each(|state| pace.add(&state.pace));
        let steps = |run: usize| self.slots.runs[run].settings.train.steps;
        let remaining: Vec<u64> = running.iter().map(|state| steps(state.run).saturating_sub(state.pace.step)).collect();
        let pending: Vec<u64> = self.queue.pending().map(steps).collect();
        let status = |RunState { run, pace, elapsed }: &RunState| RunStatus {
            name: self.slots.runs[*run].name(),
            step: pace.step,
            steps: steps(*run),
            train_accuracy: pace.train_accuracy,
            elapsed: *elapsed,
        };
        StudyStatus {
            finished: self.finished,
            failed: self.failed,
            count: self.slots.runs.len(),
            left: pace.left(&remaining, &pending, self.queue.slots()),
            running: running.into_iter().map(status).collect(),
            is_waiting: self.slots.is_waiting() || others.iter().any(|report| report.is_waiting),
        }
    }

    /// Prints a line for a finished run.
    fn report(&self, name: &str, summary: Option<&Summary>, elapsed: Duration) {
        for record in summary.iter().flat_map(|summary| &summary.missing) {
            (self.print)(&format!("{name} lost a record: {record}"));
        }
        let is_shown = |pass: &str| self.study.passes.is_empty() || self.study.passes.iter().any(|shown| shown == pass);
        let passes = summary.and_then(|summary| summary.last.as_ref()).into_iter().flat_map(|last| &last.passes);
        let passes = passes.filter(|(pass, _)| is_shown(pass)).map(|(pass, score)| format!("{pass} {:.1}%", score.mean() * 100.0));
        let passes = passes.collect::<Vec<_>>().join(", ");
        (self.print)(&format!("[{}/{}] {name}: {passes} ({:.0} s)", self.finished, self.slots.runs.len(), elapsed.as_secs_f64()));
    }

    /// Makes the table of the finished runs, and writes it to the folder. For rank 0 alone.
    ///
    /// # Errors
    /// If the record of a run cannot be read, or the table cannot be written.
    pub fn table(&self) -> Result<Table> {
        let summary = |root: &Path, settings: &RunSettings| match self.summaries.get(root) {
            Some(summary) => Ok(summary.clone()),
            None => read_summary(root, settings),
        };
        let runs = |(arm, settings): (&Arm, &RunSettings)| {
            let run = |seed: &u64| anyhow::Ok((*seed, summary(&folder(self.out, arm, *seed), settings)?));
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

/// Returns the signal that stops all ranks: an urgent one if there is one, and that of the first rank.
fn strongest(reports: &[RankReport]) -> Option<(usize, bool)> {
    // Of equal ones, `max_by_key` returns the last.
    reports.iter().rev().filter_map(|report| report.signal).max_by_key(|(_, is_urgent)| *is_urgent)
}
