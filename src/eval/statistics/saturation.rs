//! Determines when the training example is solved, and how much the model gains afterwards. Both measures were fixed before the runs that
//! they evaluate.

use super::interval::{Estimate, student_interval};

/// The default number of steps over which the training accuracy is averaged to detect saturation.
pub const SATURATION_WINDOW: usize = 5;

/// The mean training accuracy at which the example counts as saturated.
pub const SATURATION_LEVEL: f64 = 0.99;

/// The minimum number of evaluations after saturation for a [`post_saturation_gain`].
pub const MIN_EVALUATIONS_AFTER: usize = 5;

/// Returns the first step at which the mean training accuracy of the last `window` steps, including that one, reaches `level`. `None` if
/// there is no such step.
///
/// `train_accuracy` lists `(step, accuracy)` in step order. Fewer than `window` steps never count as saturated, and neither does a window
/// with a NaN.
pub fn saturation_step(train_accuracy: &[(u32, f32)], window: usize, level: f64) -> Option<u32> {
    if window == 0 {
        return None;
    }
    train_accuracy.windows(window).find_map(|steps| {
        let sum: f64 = steps.iter().map(|&(_, accuracy)| f64::from(accuracy)).sum();
        // The accuracies are f32, so rounding may put a mean that equals the level slightly below it.
        let reached = sum / window as f64 >= level - 1e-6;
        steps.last().filter(|_| reached).map(|&(step, _)| step)
    })
}

/// Returns the gain of each problem after saturation: its mean score over the last third of `evaluations` (rounded up) minus its mean score
/// over the first two evaluations.
///
/// `evaluations` are those after the saturation step, in order. Each has one score per problem, for the same problems in the same order.
/// `None` if there are fewer than [`MIN_EVALUATIONS_AFTER`], no problems, or different numbers of problems. To combine several seeds,
/// average each problem's gain over the seeds: the problems remain the clusters.
pub fn gain_per_problem(evaluations: &[Vec<f64>]) -> Option<Vec<f64>> {
    let problems = evaluations.first()?.len();
    let same_length = evaluations.iter().all(|scores| scores.len() == problems);
    if evaluations.len() < MIN_EVALUATIONS_AFTER || problems == 0 || !same_length {
        return None;
    }
    let first = &evaluations[..2];
    let last = &evaluations[evaluations.len() - evaluations.len().div_ceil(3)..];
    let mean = |part: &[Vec<f64>], problem: usize| part.iter().map(|scores| scores[problem]).sum::<f64>() / part.len() as f64;
    Some((0..problems).map(|problem| mean(last, problem) - mean(first, problem)).collect())
}

/// Returns the mean of [`gain_per_problem`] with its 95% interval over problems. `None` if there are no such gains, or a score is not
/// finite.
///
/// The gain is linear in the scores, so it is the mean of one number per problem. The standard error of that mean is valid even though the
/// evaluations of one problem depend on each other.
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
    fn saturation_step_needs_a_full_window() {
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
    fn post_saturation_gain_by_hand() {
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
    fn gain_per_problem_rounds_the_last_third_up() {
        // Seven evaluations: the last three. One problem, scores 0, 0, 1, 1, 0, 0.3, 0.6: mean 0.3.
        let scores = [0.0, 0.0, 1.0, 1.0, 0.0, 0.3, 0.6];
        let evaluations: Vec<Vec<f64>> = scores.iter().map(|&s| vec![s]).collect();
        let gains = gain_per_problem(&evaluations).expect("enough");
        assert!((gains[0] - 0.3).abs() < 1e-12);
    }

    #[test]
    fn post_saturation_gain_narrows_with_more_problems() {
        // 100 problems; half gain 0.2, half gain nothing: mean 0.1, se = 0.1 / sqrt(99) = 0.010050, t(99) = 1.9842.
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
    fn post_saturation_gain_needs_equally_many_scores() {
        let mut evaluations = vec![vec![1.0, 0.0]; 6];
        evaluations[3].pop();
        assert_eq!(post_saturation_gain(&evaluations), None);
        assert_eq!(post_saturation_gain(&vec![Vec::new(); 6]), None);
        assert_eq!(post_saturation_gain(&[]), None);
        assert_eq!(post_saturation_gain(&vec![vec![f64::NAN]; 6]), None);
    }
}
