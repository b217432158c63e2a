//! The largest of three different two-digit numbers, in any order.

use super::{Exercise, Subject};
use crate::draw::Stream;

pub(super) const SUBJECT: Subject = Subject { name: "maximum", draw, state };

fn draw(stream: &mut Stream) -> Vec<u32> {
    let mut numbers: Vec<u32> = Vec::new();
    while numbers.len() < 3 {
        let number = stream.between(10, 99);
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    numbers
}

fn state(operands: &[u32]) -> Option<Exercise> {
    let &[a @ 10..=99, b @ 10..=99, c @ 10..=99] = operands else {
        return None;
    };
    if a == b || b == c || a == c {
        return None;
    }
    let mut sorted = [a, b, c];
    sorted.sort_unstable();
    let pair = a.max(b);
    Some(Exercise {
        subject: SUBJECT.name,
        written: format!("{a},{b},{c}"),
        canonical: sorted.map(|number| number.to_string()).join(","),
        questions: [format!("What is the largest of {a}, {b} and {c}?"), format!("Of {a}, {b} and {c}, find the largest.")],
        expression: format!("max({a},{b},{c})"),
        working: format!("{},{}", compare(a, b), compare(pair, c)),
        answer: sorted[2],
    })
}

/// The larger of two numbers by the sign of their difference, such as `38-91<0(91)`: once the sign stands there, the rest is copied.
fn compare(a: u32, b: u32) -> String {
    let sign = if a < b { '<' } else { '>' };
    format!("{a}-{b}{sign}0({})", a.max(b))
}
