//! The runs of a study, a few at a time, each a process of its own. Owns their order, what a signal does to them, and the lines and the table
//! that show its progress. Finished runs are kept, and unfinished ones are resumed.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::launch::{Launched, lock};
use super::{Arm, ArmRuns, Progress, Study, Table, progress};
use crate::checkpoint::lock::FolderLock;
use crate::interrupt::Interrupt;
use crate::train::history::Summary;
use crate::train::{RunFolder, RunSettings};
use crate::usage::usage;

/// How often runs at work are looked after.
const PAUSE: Duration = Duration::from_millis(50);

/// How runs are started.
pub struct Launcher<'a> {
    /// The program `rlvr`.
    pub program: PathBuf,
    /// A folder with the published files, in place of downloads.
    pub data_dir: Option<PathBuf>,
    /// Runs at work at the same time.
    pub jobs: usize,
    /// Receives a line for each run that ends.
    pub tell: &'a dyn Fn(&str),
}

/// The runs of a study in a folder that nobody else works in.
pub struct Schedule<'a> {
    study: &'a Study,
    settings: &'a [RunSettings],
    out: &'a Path,
    launcher: Launcher<'a>,
    /// Runs that are not done, in the order in which they are made.
    pending: VecDeque<Work<'a>>,
    count: usize,
    finished: usize,
    /// Whether the next run is another process's, as was told.
    waits: bool,
    _lock: FolderLock,
}

/// A run that is to be made.
struct Work<'a> {
    arm: &'a Arm,
    seed: u64,
    settings: RunSettings,
    root: PathBuf,
}

/// How the work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All runs are done.
    Done,
    /// This many runs failed.
    Failed(usize),
    /// By a signal, of this number.
    Interrupted(usize),
}

/// What came of starting a run.
enum Launch {
    Started(Launched),
    /// A run that outlived its study is done by now.
    Unneeded,
    /// Another process is at it.
    Taken,
}

impl<'a> Schedule<'a> {
    /// Takes the folder, made where it is not there, and looks where each run stands. `settings` are those of the arms, in their order.
    ///
    /// # Errors
    /// When another process works in the folder, or a run in it cannot be resumed. Nothing has been computed then.
    pub fn open(study: &'a Study, settings: &'a [RunSettings], out: &'a Path, launcher: Launcher<'a>) -> Result<Self> {
        std::fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
        let _lock = FolderLock::take(out)?;
        let works = works(study, settings, out);
        let count = works.len();
        let stand: Vec<Progress> = usage(works.iter().map(|work| progress(&work.root, &work.settings)).collect())?;
        let pending: VecDeque<Work> =
            works.into_iter().zip(stand).filter(|(_, stand)| *stand != Progress::Done).map(|(work, _)| work).collect();
        let finished = count - pending.len();
        Ok(Self { study, settings, out, launcher, pending, count, finished, waits: false, _lock })
    }

    /// What the study comes to, in a line.
    pub fn headline(&self) -> String {
        let Self { study, count: runs, finished: done, .. } = self;
        let kept = if *done > 0 { format!(", {done} of them done before") } else { String::new() };
        let (title, arms, seeds) = (&study.title, study.arms.len(), study.seeds.len());
        format!("{title}: {arms} arms x {seeds} seeds = {runs} runs in {}{kept}", self.out.display())
    }

    /// Makes every run that is not done. A failed run does not stop the others; a signal stops all, each saved.
    ///
    /// # Errors
    /// When a process cannot be started or looked after, or the table cannot be written.
    pub fn run(&mut self, interrupt: &Interrupt) -> Result<Ending> {
        let mut running: Vec<(Work, Launched, Instant)> = Vec::new();
        let (mut failed, mut passed_on) = (0, (None, false));
        loop {
            let (signal, is_urgent) = (interrupt.signal(), interrupt.stop_now());
            if let Some(signal) = signal.filter(|_| passed_on != (signal, is_urgent)) {
                running.iter_mut().for_each(|(_, run, _)| run.signal(signal, is_urgent));
                passed_on = (Some(signal), is_urgent);
            }
            if signal.is_none() {
                self.fill(&mut running)?;
            }
            if running.is_empty() && (self.pending.is_empty() || signal.is_some()) {
                break;
            }
            std::thread::sleep(PAUSE);
            for place in (0..running.len()).rev() {
                let (work, run, began) = &mut running[place];
                let Some(status) = run.ended()? else { continue };
                if status.success() {
                    self.finished += 1;
                    self.tell(work, began.elapsed())?;
                } else if !interrupt.stop_after_step() {
                    failed += 1;
                    let (label, seed) = (&work.arm.label, work.seed);
                    (self.launcher.tell)(&format!("{label}, seed {seed} failed ({status}); {}", run.last_words()));
                }
                running.swap_remove(place);
            }
        }
        Ok(match (passed_on.0, failed) {
            (None, 0) => Ending::Done,
            (None, failed) => Ending::Failed(failed),
            (Some(signal), _) => Ending::Interrupted(signal),
        })
    }

    /// Starts runs until enough are at work. One that another process is at is waited for.
    fn fill(&mut self, running: &mut Vec<(Work<'a>, Launched, Instant)>) -> Result<()> {
        while running.len() < self.launcher.jobs {
            let Some(work) = self.pending.pop_front() else { break };
            match self.launch(&work)? {
                Launch::Started(run) => running.push((work, run, Instant::now())),
                Launch::Unneeded => {
                    self.finished += 1;
                    self.tell(&work, Duration::ZERO)?;
                }
                Launch::Taken => {
                    if !self.waits {
                        let root = work.root.display();
                        (self.launcher.tell)(&format!(
                            "{root} is still worked on by another process, perhaps a run that outlived its study; waiting for it"
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

    /// Starts a run, or resumes one that was stopped.
    fn launch(&self, work: &Work) -> Result<Launch> {
        let Some(lock) = lock(&work.root)? else { return Ok(Launch::Taken) };
        // A run that was started by hand holds its folder, too.
        if FolderLock::holder(&work.root).is_some() {
            return Ok(Launch::Taken);
        }
        let mut words = vec![OsString::from("train")];
        match progress(&work.root, &work.settings)? {
            Progress::Done => return Ok(Launch::Unneeded),
            Progress::Stopped(_) => words.extend(["--resume".into(), work.root.clone().into()]),
            stand => {
                if stand == Progress::Begun {
                    std::fs::remove_dir_all(&work.root).with_context(|| format!("cannot remove {}", work.root.display()))?;
                }
                words.extend(work.arm.arguments(work.seed));
                words.extend(["--out".into(), work.root.clone().into()]);
            }
        }
        words.extend(self.launcher.data_dir.iter().flat_map(|path| [OsString::from("--data-dir"), path.into()]));
        Launched::start(&self.launcher.program, &words, &work.root, lock).map(Launch::Started)
    }

    /// A line for a finished run, and the table so far.
    fn tell(&self, work: &Work, elapsed: Duration) -> Result<()> {
        let (label, seed, tell) = (&work.arm.label, work.seed, self.launcher.tell);
        let summary = recorded(&work.root, &work.settings)?;
        for what in summary.iter().flat_map(|summary| &summary.missing) {
            tell(&format!("{label}, seed {seed} is without a record that is lost: {what}"));
        }
        let passes = summary.and_then(|summary| summary.last).map(|last| last.passes).unwrap_or_default();
        let shown = |pass: &String| self.study.passes.is_empty() || self.study.passes.contains(pass);
        let passes = passes.iter().filter(|(pass, _)| shown(pass)).map(|(pass, score)| format!("{pass} {:.1}%", score.mean() * 100.0));
        let passes = passes.collect::<Vec<_>>().join(", ");
        tell(&format!("[{}/{}] {label}, seed {seed}: {passes} ({:.0} s)", self.finished, self.count, elapsed.as_secs_f64()));
        self.table().map(drop)
    }

    /// Makes the table of the finished runs, and writes it.
    pub fn table(&self) -> Result<Table> {
        let runs = |(arm, settings): (&Arm, &RunSettings)| {
            let run = |seed: &u64| anyhow::Ok((*seed, recorded(&folder(self.out, arm, *seed), settings)?));
            let runs = self.study.seeds.iter().map(run).collect::<Result<_>>()?;
            anyhow::Ok(ArmRuns { label: arm.label.clone(), folder: arm.folder.clone(), settings: settings.clone(), runs })
        };
        let arms: Vec<ArmRuns> = self.study.arms.iter().zip(self.settings).map(runs).collect::<Result<_>>()?;
        let table = Table::of(&self.study.title, &self.study.passes, &arms);
        std::fs::create_dir_all(self.out).with_context(|| format!("cannot create {}", self.out.display()))?;
        table.write(self.out)?;
        Ok(table)
    }
}

/// All runs: the first seed of every arm, then the second, so that a study that is stopped has told something of each.
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

/// What a finished run recorded; none for one that is not finished, whose figures would be of some other step.
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
    serde_json::from_str(&text).with_context(|| format!("{} is broken", path.display())).map(Some)
}
