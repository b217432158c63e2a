//! Remainders of three-digit numbers by long division.

use super::{Exercise, Subject, columns};

pub(super) const SUBJECT: Subject =
    Subject { name: "remainder", draw: |stream| vec![stream.between(100, 999), stream.between(3, 6)], state };

fn state(operands: &[u32]) -> Option<Exercise> {
    let &[number @ 100..=999, divisor @ 3..=6] = operands else {
        return None;
    };
    Some(Exercise {
        subject: SUBJECT.name,
        written: format!("{number}mod{divisor}"),
        canonical: format!("{number}mod{divisor}"),
        questions: [
            format!("What is the remainder when {number} is divided by {divisor}?"),
            format!("What is left when {number} is divided by {divisor}?"),
        ],
        expression: format!("{number} mod {divisor}"),
        working: columns::divide(number, divisor, 3, 1),
        answer: number % divisor,
    })
}
