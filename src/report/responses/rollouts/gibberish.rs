//! The step from which a policy writes gibberish.

use super::readability::gibberish_from;
use super::step::StepSummary;

/// Finds the first step from which most responses are unreadable, at this and all later steps. Looks at the steps `shown` and, to find the
/// step exactly, reads some of the recorded steps between them and adds those. Returns the index of the step in `shown`. `None` if there is
/// no such step, or all steps are as unreadable.
pub fn find_gibberish<T>(
    recorded: &[u64],
    shown: &mut Vec<T>,
    summary: impl Fn(&T) -> &StepSummary,
    mut read: impl FnMut(u64) -> Option<T>,
) -> Option<usize> {
    let shares: Vec<f64> = shown.iter().map(|step| summary(step).unreadable_share()).collect();
    let mut first = gibberish_from(&shares).filter(|first| *first > 0)?;
    loop {
        let (before, after) = (summary(&shown[first - 1]).step, summary(&shown[first]).step);
        let between = &recorded[recorded.partition_point(|step| *step <= before)..recorded.partition_point(|step| *step < after)];
        let Some(middle) = between.get(between.len() / 2).and_then(|step| read(*step)) else { return Some(first) };
        let is_unreadable = summary(&middle).unreadable_share() >= 0.5;
        shown.insert(first, middle);
        first += usize::from(!is_unreadable);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn find_gibberish_finds_the_step_exactly() {
        let recorded: Vec<u64> = (1..=100).collect();
        let check = |chosen: &[u64], from: u64, expected: Option<u64>| {
            let step = |step: u64| {
                let unreadable = if step >= from { 9 } else { 1 };
                StepSummary { step, responses: 10, correct: 0, unreadable, reward: 0.0, tokens: None }
            };
            let mut shown: Vec<StepSummary> = chosen.iter().map(|number| step(*number)).collect();
            let first = find_gibberish(&recorded, &mut shown, |step| step, |number| Some(step(number)));
            assert_eq!(first.map(|first| shown[first].step), expected);
            assert!(shown.is_sorted_by(|a, b| a.step < b.step), "{shown:?}");
            assert!(chosen.iter().all(|step| shown.iter().any(|one| one.step == *step)));
        };
        check(&[1, 20, 60, 80, 90, 100], 37, Some(37));
        check(&[1, 20, 60, 80, 90, 100], 60, Some(60));
        check(&[1, 20, 60], 100, None);
        // The first step is as unreadable as all others, so there is no such step.
        check(&[1, 20, 60], 1, None);
    }
}
