//! Scores by problem, and the comparison of two evaluations on the problems that both have.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Result, ensure};

use super::record::Answer;
use super::score::per_problem;
use super::statistics::{self, Comparison};
use crate::metrics::jsonl;

/// `(problem id, mean over its samples)`, in file order.
pub type ProblemScores = Vec<(String, f64)>;

/// Reads the mean score of each problem from a file of graded responses. With `fallback`, unboxed answers count too.
///
/// # Errors
/// If the file cannot be read, or problems have different numbers of samples.
pub fn read_scores(path: &Path, fallback: bool) -> Result<ProblemScores> {
    let answers: Vec<Answer> = jsonl::read(path)?;
    let samples = answers.iter().map(|answer| answer.sample + 1).max().unwrap_or(1);
    let is_complete =
        answers.len().is_multiple_of(samples) && answers.iter().enumerate().all(|(index, answer)| answer.sample == index % samples);
    ensure!(is_complete, "{} is incomplete: not every problem has {samples} samples", path.display());
    let means = per_problem(&answers, samples, |answer| if fallback { answer.correct_with_fallback } else { answer.correct });
    Ok(answers.iter().step_by(samples).map(|answer| answer.id.clone()).zip(means).collect())
}

/// Compares the problems that both evaluations have. Also returns the number of problems that only one of them has.
///
/// # Errors
/// If they have no problem in common, or a score is not finite.
pub fn compare(before: &ProblemScores, after: &ProblemScores) -> Result<(Comparison, usize)> {
    let of_after: HashMap<&String, f64> = after.iter().map(|(id, score)| (id, *score)).collect();
    let (before_scores, after_scores): (Vec<f64>, Vec<f64>) =
        before.iter().filter_map(|(id, score)| Some((*score, *of_after.get(id)?))).unzip();
    ensure!(!before_scores.is_empty(), "the evaluations have no problem in common");
    let unpaired = before.len() + after.len() - 2 * before_scores.len();
    Ok((statistics::compare(&before_scores, &after_scores)?, unpaired))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compare_pairs_problems_by_id() {
        let scores = |pairs: &[(&str, f64)]| pairs.iter().map(|(id, score)| ((*id).to_owned(), *score)).collect::<ProblemScores>();
        let before = scores(&[("a", 0.0), ("b", 1.0), ("c", 1.0)]);
        let (found, unpaired) = compare(&before, &scores(&[("c", 1.0), ("a", 1.0), ("d", 0.0)])).unwrap();
        assert_eq!((found.problems, found.won, found.lost, unpaired), (2, 1, 0, 2));
        let error = compare(&before, &scores(&[("d", 0.0)])).unwrap_err().to_string();
        assert!(error.contains("no problem in common"), "{error}");
    }
}
