//! The one path of everything that fails in a run: it saves what is whole, says truthfully what is saved, and tells how to go on. It must never
//! know what failed.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Error, Result};

use super::Run;
use super::finite::Diverged;
use crate::flow::Scored;
use crate::kernels::{is_lost, wait_for};
use crate::rollout::BrokenModel;
use crate::train::folder::write_gzip_lines;
use crate::train::rollouts;
use crate::train::settings::RunSettings;

/// So many steps in a row with a skipped update stop the run.
const MOST_SKIPPED: usize = 3;

/// The responses of a step, kept until the next step's: where an update destroys the policy, they are what it was made from.
pub(super) struct Batch {
    pub(super) step: u64,
    /// The settings of that step.
    pub(super) settings: Arc<RunSettings>,
    pub(super) scored: Arc<Vec<Scored>>,
}

/// How the policy stands to the run's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is as the last step left it, and that step's record is complete.
    Recorded,
    /// The updates of the next step have begun: weights, moments and the reference may be part old, part new.
    Changing,
    /// The last step's updates are done, its record is not complete.
    Unrecorded,
    /// As the first, but the checkpoint of that step is being written.
    Saving,
}

/// What is left of a run that failed.
struct Remains {
    standing: Standing,
    /// Whether the device stopped working, which also loses the policy.
    is_lost: bool,
    /// Steps done.
    step: u64,
    /// Steps that were asked for.
    steps: u64,
    /// Why the policy could not be saved, where that was tried in vain.
    unsaved: Option<String>,
    /// Steps whose checkpoint can be resumed, in order.
    resumable: Vec<u64>,
    root: String,
}

/// What is left of a run that diverged.
struct Diverging {
    /// Where the responses are that the last update was made from, or why they are not there.
    batch: Option<Result<PathBuf, String>>,
    /// The newest state from before any warning.
    good: Option<u64>,
    resumable: Vec<u64>,
    lr: f64,
    root: String,
}

impl Run<'_> {
    /// Saves the policy if this step has left it alone, and puts what is saved and how to go on before the error.
    pub(super) fn failed(&mut self, error: Error) -> Error {
        self.console.finish();
        let device = self.inputs.model.decoder.kernels().device();
        // A library on top of the driver does not report that the device was lost; the next call of the driver does.
        let is_lost = is_lost(&error) || wait_for(device).is_err_and(|error| is_lost(&error.into()));
        let has_trained = self.step > 0 || self.batch.is_some();
        if has_trained && !is_lost && error.chain().any(|cause| cause.is::<Diverged>() || cause.is::<BrokenModel>()) {
            return self.diverged(error);
        }
        let is_saved = || self.folder.resumable_steps().is_ok_and(|steps| steps.contains(&self.step));
        let unsaved = (!is_lost && self.standing == Standing::Recorded && !is_saved()).then(|| self.save()).and_then(Result::err);
        let remains = Remains {
            standing: self.standing,
            is_lost,
            step: self.step,
            steps: self.settings.train.steps,
            unsaved: unsaved.map(|error| format!("{error:#}")),
            resumable: self.folder.resumable_steps().unwrap_or_default(),
            root: self.folder.root().display().to_string(),
        };
        error.context(remains.told())
    }

    /// Stops a run whose updates are skipped again and again: its policy stays as it is, and so will what it does.
    pub(super) fn ensure_updates(&self) -> Result<()> {
        let skipped = self.watch.skipped_in_a_row();
        if skipped < MOST_SKIPPED {
            return Ok(());
        }
        Err(Diverged(format!("the updates of {skipped} steps in a row, up to step {}, were skipped: see above why", self.step)).into())
    }

    /// Leaves the checkpoints as they are, writes what the last update was made from, and names the state to go back to.
    fn diverged(&mut self, error: Error) -> Error {
        let sampled = self.batch.as_ref().map_or(0, |batch| batch.step).max(self.step);
        let told = Diverging {
            batch: self.batch.take().map(|batch| self.dump(&batch).map_err(|error| format!("{error:#}"))),
            good: self.good_state(sampled),
            resumable: self.folder.resumable_steps().unwrap_or_default(),
            lr: self.settings.optim.lr,
            root: self.folder.root().display().to_string(),
        };
        error.context(told.told())
    }

    fn dump(&self, batch: &Batch) -> Result<PathBuf> {
        let path = self.folder.diverged(batch.step);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        write_gzip_lines(&path, batch.scored.iter().map(|scored| rollouts::line(&batch.settings, batch.step, scored, true)))?;
        Ok(path)
    }
}

impl Diverging {
    fn told(&self) -> String {
        let Self { root, .. } = self;
        let batch = match &self.batch {
            None => String::new(),
            Some(Ok(path)) => format!("; the responses that it was last trained on are in {}, which --replay reads", path.display()),
            Some(Err(error)) => format!("; the responses that it was last trained on could not be written ({error})"),
        };
        let lower = format!("Lower optim.lr (it is {:e}) in {root}/config.toml, then", self.lr);
        let steps = self.resumable.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let back = match self.good {
            Some(good) => format!("{lower} go back to step {good} with --resume {root} --at {good} (there are states of {steps})"),
            None if self.resumable.is_empty() => format!("No state was saved yet. {lower} begin again with --resume {root} --at 0"),
            None => format!("The states of {steps} are from after the first warning. {lower} begin again with --resume {root} --at 0"),
        };
        format!("the run diverged and was stopped, and nothing of that was saved{batch}. {back}. What happened")
    }
}

impl Remains {
    fn told(&self) -> String {
        let Self { standing, step, root, .. } = self;
        let mend = format!("mend what follows (settings are in {root}/config.toml)");
        let from = self.way_on();
        if self.is_lost {
            let saved = match self.resumable.last() {
                Some(last) => format!("everything up to the checkpoint of step {last} is saved in {root}"),
                None => "no checkpoint was written yet".to_owned(),
            };
            return format!(
                "the GPU stopped working and the policy in its memory is lost; {saved}. When it works again (check with nvidia-smi), {from}. Cause"
            );
        }
        match (standing, &self.unsaved) {
            (Standing::Recorded, None) if *step == self.steps => {
                format!("all {step} steps are done and saved in {root}; what follows came after")
            }
            (Standing::Recorded, None) => format!("the run up to step {step} is saved: {mend}, then continue with --resume {root}"),
            (Standing::Recorded, Some(unsaved)) => format!("the run up to step {step} could not be saved ({unsaved}): {mend}, then {from}"),
            (Standing::Saving, _) => format!("step {step} is done, but its checkpoint could not be written: {mend}, then {from}"),
            (Standing::Changing, _) => {
                format!("step {} failed while it updated the policy, which is not saved in that state: {mend}, then {from}", step + 1)
            }
            (Standing::Unrecorded, _) => {
                format!("step {step} updated the policy but could not be recorded, so it is not saved: {mend}, then {from}")
            }
        }
    }

    /// How to go on from the last checkpoint, and what is made again.
    fn way_on(&self) -> String {
        let root = &self.root;
        match self.resumable.last() {
            Some(last) => format!(
                "continue from the checkpoint of step {last} with --resume {root}, which makes the steps from {} on again, to the bit",
                last + 1
            ),
            None => format!("begin again with --resume {root}: no checkpoint was written yet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(standing: Standing, unsaved: Option<&str>, resumable: &[u64], expected: &[&str]) {
        let (unsaved, resumable) = (unsaved.map(str::to_owned), resumable.to_vec());
        let told = Remains { standing, is_lost: false, step: 7, steps: 9, unsaved, resumable, root: "runs/a".to_owned() }.told();
        assert!(expected.iter().all(|part| told.contains(part)), "{told}");
    }

    #[test]
    fn a_lost_gpu_leaves_the_last_checkpoint() {
        let told = |resumable: &[u64]| {
            let (standing, resumable) = (Standing::Recorded, resumable.to_vec());
            Remains { standing, is_lost: true, step: 7, steps: 9, unsaved: None, resumable, root: "runs/a".to_owned() }.told()
        };
        let found = told(&[2, 5]);
        assert!(found.contains("everything up to the checkpoint of step 5 is saved in runs/a"), "{found}");
        assert!(found.contains("continue from the checkpoint of step 5 with --resume runs/a"), "{found}");
        assert!(told(&[]).contains("begin again with --resume runs/a"));
    }

    #[test]
    fn failed_says_what_is_saved_and_from_where_to_go_on() {
        check(Standing::Recorded, None, &[7], &["the run up to step 7 is saved: mend what follows", "continue with --resume runs/a"]);
        let full = Some("no room on the disk");
        check(Standing::Recorded, full, &[5], &["up to step 7 could not be saved (no room on the disk)", "the checkpoint of step 5"]);
        check(Standing::Saving, None, &[5], &["its checkpoint could not be written", "the checkpoint of step 5"]);
        check(Standing::Changing, None, &[2, 5], &["step 8 failed while it updated the policy", "makes the steps from 6 on again"]);
        check(Standing::Unrecorded, None, &[5], &["step 7 updated the policy but could not be recorded", "the checkpoint of step 5"]);
        check(Standing::Changing, None, &[], &["begin again with --resume runs/a: no checkpoint was written yet"]);
    }

    #[test]
    fn diverged_names_the_batch_and_the_state_to_go_back_to() {
        let check = |good: Option<u64>, resumable: &[u64], batch: Option<Result<PathBuf, String>>, expected: &[&str]| {
            let told = Diverging { batch, good, resumable: resumable.to_vec(), lr: 1e38, root: "runs/a".to_owned() }.told();
            assert!(expected.iter().all(|part| told.contains(part)), "{told}");
        };
        let batch = || Some(Ok(PathBuf::from("runs/a/diverged/00013.jsonl.gz")));
        let back = "go back to step 10 with --resume runs/a --at 10 (there are states of 10, 12)";
        check(Some(10), &[10, 12], batch(), &[back, "(it is 1e38) in runs/a/config.toml", "00013.jsonl.gz, which --replay reads"]);
        check(None, &[12], None, &["The states of 12 are from after the first warning", "begin again with --resume runs/a --at 0"]);
        check(None, &[], Some(Err("disk full".into())), &["No state was saved yet", "could not be written (disk full)"]);
    }
}
