//! When the training example is solved, and what the model learns after that. Both measures were fixed before the runs that they judge.

use super::interval::{Estimate, student_interval};

/// Steps over which the train accuracy is averaged before it is called saturated.
pub const SATURATION_WINDOW: usize = 5;

/// The mean train accuracy from which the example counts as saturated.
pub const SATURATION_LEVEL: f64 = 0.99;

/// Fewer evaluations after saturation than this have no [`post_saturation_gain`].
pub const MIN_EVALUATIONS_AFTER: usize = 5;

/// The first step at which the mean train accuracy of the last `window` steps, that one included, is at least `level`.
///
/// `train_accuracy` holds (step, accuracy) in the order of steps. Fewer than `window` steps are never saturated, nor is a window with a
/// value that is not a number.
pub fn saturation_step(train_accuracy: &[(u32, f32)], window: usize, level: f64) -> Option<u32> {
    if window == 0 {
        return None;
    }
    train_accuracy.windows(window).find_map(|steps| {
        let sum: f64 = steps.iter().map(|&(_, accuracy)| f64::from(accuracy)).sum();
        // The accuracies are f32: a mean of exactly the level may be an f32 rounding below it.
        let reached = sum / window as f64 >= level - 1e-6;
        steps.last().filter(|_| reached).map(|&(step, _)| step)
    })
}

/// What each problem gained after saturation: the mean of its scores over the last third (rounded up) of `evaluations` minus the mean over
/// the first two.
///
/// `evaluations` are those after the saturation step, in order; each holds one score a problem, the same problems in the same order. `None`
/// when there are fewer than [`MIN_EVALUATIONS_AFTER`], no problems, or when they do not have the same number of problems.
/// Several seeds are joined by averaging each problem's gain over them: the problems stay the clusters.
pub fn gain_per_problem(evaluations: &[Vec<f64>]) -> Option<Vec<f64>> {
    let problems = evaluations.first()?.len();
    let alike = evaluations.iter().all(|scores| scores.len() == problems);
    if evaluations.len() < MIN_EVALUATIONS_AFTER || problems == 0 || !alike {
        return None;
    }
    let first = &evaluations[..2];
    let last = &evaluations[evaluations.len() - evaluations.len().div_ceil(3)..];
    let mean = |part: &[Vec<f64>], problem: usize| part.iter().map(|scores| scores[problem]).sum::<f64>() / part.len() as f64;
    Some((0..problems).map(|problem| mean(last, problem) - mean(first, problem)).collect())
}

/// The mean of [`gain_per_problem`] with its 95% interval over problems; `None` where that is, or when a score is not finite.
///
/// The gain is linear in the scores, so it is a mean of one number a problem, and its standard error is that of this mean: the
/// evaluations of one problem may depend on each other in any way.
pub fn post_saturation_gain(evaluations: &[Vec<f64>]) -> Option<Estimate> {
    let gains = gain_per_problem(evaluations)?;
    if gains.iter().any(|gain| !gain.is_finite()) {
        return None;
    }
    student_interval(&gains, -1.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(accuracies: &[f32]) -> Vec<(u32, f32)> {
        (1..).zip(accuracies.iter().copied()).collect()
    }

    #[test]
    fn saturation_needs_a_full_window() {
        let check = |accuracies: &[f32], expected| {
            let found = saturation_step(&steps(accuracies), SATURATION_WINDOW, SATURATION_LEVEL);
            assert_eq!(found, expected, "{accuracies:?}");
        };
        check(&[1.0; 4], None);
        check(&[1.0; 5], Some(5));
        check(&[0.99; 6], Some(5));
        check(&[0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], Some(6));
        check(&[0.5, 0.97, 1.0, 1.0, 1.0, 0.98, 0.1], Some(6)); // (0.97 + 3 + 0.98) / 5 = 0.99
        check(&[1.0, 1.0, f32::NAN, 1.0, 1.0, 1.0, 1.0, 1.0], Some(8));
        check(&[0.9; 50], None);
        check(&[], None);
        assert_eq!(saturation_step(&[(10, 1.0)], 0, 0.99), None);
        assert_eq!(saturation_step(&[(10, 1.0)], 1, 0.99), Some(10));
    }

    #[test]
    fn gain_by_hand() {
        // Five evaluations of two problems: the last third is two of them.
        let evaluations = [[0.0, 0.5], [0.2, 0.5], [9.0, 9.0], [0.4, 0.5], [0.6, 0.7]];
        let evaluations: Vec<Vec<f64>> = evaluations.iter().map(|e| e.to_vec()).collect();
        let gains = gain_per_problem(&evaluations).expect("enough");
        assert!((gains[0] - 0.4).abs() < 1e-12 && (gains[1] - 0.1).abs() < 1e-12);
        // Mean 0.25, squares 2 x 0.0225, se = sqrt(0.045 / 2) = 0.15, t(1) = 12.7: the whole range.
        let gain = post_saturation_gain(&evaluations).expect("enough");
        assert!((gain.mean - 0.25).abs() < 1e-12);
        assert_eq!((gain.low, gain.high), (-1.0, 1.0));
        assert_eq!(post_saturation_gain(&evaluations[..4]), None);
    }

    #[test]
    fn the_last_third_is_rounded_up() {
        // Seven evaluations: the last three. One problem, scores 0, 0, 1, 1, 0, 0.3, 0.6: mean 0.3.
        let scores = [0.0, 0.0, 1.0, 1.0, 0.0, 0.3, 0.6];
        let evaluations: Vec<Vec<f64>> = scores.iter().map(|&s| vec![s]).collect();
        let gains = gain_per_problem(&evaluations).expect("enough");
        assert!((gains[0] - 0.3).abs() < 1e-12);
    }

    #[test]
    fn many_problems_narrow_the_interval() {
        // 100 problems, half gain 0.2, half nothing: mean 0.1, se = 0.1 / sqrt(99) = 0.010050, t(99) = 1.9842.
        let score = |evaluation: usize, problem: usize| {
            if evaluation >= 2 && problem.is_multiple_of(2) { 0.7 } else { 0.5 }
        };
        let evaluations: Vec<Vec<f64>> = (0..6).map(|e| (0..100).map(|p| score(e, p)).collect()).collect();
        let gain = post_saturation_gain(&evaluations).expect("enough");
        assert!((gain.mean - 0.1).abs() < 1e-9);
        assert!((gain.high - 0.119942).abs() < 1e-5, "{gain:?}");
        assert!((gain.low - 0.080058).abs() < 1e-5);
    }

    #[test]
    fn uneven_evaluations_have_no_gain() {
        let mut evaluations = vec![vec![1.0, 0.0]; 6];
        evaluations[3].pop();
        assert_eq!(post_saturation_gain(&evaluations), None);
        assert_eq!(post_saturation_gain(&vec![Vec::new(); 6]), None);
        assert_eq!(post_saturation_gain(&[]), None);
        assert_eq!(post_saturation_gain(&vec![vec![f64::NAN]; 6]), None);
    }
}
