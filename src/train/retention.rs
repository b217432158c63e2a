//! Decides what a run deletes after it has written a checkpoint: the states of old checkpoints, and whole checkpoints that lie between the
//! evenly spaced ones. Decides on step numbers alone, and neither reads nor changes files.

use super::settings::CheckpointSettings;

/// The steps of the checkpoints in a run folder, each list in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoints {
    /// All checkpoints.
    pub exported: Vec<u64>,
    /// The checkpoints with a state, resumable or not.
    pub with_state: Vec<u64>,
    /// The checkpoints from which the run can resume.
    pub resumable: Vec<u64>,
}

/// The steps whose checkpoints, or states, are to be deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deletions {
    /// The checkpoints that lose their state and keep their weights.
    pub states: Vec<u64>,
    /// The checkpoints that are deleted with their state, if any.
    pub checkpoints: Vec<u64>,
}

impl Checkpoints {
    /// Chooses what to delete after the checkpoint of step `newest` is complete. `good` is the step of the last good state. `named` are the
    /// steps that `summary.json` names; their checkpoints are never deleted.
    ///
    /// Keeps the states of the newest `checkpoint.keep_last` resumable checkpoints and that of `good`. Of the others, keeps the weights if
    /// their step is named or a multiple of [`CheckpointSettings::spacing`].
    pub fn deletions(&self, settings: &CheckpointSettings, newest: u64, good: Option<u64>, named: &[u64]) -> Deletions {
        let last = &self.resumable[self.resumable.len().saturating_sub(settings.keep_last)..];
        let keeps_state = |step: u64| step >= newest || last.contains(&step) || Some(step) == good;
        let keeps_weights = |step: u64| match settings.spacing(newest) {
            Spacing::All => true,
            Spacing::None => named.contains(&step),
            Spacing::Every(stride) => step.is_multiple_of(stride) || named.contains(&step),
        };
        let old: Vec<u64> = self.exported.iter().copied().filter(|step| !keeps_state(*step)).collect();
        let (kept, checkpoints): (Vec<u64>, Vec<u64>) = old.into_iter().partition(|step| keeps_weights(*step));
        Deletions { states: kept.into_iter().filter(|step| self.with_state.contains(step)).collect(), checkpoints }
    }
}

/// Which checkpoints without a state keep their weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spacing {
    /// All of them.
    All,
    /// None of them.
    None,
    /// Those of steps that are multiples of this number.
    Every(u64),
}

impl CheckpointSettings {
    /// Returns the spacing of the checkpoints whose weights a run keeps after `step` steps.
    ///
    /// The stride is `checkpoint.every` at first, and doubles whenever more than `checkpoint.keep_spaced` of its multiples lie within the
    /// run so far. So the kept steps depend only on `step`, between half of that number and all of it are kept, and each set contains all
    /// later sets, up to newer steps: a deleted checkpoint is never missed later.
    pub fn spacing(&self, step: u64) -> Spacing {
        match (self.keep_spaced as u64, self.every) {
            (0, _) => Spacing::All,
            // Only the last step has a planned checkpoint; others are left by interruptions.
            (_, 0) => Spacing::None,
            (most, every) => {
                let strides = std::iter::successors(Some(every), |stride| stride.checked_mul(2));
                strides.into_iter().find(|stride| step / stride <= most).map_or(Spacing::None, Spacing::Every)
            }
        }
    }

    /// Returns the largest number of checkpoints that a run of `steps` steps has at once, including the one that is being written.
    pub fn most_at_once(&self, steps: u64) -> u64 {
        match self.keep_spaced as u64 {
            0 => self.written(steps),
            spaced => self.written(steps).min(spaced.saturating_add(self.most_states() + NAMED)),
        }
    }

    /// Returns the number of checkpoints that an uninterrupted run of `steps` steps writes.
    pub fn written(&self, steps: u64) -> u64 {
        if self.every == 0 { 1 } else { steps.div_ceil(self.every).max(1) }
    }

    /// Returns the largest number of states at once: the newest ones, the last good one, and the one that is being written.
    pub fn most_states(&self) -> u64 {
        self.keep_last as u64 + 2
    }
}

/// The largest number of checkpoints that are kept because `summary.json` names them: the best step, the last evaluation, the saturation
/// step, and the first evaluation at or after it.
const NAMED: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::RunSettings;

    fn settings(every: u64, keep_last: usize, keep_spaced: usize) -> CheckpointSettings {
        CheckpointSettings { every, keep_last, keep_spaced, ..RunSettings::published().checkpoint }
    }

    /// Applies the deletions after every checkpoint of a run. Returns the steps that have weights, those that have a state, and the largest
    /// numbers of both.
    fn run(settings: &CheckpointSettings, steps: &[u64], named: &[u64], good: impl Fn(u64) -> Option<u64>) -> (Checkpoints, u64, u64) {
        let (mut found, mut most, mut most_states) = (Checkpoints::default(), 0, 0);
        for step in steps {
            for list in [&mut found.exported, &mut found.with_state, &mut found.resumable] {
                list.push(*step);
            }
            most = most.max(found.exported.len() as u64);
            most_states = most_states.max(found.with_state.len() as u64);
            let deleted = found.deletions(settings, *step, good(*step), named);
            found.exported.retain(|step| !deleted.checkpoints.contains(step));
            let loses_state = |step: &u64| deleted.checkpoints.contains(step) || deleted.states.contains(step);
            found.with_state.retain(|step| !loses_state(step));
            found.resumable.retain(|step| !loses_state(step));
        }
        (found, most, most_states)
    }

    fn multiples(every: u64, steps: u64) -> Vec<u64> {
        (1..=steps / every).map(|index| index * every).collect()
    }

    #[test]
    fn spacing_doubles_its_stride_and_depends_only_on_the_step() {
        let check = |settings: CheckpointSettings, step: u64, expected: Spacing| assert_eq!(settings.spacing(step), expected, "{step}");
        check(settings(20, 2, 8), 20, Spacing::Every(20));
        check(settings(20, 2, 8), 179, Spacing::Every(20));
        check(settings(20, 2, 8), 180, Spacing::Every(40));
        check(settings(20, 2, 8), 2000, Spacing::Every(320));
        check(settings(20, 2, 1), 20, Spacing::Every(20));
        check(settings(20, 2, 1), 40, Spacing::Every(40));
        check(settings(20, 2, 0), 2000, Spacing::All);
        check(settings(0, 2, 8), 2000, Spacing::None);
        check(settings(u64::MAX / 2 + 2, 2, 1), u64::MAX, Spacing::Every(u64::MAX / 2 + 2));
    }

    #[test]
    fn deletions_keep_the_spaced_the_resumable_and_the_named_checkpoints() {
        let check = |settings: CheckpointSettings, steps: u64, named: &[u64], exported: &[u64], with_state: &[u64]| {
            let (found, most, most_states) = run(&settings, &multiples(settings.every, steps), named, |_| None);
            assert_eq!((found.exported.as_slice(), found.with_state.as_slice()), (exported, with_state), "{settings:?}");
            assert!(most <= settings.most_at_once(steps) && most_states <= settings.most_states(), "{most} {most_states} {settings:?}");
        };
        check(settings(20, 2, 8), 2000, &[], &[320, 640, 960, 1280, 1600, 1920, 1980, 2000], &[1980, 2000]);
        check(settings(20, 2, 8), 2000, &[100, 1540], &[100, 320, 640, 960, 1280, 1540, 1600, 1920, 1980, 2000], &[1980, 2000]);
        check(settings(100, 2, 8), 300, &[], &[100, 200, 300], &[200, 300]);
        check(settings(10, 3, 2), 100, &[], &[40, 80, 90, 100], &[80, 90, 100]);
        check(settings(10, 1, 0), 50, &[], &[10, 20, 30, 40, 50], &[50]);
    }

    #[test]
    fn deletions_keep_the_last_good_state_until_there_is_a_newer_one() {
        let settings = settings(10, 1, 2);
        let (found, ..) = run(&settings, &multiples(10, 70), &[], |_| Some(30));
        assert_eq!((found.exported, found.with_state), (vec![30, 40, 70], vec![30, 70]));
        let (found, ..) = run(&settings, &multiples(10, 70), &[], |step| Some(if step < 60 { 30 } else { 50 }));
        assert_eq!((found.exported, found.with_state), (vec![40, 50, 70], vec![50, 70]));
    }

    /// Interruptions leave checkpoints at other steps, and a run that goes back repeats steps. Neither changes what is kept in the end.
    #[test]
    fn deletions_of_an_interrupted_run_keep_the_same_checkpoints() {
        let settings = settings(10, 1, 4);
        let (whole, ..) = run(&settings, &multiples(10, 200), &[], |_| None);
        let mut interrupted: Vec<u64> = [multiples(10, 200), vec![7, 93, 151]].concat();
        interrupted.sort_unstable();
        assert_eq!(run(&settings, &interrupted, &[], |_| None).0, whole);
        assert_eq!(whole.exported, [80, 160, 200]);
        let mut before = run(&settings, &multiples(10, 150), &[], |_| None).0.exported;
        before.retain(|step| *step <= 100);
        assert!([80].iter().all(|step| before.contains(step)), "what the run keeps at its end exists at every earlier step: {before:?}");
    }

    /// A state that was deleted halfway has no progress file any more, and is deleted the next time.
    #[test]
    fn deletions_include_half_deleted_states() {
        let found = Checkpoints { exported: vec![10, 20, 30], with_state: vec![10, 20, 30], resumable: vec![20, 30] };
        assert_eq!(found.deletions(&settings(10, 2, 8), 30, None, &[]), Deletions { states: vec![10], checkpoints: vec![] });
    }
}
