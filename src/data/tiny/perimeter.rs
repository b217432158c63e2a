//! The perimeter of a shape with equal sides: a three-digit number times a digit.

use super::{Exercise, Subject, columns};

pub(super) const SUBJECT: Subject =
    Subject { name: "perimeter", draw: |stream| vec![stream.between(3, 9), stream.between(100, 999)], state };

fn state(operands: &[u32]) -> Option<Exercise> {
    let &[sides @ 3..=9, length @ 100..=999] = operands else {
        return None;
    };
    Some(Exercise {
        subject: SUBJECT.name,
        written: format!("{sides}*{length}"),
        canonical: format!("{sides}*{length}"),
        questions: [
            format!("What is the perimeter of a shape with {sides} equal sides of {length}?"),
            format!("A shape has {sides} equal sides of {length}. Find its perimeter."),
        ],
        expression: format!("{sides}*{length}"),
        working: columns::multiply(length, sides, 0, 3),
        answer: sides * length,
    })
}
