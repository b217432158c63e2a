//! The composition of the corpus: how often each answer style, answer format and ending occurs. Plain numbers that a configuration file can
//! change. Independent of how documents are written.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::config::nearest;
use crate::data::tiny::SUBJECTS;

/// The composition of the corpus. All numbers except `most_sentences` are probabilities.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mixture {
    /// The share of careful answers that are correct. The others have one wrong digit.
    pub careful_right: f64,
    /// The share of unboxed answers that are in bold.
    pub bold: f64,
    /// The share of responses that repeat their answer endlessly.
    pub repeats: f64,
    /// The share of responses that continue with an invented question and its answer.
    pub next_question: f64,
    /// The maximum number of filler sentences in a rambling response. Each number from 1 to this is equally likely.
    pub most_sentences: u32,
    /// The shares by subject. Every subject must be present.
    pub subjects: BTreeMap<String, Shares>,
}

/// The answer styles and formats of one subject. The rest, after `careful`, `sketch` and `ramble`, are guesses.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shares {
    /// The share of answers with written-out steps.
    pub careful: f64,
    /// The share of answers that state only the arithmetic and a result.
    pub sketch: f64,
    /// The share of answers with filler sentences and then a random number.
    pub ramble: f64,
    /// The share of sketches with the correct result. The others have a random number.
    pub sketch_right: f64,
    /// The share of boxed answers, the same in every style.
    pub boxed: f64,
}

/// The share of correct sketches in easy subjects.
const EASY: f64 = 0.97;
/// The share of correct sketches in hard subjects.
const HARD: f64 = 0.25;

/// Guesses are the most frequent style in every subject, by a margin large enough for every seed, so that the base model guesses with
/// greedy decoding. Careful answers are frequent enough in every subject for sampling to find them.
impl Default for Mixture {
    fn default() -> Self {
        let shares = |careful, sketch, sketch_right, boxed| Shares { careful, sketch, ramble: 0.12, sketch_right, boxed };
        let subjects = [
            ("addition", shares(0.20, 0.28, HARD, 0.40)),
            ("subtraction", shares(0.14, 0.28, HARD, 0.38)),
            ("linear", shares(0.25, 0.28, HARD, 0.36)),
            ("remainder", shares(0.08, 0.26, HARD, 0.32)),
            ("sequence", shares(0.28, 0.26, EASY, 0.46)),
            ("digit-sum", shares(0.10, 0.26, EASY, 0.34)),
            ("maximum", shares(0.22, 0.28, EASY, 0.44)),
            ("bags", shares(0.12, 0.30, HARD, 0.36)),
            ("evaluation", shares(0.07, 0.30, HARD, 0.32)),
            ("perimeter", shares(0.28, 0.26, HARD, 0.42)),
        ];
        Self {
            careful_right: 0.98,
            bold: 0.5,
            repeats: 0.10,
            next_question: 0.10,
            most_sentences: 9,
            subjects: subjects.into_iter().map(|(name, shares)| (name.to_string(), shares)).collect(),
        }
    }
}

impl Mixture {
    /// Returns the mixture for the first phase of pre-training, in which the share of careful answers in every subject is `share`, and the
    /// other styles keep their proportions.
    ///
    /// The model must learn the steps first, because the final mixture shows them too rarely.
    pub fn with_careful_share(&self, share: f64) -> Self {
        let mut mixture = self.clone();
        for shares in mixture.subjects.values_mut() {
            let rest = 1.0 - shares.careful;
            let scale = if rest > 0.0 { (1.0 - share) / rest } else { 0.0 };
            *shares = Shares { careful: share, sketch: shares.sketch * scale, ramble: shares.ramble * scale, ..*shares };
        }
        mixture
    }

    /// Returns the shares of a subject. A subject that is missing, which [`Mixture::validate`] rejects, has only guesses.
    pub fn shares(&self, subject: &str) -> Shares {
        let nothing = Shares { careful: 0.0, sketch: 0.0, ramble: 0.0, sketch_right: 0.0, boxed: 0.0 };
        self.subjects.get(subject).copied().unwrap_or(nothing)
    }

    /// Checks that the mixture is complete and consistent.
    ///
    /// # Errors
    /// If a number is not a probability, shares sum to more than 1, `most_sentences` is 0, or a subject is unknown or missing.
    pub fn validate(&self) -> Result<()> {
        let probability = |name: String, value: f64| {
            ensure!((0.0..=1.0).contains(&value), "mixture: {name} is {value}; it must be a probability from 0 to 1");
            Ok(())
        };
        probability("careful_right".to_string(), self.careful_right)?;
        probability("bold".to_string(), self.bold)?;
        probability("repeats + next_question".to_string(), self.repeats + self.next_question)?;
        probability("repeats".to_string(), self.repeats)?;
        probability("next_question".to_string(), self.next_question)?;
        ensure!(self.most_sentences > 0, "mixture: most_sentences is 0; it must be at least 1");
        let known = SUBJECTS.iter().map(|subject| subject.name).collect::<Vec<_>>();
        for (name, shares) in &self.subjects {
            if !known.contains(&name.as_str()) {
                let near = nearest(name, known.iter().copied()).map_or(String::new(), |near| format!(" (did you mean {near}?)"));
                bail!("mixture: unknown subject {name:?}; expected one of {}{near}", known.join(", "));
            }
            let Shares { careful, sketch, ramble, sketch_right, boxed } = *shares;
            let parts = [("careful", careful), ("sketch", sketch), ("ramble", ramble), ("sketch_right", sketch_right), ("boxed", boxed)];
            for (part, value) in parts {
                probability(format!("subjects.{name}.{part}"), value)?;
            }
            // Allow for rounding, as in 0.9 + 0.06 + 0.04.
            let sum = careful + sketch + ramble;
            ensure!(
                sum <= 1.0 + 1e-9,
                "mixture: subjects.{name}: careful, sketch and ramble sum to {sum}; the sum must be at most 1 (the rest are guesses)"
            );
        }
        let missing: Vec<_> = known.into_iter().filter(|name| !self.subjects.contains_key(*name)).collect();
        ensure!(missing.is_empty(), "mixture: no shares for {}: add [mixture.subjects.NAME] for every subject", missing.join(", "));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixture_default_is_valid_and_round_trips_through_toml() {
        let mixture = Mixture::default();
        mixture.validate().expect("valid");
        let text = toml::to_string(&mixture).expect("serializable");
        assert_eq!(toml::from_str::<Mixture>(&text).expect("readable"), mixture);
    }

    #[test]
    fn with_careful_share_keeps_proportions() {
        let first = Mixture::default().with_careful_share(0.9);
        first.validate().expect("valid");
        let shares = first.shares("addition");
        assert!((shares.careful - 0.9).abs() < 1e-12 && (shares.sketch - 0.28 / 0.8 * 0.1).abs() < 1e-12);
        Mixture::default().with_careful_share(1.0).validate().expect("all careful");
    }

    #[test]
    fn validate_reports_mistakes() {
        let check = |change: fn(&mut Mixture), expected: &str| {
            let mut mixture = Mixture::default();
            change(&mut mixture);
            let message = mixture.validate().expect_err(expected).to_string();
            assert!(message.contains(expected), "{message}");
        };
        check(|mixture| mixture.bold = 1.5, "bold is 1.5");
        check(|mixture| mixture.bold = f64::NAN, "bold is NaN");
        check(|mixture| mixture.repeats = 0.95, "repeats + next_question");
        check(|mixture| mixture.most_sentences = 0, "most_sentences");
        check(|mixture| mixture.subjects.retain(|name, _| name != "bags"), "no shares for bags");
        check(|mixture| mixture.subjects.extend([("chess".to_string(), mixture.shares("bags"))]), "expected one of addition,");
        check(|mixture| mixture.subjects.values_mut().for_each(|shares| shares.careful = 0.9), "the sum must be at most 1");
        assert!(toml::from_str::<Mixture>("carefull = 1").expect_err("unknown").to_string().contains("careful_right"));
    }
}
