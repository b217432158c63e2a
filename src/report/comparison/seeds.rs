//! Curves over the runs of a group: their mean at each step, with a band that shows how far the runs are apart.

use std::collections::BTreeMap;

use crate::eval::statistics::student_interval;
use crate::plot::chart::Sample;
use crate::report::page::numbers::six_digits;

/// The smallest number of runs with an interval. Student's interval of two runs would cover nearly everything: its factor is 12.7.
pub const FEWEST_FOR_INTERVAL: usize = 3;

/// Says what the band around a mean is.
pub const BAND: &str = "Lines are means over the runs of a group. Bands are Student's 95% interval of that mean over seeds for three or more \
                        runs, the range from the lowest to the highest run for two, and absent for one.";

/// Returns the mean over runs at each step at which a run has a finite value, with its band clipped to `floor..=ceiling`. Each curve is
/// `(step, value)` in order of steps.
pub fn over_seeds(curves: &[Vec<(u64, f64)>], floor: f64, ceiling: f64) -> Vec<Sample> {
    let mut by_step: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for (step, value) in curves.iter().flatten().filter(|(_, value)| value.is_finite()) {
        by_step.entry(*step).or_default().push(*value);
    }
    by_step.into_iter().filter_map(|(step, values)| sample(step, &values, floor, ceiling)).collect()
}

fn sample(step: u64, values: &[f64], floor: f64, ceiling: f64) -> Option<Sample> {
    let interval = student_interval(values, floor, ceiling)?;
    let range = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(*value), high.max(*value)));
    let (low, high) = match values.len() {
        1 => (f64::NAN, f64::NAN),
        2 => range,
        _ => (interval.low, interval.high),
    };
    Some(Sample { x: step as f64, y: six_digits(interval.mean), low: six_digits(low), high: six_digits(high) })
}

/// Returns the mean of each value and up to `window - 1` values before it.
pub fn trailing_means(points: &[(u64, f64)], window: usize) -> Vec<(u64, f64)> {
    let mean = |(index, (step, _)): (usize, &(u64, f64))| {
        let recent = &points[(index + 1).saturating_sub(window.max(1))..=index];
        (*step, recent.iter().map(|(_, value)| value).sum::<f64>() / recent.len() as f64)
    };
    points.iter().enumerate().map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_seeds_chooses_the_band_by_the_number_of_runs() {
        let curves = [vec![(1, 0.2), (2, 0.4), (3, 0.5)], vec![(1, 0.4), (2, 0.6)], vec![(1, 0.6), (2, f64::NAN)]];
        let found = over_seeds(&curves, 0.0, 1.0);
        let rounded = |value: f64| (value * 1e3).round() / 1e3;
        let shown: Vec<String> =
            found.iter().map(|one| format!("{} {} {} {}", one.x, rounded(one.y), rounded(one.low), rounded(one.high))).collect();
        // Step 1: the standard error of 0.2, 0.4, 0.6 is 0.2 / sqrt(3) = 0.11547, times 4.3027 is 0.4968, cut off at 0.
        assert_eq!(shown, ["1 0.4 0 0.897", "2 0.5 0.4 0.6", "3 0.5 NaN NaN"]);
        assert!(over_seeds(&[], 0.0, 1.0).is_empty());
    }

    #[test]
    fn trailing_means_start_with_what_there_is() {
        let points = [(1, 1.0), (2, 3.0), (3, 5.0)];
        assert_eq!(trailing_means(&points, 2), [(1, 1.0), (2, 2.0), (3, 4.0)]);
        assert_eq!(trailing_means(&points, 0), points);
    }
}
