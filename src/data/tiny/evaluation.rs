//! The value of `k(x+a)` at a given `x`: a sum of two-digit numbers, then a product with a digit.

use super::{Exercise, Subject, columns};

pub(super) const SUBJECT: Subject =
    Subject { name: "evaluation", draw: |stream| vec![stream.between(3, 9), stream.between(11, 49), stream.between(11, 49)], state };

fn state(operands: &[u32]) -> Option<Exercise> {
    let &[factor @ 3..=9, term @ 11..=49, x @ 11..=49] = operands else {
        return None;
    };
    let sum = x + term;
    Some(Exercise {
        subject: SUBJECT.name,
        written: format!("{factor}(x+{term}),x={x}"),
        canonical: format!("{factor}*({}+{})", term.min(x), term.max(x)),
        questions: [format!("What is {factor}(x+{term}) at x={x}?"), format!("If x={x}, find {factor}(x+{term}).")],
        expression: format!("{factor}*({x}+{term})"),
        working: format!("{},{}", columns::add(x, term, 2), columns::multiply(sum, factor, 0, 2)),
        answer: factor * sum,
    })
}
