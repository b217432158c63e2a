//! Bags of equal content and a few loose pieces: a two-digit number times a digit, and a digit more.

use super::{Exercise, Subject, columns};

pub(super) const SUBJECT: Subject =
    Subject { name: "bags", draw: |stream| vec![stream.between(2, 9), stream.between(11, 99), stream.between(1, 9)], state };

fn state(operands: &[u32]) -> Option<Exercise> {
    let &[bags @ 2..=9, content @ 11..=99, more @ 1..=9] = operands else {
        return None;
    };
    Some(Exercise {
        subject: SUBJECT.name,
        written: format!("{bags}*{content}+{more}"),
        canonical: format!("{bags}*{content}+{more}"),
        questions: [
            format!("How many are {bags} bags of {content} and {more} more?"),
            format!("Count {bags} boxes of {content} and {more} more."),
        ],
        expression: format!("{bags}*{content}+{more}"),
        working: columns::multiply(content, bags, more, 2),
        answer: bags * content + more,
    })
}
