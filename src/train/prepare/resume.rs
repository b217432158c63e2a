//! Prepares to resume a run: reads the recorded settings from its folder, and chooses the checkpoint.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use toml::Table;

use super::{PrepareFor, RunRequest};
use crate::config;
use crate::optim::Schedule;
use crate::output::{Level, Progress};
use crate::train::resumption::crash_recovery;
use crate::train::{Invocation, ResumePoint, RunFolder, RunSettings};
use crate::usage::usage;

/// A run folder with its recorded settings, after changes.
pub(super) struct Recorded {
    /// The run folder, not locked yet.
    pub folder: RunFolder,
    /// The recorded settings with the changes of this command.
    pub settings: RunSettings,
    /// How the run was started.
    pub invocation: Invocation,
}

/// Reads a run folder, applies changes to its settings, and prints their effects.
///
/// # Errors
/// If the folder is not a run folder or its records are corrupt, or if `changes` has an invalid value or a setting other than `train.steps`
/// and `compute.*`.
pub(super) fn read(root: &Path, changes: &Table, data_dir: Option<&Path>, print: &dyn Fn(&str)) -> Result<Recorded> {
    let (folder, before) = RunFolder::open(root)?;
    for (path, _) in config::flatten(changes) {
        ensure!(
            path == "train.steps" || path.starts_with("compute."),
            "{path} stays as recorded in {}: only train.steps and compute.* can change when a run resumes",
            root.display()
        );
    }
    let mut settings = config::resolve(&before, std::slice::from_ref(changes))?;
    report_changes(&before, &settings, print);
    let mut invocation = Invocation::current(data_dir)?;
    if let Some(before) = Invocation::read(root)? {
        match (&invocation.data_dir, &before.data_dir) {
            (Some(now), Some(before)) if now != before => {
                print(&format!("data is read from {}; the run started with {}", now.display(), before.display()));
            }
            (Some(now), None) => print(&format!("data is read from {}; the run started without --data-dir", now.display())),
            (None, Some(before)) => invocation.data_dir = Some(before.clone()),
            _ => {}
        }
        resolve_paths(&mut settings, &before.directory, print);
        invocation = Invocation { directory: before.directory, computed_on: before.computed_on, ..invocation };
    }
    Ok(Recorded { folder, settings, invocation })
}

fn report_changes(before: &RunSettings, now: &RunSettings, print: &dyn Fn(&str)) {
    let steps = (before.train.steps, now.train.steps);
    if steps.0 != steps.1 && before.optim.schedule != Schedule::Constant {
        print(&format!("with {} steps instead of {}, the learning-rate schedule ends at another step", steps.1, steps.0));
    }
    let (before, now) = (&before.compute, &now.compute);
    for (name, before, now) in [
        ("device", before.device.to_string(), now.device.to_string()),
        ("kernels", format!("{:?}", before.kernels).to_lowercase(), format!("{:?}", now.kernels).to_lowercase()),
        ("dtype", format!("{:?}", before.dtype).to_lowercase(), format!("{:?}", now.dtype).to_lowercase()),
        ("batch_invariant", before.batch_invariant.to_string(), now.batch_invariant.to_string()),
    ] {
        if before != now {
            print(&format!("compute.{name} is now {now}; the run started with {before}"));
        }
    }
}

/// Resolves relative paths in the settings against the folder in which the run was started, if they exist there but not in the current
/// folder.
fn resolve_paths(settings: &mut RunSettings, directory: &Path, print: &dyn Fn(&str)) {
    let prompt = &mut settings.prompt;
    let paths =
        [&mut settings.model, &mut settings.reference, &mut settings.example, &mut prompt.chat_template, &mut settings.rollout.replay];
    for path in paths.into_iter().filter(|path| !path.is_empty() && !Path::new(path.as_str()).exists()) {
        let original = directory.join(path.as_str());
        if Path::new(path.as_str()).is_relative() && original.exists() {
            print(&format!("{path} is read from {}, where the run was started", directory.display()));
            *path = original.display().to_string();
        }
    }
}

/// Chooses the checkpoint to resume from: that of step `at`, or the newest intact one. Refuses a run that is complete. Locks and cleans up
/// the folder only for [`PrepareFor::Run`]. For a plan, does not check the checkpoint. With several ranks, rank 0 does all this and tells the
/// others its choice.
pub(super) fn choose_checkpoint(folder: RunFolder, settings: &RunSettings, at: Option<u64>, request: &RunRequest) -> Result<ResumePoint> {
    let RunRequest { need, world, print, progress: shown, .. } = request;
    if matches!(need, PrepareFor::Plan { .. }) {
        return ResumePoint::unchecked(folder);
    }
    let root = folder.root().to_owned();
    let chosen = world.is_first().then(|| choose_intact(folder, settings, at, *need, *print, shown)).transpose()?;
    let told = chosen.as_ref().map(|point| {
        let ResumePoint { from, skipped_checkpoints, evaluations_to_repeat, missing, is_explicit, .. } = point.clone();
        (from, skipped_checkpoints, evaluations_to_repeat, missing, is_explicit)
    });
    let (from, skipped_checkpoints, evaluations_to_repeat, missing, is_explicit) =
        world.from_first(told)?.context("rank 0 chose no checkpoint")?;
    let folder = RunFolder::of_other(&root);
    Ok(chosen.unwrap_or(ResumePoint { folder, from, skipped_checkpoints, evaluations_to_repeat, missing, is_explicit }))
}

fn choose_intact(
    mut folder: RunFolder,
    settings: &RunSettings,
    at: Option<u64>,
    need: PrepareFor,
    print: &dyn Fn(Level, &str),
    shown: &Progress,
) -> Result<ResumePoint> {
    if need == PrepareFor::Run {
        folder.lock()?;
        crash_recovery::clean_up(&folder)?.iter().for_each(|message| print(Level::Info, message));
    }
    let resumption = match at {
        Some(at) => usage(ResumePoint::at(folder, settings, at, shown))?,
        None => ResumePoint::newest(folder, settings, shown)?,
    };
    usage(ensure_steps_left(&resumption, settings))?;
    resumption.messages()?.iter().for_each(|(level, line)| print(*level, line));
    Ok(resumption)
}

fn ensure_steps_left(resumption: &ResumePoint, settings: &RunSettings) -> Result<()> {
    let (done, steps, root) = (resumption.from, settings.train.steps, resumption.folder.root().display());
    ensure!(done <= steps, "{root} has done {done} steps, more than --steps {steps}: give more steps, or go back with --at STEP");
    ensure!(!resumption.is_done(settings), "{root} has done all of its {steps} steps: add --steps N with a larger number to continue it");
    Ok(())
}
