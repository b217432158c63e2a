//! What a subject is and what is known of each of its problems. It must never know which subjects there are.

use super::split::{Split, fingerprint};
use crate::draw::Stream;
use crate::flow::Problem;

/// A kind of problem.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// Names the subject in ids, settings and reports.
    pub name: &'static str,
    /// Draws operands that `state` accepts.
    pub(super) draw: fn(&mut Stream) -> Vec<u32>,
    /// States and solves the problem with these operands; `None` when they are out of the subject's range.
    pub(super) state: fn(&[u32]) -> Option<Exercise>,
}

/// A problem with all that is known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exercise {
    /// The subject's name.
    pub subject: &'static str,
    /// The operands as the question gives them, such as `556+334`: names the problem. Its runs of digits are the operands.
    pub written: String,
    /// The same for all problems that ask for the same arithmetic, such as `334+556`: decides the split.
    pub canonical: String,
    /// The question in two wordings.
    pub questions: [String; 2],
    /// The arithmetic in one expression, such as `334+556`.
    pub expression: String,
    /// The steps that lead to the answer, each short enough that a very small model can take it.
    pub working: String,
    /// The answer.
    pub answer: u32,
}

impl Subject {
    /// Draws a problem, each set of operands equally likely.
    pub fn exercise(&self, stream: &mut Stream) -> Exercise {
        let operands = (self.draw)(stream);
        (self.state)(&operands).unwrap_or_else(|| panic!("{} drew operands out of its own range: {operands:?}", self.name))
    }
}

impl Exercise {
    /// Which set the problem belongs to.
    pub fn split(&self) -> Split {
        Split::of(&format!("tiny/{}/{}", self.subject, self.canonical))
    }

    /// The problem as a record. Its wording is a function of its operands, so that an id stands for one question.
    pub fn problem(&self) -> Problem {
        let id = format!("tiny/{}/{}", self.subject, self.written);
        // The upper bits: the split reads the lower ones, often of the same text.
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
