//! Stops a run at a signal: saves the completed steps and drops the current one, which a resumed run repeats.

use anyhow::{Error, Result};

use super::failure::PolicyState;
use super::{Outcome, Run};
use crate::interrupt::{Interrupt, Interrupted};
use crate::train::invocation::resume_command;

impl Run<'_> {
    /// Returns the interrupt that the current work checks. Once a step's updates have started, this interrupt never requests a stop,
    /// because a partly updated policy cannot be saved.
    pub(super) fn active_interrupt(&self) -> &Interrupt {
        if self.policy_state == PolicyState::Updating { &self.no_interrupt } else { self.inputs.interrupt }
    }

    /// Stops the run if `error` is an interruption; returns any other error.
    pub(super) fn interrupted(&mut self, error: Error) -> Result<Outcome> {
        let Interrupted { signal } = error.downcast()?;
        self.stop(signal)
    }

    /// Saves the last completed step unless it already has a checkpoint, and prints how to continue. Saves nothing before the base model is
    /// evaluated.
    pub(super) fn stop(&mut self, signal: usize) -> Result<Outcome> {
        self.console.finish();
        let (step, resume) = (self.step, resume_command(&self.folder.root().to_string_lossy()));
        let is_base_unevaluated = step == 0 && self.history.evaluations.is_empty() && !self.inputs.sets.is_empty();
        if is_base_unevaluated {
            message!("interrupted during the evaluation of the base model, before the first step; {resume} starts over at step 0");
            return Ok(Outcome::Interrupted { signal });
        }
        let is_saved = self.inputs.world.is_first() && self.folder.resumable_steps()?.contains(&step);
        if !self.inputs.world.from_first(is_saved)? {
            if let Some(line) = &mut self.unfinished {
                self.stopwatch.record(line);
            }
            let before = std::mem::replace(&mut self.policy_state, PolicyState::Saving);
            self.save()?;
            self.policy_state = before;
        }
        match self.unfinished {
            Some(_) => message!(
                "interrupted during the evaluation after step {step}; everything up to step {step} is saved. To continue, first with that evaluation:\n  {resume}"
            ),
            None => message!("interrupted after step {step}; everything is saved. To continue:\n  {resume}"),
        }
        Ok(Outcome::Interrupted { signal })
    }
}
