//! What the numbers of a run do not show. Pure functions on plain data.

use crate::eval::statistics::Estimate;
use crate::report::page::numbers::{count, percent, points, points_with_interval};

/// The facts that the sentences depend on.
#[derive(Clone, Debug, Default)]
pub struct Caveats {
    /// The run's seed.
    pub seed: u64,
    /// The accuracy whose gain is split, its gain, and the part that is format.
    pub format: Option<(String, Estimate, Estimate)>,
    /// The best step and the last one, if they differ.
    pub best: Option<(u64, u64)>,
    /// What the base model reaches with several responses; `None` if no pass has several.
    pub attempts: Option<Attempts>,
    /// True if held-out accuracies are known.
    pub has_evaluations: bool,
    /// The most problems of each benchmark that were evaluated; 0 for all.
    pub limit: usize,
    /// True for the embedded model.
    pub is_embedded: bool,
}

/// The base model with several responses to each problem.
#[derive(Clone, Debug)]
pub struct Attempts {
    /// The pass.
    pub pass: String,
    /// The number of responses.
    pub samples: usize,
    /// The share of problems with a right answer among them.
    pub any: f64,
    /// The share of problems whose most frequent answer is right.
    pub majority: Option<f64>,
    /// The mean accuracy of one response after training.
    pub last: Option<f64>,
}

impl Caveats {
    /// Returns one or two sentences about each limit.
    pub fn sentences(&self) -> Vec<String> {
        if !self.has_evaluations {
            return vec!["Train accuracy is measured on the training example itself, so it says nothing about other problems.".to_owned()];
        }
        let mut sentences = vec![format!(
            "It is one run with one seed ({}). Intervals say how much a number could differ with other problems, not with another seed; \
             rlvr study runs several seeds.",
            self.seed
        )];
        sentences.extend(self.format.as_ref().map(|(measure, gain, format)| about_format(measure, gain, format)));
        sentences.push(self.attempts.as_ref().map_or_else(
            || "Whether the base model would reach the same by answering several times, with a majority vote, was not measured.".to_owned(),
            about_attempts,
        ));
        if self.limit > 0 {
            sentences.push(format!("Only the first {} problems of each benchmark were evaluated (eval.limit).", count(self.limit)));
        }
        sentences.extend(self.best.map(|(best, last)| {
            format!(
                "The best step ({best}) was chosen by the accuracy on these problems, so its accuracy is optimistic; the last step ({last}) \
                 was not chosen."
            )
        }));
        sentences.push(
            if self.is_embedded {
                "The embedded model was pre-trained on problems of the same kinds, but not on the held-out ones. It shows the method at work; \
                 it is no evidence about large models."
            } else {
                "Whether the model saw the benchmarks' problems in pre-training was not tested."
            }
            .to_owned(),
        );
        sentences
    }
}

fn about_format(measure: &str, gain: &Estimate, format: &Estimate) -> String {
    if format.low <= 0.0 {
        return format!(
            "Learning to box answers explains no measurable part of the gain in {measure}: right answers without a box account for {} of {}.",
            points_with_interval(format),
            points(gain.mean)
        );
    }
    format!(
        "Part of the gain in {measure} is format: {} of {} come from boxing right answers, not from more right answers.",
        points_with_interval(format),
        points(gain.mean)
    )
}

fn about_attempts(attempts: &Attempts) -> String {
    let Attempts { pass, samples, any, majority, last } = attempts;
    let vote = majority.map_or_else(String::new, |majority| format!(", and its majority vote reaches {}", percent(majority)));
    let last = last.map_or_else(String::new, |last| format!("; one response of the trained model is right in {}", percent(last)));
    format!(
        "On {pass}, one of {samples} responses of the base model is already right for {} of the problems{vote}{last}. What training adds to \
         the base model's best of several attempts is in the section on pass@k.",
        percent(*any)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_depend_on_what_was_measured() {
        let around = |mean: f64| Estimate { mean, low: mean - 0.01, high: mean + 0.01 };
        let caveats = Caveats { has_evaluations: true, seed: 3, ..Caveats::default() };
        let check = |caveats: &Caveats, expected: &[&str]| {
            let sentences = caveats.sentences();
            assert_eq!(sentences.len(), expected.len(), "{sentences:#?}");
            for (sentence, expected) in sentences.iter().zip(expected) {
                assert!(sentence.contains(expected) && sentence.ends_with('.'), "{sentence}: {expected}");
            }
        };
        check(&Caveats::default(), &["nothing about other problems"]);
        check(&caveats, &["one seed (3)", "was not measured", "was not tested"]);
        let attempts = Attempts { pass: "aime24-t0.6x8".to_owned(), samples: 8, any: 0.2, majority: Some(0.1), last: Some(0.15) };
        let all = Caveats {
            format: Some(("greedy accuracy".to_owned(), around(0.3), around(0.1))),
            best: Some((80, 100)),
            attempts: Some(attempts),
            limit: 1000,
            is_embedded: true,
            ..caveats.clone()
        };
        check(
            &all,
            &[
                "one seed (3)",
                "+10.0 points [+9.0, +11.0] of +30.0 points come from boxing right answers",
                "right for 20.0% of the problems, and its majority vote reaches 10.0%; one response of the trained model is right in 15.0%",
                "Only the first 1,000 problems",
                "The best step (80)",
                "no evidence about large models",
            ],
        );
        let little = Caveats { format: Some(("a".to_owned(), around(0.3), around(0.005))), ..caveats };
        check(&little, &["one seed", "explains no measurable part of the gain in a", "was not measured", "was not tested"]);
    }
}
