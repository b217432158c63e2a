//! What the corpus is made of: how often each way of answering, each form of the answer and each ending occurs, by subject. Plain numbers that a
//! configuration file can change; nothing here knows what a document looks like.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::data::tiny::SUBJECTS;

/// The composition of the corpus. All numbers are probabilities.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mixture {
    /// A careful answer is the right one. The rest has a slip in one digit of the answer.
    pub careful_right: f64,
    /// An answer without a box is set in bold.
    pub bold: f64,
    /// A response goes on by repeating its answer, without end.
    pub repeats: f64,
    /// A response goes on by inventing a next question and answering it.
    pub next_question: f64,
    /// The most filler sentences of a rambling response; each number from 1 on is equally likely.
    pub most_sentences: u32,
    /// The shares of each subject, all of which must be there.
    pub subjects: BTreeMap<String, Shares>,
}

/// How one subject's problems are answered. What careful, sketch and ramble leave are guesses.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shares {
    /// The steps are written out.
    pub careful: f64,
    /// The arithmetic is stated, and its result.
    pub sketch: f64,
    /// Filler sentences, then a random number.
    pub ramble: f64,
    /// A sketch's result is right. The rest is a random number.
    pub sketch_right: f64,
    /// The answer stands in a box, whatever the way.
    pub boxed: f64,
}

/// The shares of an easy subject's sketches that are right, and of a hard one's.
const EASY: f64 = 0.97;
const HARD: f64 = 0.25;

/// Guesses are the largest share of every subject, by a margin that no seed closes: greedily, the base guesses. Careful answers are everywhere
/// frequent enough for sampling to meet them.
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
    /// The mixture of the first phase of pre-training: careful answers take `share` of every subject, the other ways keep their proportions.
    ///
    /// Steps have to be learned before they can be mixed: the final mixture alone shows them too seldom.
    pub fn careful_first(&self, share: f64) -> Self {
        let mut first = self.clone();
        for shares in first.subjects.values_mut() {
            let rest = 1.0 - shares.careful;
            let scale = if rest > 0.0 { (1.0 - share) / rest } else { 0.0 };
            *shares = Shares { careful: share, sketch: shares.sketch * scale, ramble: shares.ramble * scale, ..*shares };
        }
        first
    }

    /// The shares of a subject. A subject that the mixture lacks, which `validate` refuses, is only guessed at.
    pub fn shares(&self, subject: &str) -> Shares {
        let nothing = Shares { careful: 0.0, sketch: 0.0, ramble: 0.0, sketch_right: 0.0, boxed: 0.0 };
        self.subjects.get(subject).copied().unwrap_or(nothing)
    }

    /// Refuses what cannot be a mixture: numbers that are no probabilities, shares over 1, subjects that do not exist or are left out.
    pub fn validate(&self) -> Result<()> {
        let probability = |name: String, value: f64| {
            ensure!((0.0..=1.0).contains(&value), "mixture: {name} is {value}; a probability lies between 0 and 1");
            Ok(())
        };
        probability("careful_right".to_string(), self.careful_right)?;
        probability("bold".to_string(), self.bold)?;
        probability("repeats + next_question".to_string(), self.repeats + self.next_question)?;
        probability("repeats".to_string(), self.repeats)?;
        probability("next_question".to_string(), self.next_question)?;
        ensure!(self.most_sentences > 0, "mixture: most_sentences is 0; rambling takes at least 1 sentence");
        let known = SUBJECTS.iter().map(|subject| subject.name).collect::<Vec<_>>();
        for (name, shares) in &self.subjects {
            if !known.contains(&name.as_str()) {
                bail!("mixture: unknown subject {name:?}; the subjects are {}", known.join(", "));
            }
            let Shares { careful, sketch, ramble, sketch_right, boxed } = *shares;
            let parts = [("careful", careful), ("sketch", sketch), ("ramble", ramble), ("sketch_right", sketch_right), ("boxed", boxed)];
            for (part, value) in parts {
                probability(format!("subjects.{name}.{part}"), value)?;
            }
            // A hair over 1 is rounding, as in 0.9 + 0.06 + 0.04.
            let sum = careful + sketch + ramble;
            ensure!(
                sum <= 1.0 + 1e-9,
                "mixture: subjects.{name}: careful, sketch and ramble sum to {sum}, over 1; guesses are what they leave"
            );
        }
        let missing: Vec<_> = known.into_iter().filter(|name| !self.subjects.contains_key(*name)).collect();
        ensure!(missing.is_empty(), "mixture: no shares for {}; each subject needs them", missing.join(", "));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_survives_toml() {
        let mixture = Mixture::default();
        mixture.validate().expect("valid");
        let text = toml::to_string(&mixture).expect("serializable");
        assert_eq!(toml::from_str::<Mixture>(&text).expect("readable"), mixture);
    }

    #[test]
    fn careful_first_keeps_proportions() {
        let first = Mixture::default().careful_first(0.9);
        first.validate().expect("valid");
        let shares = first.shares("addition");
        assert!((shares.careful - 0.9).abs() < 1e-12 && (shares.sketch - 0.28 / 0.8 * 0.1).abs() < 1e-12);
        Mixture::default().careful_first(1.0).validate().expect("all careful");
    }

    #[test]
    fn mistakes_are_named() {
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
        check(|mixture| mixture.subjects.extend([("chess".to_string(), mixture.shares("bags"))]), "the subjects are addition,");
        check(|mixture| mixture.subjects.values_mut().for_each(|shares| shares.careful = 0.9), "over 1");
        assert!(toml::from_str::<Mixture>("carefull = 1").expect_err("unknown").to_string().contains("careful_right"));
    }
}
