//! Which steps and which of a step's rollouts a report shows. Decides on plain data.

use std::collections::BTreeSet;

/// The number of first steps that are shown.
const FIRST: usize = 10;
/// The number of last steps that are shown.
const LAST: usize = 3;
/// The number of steps around saturation that are shown, on each side.
const AROUND: usize = 2;

/// Chooses at most `limit` of the recorded steps, which are in order: the first ones, those around saturation, the last ones, and others
/// that are spaced evenly and logarithmically. Steps for which `is_large` is true, because their records are slow to read, give way to
/// their neighbors, except the first and the last.
pub fn choose(recorded: &[u64], saturation: Option<u64>, limit: usize, is_large: impl Fn(u64) -> bool) -> Vec<u64> {
    let (Some(first), Some(last)) = (recorded.first().copied(), recorded.last().copied()) else { return Vec::new() };
    if recorded.len() <= limit {
        return recorded.to_vec();
    }
    let small: Vec<u64> = recorded.iter().copied().filter(|step| !is_large(*step) || *step == first || *step == last).collect();
    let mut chosen = BTreeSet::from([first, last]);
    let mut add = |step: u64| {
        if chosen.len() < limit {
            chosen.insert(nearest(&small, step));
        }
        chosen.len() < limit
    };
    small.iter().take(FIRST).for_each(|step| _ = add(*step));
    if let Some(step) = saturation {
        let at = small.partition_point(|one| *one < step);
        small[at.saturating_sub(AROUND)..small.len().min(at + AROUND + 1)].iter().for_each(|step| _ = add(*step));
    }
    small.iter().rev().take(LAST).for_each(|step| _ = add(*step));
    // Halve the distances, evenly and logarithmically, until the limit is reached.
    let (start, span) = (first.max(1) as f64, (last - first) as f64);
    let even = |share: f64| first as f64 + share * span;
    let logarithmic = |share: f64| start * (last as f64 / start).powf(share);
    for parts in (1..=12).map(|power| 1u32 << power) {
        for part in (1..parts).step_by(2).map(|part| f64::from(part) / f64::from(parts)) {
            if !add(even(part).round() as u64) || !add(logarithmic(part).round() as u64) {
                return chosen.into_iter().collect();
            }
        }
    }
    chosen.into_iter().collect()
}

/// Returns the step nearest to `step`; `steps` are in order and not empty.
fn nearest(steps: &[u64], step: u64) -> u64 {
    let at = steps.partition_point(|one| *one < step);
    let around = [at.checked_sub(1), Some(at)].into_iter().flatten().filter_map(|at| steps.get(at));
    around.copied().min_by_key(|one| one.abs_diff(step)).unwrap_or(step)
}

/// Chooses up to `count` responses, half of them right and half wrong where there are enough of both, from as many groups as possible.
/// `responses` are `(group, correct)`. Returns their indices in order.
pub fn pick(responses: &[(usize, bool)], count: usize) -> Vec<usize> {
    let spread = |correct: bool| {
        let mut in_group = std::collections::HashMap::new();
        let mut ranked: Vec<(usize, usize, usize)> = Vec::new();
        for (index, (group, _)) in responses.iter().enumerate().filter(|(_, one)| one.1 == correct) {
            let rank = in_group.entry(*group).or_insert(0);
            ranked.push((*rank, *group, index));
            *rank += 1;
        }
        ranked.sort_unstable();
        ranked.into_iter().map(|(_, _, index)| index).collect::<Vec<_>>()
    };
    let (right, wrong) = (spread(true), spread(false));
    let half = count / 2;
    let of_right = right.len().min(count - wrong.len().min(half));
    let of_wrong = wrong.len().min(count - of_right);
    let mut picked: Vec<usize> = right.into_iter().take(of_right).chain(wrong.into_iter().take(of_wrong)).collect();
    picked.sort_unstable();
    picked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choose_keeps_the_first_the_last_and_those_around_saturation() {
        let recorded: Vec<u64> = (1..=2000).collect();
        let chosen = choose(&recorded, Some(150), 40, |_| false);
        assert_eq!(chosen.len(), 40);
        assert!(chosen.is_sorted_by(|a, b| a < b));
        for expected in [1, 2, 10, 148, 149, 150, 151, 152, 1001, 1998, 1999, 2000] {
            assert!(chosen.contains(&expected), "{expected} in {chosen:?}");
        }
        let gaps = chosen.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert!(gaps <= Some(260), "{chosen:?}");
    }

    #[test]
    fn choose_takes_all_of_few_steps_and_avoids_large_records() {
        assert_eq!(choose(&[], None, 40, |_| false), [0u64; 0]);
        assert_eq!(choose(&[3, 7], Some(5), 40, |_| true), [3, 7]);
        let recorded: Vec<u64> = (1..=300).collect();
        let chosen = choose(&recorded, None, 40, |step| step % 15 == 0);
        assert_eq!(chosen.iter().filter(|step| *step % 15 == 0).collect::<Vec<_>>(), [&300], "{chosen:?}");
        assert!(chosen.len() == 40, "{chosen:?}");
        assert_eq!(choose(&recorded, None, 40, |_| true), [1, 300], "only large records");
    }

    #[test]
    fn pick_balances_right_and_wrong_over_groups() {
        let check = |responses: &[(usize, bool)], count: usize, expected: &[usize]| assert_eq!(pick(responses, count), expected);
        let (right, wrong) = (true, false);
        check(&[], 4, &[]);
        check(&[(0, right), (0, right), (1, right), (1, wrong)], 2, &[0, 3]);
        check(&[(0, right), (0, right), (1, right), (1, wrong)], 3, &[0, 2, 3]);
        check(&[(0, wrong), (0, wrong), (1, wrong), (2, wrong)], 3, &[0, 2, 3]);
        check(&[(0, right), (0, right), (0, wrong)], 9, &[0, 1, 2]);
        check(&[(0, right)], 0, &[]);
    }
}
