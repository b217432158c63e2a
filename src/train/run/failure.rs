//! Handles every error of a run in one place: saves the policy if it is intact, reports what is saved, and says how to continue.
//! Independent of which operation failed.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Error, Result, ensure};

use super::Run;
use super::finite::Diverged;
use crate::dist::ConnectionLost;
use crate::flow::ScoredRollout;
use crate::kernels::{is_lost, wait_for};
use crate::rollout::NonFiniteLogits;
use crate::train::folder::write_gzip_lines;
use crate::train::invocation::resume_command;
use crate::train::rollouts;
use crate::train::settings::RunSettings;

/// The run stops after this many consecutive steps with a skipped update.
const MAX_SKIPPED_IN_A_ROW: usize = 3;

/// The responses of a step, held in memory until the next step. If an update destroys the policy, they are written to disk.
pub(super) struct Batch {
    pub(super) step: u64,
    /// The settings of that step.
    pub(super) settings: Arc<RunSettings>,
    pub(super) scored: Arc<Vec<ScoredRollout>>,
}

/// Whether the policy matches the run's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PolicyState {
    /// The last step's updates and its records are complete.
    Recorded,
    /// The next step's updates have started: weights, moments and the reference may be partly updated.
    Updating,
    /// The last step's updates are complete, but its records are not.
    Unrecorded,
    /// Like `Recorded`, while a checkpoint is being written.
    Saving,
}

/// What the run cannot go on without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lost {
    /// The device stopped working, so the policy in its memory is lost.
    Device,
    /// The connection to the other ranks.
    Ranks,
}

/// The facts that the error message of a failed run reports.
struct FailureReport {
    policy_state: PolicyState,
    lost: Option<Lost>,
    /// The number of completed steps.
    step: u64,
    /// The number of requested steps.
    steps: u64,
    /// Why the policy could not be saved; `None` if it was saved, or saving was not attempted.
    unsaved: Option<String>,
    /// Steps with a resumable checkpoint, in order.
    resumable: Vec<u64>,
    root: String,
}

/// The facts that the error message of a diverged run reports.
struct DivergenceReport {
    /// The file with the responses of the last update, or why it could not be written; `None` before the first batch.
    batch: Option<Result<PathBuf, String>>,
    /// The step of the newest state that was saved without a warning, as in [`Run::good_state`].
    good: Option<u64>,
    /// Steps with a resumable checkpoint, in order.
    resumable: Vec<u64>,
    lr: f64,
    root: String,
}

impl Run<'_> {
    /// Saves the policy unless it may be partly updated. Adds to the error what is saved and how to continue.
    pub(super) fn failed(&mut self, error: Error) -> Error {
        self.console.finish();
        let device = self.inputs.model.decoder.kernels().device();
        // Libraries such as cuBLAS do not report a lost device, but the next driver call does.
        let is_lost = is_lost(&error) || wait_for(device).is_err_and(|error| is_lost(&error.into()));
        let has_trained = self.step > 0 || self.batch.is_some();
        if has_trained && !is_lost && error.chain().any(|cause| cause.is::<Diverged>() || cause.is::<NonFiniteLogits>()) {
            return self.diverged(error);
        }
        let is_saved = || self.folder.resumable_steps().is_ok_and(|steps| steps.contains(&self.step));
        let is_alone = error.chain().any(|cause| cause.is::<ConnectionLost>());
        let lost = is_lost.then_some(Lost::Device).or(is_alone.then_some(Lost::Ranks));
        let unsaved =
            (lost.is_none() && self.policy_state == PolicyState::Recorded && !is_saved()).then(|| self.save_alone()).and_then(Result::err);
        let report = FailureReport {
            policy_state: self.policy_state,
            lost,
            step: self.step,
            steps: self.settings.train.steps,
            unsaved: unsaved.map(|error| format!("{error:#}")),
            resumable: self.folder.resumable_steps().unwrap_or_default(),
            root: self.folder.root().display().to_string(),
        };
        error.context(report.message())
    }

    /// Saves the policy after an error. Fails if there are other ranks: they have no error, and wait for something else.
    fn save_alone(&mut self) -> Result<()> {
        ensure!(self.inputs.world.size() == 1, "the other processes do not save after an error of this one");
        self.save()
    }

    /// Fails if the updates of too many consecutive steps were skipped: the policy no longer changes, so later updates would be skipped
    /// too.
    pub(super) fn ensure_updates(&self) -> Result<()> {
        let skipped = self.monitor.skipped_in_a_row();
        if skipped < MAX_SKIPPED_IN_A_ROW {
            return Ok(());
        }
        Err(Diverged(format!(
            "the updates of {skipped} consecutive steps, up to step {}, were skipped for the reasons printed above",
            self.step
        ))
        .into())
    }

    /// Writes the responses of the last update, and adds to the error which state to go back to. Saves no checkpoint.
    fn diverged(&mut self, error: Error) -> Error {
        let sampled = self.batch.as_ref().map_or(0, |batch| batch.step).max(self.step);
        let report = DivergenceReport {
            batch: self
                .batch
                .take()
                .filter(|_| self.inputs.world.is_first())
                .map(|batch| self.dump(&batch).map_err(|error| format!("{error:#}"))),
            good: self.good_state(sampled),
            resumable: self.folder.resumable_steps().unwrap_or_default(),
            lr: self.settings.optim.lr,
            root: self.folder.root().display().to_string(),
        };
        error.context(report.message())
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

impl DivergenceReport {
    fn message(&self) -> String {
        let (root, resume) = (&self.root, resume_command(&self.root));
        let batch = match &self.batch {
            None => String::new(),
            Some(Ok(path)) => format!("; the responses of the last update are in {} (readable with --replay)", path.display()),
            Some(Err(error)) => format!("; the responses of the last update could not be written ({error})"),
        };
        let lower = format!("Lower optim.lr (now {:e}) in {root}/config.toml, then", self.lr);
        let steps = self.resumable.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let back = match self.good {
            Some(good) => format!("{lower} go back to step {good} (saved states: {steps}):\n  {resume} --at {good}"),
            None if self.resumable.is_empty() => format!("No state was saved yet. {lower} start over:\n  {resume} --at 0"),
            None => format!("All saved states ({steps}) are from after the first warning. {lower} start over:\n  {resume} --at 0"),
        };
        format!("the run diverged and was stopped without saving the policy{batch}. {back}\nCause")
    }
}

impl FailureReport {
    fn message(&self) -> String {
        let Self { policy_state, step, root, .. } = self;
        let resume = resume_command(root);
        let fix = format!("fix the cause (settings are in {root}/config.toml)");
        let from = self.continue_advice();
        if let Some(lost) = self.lost {
            let saved = match self.resumable.last() {
                Some(last) => format!("; everything up to the checkpoint of step {last} is saved in {root}"),
                // The advice says that there is none.
                None => String::new(),
            };
            return match lost {
                Lost::Device => format!(
                    "the GPU stopped working and the policy in its memory is lost{saved}. When the GPU works again (check with nvidia-smi), {from}"
                ),
                Lost::Ranks => format!(
                    "the connection to the other processes broke, probably because one of them failed, which then says why{saved}. Fix that, \
                     then {from}"
                ),
            };
        }
        match (policy_state, &self.unsaved) {
            (PolicyState::Recorded, None) if *step == self.steps => {
                format!("all {step} steps are done and saved in {root}; the error that follows occurred afterwards")
            }
            (PolicyState::Recorded, None) => format!("the run up to step {step} is saved: {fix}, then continue:\n  {resume}\nCause"),
            (PolicyState::Recorded, Some(unsaved)) => {
                format!("the run up to step {step} could not be saved ({unsaved}): {fix}, then {from}")
            }
            (PolicyState::Saving, _) => format!("step {step} is done, but its checkpoint could not be written: {fix}, then {from}"),
            (PolicyState::Updating, _) => {
                format!("step {} failed while it updated the policy, so the policy was not saved: {fix}, then {from}", step + 1)
            }
            (PolicyState::Unrecorded, _) => {
                format!("step {step} updated the policy but could not be recorded, so it was not saved: {fix}, then {from}")
            }
        }
    }

    /// Says how to continue from the last checkpoint, and which steps are then repeated.
    fn continue_advice(&self) -> String {
        let resume = resume_command(&self.root);
        match self.resumable.last() {
            Some(last) => {
                let next = last + 1;
                format!(
                    "continue from the checkpoint of step {last}, which repeats the steps from {next} on, bit for bit:\n  {resume}\nCause"
                )
            }
            None => format!("start over, because no checkpoint was written yet:\n  {resume}\nCause"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(policy_state: PolicyState, unsaved: Option<&str>, resumable: &[u64], expected: &[&str]) {
        let (unsaved, resumable) = (unsaved.map(str::to_owned), resumable.to_vec());
        let message =
            FailureReport { policy_state, lost: None, step: 7, steps: 9, unsaved, resumable, root: "runs/a".to_owned() }.message();
        assert!(expected.iter().all(|part| message.contains(part)), "{message}");
    }

    #[test]
    fn failure_report_message_of_a_lost_gpu_or_process_names_the_last_checkpoint() {
        let of = |lost: Lost, resumable: &[u64]| {
            let (policy_state, resumable) = (PolicyState::Recorded, resumable.to_vec());
            FailureReport { policy_state, lost: Some(lost), step: 7, steps: 9, unsaved: None, resumable, root: "runs/a".to_owned() }
                .message()
        };
        let message = |resumable: &[u64]| of(Lost::Device, resumable);
        let found = of(Lost::Ranks, &[2, 5]);
        assert!(found.starts_with("the connection to the other processes broke") && found.contains("the checkpoint of step 5 is saved"));
        let found = message(&[2, 5]);
        assert!(found.contains("everything up to the checkpoint of step 5 is saved in runs/a"), "{found}");
        assert!(found.contains("train --resume runs/a"), "{found}");
        assert!(message(&[]).contains("train --resume runs/a"));
    }

    #[test]
    fn failure_report_message_says_what_is_saved_and_how_to_continue() {
        check(PolicyState::Recorded, None, &[7], &["the run up to step 7 is saved: fix the cause", " train --resume runs/a\nCause"]);
        let full = Some("no room on the disk");
        check(PolicyState::Recorded, full, &[5], &["up to step 7 could not be saved (no room on the disk)", "the checkpoint of step 5"]);
        check(PolicyState::Saving, None, &[5], &["its checkpoint could not be written", "the checkpoint of step 5"]);
        check(PolicyState::Updating, None, &[2, 5], &["step 8 failed while it updated the policy", "repeats the steps from 6 on"]);
        check(PolicyState::Unrecorded, None, &[5], &["step 7 updated the policy but could not be recorded", "the checkpoint of step 5"]);
        check(PolicyState::Updating, None, &[], &["start over, because no checkpoint was written yet:", " train --resume runs/a\nCause"]);
    }

    #[test]
    fn divergence_report_message_names_the_batch_and_the_state_to_go_back_to() {
        let check = |good: Option<u64>, resumable: &[u64], batch: Option<Result<PathBuf, String>>, expected: &[&str]| {
            let message = DivergenceReport { batch, good, resumable: resumable.to_vec(), lr: 1e38, root: "runs/a".to_owned() }.message();
            assert!(expected.iter().all(|part| message.contains(part)), "{message}");
        };
        let batch = || Some(Ok(PathBuf::from("runs/a/diverged/00013.jsonl.gz")));
        let back = "go back to step 10 (saved states: 10, 12):";
        check(
            Some(10),
            &[10, 12],
            batch(),
            &[back, " train --resume runs/a --at 10\nCause", "(now 1e38) in runs/a/config.toml", "00013.jsonl.gz (readable with --replay)"],
        );
        check(None, &[12], None, &["All saved states (12) are from after the first warning", " train --resume runs/a --at 0"]);
        check(None, &[], Some(Err("disk full".into())), &["No state was saved yet", "could not be written (disk full)"]);
    }
}
