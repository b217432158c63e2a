//! Labels other than the examples' own: one of the user's, or wrong ones for a share of the examples (the paper's wrong-label runs). The choice
//! is a function of the settings and the examples, so that a resumed run makes it again.

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::RewardSettings;
use crate::draw::{Purpose, Stream};
use crate::flow::Problem;
use crate::verify::{self, Grader, Verifier};

/// An example that is held to another answer than its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relabelled {
    /// The example's id.
    pub example: String,
    /// Its own answer; empty where it has none.
    pub answer: String,
    /// What its responses are held to instead.
    pub label: String,
}

/// Puts the labels that settings ask for in place of the problems' answers, and says which were changed.
///
/// # Errors
/// When there is not one example for one label, or no wrong answer for a share of them.
pub fn relabel(settings: &RewardSettings, problems: &mut [Problem]) -> Result<Vec<Relabelled>> {
    let labels = if !settings.label.is_empty() {
        ensure!(
            problems.len() == 1,
            "--label (reward.label) is the answer of one example, and there are {}: --label-noise SHARE gives wrong labels to a share of them",
            problems.len()
        );
        vec![(0, settings.label.clone())]
    } else if settings.label_noise > 0.0 {
        wrong_labels(settings, problems)?
    } else {
        Vec::new()
    };
    let relabelled = labels.into_iter().map(|(number, label)| {
        let problem = &mut problems[number];
        let answer = std::mem::replace(&mut problem.answer, label.clone());
        // They were the answer's.
        (problem.unit, problem.tolerance, problem.alternatives) = (String::new(), None, Vec::new());
        Relabelled { example: problem.id.clone(), answer, label }
    });
    Ok(relabelled.collect())
}

/// Numbers of the examples that are chosen, in order, with the answer of another example each; any other is as likely, but for those that are
/// right here too, by our grader or by the reward's.
fn wrong_labels(settings: &RewardSettings, problems: &[Problem]) -> Result<Vec<(usize, String)>> {
    ensure!(problems.len() > 1, "one example has no other's answer to take (reward.label_noise): give it a wrong one with --label");
    let count = (settings.label_noise * problems.len() as f64).round() as usize;
    ensure!(count > 0, "reward.label_noise is {}, which is none of {} examples: raise it", settings.label_noise, problems.len());
    let order = |index: usize| {
        let mut order: Vec<usize> = (0..problems.len()).collect();
        Stream::new(settings.label_seed, Purpose::Labels, index as u64).shuffle(&mut order);
        order
    };
    let graders = [Grader::Strict, settings.grader].map(|grader| Verifier::new(verify::Settings { grader, ..verify::Settings::default() }));
    let are_other = |own: &str, other: &str| {
        // Equality leans on the reference: 1/3 counts for 0.333, and not the other way round.
        graders.iter().all(|grader| !grader.equal(own, other).equal && !grader.equal(other, own).equal)
    };
    let mut chosen = order(0)[..count].to_vec();
    chosen.sort_unstable();
    let label = |number: usize| {
        let Problem { answer: own, alternatives, .. } = &problems[number];
        let is_wrong = |other: &str| std::iter::once(own).chain(alternatives).all(|own| are_other(own, other));
        // Stream 0 chose the examples; each has a stream of its own for its label.
        let others = order(number + 1).into_iter().map(|other| &problems[other].answer);
        match others.into_iter().find(|other| !other.trim().is_empty() && is_wrong(other)) {
            Some(label) => Ok((number, label.clone())),
            None => bail!("all examples have the answer {own}, so no label is wrong (reward.label_noise): give other examples, or --label"),
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

    fn noise(share: f64, seed: u64, answers: &[&str]) -> Result<(Vec<Relabelled>, Vec<Problem>)> {
        let mut problems = problems(answers);
        let settings = RewardSettings { label_noise: share, label_seed: seed, ..RewardSettings::default() };
        Ok((relabel(&settings, &mut problems)?, problems))
    }

    #[test]
    fn a_share_of_the_examples_has_the_answer_of_another() {
        let answers = ["1", "2", "1.0", "1/2", "5", "7", "0.5", "8", "9", "10"];
        let (changed, found) = noise(0.6, 0, &answers).unwrap();
        assert_eq!(changed.len(), 6);
        for one in &changed {
            let number: usize = one.example[1..].parse().unwrap();
            assert_eq!((one.answer.as_str(), &one.label), (answers[number], &found[number].answer));
            assert!(answers.contains(&one.label.as_str()) && !verify::equal(&one.answer, &one.label).equal, "{one:?}");
        }
        let kept = found.iter().zip(answers).filter(|(found, own)| found.answer == *own).count();
        assert_eq!(kept, 4);
        assert_eq!(noise(0.6, 0, &answers).unwrap().0, changed, "the same seed chooses the same");
        assert_ne!(noise(0.6, 1, &answers).unwrap().0, changed);
        assert_eq!(noise(1.0, 3, &answers).unwrap().0.len(), 10);
        assert!(noise(0.0, 3, &answers).unwrap().0.is_empty());
    }

    #[test]
    fn one_label_is_for_one_example() {
        let settings = RewardSettings { label: "12.7".into(), ..RewardSettings::default() };
        let mut one = problems(&["12.8"]);
        let expected = Relabelled { example: "p0".into(), answer: "12.8".into(), label: "12.7".into() };
        assert_eq!(relabel(&settings, &mut one).unwrap(), [expected]);
        assert_eq!(one[0].answer, "12.7");
        let error = relabel(&settings, &mut problems(&["1", "2"])).unwrap_err().to_string();
        assert!(error.contains("there are 2: --label-noise SHARE"), "{error}");
    }

    #[test]
    fn what_cannot_be_wrong_says_so() {
        let check = |share: f64, answers: &[&str], expected: &str| {
            let error = noise(share, 0, answers).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(0.6, &["12.8"], "give it a wrong one with --label");
        check(0.1, &["1", "2", "3"], "is none of 3 examples");
        check(0.6, &["0.5", "1/2", r"\frac12"], "so no label is wrong");
        // 1/3 counts where 0.333 is asked for.
        check(1.0, &["1/3", "0.333"], "so no label is wrong");
    }
}
