//! `--resume`: what the run's folder says in place of arguments, and where the run goes on.

use std::path::Path;

use anyhow::{Result, ensure};

use super::{Need, Prepared, TrainArgs, source, usage};
use crate::optim::Schedule;
use crate::train::resume::leftovers;
use crate::train::{Launch, Resumption, RunFolder, RunSettings};

/// What a run's folder says, with the arguments over it.
pub struct Recorded {
    pub folder: RunFolder,
    pub settings: RunSettings,
    pub launch: Launch,
}

/// Reads a run's folder, and reports what the arguments change.
pub fn recorded(root: &Path, args: &TrainArgs) -> Result<Recorded> {
    let (folder, mut settings) = RunFolder::open(root)?;
    let steps = args.steps.unwrap_or(settings.train.steps);
    if steps != settings.train.steps && settings.optim.schedule != Schedule::Constant {
        tell!("{steps} steps instead of {} move the end towards which the learning rate falls", settings.train.steps);
    }
    settings.train.steps = steps;
    let (before, now) = (settings.compute.clone(), args.compute.over(&settings.compute));
    for (name, before, now) in [
        ("device", before.device.to_string(), now.device.to_string()),
        ("kernels", format!("{:?}", before.kernels).to_lowercase(), format!("{:?}", now.kernels).to_lowercase()),
        ("dtype", format!("{:?}", before.dtype).to_lowercase(), format!("{:?}", now.dtype).to_lowercase()),
        ("batch_invariant", before.batch_invariant.to_string(), now.batch_invariant.to_string()),
    ] {
        if before != now {
            tell!("compute.{name} is {now} now; the run began with {before}");
        }
    }
    let mut launch = Launch::here(args.data.data_dir.as_deref())?;
    if let Some(before) = Launch::read(root)? {
        match (&launch.data_dir, &before.data_dir) {
            (Some(now), Some(before)) if now != before => {
                tell!("data is read from {}; the run began with {}", now.display(), before.display())
            }
            (Some(now), None) => tell!("data is read from {}; the run began without --data-dir", now.display()),
            (None, Some(before)) => launch.data_dir = Some(before.clone()),
            _ => {}
        }
        find_again(&mut settings, &before.directory);
        launch = Launch { directory: before.directory, computed_on: before.computed_on, ..launch };
    }
    Ok(Recorded { folder, settings, launch })
}

/// A relative path that leads nowhere from here is taken from the folder where the run was started.
fn find_again(settings: &mut RunSettings, directory: &Path) {
    let prompt = &mut settings.prompt;
    let paths =
        [&mut settings.model, &mut settings.reference, &mut settings.example, &mut prompt.chat_template, &mut settings.rollout.replay];
    for path in paths.into_iter().filter(|path| !path.is_empty() && !Path::new(path.as_str()).exists()) {
        let there = directory.join(path.as_str());
        if Path::new(path.as_str()).is_relative() && there.exists() {
            tell!("{path} is taken from {}, where the run was started", directory.display());
            *path = there.display().to_string();
        }
    }
}

/// Where the run goes on. A run that has done all its steps is not silently done again.
pub fn choose(mut folder: RunFolder, settings: &RunSettings, args: &TrainArgs, need: Need) -> Result<Resumption> {
    if need == Need::Sizes {
        return Resumption::unchecked(folder);
    }
    if !args.dry_run {
        folder.lock()?;
    }
    if !args.dry_run
        && let Some(told) = leftovers::tidy(&folder)?
    {
        tell!("{told}");
    }
    let resumption = match args.at {
        Some(at) => usage(Resumption::at(folder, settings, at))?,
        None => Resumption::newest(folder, settings)?,
    };
    let (done, steps, root) = (resumption.from, settings.train.steps, resumption.folder.root().display());
    usage((|| {
        ensure!(!resumption.is_done(settings), "{root} has done {done} of {steps} steps; --steps extends it");
        ensure!(done <= steps, "{root} has done {done} steps, which is more than --steps {steps}; --at goes back to an earlier one");
        Ok(())
    })())?;
    resumption.told()?.iter().for_each(|line| tell!("{line}"));
    Ok(resumption)
}

/// How the run was started, with what computes it now. Reports when the run continues on another device.
pub fn computed_on(prepared: &Prepared) -> Result<Launch> {
    let computed_on = source::compute(&prepared.settings.compute, &prepared.settings.model)?.describe();
    let before = &prepared.launch.computed_on;
    if !before.is_empty() && *before != computed_on {
        tell!("the run was computed on {before} and goes on with {computed_on}: from here on it is not the same to the bit");
    }
    Ok(Launch { computed_on, ..prepared.launch.clone() })
}
