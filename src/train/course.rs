//! What changes from step to step by plan: the temperature, the entropy coefficient. Owns the settings of a step and the one coefficient
//! that depends on what earlier steps have shown; must never know how a step is computed.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::settings::RunSettings;
use crate::checkpoint::write_file;
use crate::objective::LossSettings;

/// What earlier steps leave to later ones.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Course {
    /// The entropy coefficient as it is steered towards `loss.entropy_target`; without a target the one that the run began with.
    pub entropy: f32,
}

/// A file of the state that a run resumes from.
const FILE: &str = "course.json";

impl Course {
    /// As a run begins.
    pub fn new(settings: &RunSettings) -> Self {
        Self { entropy: settings.loss.entropy }
    }

    /// The settings of a step (from 1): those of the run, with the temperature and the entropy coefficient that it has then.
    pub fn at_step(&self, settings: &RunSettings, step: u64) -> RunSettings {
        let mut now = settings.clone();
        let (rollout, loss) = (&settings.rollout, &settings.loss);
        now.rollout.temperature = linear(rollout.temperature, rollout.temperature_to, rollout.temperature_steps, step);
        now.loss.entropy = match loss.entropy_target {
            0.0 => linear(loss.entropy, loss.entropy_to, loss.entropy_steps, step),
            _ => self.entropy,
        };
        now
    }

    /// Moves the coefficient after a step of mean token entropy `entropy` (nats): up below the target, down above it, and never below 0, so
    /// that it stays a bonus (after the adaptive control of Skywork Open Reasoner 1, He et al. 2025).
    pub fn steer(&mut self, loss: &LossSettings, entropy: f64) {
        let target = f64::from(loss.entropy_target);
        if target > 0.0 && entropy != target {
            let step = if entropy < target { loss.entropy_step } else { -loss.entropy_step };
            self.entropy = (self.entropy + step).max(0.0);
        }
    }

    /// Writes it into a state's folder, where there is something that steps have changed.
    pub fn save(&self, state: &Path, loss: &LossSettings) -> Result<()> {
        let is_steered = loss.entropy_target > 0.0;
        if is_steered { write_file(&state.join(FILE), serde_json::to_string(self)?.as_bytes()) } else { Ok(()) }
    }

    /// Reads what `save` wrote.
    pub fn load(&mut self, state: &Path, loss: &LossSettings) -> Result<()> {
        if loss.entropy_target > 0.0 {
            let path = state.join(FILE);
            let text = std::fs::read_to_string(&path).with_context(|| {
                let path = path.display();
                format!("cannot read {path}, where the coefficient that loss.entropy_target steers is kept; was it set when the run began?")
            })?;
            *self = serde_json::from_str(&text).with_context(|| format!("{} is broken", path.display()))?;
        }
        Ok(())
    }
}

/// From `from` at step 1 in equal parts to `to` at step `steps` + 1 and after; 0 steps stay at `from`.
fn linear(from: f32, to: f32, steps: u64, step: u64) -> f32 {
    match step.saturating_sub(1) {
        _ if steps == 0 => from,
        done if done >= steps => to,
        done => (f64::from(from) + (f64::from(to) - f64::from(from)) * done as f64 / steps as f64) as f32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn courses_begin_and_end_where_they_say() {
        let found = [1, 2, 3, 5, 6].map(|step| linear(0.5, 1.0, 4, step));
        assert_eq!(found, [0.5, 0.625, 0.75, 1.0, 1.0]);
        assert_eq!(linear(0.6, 1.0, 0, 7), 0.6);
        let mut settings = RunSettings::demonstration();
        assert_eq!(Course::new(&settings).at_step(&settings, 9), settings);
        (settings.rollout.temperature, settings.rollout.temperature_to, settings.rollout.temperature_steps) = (0.5, 1.0, 2);
        (settings.loss.entropy, settings.loss.entropy_to, settings.loss.entropy_steps) = (0.02, 0.0, 2);
        let now = Course::new(&settings).at_step(&settings, 2);
        assert_eq!((now.rollout.temperature, now.loss.entropy), (0.75, 0.01));
    }

    #[test]
    fn the_coefficient_seeks_its_target_and_is_kept_to_the_bit() -> Result<()> {
        let mut settings = RunSettings::demonstration();
        (settings.loss.entropy, settings.loss.entropy_target, settings.loss.entropy_step) = (0.001, 0.5, 0.0007);
        let mut course = Course::new(&settings);
        course.steer(&settings.loss, 0.2);
        assert_eq!(course.entropy, 0.001 + 0.0007);
        let folder = tempfile::tempdir()?;
        course.save(folder.path(), &settings.loss)?;
        let mut again = Course::new(&settings);
        again.load(folder.path(), &settings.loss)?;
        assert_eq!(again.entropy.to_bits(), course.entropy.to_bits());
        assert_eq!(again.at_step(&settings, 40).loss.entropy, course.entropy);
        (0..4).for_each(|_| course.steer(&settings.loss, 0.9));
        assert_eq!(course.entropy, 0.0);
        Ok(())
    }
}
