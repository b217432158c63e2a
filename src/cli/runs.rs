//! `rlvr runs`: lists runs.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use clap::Args;
use indicatif::HumanDuration;
use serde_json::json;

use super::arguments::JsonArgs;
use crate::metrics::{percent, table};
use crate::report::record::run_list::HeldOut;
use crate::report::{ListedRun, RunStatus, list_runs};
use crate::usage::usage;

#[derive(Debug, Args)]
pub struct RunsArgs {
    /// Folder that contains the runs, directly or in subfolders, as a study does
    #[arg(value_name = "DIR", default_value = "runs")]
    folder: PathBuf,
    #[command(flatten)]
    json: JsonArgs,
}

pub fn run(args: RunsArgs) -> Result<()> {
    let folder = &args.folder;
    usage(ensure_folder(folder))?;
    let runs = usage(list_runs(folder))?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let rows: Vec<Vec<String>> = runs.iter().map(|run| row(run, folder, now)).collect();
    let header = ["run", "state", "step", "train", "greedy base → last", "sampled base → last", "saturated", "updated"];
    args.json.print(
        || Ok(json!({"runs": runs})),
        || {
            if runs.is_empty() {
                message!("there are no runs in {}: rlvr train starts one", folder.display());
            } else {
                print_result!("{}", table(&header, &rows));
            }
        },
    )?;
    for run in &runs {
        if let RunStatus::Unreadable { reason } = &run.status {
            message!("{}: {reason}", run.folder.display());
        }
    }
    Ok(())
}

fn ensure_folder(folder: &Path) -> Result<()> {
    ensure!(!folder.is_file(), "{} is a file: name the folder of your runs", folder.display());
    ensure!(folder.is_dir(), "there is no folder {}: start a run with rlvr train, or name the folder of your runs", folder.display());
    Ok(())
}

/// Formats the row of a run. `now` is the time since 1970.
fn row(run: &ListedRun, folder: &Path, now: Duration) -> Vec<String> {
    let name = run.folder.strip_prefix(folder).ok().filter(|name| !name.as_os_str().is_empty()).unwrap_or(&run.folder);
    let steps = if run.steps == 0 { String::new() } else { format!("{}/{}", run.step, run.steps) };
    let accuracies = |of: fn(&HeldOut) -> Option<f64>| {
        let cell = |held_out: &Option<HeldOut>| held_out.as_ref().and_then(of).map(percent);
        match (cell(&run.base), cell(&run.last)) {
            (Some(base), Some(last)) if run.last.is_some_and(|last| last.step > 0) => format!("{base} → {last}"),
            (Some(base), _) => base,
            (None, Some(last)) => format!("? → {last}"),
            (None, None) => String::new(),
        }
    };
    let age = run.updated_unix_s.map(|updated| Duration::from_secs(now.as_secs().saturating_sub(updated)));
    vec![
        name.display().to_string(),
        state(&run.status),
        steps,
        run.train_accuracy.map(percent).unwrap_or_default(),
        accuracies(|one| one.greedy),
        accuracies(|one| one.sampled),
        run.saturation_step.map(|step| format!("step {step}")).unwrap_or_default(),
        age.map(|age| format!("{} ago", HumanDuration(age))).unwrap_or_default(),
    ]
}

/// Describes a state in a few words.
fn state(status: &RunStatus) -> String {
    match status {
        RunStatus::Running { pid: Some(pid), host: Some(host) } => format!("running, process {pid} on {host}"),
        RunStatus::Running { .. } => "running".to_owned(),
        RunStatus::Finished => "finished".to_owned(),
        RunStatus::Interrupted => "interrupted".to_owned(),
        RunStatus::Diverged => "diverged".to_owned(),
        RunStatus::Unreadable { .. } => "unreadable".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_has_what_is_known() {
        let mut run = ListedRun {
            folder: "runs/a/seed-0".into(),
            status: RunStatus::Interrupted,
            model: "tiny".into(),
            example: "pi1".into(),
            step: 3,
            steps: 9,
            train_accuracy: Some(0.5),
            base: Some(HeldOut { step: 0, greedy: Some(0.25), sampled: None }),
            last: Some(HeldOut { step: 3, greedy: Some(0.75), sampled: None }),
            saturation_step: Some(2),
            updated_unix_s: Some(1000),
        };
        let check = |run: &ListedRun, expected: [&str; 8]| {
            assert_eq!(row(run, Path::new("runs"), Duration::from_secs(1120)), expected);
        };
        check(&run, ["a/seed-0", "interrupted", "3/9", "50.0%", "25.0% → 75.0%", "", "step 2", "2 minutes ago"]);
        (run.last, run.saturation_step, run.train_accuracy) = (run.base, None, None);
        run.status = RunStatus::Running { pid: Some(7), host: Some("here".into()) };
        check(&run, ["a/seed-0", "running, process 7 on here", "3/9", "", "25.0%", "", "", "2 minutes ago"]);
    }
}
