//! A term of an arithmetic sequence: the steps taken, their product with the difference, and the start added.

use super::{Exercise, Subject, columns};

pub(super) const SUBJECT: Subject =
    Subject { name: "sequence", draw: |stream| vec![stream.between(11, 99), stream.between(2, 9), stream.between(3, 9)], state };

fn state(operands: &[u32]) -> Option<Exercise> {
    let &[start @ 11..=99, difference @ 2..=9, term @ 3..=9] = operands else {
        return None;
    };
    let steps = term - 1;
    let risen = steps * difference;
    let (rise, sum) = (format!("{term}-1={steps},{steps}*{difference}={risen:02}"), columns::add(risen, start, 2));
    Some(Exercise {
        subject: SUBJECT.name,
        written: format!("{start},+{difference},term{term}"),
        // The order of the factors is of no importance to the arithmetic.
        canonical: format!("{start}+{}*{}", steps.min(difference), steps.max(difference)),
        questions: [
            format!("A sequence starts at {start} and goes up by {difference}. What is term {term}?"),
            format!("Find term {term} of a sequence that starts at {start} and goes up by {difference}."),
        ],
        expression: format!("{start}+{steps}*{difference}"),
        working: format!("{rise},{sum}"),
        answer: start + risen,
    })
}
