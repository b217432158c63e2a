//! Linear equations `ay+b=c` with a two-digit solution: take `b` away, then divide by `a`.

use super::{Exercise, Subject, columns};

pub(super) const SUBJECT: Subject = Subject {
    name: "linear",
    draw: |stream| {
        let (a, b, y) = (stream.between(3, 6), stream.between(11, 99), stream.between(40, 99));
        vec![a, b, a * y + b]
    },
    state,
};

fn state(operands: &[u32]) -> Option<Exercise> {
    let &[a @ 3..=6, b @ 11..=99, c @ 131..=693] = operands else {
        return None;
    };
    // The product has three digits and its first two hold `a`, so that the division has always two steps.
    let product = c - b;
    let answer = Some(product / a).filter(|answer| product % a == 0 && (40..=99).contains(answer))?;
    let (difference, division) = (columns::subtract(c, b, 3), columns::divide(product, a, 3, 2));
    Some(Exercise {
        subject: SUBJECT.name,
        written: format!("{a}y+{b}={c}"),
        canonical: format!("{a}y+{b}={c}"),
        questions: [format!("If {a}y+{b}={c}, find y."), format!("Solve {a}y+{b}={c} for y.")],
        expression: format!("({c}-{b})/{a}"),
        working: format!("{difference},{division}"),
        answer,
    })
}
