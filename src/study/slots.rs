//! The runs in progress of one rank, at most one in each of its slots. Starts or resumes them, passes signals on, observes them, and reports
//! what happened. Knows nothing about the other ranks.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::devices::SlotGpus;
use super::launch::{ChildRun, lock};
use super::planned::{PlannedRun, read_summary};
use super::status::{RunPace, last_step};
use super::{Progress, progress};
use crate::checkpoint::lock::FolderLock;
use crate::dist::launch::gpus::VISIBLE;
use crate::source;
use crate::train::history::Summary;

/// The slots of a rank. Runs are numbered in the order of the study.
pub(super) struct Slots<'a> {
    pub runs: Vec<PlannedRun<'a>>,
    slots: Vec<Slot>,
    program: PathBuf,
    data_dir: Option<PathBuf>,
    gpus: SlotGpus,
    /// What happened since the last report.
    events: Vec<(usize, Event)>,
}

enum Slot {
    Free,
    /// Another process is working on this run. It may be one that outlived its study, so it takes the slot.
    Waiting(usize),
    Running(RunningRun),
}

/// A run in progress.
struct RunningRun {
    run: usize,
    child: ChildRun,
    started: Instant,
    pace: RunPace,
}

/// What a rank tells the others when they meet.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RankReport {
    /// The number of the signal that this rank received, and whether it is urgent.
    pub signal: Option<(usize, bool)>,
    /// What happened to which run since the last report, in order.
    pub events: Vec<(usize, Event)>,
    pub running: Vec<RunState>,
    /// True if a run waits for another process.
    pub is_waiting: bool,
}

/// What happened to a run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Event {
    /// Its process goes on after this step.
    Started(u64),
    /// Another process is working on it.
    InUse,
    /// It is done after this time, which is 0 if it needed no process.
    Done { summary: Option<Box<Summary>>, elapsed: Duration, pace: RunPace },
    /// Its process failed.
    Failed { reason: String, pace: RunPace },
}

/// How far a run in progress is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct RunState {
    pub run: usize,
    pub pace: RunPace,
    /// The time since its process started.
    pub elapsed: Duration,
}

impl<'a> Slots<'a> {
    /// Creates `jobs` free slots for these runs, whose processes run `program`.
    pub fn new(runs: Vec<PlannedRun<'a>>, jobs: usize, program: PathBuf, data_dir: Option<PathBuf>, gpus: SlotGpus) -> Self {
        let slots = (0..jobs).map(|_| Slot::Free).collect();
        Self { runs, slots, program, data_dir, gpus, events: Vec::new() }
    }

    /// Starts this run in the first free slot, or resumes it. If another process is working on it, the slot waits.
    ///
    /// # Errors
    /// If the run cannot be read or its process cannot be started, or no slot is free.
    pub fn start(&mut self, run: usize) -> Result<()> {
        let slot = self.slots.iter().position(|slot| matches!(slot, Slot::Free)).context("no slot is free")?;
        self.start_in(slot, run)
    }

    fn start_in(&mut self, slot: usize, run: usize) -> Result<()> {
        let recorded = last_step(&self.runs[run].root.join("metrics.jsonl"));
        let was_waiting = matches!(self.slots[slot], Slot::Waiting(_));
        self.slots[slot] = match self.launch(slot, run)? {
            Launch::Started(child, from) => {
                self.events.push((run, Event::Started(from)));
                Slot::Running(RunningRun { run, child, started: Instant::now(), pace: RunPace::new(from, recorded) })
            }
            Launch::AlreadyDone => {
                self.events.push((run, self.done(run, Duration::ZERO, RunPace::default())?));
                Slot::Free
            }
            Launch::InUse => {
                self.events.extend((!was_waiting).then_some((run, Event::InUse)));
                Slot::Waiting(run)
            }
        };
        Ok(())
    }

    /// Starts the process of a run, or resumes a stopped one.
    fn launch(&self, slot: usize, run: usize) -> Result<Launch> {
        let planned = &self.runs[run];
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
        words.extend(self.data_dir.iter().flat_map(|path| [OsString::from("--data-dir"), path.into()]));
        let mut command = Command::new(&self.program);
        command.args(words);
        let device = source::device(&planned.settings.compute, &planned.settings.model);
        command.envs(self.gpus.of_slot(slot, device).map(|gpu| (VISIBLE, gpu)));
        Ok(Launch::Started(ChildRun::start(command, &planned.root, lock)?, from))
    }

    /// Notices which runs have ended. With `starts`, tries again to start the runs that wait for another process.
    ///
    /// # Errors
    /// If a run cannot be read, polled or started.
    pub fn poll(&mut self, starts: bool) -> Result<()> {
        for slot in 0..self.slots.len() {
            match &mut self.slots[slot] {
                Slot::Running(running) => {
                    let Some(status) = running.child.try_wait()? else { continue };
                    running.observe(&self.runs);
                    let (run, pace, elapsed) = (running.run, running.pace.clone(), running.started.elapsed());
                    let event = if status.success() {
                        self.done(run, elapsed, pace)?
                    } else {
                        Event::Failed { reason: format!("({status}); {}", running.child.log_tail()), pace }
                    };
                    self.events.push((run, event));
                    self.slots[slot] = Slot::Free;
                }
                Slot::Waiting(run) if starts => {
                    let run = *run;
                    self.start_in(slot, run)?;
                }
                Slot::Waiting(_) | Slot::Free => {}
            }
        }
        Ok(())
    }

    fn done(&self, run: usize, elapsed: Duration, pace: RunPace) -> Result<Event> {
        let PlannedRun { root, settings, .. } = &self.runs[run];
        Ok(Event::Done { summary: read_summary(root, settings)?.map(Box::new), elapsed, pace })
    }

    /// Passes a signal on to all runs.
    pub fn signal(&mut self, signal: usize, is_urgent: bool) {
        self.running_mut().for_each(|running| running.child.signal(signal, is_urgent));
    }

    /// Reads how far the runs are.
    pub fn observe(&mut self) {
        let Self { slots, runs, .. } = self;
        slots.iter_mut().filter_map(Slot::running_mut).for_each(|running| running.observe(runs));
    }

    /// Returns what happened since the last report. `signal` is the one that this rank received.
    pub fn report(&mut self, signal: Option<(usize, bool)>) -> RankReport {
        RankReport { signal, events: std::mem::take(&mut self.events), running: self.running(), is_waiting: self.is_waiting() }
    }

    /// Lists the runs in progress, as last observed.
    pub fn running(&self) -> Vec<RunState> {
        let state = |slot: &Slot| match slot {
            Slot::Running(RunningRun { run, started, pace, .. }) => {
                Some(RunState { run: *run, pace: pace.clone(), elapsed: started.elapsed() })
            }
            Slot::Free | Slot::Waiting(_) => None,
        };
        self.slots.iter().filter_map(state).collect()
    }

    /// True if a run waits for another process.
    pub fn is_waiting(&self) -> bool {
        self.slots.iter().any(|slot| matches!(slot, Slot::Waiting(_)))
    }

    fn running_mut(&mut self) -> impl Iterator<Item = &mut RunningRun> {
        self.slots.iter_mut().filter_map(Slot::running_mut)
    }
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

impl Slot {
    fn running_mut(&mut self) -> Option<&mut RunningRun> {
        match self {
            Self::Running(running) => Some(running),
            Self::Free | Self::Waiting(_) => None,
        }
    }
}

impl RunningRun {
    fn observe(&mut self, runs: &[PlannedRun]) {
        self.pace.observe(&runs[self.run].root.join("metrics.jsonl"), self.started.elapsed());
    }
}
