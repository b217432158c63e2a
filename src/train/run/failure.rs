//! The one path of everything that fails in a run: it saves what is whole, says truthfully what is saved, and tells how to go on. It must never
//! know what failed.

use anyhow::Error;

use super::Run;

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

impl Run<'_> {
    /// Saves the policy if this step has left it alone, and puts what is saved and how to go on before the error.
    pub(super) fn failed(&mut self, error: Error) -> Error {
        self.console.finish();
        let is_saved = || self.folder.resumable_steps().is_ok_and(|steps| steps.contains(&self.step));
        let unsaved = (self.standing == Standing::Recorded && !is_saved()).then(|| self.save()).and_then(Result::err);
        let remains = Remains {
            standing: self.standing,
            step: self.step,
            steps: self.settings.train.steps,
            unsaved: unsaved.map(|error| format!("{error:#}")),
            resumable: self.folder.resumable_steps().unwrap_or_default(),
            root: self.folder.root().display().to_string(),
        };
        error.context(remains.told())
    }
}

impl Remains {
    fn told(&self) -> String {
        let Self { standing, step, root, .. } = self;
        let mend = format!("mend what follows (settings are in {root}/config.toml)");
        let from = self.from_checkpoint();
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
    fn from_checkpoint(&self) -> String {
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
        let told = Remains { standing, step: 7, steps: 9, unsaved, resumable, root: "runs/a".to_owned() }.told();
        assert!(expected.iter().all(|part| told.contains(part)), "{told}");
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
}
