//! Sums of the digits of a six-digit number; the order of the digits does not make another problem.

use super::{Exercise, Subject};

pub(super) const SUBJECT: Subject = Subject { name: "digit-sum", draw: |stream| vec![stream.between(100_000, 999_999)], state };

fn state(operands: &[u32]) -> Option<Exercise> {
    let &[number @ 100_000..=999_999] = operands else {
        return None;
    };
    let mut digits: Vec<u32> = number.to_string().chars().filter_map(|digit| digit.to_digit(10)).collect();
    let mut total = digits[0];
    let mut working = digits[0].to_string();
    for (place, digit) in digits.iter().enumerate().skip(1) {
        total += digit;
        // The comma inside the number, and the semicolon where the working passes it, mark the place: nothing has to be counted beyond three.
        let separator = match place {
            1 => "",
            3 => ";",
            _ => ",",
        };
        working += &format!("{separator}+{digit}={total:02}");
    }
    let expression = digits.iter().map(u32::to_string).collect::<Vec<_>>().join("+");
    digits.sort_unstable();
    let (thousands, rest) = (number / 1000, number % 1000);
    Some(Exercise {
        subject: SUBJECT.name,
        written: number.to_string(),
        canonical: digits.iter().map(u32::to_string).collect(),
        questions: [
            format!("What is the sum of the digits of {thousands},{rest:03}?"),
            format!("Add up the digits of {thousands},{rest:03}."),
        ],
        expression,
        working,
        answer: total,
    })
}
