//! The types of a subject and of its exercises. Independent of which subjects exist.

use super::split::{Split, fingerprint};
use crate::flow::Problem;
use crate::rng::Stream;

/// A kind of arithmetic problem.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// The subject's name in ids, settings and reports.
    pub name: &'static str,
    /// Samples operands that `build` accepts.
    pub(super) sample: fn(&mut Stream) -> Vec<u32>,
    /// Builds the exercise with these operands. `None` if they are outside the subject's range.
    pub(super) build: fn(&[u32]) -> Option<Exercise>,
}

/// A problem with its wordings, worked steps and answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exercise {
    /// The subject's name.
    pub subject: &'static str,
    /// The operands in the order of the question, such as `556+334`; identifies the problem. Each run of digits in it is one operand.
    pub written: String,
    /// The canonical form, such as `334+556`, shared by all problems with the same arithmetic. Determines the split.
    pub canonical: String,
    /// The question in two wordings.
    pub questions: [String; 2],
    /// The arithmetic as one expression, such as `334+556`.
    pub expression: String,
    /// The steps that lead to the answer, each simple enough for a very small model.
    pub worked_steps: String,
    /// The answer.
    pub answer: u32,
}

impl Subject {
    /// Samples a problem.
    ///
    /// # Panics
    /// If the subject samples operands outside its own range, which is a bug.
    pub fn exercise(&self, stream: &mut Stream) -> Exercise {
        let operands = (self.sample)(stream);
        (self.build)(&operands).unwrap_or_else(|| panic!("{} sampled operands outside its own range: {operands:?}", self.name))
    }
}

impl Exercise {
    /// Returns the split that the problem belongs to.
    pub fn split(&self) -> Split {
        Split::of(&format!("tiny/{}/{}", self.subject, self.canonical))
    }

    /// Returns the exercise as a [`Problem`]. The wording is a function of the operands, so that each id has exactly one question.
    pub fn problem(&self) -> Problem {
        let id = format!("tiny/{}/{}", self.subject, self.written);
        // Use the upper bits, because the split uses the lower ones, and the id is often also the canonical id that the split hashes.
        let wording = (fingerprint(&id) >> 32) as usize % self.questions.len();
        Problem {
            id,
            question: self.questions[wording].clone(),
            answer: self.answer.to_string(),
            subject: self.subject.to_string(),
            ..Problem::default()
        }
    }
}
