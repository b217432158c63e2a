//! Aggregates graded answers into scores.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::record::Answer;
use super::statistics::{Estimate, clustered_mean, mean_of, pass_curve, wilson};
use super::text_stats;
use crate::flow::FinishReason;
use crate::verify::{self, Grader, Verifier, majority_vote};

/// The score of one pass over one set. Fractions are between 0 and 1, and refer to responses unless stated otherwise. If a prompt does not
/// fit the context length, its responses count as empty and wrong.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Score {
    /// The number of problems.
    pub problems: usize,
    /// The number of responses per problem.
    pub samples: usize,
    /// Fraction with the correct answer in the box, with its 95% interval: avg@k for k samples.
    pub accuracy: Option<Estimate>,
    /// `accuracy` according to our own grader; `None` if the records lack its verdicts.
    pub accuracy_strict: Option<Estimate>,
    /// Fraction that is correct when unboxed answers count too, as in the published evaluation.
    pub accuracy_with_fallback: Option<Estimate>,
    /// Unbiased pass@k with its interval for every k up to the number of samples; item `k - 1` is pass@k. Empty for one sample.
    pub pass_at: Vec<Estimate>,
    /// Fraction of problems whose most frequent boxed answer is correct; `None` for one sample.
    pub majority: Option<Estimate>,
    /// Fraction with a complete box.
    pub boxed: f64,
    /// Fraction cut off by the token limit.
    pub cut_off: f64,
    /// Mean length in tokens over the responses whose prompt fits the context length.
    pub mean_tokens: f64,
    /// The number of problems whose prompt does not fit the context length. They count as wrong.
    pub too_long: usize,
    /// Scores by subject; empty if there are fewer than two.
    pub by_subject: BTreeMap<String, Part>,
    /// Scores by level; empty if there are fewer than two.
    pub by_level: BTreeMap<String, Part>,
    /// Fraction of responses that contain each self-reflection word.
    pub reflection: BTreeMap<String, f64>,
    /// Fraction of responses that contain any of these words.
    pub reflecting: f64,
    /// Fraction of responses that end in a repeated block.
    pub repeated_tails: f64,
    /// Fraction of the letters in all responses that are not ASCII.
    pub foreign_letters: f64,
    /// Fraction of each answer style; empty if the set has no style classifier.
    #[serde(rename = "ways")]
    pub styles: BTreeMap<String, f64>,
}

/// The score of a subset of a set's problems.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// The number of problems.
    pub problems: usize,
    /// Fraction with the correct answer in the box, with its 95% interval.
    pub accuracy: Option<Estimate>,
}

impl Part {
    /// Returns the accuracy, or 0 without problems.
    pub fn mean(&self) -> f64 {
        self.accuracy.map_or(0.0, |accuracy| accuracy.mean)
    }
}

impl Score {
    /// Aggregates the answers of one pass; all samples of a problem must be adjacent. `grader` is the grader that graded them, and decides
    /// which answers are equal in a majority vote. `reflection_words` must be in lower case.
    pub fn of(answers: &[Answer], samples: usize, grader: Grader, reflection_words: &[String]) -> Self {
        let share = |count: usize| count as f64 / answers.len().max(1) as f64;
        let count = |test: fn(&Answer) -> bool| answers.iter().filter(|answer| test(answer)).count();
        let mut styles: BTreeMap<String, usize> = BTreeMap::new();
        answers.iter().filter_map(|answer| answer.style.clone()).for_each(|style| *styles.entry(style).or_default() += 1);
        let mut reflection: BTreeMap<String, usize> = reflection_words.iter().map(|word| (word.clone(), 0)).collect();
        let (mut reflecting, mut foreign, mut letters) = (0, 0, 0);
        for answer in answers {
            let response = answer.response.to_lowercase();
            let found: Vec<_> = reflection.iter_mut().filter(|(word, _)| response.contains(word.as_str())).collect();
            reflecting += usize::from(!found.is_empty());
            found.into_iter().for_each(|(_, count)| *count += 1);
            let (not_ascii, all) = text_stats::letters(&answer.response);
            (foreign, letters) = (foreign + not_ascii, letters + all);
        }
        let answered = count(|answer| answer.finish.is_some());
        Self {
            problems: answers.len() / samples.max(1),
            samples,
            accuracy: estimate(answers, samples, |answer| answer.correct),
            accuracy_strict: strict(answers, samples, grader),
            accuracy_with_fallback: estimate(answers, samples, |answer| answer.correct_with_fallback),
            pass_at: pass_at(answers, samples),
            majority: majority(answers, samples, grader),
            boxed: share(count(|answer| answer.extracted.is_some())),
            cut_off: share(count(|answer| answer.finish == Some(FinishReason::Length))),
            mean_tokens: answers.iter().map(|answer| answer.tokens).sum::<usize>() as f64 / answered.max(1) as f64,
            too_long: (answers.len() - answered) / samples.max(1),
            by_subject: parts(answers, samples, |answer| &answer.subject),
            by_level: parts(answers, samples, |answer| &answer.level),
            reflection: reflection.into_iter().map(|(word, count)| (word, share(count))).collect(),
            reflecting: share(reflecting),
            repeated_tails: share(count(|answer| text_stats::has_repeated_tail(&answer.response))),
            foreign_letters: foreign as f64 / letters.max(1) as f64,
            styles: styles.into_iter().map(|(style, count)| (style, share(count))).collect(),
        }
    }

    /// Returns the accuracy of boxed answers, or 0 without problems.
    pub fn mean(&self) -> f64 {
        self.accuracy.map_or(0.0, |accuracy| accuracy.mean)
    }
}

/// The unweighted mean over several sets, as in the last column of published tables.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Mean {
    /// The number of sets.
    pub sets: usize,
    /// Fraction with the correct answer in the box, with its 95% interval.
    pub accuracy: Estimate,
    /// Fraction that is correct when unboxed answers count too.
    pub accuracy_with_fallback: Estimate,
}

impl Mean {
    /// Averages passes, given as `(set name, score)`. `None` for fewer than two sets, two passes over the same set, or a set without
    /// problems.
    pub fn over<'a>(passes: impl Iterator<Item = (&'a str, &'a Score)>) -> Option<Self> {
        let (sets, scores): (Vec<&str>, Vec<&Score>) = passes.unzip();
        let distinct: BTreeSet<&&str> = sets.iter().collect();
        let mean = |of: fn(&Score) -> Option<Estimate>| mean_of(&scores.iter().map(|score| of(score)).collect::<Option<Vec<_>>>()?);
        let is_one_each = sets.len() > 1 && distinct.len() == sets.len();
        let (accuracy, fallback) = (mean(|score| score.accuracy), mean(|score| score.accuracy_with_fallback));
        is_one_each.then_some(Self { sets: sets.len(), accuracy: accuracy?, accuracy_with_fallback: fallback? })
    }
}

/// Returns the fraction of correct samples of each problem, in order. All `samples` answers to a problem must be adjacent.
pub fn per_problem(answers: &[Answer], samples: usize, is_correct: impl Fn(&Answer) -> bool) -> Vec<f64> {
    let mean = |answers: &[Answer]| answers.iter().filter(|answer| is_correct(answer)).count() as f64 / samples as f64;
    answers.chunks(samples.max(1)).map(mean).collect()
}

/// Returns the accuracy with Wilson's interval for one response per problem, or with the interval clustered by problem for several.
fn estimate(answers: &[Answer], samples: usize, is_correct: fn(&Answer) -> bool) -> Option<Estimate> {
    if samples == 1 {
        return wilson(answers.iter().filter(|answer| is_correct(answer)).count(), answers.len());
    }
    clustered_mean(&per_problem(answers, samples, is_correct))
}

/// Returns the accuracy according to our own grader. `None` if another grader was used and an answer lacks our verdict.
fn strict(answers: &[Answer], samples: usize, grader: Grader) -> Option<Estimate> {
    if grader == Grader::Strict {
        return estimate(answers, samples, |answer| answer.correct);
    }
    let is_known = answers.iter().all(|answer| answer.correct_strict.is_some());
    is_known.then(|| estimate(answers, samples, |answer| answer.correct_strict == Some(true))).flatten()
}

fn pass_at(answers: &[Answer], samples: usize) -> Vec<Estimate> {
    if samples < 2 {
        return Vec::new();
    }
    let correct = |answers: &[Answer]| answers.iter().filter(|answer| answer.correct).count();
    pass_curve(&answers.chunks(samples).map(correct).collect::<Vec<_>>(), samples)
}

/// Returns the fraction of problems whose most frequent boxed answer is correct; a problem without boxed answers counts as wrong. Each
/// problem has one outcome, so the interval is Wilson's.
fn majority(answers: &[Answer], samples: usize, grader: Grader) -> Option<Estimate> {
    if samples < 2 {
        return None;
    }
    let verifier = Verifier::new(verify::Settings { grader, ..verify::Settings::default() });
    let same = |one: &&String, other: &&String| one == other || verifier.equal(one, other).equal;
    let is_correct = |answers: &&[Answer]| {
        let given: Vec<Option<&String>> = answers.iter().map(|answer| answer.extracted.as_ref()).collect();
        majority_vote(&given, same).is_some_and(|chosen| answers[chosen].correct)
    };
    wilson(answers.chunks(samples).filter(is_correct).count(), answers.len() / samples)
}

/// Returns the scores by `name`, such as the subject; empty if there are fewer than two names.
fn parts(answers: &[Answer], samples: usize, name: fn(&Answer) -> &String) -> BTreeMap<String, Part> {
    let mut parts: BTreeMap<&String, Vec<Answer>> = BTreeMap::new();
    for problem in answers.chunks(samples.max(1)) {
        parts.entry(name(&problem[0])).or_default().extend_from_slice(problem);
    }
    if parts.len() < 2 {
        return BTreeMap::new();
    }
    let part =
        |answers: &[Answer]| Part { problems: answers.len() / samples, accuracy: estimate(answers, samples, |answer| answer.correct) };
    parts.into_iter().map(|(name, answers)| (name.clone(), part(&answers))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(number: usize, sample: usize, response: &str, correct: bool) -> Answer {
        let extracted = verify::last_boxed(response).content().map(str::to_owned);
        Answer {
            id: format!("p{number}"),
            subject: ["algebra", "geometry"][number % 2].to_owned(),
            level: "3".to_owned(),
            sample,
            gold: "1/2".to_owned(),
            response: response.to_owned(),
            extracted,
            correct,
            correct_strict: None,
            correct_with_fallback: correct,
            tokens: 10,
            finish: Some(FinishReason::Stop),
            style: None,
        }
    }

    #[test]
    fn score_of_several_samples_by_hand() {
        let right = r"I recheck: \boxed{0.5}";
        let answers = [
            answer(0, 0, right, true),
            answer(0, 1, r"\boxed{\frac12}", true),
            answer(0, 2, r"\boxed{3}", false),
            answer(1, 0, "答案 is lost", false),
            answer(1, 1, r"\boxed{3}", false),
            answer(1, 2, r"Rethink, then RECHECK. \boxed{1/2}", true),
        ];
        let score = Score::of(&answers, 3, Grader::Strict, &text_stats::words("rethink, Recheck, recalculate"));
        assert_eq!((score.problems, score.samples, score.too_long), (2, 3, 0));
        assert!((score.mean() - 0.5).abs() < 1e-12);
        let means: Vec<f64> = score.pass_at.iter().map(|estimate| estimate.mean).collect();
        // Two of three and one of three are correct: pass@2 is (1 + 2/3) / 2.
        for (found, expected) in means.iter().zip([0.5, 5.0 / 6.0, 1.0]) {
            assert!((found - expected).abs() < 1e-12, "{means:?}");
        }
        // 0.5 and 1/2 are the same answer, with two votes. In the other problem, 3 wins the tie because it comes before 1/2.
        assert_eq!(score.majority.map(|majority| majority.mean), Some(0.5));
        assert!((score.boxed - 5.0 / 6.0).abs() < 1e-12);
        let share = |word: &str| (score.reflection[word] * 6.0).round();
        assert_eq!((share("rethink"), share("recheck"), share("recalculate")), (1.0, 2.0, 0.0));
        assert!((score.reflecting - 2.0 / 6.0).abs() < 1e-12);
        assert!(score.foreign_letters > 0.0 && score.repeated_tails == 0.0);
        assert_eq!(score.by_subject["algebra"].problems, 1);
        assert!((score.by_subject["algebra"].mean() - 2.0 / 3.0).abs() < 1e-12);
        assert!(score.by_level.is_empty(), "a single level is not listed");
    }

    #[test]
    fn score_has_the_strict_accuracy_of_another_grader() {
        let mut answers = [answer(0, 0, r"\boxed{1/2}", true), answer(1, 0, r"\boxed{3}", true)];
        let accuracies = |answers: &[Answer], grader| {
            let score = Score::of(answers, 1, grader, &[]);
            (score.mean(), score.accuracy_strict.map(|accuracy| accuracy.mean))
        };
        assert_eq!(accuracies(&answers, Grader::Strict), (1.0, Some(1.0)));
        assert_eq!(accuracies(&answers, Grader::Qwen), (1.0, None), "recorded without our verdict");
        (answers[0].correct_strict, answers[1].correct_strict) = (Some(true), Some(false));
        assert_eq!(accuracies(&answers, Grader::Qwen), (1.0, Some(0.5)));
    }

    #[test]
    fn score_of_one_sample_has_no_majority_or_pass_curve() {
        let mut answers = vec![answer(0, 0, r"\boxed{1/2}", true), answer(1, 0, "", false)];
        (answers[1].finish, answers[1].tokens) = (None, 0);
        let score = Score::of(&answers, 1, Grader::Strict, &[]);
        assert_eq!((score.too_long, score.mean_tokens, score.mean()), (1, 10.0, 0.5));
        assert!(score.pass_at.is_empty() && score.majority.is_none());
        let none = Score::of(&[], 1, Grader::Strict, &[]);
        assert_eq!((none.problems, none.accuracy, none.mean_tokens), (0, None, 0.0));
    }

    #[test]
    fn mean_over_weights_sets_equally() {
        let half = Score::of(&[answer(0, 0, r"\boxed{1/2}", true), answer(1, 0, "", false)], 1, Grader::Strict, &[]);
        let whole = Score::of(&[answer(0, 0, r"\boxed{1/2}", true)], 1, Grader::Strict, &[]);
        let mean = Mean::over([("many", &half), ("one", &whole)].into_iter()).unwrap();
        assert_eq!((mean.sets, mean.accuracy.mean, mean.accuracy_with_fallback.mean), (2, 0.75, 0.75));
        assert!(mean.accuracy.low < 0.75 && mean.accuracy.high <= 1.0);
        assert_eq!(Mean::over([("one", &whole)].into_iter()), None);
        assert_eq!(Mean::over([("tiny", &half), ("tiny", &whole)].into_iter()), None, "two passes over one set");
    }
}
