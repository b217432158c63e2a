//! Differences of two three-digit numbers that have three digits themselves, so that no result begins with a zero.

use super::{Exercise, Subject, columns};
use crate::draw::Stream;

pub(super) const SUBJECT: Subject = Subject { name: "subtraction", draw, state };

fn draw(stream: &mut Stream) -> Vec<u32> {
    // Two draws put in order reach every pair; drawing the larger one after the smaller one would favour small differences.
    let (one, other) = (stream.between(100, 899), stream.between(100, 899));
    vec![one.max(other) + 100, one.min(other)]
}

fn state(operands: &[u32]) -> Option<Exercise> {
    let &[a @ 200..=999, b @ 100..=899] = operands else {
        return None;
    };
    let answer = a.checked_sub(b).filter(|&answer| answer >= 100)?;
    Some(Exercise {
        subject: SUBJECT.name,
        written: format!("{a}-{b}"),
        canonical: format!("{a}-{b}"),
        questions: [format!("What is {a}-{b}?"), format!("Compute {a}-{b}.")],
        expression: format!("{a}-{b}"),
        working: columns::subtract(a, b, 3),
        answer,
    })
}
