//! The embedded model's world: arithmetic problems of ten subjects, split by their canonical form into training, validation and test. A subject
//! states problems and works them out in steps; how a *model* answers (carefully, or not) is the corpus's business, in `crate::tiny`.
//!
//! To add a subject, write its file and add a line to [`SUBJECTS`].

mod addition;
mod bags;
mod columns;
mod digit_sum;
mod evaluation;
mod linear;
mod maximum;
mod perimeter;
mod remainder;
mod sequence;
mod split;
mod subtraction;

pub use split::{Split, problems};

use crate::draw::Stream;
use crate::flow::Problem;

/// Every subject, in the order in which sets and reports list them.
pub const SUBJECTS: [Subject; 10] = [
    addition::SUBJECT,
    subtraction::SUBJECT,
    linear::SUBJECT,
    remainder::SUBJECT,
    sequence::SUBJECT,
    digit_sum::SUBJECT,
    maximum::SUBJECT,
    bags::SUBJECT,
    evaluation::SUBJECT,
    perimeter::SUBJECT,
];

/// A kind of problem.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// Names the subject in ids, settings and reports.
    pub name: &'static str,
    /// Draws operands that `state` accepts.
    draw: fn(&mut Stream) -> Vec<u32>,
    /// States and solves the problem with these operands; `None` when they are out of the subject's range.
    state: fn(&[u32]) -> Option<Exercise>,
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
        let wording = (split::fingerprint(&id) >> 32) as usize % self.questions.len();
        Problem {
            id,
            question: self.questions[wording].clone(),
            answer: self.answer.to_string(),
            subject: self.subject.to_string(),
            ..Problem::default()
        }
    }
}

/// The exercise that an id such as `tiny/addition/334+556` names, if it names one.
pub fn by_id(id: &str) -> Option<Exercise> {
    let (subject, written) = id.strip_prefix("tiny/")?.split_once('/')?;
    let subject = SUBJECTS.iter().find(|known| known.name == subject)?;
    let runs = written.split(|c: char| !c.is_ascii_digit()).filter(|run| !run.is_empty());
    let operands = runs.map(|run| run.parse().ok()).collect::<Option<Vec<u32>>>()?;
    (subject.state)(&operands).filter(|exercise| exercise.written == written)
}

#[cfg(test)]
mod tests;
