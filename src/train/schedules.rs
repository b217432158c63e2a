//! Settings that change from step to step: a scheduled temperature, and a scheduled or adaptive entropy coefficient. Owns the adaptive
//! coefficient. Knows nothing about how a step is computed.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::settings::RunSettings;
use crate::checkpoint::write_file;
use crate::objective::LossSettings;

/// The state of the schedules that depends on earlier steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedules {
    /// The adaptive entropy coefficient; `loss.entropy` at the start, and always if `loss.entropy_target` is 0.
    pub entropy: f32,
}

/// The file's name in a checkpoint state.
const FILE: &str = "course.json";

impl Schedules {
    /// Returns the state at the start of a run.
    pub fn new(settings: &RunSettings) -> Self {
        Self { entropy: settings.loss.entropy }
    }

    /// Returns the settings of a step, counted from 1, with its temperature and entropy coefficient.
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

    /// Adapts the entropy coefficient after a step whose mean token entropy was `entropy`, in nats: raises it by `loss.entropy_step` if the
    /// entropy is below the target and lowers it if the entropy is above, but not below 0, so that it remains a bonus (after the adaptive
    /// control of Skywork Open Reasoner 1, He et al. 2025). Changes nothing without a target.
    pub fn adapt_entropy(&mut self, loss: &LossSettings, entropy: f64) {
        let target = f64::from(loss.entropy_target);
        if target > 0.0 && entropy != target {
            let step = if entropy < target { loss.entropy_step } else { -loss.entropy_step };
            self.entropy = (self.entropy + step).max(0.0);
        }
    }

    /// Writes the coefficient to a checkpoint state if it is adaptive.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, state: &Path, loss: &LossSettings) -> Result<()> {
        let is_adaptive = loss.entropy_target > 0.0;
        if is_adaptive { write_file(&state.join(FILE), serde_json::to_string(self)?.as_bytes()) } else { Ok(()) }
    }

    /// Restores the coefficient that [`save`](Self::save) wrote, if it is adaptive.
    ///
    /// # Errors
    /// If the coefficient is adaptive and the file is missing or cannot be parsed.
    pub fn load(&mut self, state: &Path, loss: &LossSettings) -> Result<()> {
        if loss.entropy_target > 0.0 {
            let path = state.join(FILE);
            let text = std::fs::read_to_string(&path).with_context(|| {
                let path = path.display();
                format!(
                    "cannot read {path}, which stores the adapted entropy coefficient: was loss.entropy_target set when the run started?"
                )
            })?;
            *self = serde_json::from_str(&text).with_context(|| format!("{} is corrupt", path.display()))?;
        }
        Ok(())
    }
}

/// Interpolates linearly from `from` at step 1 to `to` at step `steps` + 1; returns `to` at later steps, and always `from` if `steps` is 0.
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
    fn at_step_interpolates_temperature_and_entropy_coefficient() {
        let found = [1, 2, 3, 5, 6].map(|step| linear(0.5, 1.0, 4, step));
        assert_eq!(found, [0.5, 0.625, 0.75, 1.0, 1.0]);
        assert_eq!(linear(0.6, 1.0, 0, 7), 0.6);
        let mut settings = RunSettings::demonstration();
        assert_eq!(Schedules::new(&settings).at_step(&settings, 9), settings);
        (settings.rollout.temperature, settings.rollout.temperature_to, settings.rollout.temperature_steps) = (0.5, 1.0, 2);
        (settings.loss.entropy, settings.loss.entropy_to, settings.loss.entropy_steps) = (0.02, 0.0, 2);
        let now = Schedules::new(&settings).at_step(&settings, 2);
        assert_eq!((now.rollout.temperature, now.loss.entropy), (0.75, 0.01));
    }

    #[test]
    fn adapt_entropy_approaches_the_target_and_load_restores_it_exactly() -> Result<()> {
        let mut settings = RunSettings::demonstration();
        (settings.loss.entropy, settings.loss.entropy_target, settings.loss.entropy_step) = (0.001, 0.5, 0.0007);
        let mut schedules = Schedules::new(&settings);
        schedules.adapt_entropy(&settings.loss, 0.2);
        assert_eq!(schedules.entropy, 0.001 + 0.0007);
        let folder = tempfile::tempdir()?;
        schedules.save(folder.path(), &settings.loss)?;
        let mut again = Schedules::new(&settings);
        again.load(folder.path(), &settings.loss)?;
        assert_eq!(again.entropy.to_bits(), schedules.entropy.to_bits());
        assert_eq!(again.at_step(&settings, 40).loss.entropy, schedules.entropy);
        (0..4).for_each(|_| schedules.adapt_entropy(&settings.loss, 0.9));
        assert_eq!(schedules.entropy, 0.0);
        Ok(())
    }
}
