//! Replaces the examples' answers with other labels: one that the user gives, or wrong ones for a fraction of the examples, as in the
//! paper's experiments with wrong labels. The labels depend only on the settings and the examples, so a resumed run uses the same ones.

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::RewardSettings;
use crate::flow::Problem;
use crate::rng::{Purpose, Stream};
use crate::verify::{self, Grader, Verifier};

/// An example whose responses are graded against another label than its own answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relabeled {
    /// The example's id.
    pub example: String,
    /// The example's own answer; empty if it has none.
    pub answer: String,
    /// The label that replaces it.
    pub label: String,
}

/// Replaces the problems' answers with the labels that the settings request. Returns the changes.
///
/// # Errors
/// If `reward.label` is set and there is not exactly one example, or `reward.label_noise` is set and there is only one example, no example
/// is chosen, or no wrong answer exists for a chosen one.
pub fn relabel(settings: &RewardSettings, problems: &mut [Problem]) -> Result<Vec<Relabeled>> {
    let labels = if !settings.label.is_empty() {
        ensure!(
            problems.len() == 1,
            "--label (reward.label) needs exactly one example, but there are {}: use --label-noise SHARE to give wrong labels to a share of them",
            problems.len()
        );
        vec![(0, settings.label.clone())]
    } else if settings.label_noise > 0.0 {
        wrong_labels(settings, problems)?
    } else {
        Vec::new()
    };
    let relabeled = labels.into_iter().map(|(number, label)| {
        let problem = &mut problems[number];
        let answer = std::mem::replace(&mut problem.answer, label.clone());
        // These belong to the replaced answer.
        (problem.unit, problem.tolerance, problem.alternatives) = (String::new(), None, Vec::new());
        Relabeled { example: problem.id.clone(), answer, label }
    });
    Ok(relabeled.collect())
}

/// Returns the indices of the chosen examples in ascending order, each with the answer of another example. Answers of all other examples
/// are equally likely, except those that match this example's answer according to our grader or the reward's.
fn wrong_labels(settings: &RewardSettings, problems: &[Problem]) -> Result<Vec<(usize, String)>> {
    ensure!(
        problems.len() > 1,
        "reward.label_noise uses answers of other examples, but there is only one example: give it a wrong label with --label"
    );
    let count = (settings.label_noise * problems.len() as f64).round() as usize;
    ensure!(count > 0, "reward.label_noise is {}, which is none of {} examples: raise it", settings.label_noise, problems.len());
    let order = |index: usize| {
        let mut order: Vec<usize> = (0..problems.len()).collect();
        Stream::new(settings.label_seed, Purpose::Labels, index as u64).shuffle(&mut order);
        order
    };
    let graders = [Grader::Strict, settings.grader].map(|grader| Verifier::new(verify::Settings { grader, ..verify::Settings::default() }));
    let are_other = |own: &str, other: &str| {
        // Equality depends on which side is the gold answer: 1/3 matches a gold answer of 0.333, but not the reverse.
        graders.iter().all(|grader| !grader.equal(own, other).equal && !grader.equal(other, own).equal)
    };
    let mut chosen = order(0)[..count].to_vec();
    chosen.sort_unstable();
    let label = |number: usize| {
        let Problem { answer: own, alternatives, .. } = &problems[number];
        let is_wrong = |other: &str| std::iter::once(own).chain(alternatives).all(|own| are_other(own, other));
        // Stream 0 chooses the examples; each example has its own stream for the label.
        let others = order(number + 1).into_iter().map(|other| &problems[other].answer);
        match others.into_iter().find(|other| !other.trim().is_empty() && is_wrong(other)) {
            Some(label) => Ok((number, label.clone())),
            None => {
                bail!(
                    "all examples have the answer {own}, so no label is wrong (reward.label_noise): add examples with other answers, or use --label"
                )
            }
        }
    };
    chosen.into_iter().map(label).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(answers: &[&str]) -> Vec<Problem> {
        let problem =
            |(number, answer): (usize, &&str)| Problem { id: format!("p{number}"), answer: (*answer).into(), ..Problem::default() };
        answers.iter().enumerate().map(problem).collect()
    }

    fn noise(share: f64, seed: u64, answers: &[&str]) -> Result<(Vec<Relabeled>, Vec<Problem>)> {
        let mut problems = problems(answers);
        let settings = RewardSettings { label_noise: share, label_seed: seed, ..RewardSettings::default() };
        Ok((relabel(&settings, &mut problems)?, problems))
    }

    #[test]
    fn relabel_assigns_wrong_labels_to_a_share_of_examples() {
        let answers = ["1", "2", "1.0", "1/2", "5", "7", "0.5", "8", "9", "10"];
        let (changed, found) = noise(0.6, 0, &answers).unwrap();
        assert_eq!(changed.len(), 6);
        for one in &changed {
            let number: usize = one.example[1..].parse().unwrap();
            assert_eq!((one.answer.as_str(), &one.label), (answers[number], &found[number].answer));
            assert!(answers.contains(&one.label.as_str()) && !verify::equal(&one.answer, &one.label).equal, "{one:?}");
        }
        let unchanged = found.iter().zip(answers).filter(|(found, own)| found.answer == *own).count();
        assert_eq!(unchanged, 4);
        assert_eq!(noise(0.6, 0, &answers).unwrap().0, changed, "the same seed makes the same choice");
        assert_ne!(noise(0.6, 1, &answers).unwrap().0, changed);
        assert_eq!(noise(1.0, 3, &answers).unwrap().0.len(), 10);
        assert!(noise(0.0, 3, &answers).unwrap().0.is_empty());
    }

    #[test]
    fn relabel_assigns_one_label_to_one_example() {
        let settings = RewardSettings { label: "12.7".into(), ..RewardSettings::default() };
        let mut one = problems(&["12.8"]);
        let expected = Relabeled { example: "p0".into(), answer: "12.8".into(), label: "12.7".into() };
        assert_eq!(relabel(&settings, &mut one).unwrap(), [expected]);
        assert_eq!(one[0].answer, "12.7");
        let error = relabel(&settings, &mut problems(&["1", "2"])).unwrap_err().to_string();
        assert!(error.contains("there are 2: use --label-noise SHARE"), "{error}");
    }

    #[test]
    fn relabel_reports_when_no_label_can_be_wrong() {
        let check = |share: f64, answers: &[&str], expected: &str| {
            let error = noise(share, 0, answers).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(0.6, &["12.8"], "give it a wrong label with --label");
        check(0.1, &["1", "2", "3"], "is none of 3 examples");
        check(0.6, &["0.5", "1/2", r"\frac12"], "so no label is wrong");
        // 1/3 is correct if the gold answer is 0.333.
        check(1.0, &["1/3", "0.333"], "so no label is wrong");
    }
}
