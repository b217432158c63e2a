//! Executes the runs of a study, several at a time, each in its own process. Owns their order, the handling of signals, and the progress lines
//! and table. Keeps finished runs and resumes unfinished ones.

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
    pending: VecDeque<Work<'a>>,
    /// Number of all runs.
    count: usize,
    finished: usize,
    /// True after printing that the next run waits for another process.
    waits: bool,
    _lock: FolderLock,
}

/// A run to execute.
struct Work<'a> {
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
    /// Not needed: the run outlived an earlier study process and is done by now.
    Unneeded,
    /// Another process is working on the run.
    Taken,
}

impl<'a> StudyRunner<'a> {
    /// Creates and locks the folder `out`, and determines the state of each run. `settings` has one entry per arm, in order.
    ///
    /// # Errors
    /// If the folder cannot be created, another process uses it, or a run in it has other settings. Nothing has been computed then.
    pub fn open(study: &'a Study, settings: &'a [RunSettings], out: &'a Path, launcher: Launcher<'a>) -> Result<Self> {
        std::fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
        let _lock = FolderLock::take(out)?;
        let works = works(study, settings, out);
        let count = works.len();
        let states: Vec<Progress> = usage(works.iter().map(|work| progress(&work.root, &work.settings)).collect())?;
        let pending: VecDeque<Work> =
            works.into_iter().zip(states).filter(|(_, state)| *state != Progress::Done).map(|(work, _)| work).collect();
        let finished = count - pending.len();
        Ok(Self { study, settings, out, launcher, pending, count, finished, waits: false, _lock })
    }

    /// Describes the size of the study in one line.
    pub fn headline(&self) -> String {
        let Self { study, count: runs, finished: done, .. } = self;
        let kept = if *done > 0 { format!(", {done} of them already done") } else { String::new() };
        let (title, arms, seeds) = (&study.title, study.arms.len(), study.seeds.len());
        format!("{title}: {arms} arms x {seeds} seeds = {runs} runs in {}{kept}", self.out.display())
    }

    /// Executes every unfinished run. A failed run does not stop the others. A signal stops all runs after they are saved.
    ///
    /// # Errors
    /// If a process cannot be started or polled, a run cannot be read, or the table cannot be written.
    pub fn run(&mut self, interrupt: &Interrupt) -> Result<RunOutcome> {
        let mut running: Vec<(Work, ChildRun, Instant)> = Vec::new();
        let (mut failed, mut forwarded) = (0, (None, false));
        loop {
            let (signal, is_urgent) = (interrupt.signal(), interrupt.stop_now());
            if let Some(signal) = signal.filter(|_| forwarded != (signal, is_urgent)) {
                running.iter_mut().for_each(|(_, run, _)| run.signal(signal, is_urgent));
                forwarded = (Some(signal), is_urgent);
            }
            if signal.is_none() {
                self.fill(&mut running)?;
            }
            if running.is_empty() && (self.pending.is_empty() || signal.is_some()) {
                break;
            }
            std::thread::sleep(POLL_INTERVAL);
            for place in (0..running.len()).rev() {
                let (work, run, began) = &mut running[place];
                let Some(status) = run.ended()? else { continue };
                if status.success() {
                    self.finished += 1;
                    self.report(work, began.elapsed())?;
                } else if !interrupt.stop_after_step() {
                    failed += 1;
                    let (label, seed) = (&work.arm.label, work.seed);
                    (self.launcher.print)(&format!("{label}, seed {seed} failed ({status}); {}", run.log_tail()));
                }
                running.swap_remove(place);
            }
        }
        Ok(match (forwarded.0, failed) {
            (None, 0) => RunOutcome::Done,
            (None, failed) => RunOutcome::Failed(failed),
            (Some(signal), _) => RunOutcome::Interrupted(signal),
        })
    }

    /// Starts runs up to the maximum. If another process is working on the next run, waits for it.
    fn fill(&mut self, running: &mut Vec<(Work<'a>, ChildRun, Instant)>) -> Result<()> {
        while running.len() < self.launcher.jobs {
            let Some(work) = self.pending.pop_front() else { break };
            match self.launch(&work)? {
                Launch::Started(run) => running.push((work, run, Instant::now())),
                Launch::Unneeded => {
                    self.finished += 1;
                    self.report(&work, Duration::ZERO)?;
                }
                Launch::Taken => {
                    if !self.waits {
                        let root = work.root.display();
                        (self.launcher.print)(&format!(
                            "waiting for another process that is working on {root}, perhaps a run that outlived its study"
                        ));
                    }
                    self.waits = true;
                    self.pending.push_front(work);
                    break;
                }
            }
            self.waits = false;
        }
        Ok(())
    }

    /// Starts a run, or resumes a stopped one.
    fn launch(&self, work: &Work) -> Result<Launch> {
        let Some(lock) = lock(&work.root)? else { return Ok(Launch::Taken) };
        // A run started by hand also locks its folder.
        if FolderLock::holder(&work.root).is_some() {
            return Ok(Launch::Taken);
        }
        let mut words = vec![OsString::from("train")];
        match progress(&work.root, &work.settings)? {
            Progress::Done => return Ok(Launch::Unneeded),
            Progress::Stopped(_) => words.extend(["--resume".into(), work.root.clone().into()]),
            state => {
                if state == Progress::NotResumable {
                    std::fs::remove_dir_all(&work.root).with_context(|| format!("cannot remove {}", work.root.display()))?;
                }
                words.extend(work.arm.arguments(work.seed));
                words.extend(["--out".into(), work.root.clone().into()]);
            }
        }
        words.extend(self.launcher.data_dir.iter().flat_map(|path| [OsString::from("--data-dir"), path.into()]));
        ChildRun::start(&self.launcher.program, &words, &work.root, lock).map(Launch::Started)
    }

    /// Prints a line for a finished run, and writes the table so far.
    fn report(&self, work: &Work, elapsed: Duration) -> Result<()> {
        let (label, seed, print) = (&work.arm.label, work.seed, self.launcher.print);
        let summary = recorded(&work.root, &work.settings)?;
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
            let run = |seed: &u64| anyhow::Ok((*seed, recorded(&folder(self.out, arm, *seed), settings)?));
            let runs = self.study.seeds.iter().map(run).collect::<Result<_>>()?;
            anyhow::Ok(ArmResults { label: arm.label.clone(), folder: arm.folder.clone(), settings: settings.clone(), runs })
        };
        let arms: Vec<ArmResults> = self.study.arms.iter().zip(self.settings).map(runs).collect::<Result<_>>()?;
        let table = Table::of(&self.study.title, &self.study.passes, &arms);
        std::fs::create_dir_all(self.out).with_context(|| format!("cannot create {}", self.out.display()))?;
        table.write(self.out)?;
        Ok(table)
    }
}

/// Lists all runs: the first seed of every arm, then the second, so that a stopped study has results for every arm.
fn works<'a>(study: &'a Study, settings: &[RunSettings], out: &Path) -> Vec<Work<'a>> {
    let of_seed = |seed: u64| {
        let work = move |(arm, settings): (&'a Arm, &RunSettings)| Work {
            arm,
            seed,
            settings: RunSettings { seed, ..settings.clone() },
            root: folder(out, arm, seed),
        };
        study.arms.iter().zip(settings).map(work).collect::<Vec<_>>()
    };
    study.seeds.iter().flat_map(|seed| of_seed(*seed)).collect()
}

fn folder(out: &Path, arm: &Arm, seed: u64) -> PathBuf {
    out.join(&arm.folder).join(format!("seed-{seed}"))
}

/// Reads the summary of a finished run. `None` for an unfinished run, since its figures would be from an earlier step.
fn recorded(root: &Path, settings: &RunSettings) -> Result<Option<Summary>> {
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
