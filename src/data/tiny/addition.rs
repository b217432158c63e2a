//! Sums of two three-digit numbers; `a+b` and `b+a` are one problem.

use super::{Exercise, Subject, columns};

pub(super) const SUBJECT: Subject =
    Subject { name: "addition", draw: |stream| vec![stream.between(100, 999), stream.between(100, 999)], state };

fn state(operands: &[u32]) -> Option<Exercise> {
    let &[a @ 100..=999, b @ 100..=999] = operands else {
        return None;
    };
    Some(Exercise {
        subject: SUBJECT.name,
        written: format!("{a}+{b}"),
        canonical: format!("{}+{}", a.min(b), a.max(b)),
        questions: [format!("What is {a}+{b}?"), format!("Compute {a}+{b}.")],
        expression: format!("{a}+{b}"),
        working: columns::add(a, b, 3),
        answer: a + b,
    })
}
