//! `rlvr study`

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::{Args, Parser};

use super::numbers::within;
use super::signals::{self, CtrlC};
use super::source::{self, DataArgs};
use super::train::{self, TrainArgs};
use super::{Cli, Command, usage};
use crate::checkpoint::lock::FolderLock;
use crate::config::range::whole;
use crate::data::{Library, example};
use crate::eval::sets;
use crate::interrupt::Interrupt;
use crate::reward::{self, Rewards};
use crate::study::launch::{Launched, lock};
use crate::study::{Arm, ArmRuns, Progress, Study, Table, progress};
use crate::train::history::{BY_MEAN, Summary};
use crate::train::{RunFolder, RunSettings};

/// How often runs at work are looked after.
const PAUSE: Duration = Duration::from_millis(50);

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

/// A run that is to be made.
struct Work<'a> {
    arm: &'a Arm,
    seed: u64,
    settings: RunSettings,
    root: PathBuf,
}

pub fn run(args: StudyArgs) -> Result<ExitCode> {
    let study = usage(Study::read(&args.file))?;
    let library = usage(args.data.library())?;
    let checked: Vec<Result<RunSettings>> = study.arms.iter().map(|arm| checked(arm, &study, &library)).collect();
    if args.dry_run {
        return told(&study, &checked);
    }
    let label = |(arm, settings): (&Arm, Result<RunSettings>)| settings.with_context(|| format!("arm {}", arm.label));
    let settings: Vec<RunSettings> = usage(study.arms.iter().zip(checked).map(label).collect())?;
    let stem = args.file.file_stem().unwrap_or_default();
    let out = args.out.clone().unwrap_or_else(|| Path::new("runs").join(stem));
    std::fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let _lock = FolderLock::take(&out)?;
    let works = works(&study, &settings, &out);
    // What cannot go on is told before anything is computed.
    let stand: Vec<Progress> = usage(works.iter().map(|work| progress(&work.root, &work.settings)).collect())?;
    let done = stand.iter().filter(|progress| **progress == Progress::Done).count();
    let (runs, kept) = (works.len(), if done > 0 { format!(", {done} of them done before") } else { String::new() });
    tell!("{}: {} arms x {} seeds = {runs} runs in {}{kept}", study.title, study.arms.len(), study.seeds.len(), out.display());

    let mut desk = Desk { args: &args, study: &study, settings: &settings, out: &out, works: &works, finished: done };
    let pending = works.iter().zip(stand).filter(|(_, progress)| *progress != Progress::Done).map(|(work, _)| work).collect();
    let ending = desk.work(pending)?;
    say!("{}", desk.table()?.markdown.trim_end());
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

/// An arm's settings, by the way that its run will read them, checked as far as can be without weights and downloads.
fn checked(arm: &Arm, study: &Study, library: &Library) -> Result<RunSettings> {
    let words = [OsString::from("rlvr"), "train".into()].into_iter().chain(arguments(arm, study.seeds[0]));
    let Command::Train(args) = Cli::try_parse_from(words)?.command else { bail!("an arm is a training") };
    check(&args, study, library)
}

fn check(args: &TrainArgs, study: &Study, library: &Library) -> Result<RunSettings> {
    let (settings, replay) = train::settings(args)?;
    settings.validate()?;
    source::recognise(&settings.model)?;
    if !settings.reference.is_empty() {
        source::recognise(&settings.reference)?;
    }
    let needs_answers = Rewards::new(&settings.reward, settings.rollout.max_new)?.needs_label() && settings.reward.label.is_empty();
    let examples = match &settings.example {
        _ if replay.is_some() => 1,
        example if example.starts_with("tiny/") => train::examples(&settings, library)?.len(),
        example => example::check(example, needs_answers)?,
    };
    ensure!(examples == 1 || settings.reward.label.is_empty(), "reward.label is the answer of one example, and there are {examples}");
    reward::ensure_program(&settings.reward)?;
    let mut sets = sets::check(&settings.eval.benchmarks, library)?;
    sets::decode(&mut sets, &settings.eval.decoding)?;
    if let Some(expected) = train::unknown_pass(&settings.eval.best_by, &sets) {
        bail!("eval.best_by is {}, which is not evaluated; {expected}", settings.eval.best_by);
    }
    let passes: Vec<String> = sets.iter().flat_map(|set| set.decodings.iter().map(|decoding| set.pass_name(*decoding))).collect();
    let unknown = study.passes.iter().find(|pass| !passes.contains(pass) && *pass != BY_MEAN);
    ensure!(unknown.is_none(), "the study tells {}, but this arm evaluates {}", unknown.map_or("", String::as_str), passes.join(", "));
    train::chat(&settings.prompt, true)?;
    Ok(settings)
}

/// The arguments of `rlvr train` that make an arm's run.
fn arguments(arm: &Arm, seed: u64) -> Vec<OsString> {
    let config = arm.config.iter().flat_map(|path| [OsString::from("--config"), path.into()]);
    let sets = arm.assignments.iter().flat_map(|one| [OsString::from("--set"), one.into()]);
    config.chain(sets).chain(["--seed".into(), seed.to_string().into()]).collect()
}

/// A line for each arm; an arm that cannot be run makes the study fail.
fn told(study: &Study, checked: &[Result<RunSettings>]) -> Result<ExitCode> {
    for (arm, settings) in study.arms.iter().zip(checked) {
        match settings {
            Ok(settings) => say!("ok  {}: {}", arm.label, described(settings, study.seeds.len())),
            Err(error) => say!("bad {}: {}", arm.label, format!("{error:#}").replace('\n', " ")),
        }
    }
    let bad = checked.iter().filter(|settings| settings.is_err()).count();
    usage(if bad == 0 { Ok(ExitCode::SUCCESS) } else { Err(anyhow!("{bad} of {} arms cannot be run", checked.len())) })
}

fn described(settings: &RunSettings, seeds: usize) -> String {
    let rollout = &settings.rollout;
    format!(
        "{} with {} on {}, {} steps of {} x {} responses, evaluated on {}, {seeds} seed{}",
        settings.algo,
        settings.model,
        example::title(&settings.example),
        settings.train.steps,
        rollout.groups,
        rollout.group_size,
        if settings.eval.benchmarks.is_empty() { "nothing" } else { &settings.eval.benchmarks },
        if seeds == 1 { "" } else { "s" }
    )
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

/// How the work ended.
enum Ending {
    Done,
    /// So many runs failed.
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

/// Runs at work, and what has come of them.
struct Desk<'a> {
    args: &'a StudyArgs,
    study: &'a Study,
    settings: &'a [RunSettings],
    out: &'a Path,
    works: &'a [Work<'a>],
    finished: usize,
}

impl<'a> Desk<'a> {
    /// Makes every pending run, a few at a time. A failed run does not stop the others; a signal stops all, each saved.
    fn work(&mut self, mut pending: VecDeque<&'a Work<'a>>) -> Result<Ending> {
        let interrupt = Arc::new(Interrupt::default());
        signals::listen(&interrupt, CtrlC::Finishes)?;
        interrupt.begin("the steps in progress of all runs");
        let mut running: Vec<(&Work, Launched, Instant)> = Vec::new();
        let (mut failed, mut passed_on, mut waits) = (0, (None, false), false);
        loop {
            let (signal, is_urgent) = (interrupt.signal(), interrupt.stop_now());
            if let Some(signal) = signal.filter(|_| passed_on != (signal, is_urgent)) {
                running.iter_mut().for_each(|(_, run, _)| run.signal(signal, is_urgent));
                passed_on = (Some(signal), is_urgent);
            }
            while signal.is_none() && running.len() < usize::from(self.args.jobs) {
                let Some(work) = pending.front() else { break };
                match self.launch(work)? {
                    Launch::Started(run) => running.push((work, run, Instant::now())),
                    Launch::Unneeded => {
                        self.finished += 1;
                        self.tell(work, Duration::ZERO)?;
                    }
                    Launch::Taken => {
                        if !waits {
                            tell!(
                                "{} is still worked on by another process, perhaps a run that outlived its study; waiting for it",
                                work.root.display()
                            );
                        }
                        waits = true;
                        break;
                    }
                }
                waits = false;
                pending.pop_front();
            }
            if running.is_empty() && (pending.is_empty() || signal.is_some()) {
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
                    tell!("{}, seed {} failed ({status}); {}", work.arm.label, work.seed, run.last_words());
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

    /// Starts a run, or goes on with one that was stopped.
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
                words.extend(arguments(work.arm, work.seed));
                words.extend(["--out".into(), work.root.clone().into()]);
            }
        }
        let data = self.args.data.data_dir.iter().flat_map(|path| [OsString::from("--data-dir"), path.into()]);
        words.extend(data);
        let program = std::env::current_exe().context("cannot find this program again")?;
        Launched::start(&program, &words, &work.root, lock).map(Launch::Started)
    }

    /// A line for a finished run, and the table so far.
    fn tell(&self, work: &Work, elapsed: Duration) -> Result<()> {
        let (label, seed, count) = (&work.arm.label, work.seed, self.works.len());
        let summary = recorded(&work.root, &work.settings)?;
        for what in summary.iter().flat_map(|summary| &summary.missing) {
            tell!("{label}, seed {seed} is without a record that is lost: {what}");
        }
        let passes = summary.and_then(|summary| summary.last).map(|last| last.passes).unwrap_or_default();
        let shown = |pass: &String| self.study.passes.is_empty() || self.study.passes.contains(pass);
        let passes = passes.iter().filter(|(pass, _)| shown(pass)).map(|(pass, score)| format!("{pass} {:.1}%", score.mean() * 100.0));
        let passes = passes.collect::<Vec<_>>().join(", ");
        tell!("[{}/{count}] {label}, seed {seed}: {passes} ({:.0} s)", self.finished, elapsed.as_secs_f64());
        self.table().map(drop)
    }

    /// The table of what is there, written.
    fn table(&self) -> Result<Table> {
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
