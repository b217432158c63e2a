//! Checks an arm before its runs start: its settings, and the models, examples and benchmarks that they name. Needs no weights or
//! downloads. Also checks that all ranks have the same study.

use std::path::Path;

use anyhow::{Result, ensure};
use toml::Table;

use super::{Arm, Study};
use crate::data::{DataStore, example};
use crate::dist::World;
use crate::train::history::BY_MEAN;
use crate::train::{RunSettings, prepare};
use crate::usage::usage;
use crate::{config, version};

impl Study {
    /// Returns the complete settings of an arm's run with the first seed.
    ///
    /// # Errors
    /// If the run would be refused, as far as this is known without the model, or if the arm does not evaluate a pass of the study's table.
    pub fn check(&self, arm: &Arm, store: &DataStore) -> Result<RunSettings> {
        let (settings, sets) = prepare::check(&arm.layers(self.seeds[0])?, store)?;
        let passes: Vec<String> = sets.iter().flat_map(|set| set.decodings.iter().map(|decoding| set.pass_name(*decoding))).collect();
        let unknown = self.passes.iter().find(|pass| !passes.contains(pass) && *pass != BY_MEAN);
        ensure!(
            unknown.is_none(),
            "the study's table has the pass {}, but this arm evaluates {}: change passes, or the arm's eval.benchmarks or eval.decoding",
            unknown.map_or("", String::as_str),
            passes.join(", ")
        );
        Ok(settings)
    }

    /// Compares what the ranks must have in common to deal the study's runs: the program, the folder, the slots of each rank, the seeds and
    /// the arms' settings.
    ///
    /// # Errors
    /// If a rank differs from rank 0. The message names the rank and the difference.
    pub(super) fn ensure_same_on_all_ranks(&self, world: &World, settings: &[RunSettings], out: &Path, jobs: usize) -> Result<()> {
        if world.size() == 1 {
            return Ok(());
        }
        let mut values = vec![
            ("the program".to_owned(), version::short()),
            ("--out".to_owned(), out.display().to_string()),
            ("--jobs".to_owned(), jobs.to_string()),
            ("the seeds".to_owned(), format!("{:?}", self.seeds)),
        ];
        for (arm, settings) in self.arms.iter().zip(settings) {
            let label = |name: &str| format!("the setting {name} of arm {}", arm.label);
            let table = Table::try_from(settings)?;
            values.extend(config::flatten(&table).into_iter().map(|(name, value)| (label(&name), value.to_string())));
        }
        let values: Vec<(&str, String)> = values.iter().map(|(label, value)| (&**label, value.clone())).collect();
        usage(world.ensure_equal(&values))
    }

    /// Describes an arm in one line.
    pub fn describe(&self, settings: &RunSettings) -> String {
        let (rollout, seeds) = (&settings.rollout, self.seeds.len());
        format!(
            "{} with {} on {}, {} steps of {} x {} responses, evaluated on {}, {seeds} seed{}",
            settings.algo,
            settings.model,
            example::title(&settings.example),
            settings.train.steps,
            rollout.groups,
            rollout.group_size,
            if settings.eval.benchmarks.is_empty() { "nothing" } else { &settings.eval.benchmarks },
            if seeds == 1 { "" } else { "s" }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_names_invalid_settings_and_passes() {
        let store = DataStore::open(None).unwrap();
        let study = |assignment: &str, pass: &str| {
            let assignments = vec![assignment.to_owned()];
            let arm = Arm { label: "arm".into(), folder: "arm".into(), config: None, assignments };
            Study { title: "study".into(), arms: vec![arm], axes: Vec::new(), seeds: vec![3], passes: vec![pass.to_owned()] }
        };
        let good = study("train.steps=7", "tiny-greedy");
        let settings = good.check(&good.arms[0], &store).unwrap();
        assert_eq!((settings.seed, settings.train.steps), (3, 7));
        assert!(
            good.describe(&settings).ends_with("7 steps of 8 x 8 responses, evaluated on tiny, 1 seed"),
            "{}",
            good.describe(&settings)
        );
        let refused = |assignment: &str, pass: &str, expected: &str| {
            let study = study(assignment, pass);
            let error = format!("{:#}", study.check(&study.arms[0], &store).unwrap_err());
            assert!(error.contains(expected), "{error}");
        };
        refused("train.steps=7", "math500-greedy", "the study's table has the pass math500-greedy, but this arm evaluates tiny-greedy");
        refused("loss.entropi=0", "tiny-greedy", "unknown setting loss.entropi");
        refused("model=nobody", "tiny-greedy", "unknown model \"nobody\"");
        refused("reference=nobody", "tiny-greedy", "unknown model \"nobody\"");
    }
}
