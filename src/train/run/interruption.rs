//! How a run ends before its last step because a signal asked for it: what is finished is saved, what was begun is dropped and made again.

use anyhow::{Error, Result};

use super::failure::Standing;
use super::{Outcome, Run};
use crate::interrupt::{Interrupt, Interrupted};

impl Run<'_> {
    /// What the work in progress has to heed: nothing once this step's updates have begun, because half of them cannot be saved.
    pub(super) fn heeded(&self) -> &Interrupt {
        if self.standing == Standing::Changing { &self.unheard } else { self.inputs.interrupt }
    }

    /// Ends the run as a signal asked, where that is why the work has ended; other errors stay.
    pub(super) fn interrupted(&mut self, error: Error) -> Result<Outcome> {
        let Interrupted { signal } = error.downcast()?;
        self.stop(signal)
    }

    /// Saves the last step that is done, unless its checkpoint is there, and says how to go on.
    pub(super) fn stop(&mut self, signal: usize) -> Result<Outcome> {
        self.console.finish();
        let (step, root) = (self.step, self.folder.root().display().to_string());
        let is_unmeasured = step == 0 && self.history.evaluations.is_empty() && !self.inputs.sets.is_empty();
        if is_unmeasured {
            tell!("interrupted in the evaluation of the base model, before the first step: --resume {root} starts over at step 0");
            return Ok(Outcome::Interrupted { signal });
        }
        if !self.folder.resumable_steps()?.contains(&step) {
            if let Some(line) = &mut self.unfinished {
                self.stopwatch.record(line);
            }
            let before = std::mem::replace(&mut self.standing, Standing::Saving);
            self.save()?;
            self.standing = before;
        }
        match self.unfinished {
            Some(_) => tell!(
                "interrupted in the evaluation after step {step}; everything up to step {step} is saved: continue with --resume {root}, which makes the evaluation first"
            ),
            None => tell!("interrupted after step {step}; everything is saved: continue with --resume {root}"),
        }
        Ok(Outcome::Interrupted { signal })
    }
}
