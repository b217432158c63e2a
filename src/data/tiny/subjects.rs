//! The ten subjects. Each samples operands, states the question and solves it step by step.

use super::column_arithmetic;
use super::exercise::{Exercise, Subject};
use crate::rng::Stream;

/// All subjects, in the order of sets and reports. To add one, add an entry here and a function below.
pub const SUBJECTS: &[Subject] = &[
    Subject { name: "addition", sample: |stream| vec![stream.between(100, 999), stream.between(100, 999)], build: addition },
    Subject { name: "subtraction", sample: sample_subtraction, build: subtraction },
    Subject {
        name: "linear",
        sample: |stream| {
            let (a, b, y) = (stream.between(3, 6), stream.between(11, 99), stream.between(40, 99));
            vec![a, b, a * y + b]
        },
        build: linear,
    },
    Subject { name: "remainder", sample: |stream| vec![stream.between(100, 999), stream.between(3, 6)], build: remainder },
    Subject {
        name: "sequence",
        sample: |stream| vec![stream.between(11, 99), stream.between(2, 9), stream.between(3, 9)],
        build: sequence,
    },
    Subject { name: "digit-sum", sample: |stream| vec![stream.between(100_000, 999_999)], build: digit_sum },
    Subject { name: "maximum", sample: sample_maximum, build: maximum },
    Subject { name: "bags", sample: |stream| vec![stream.between(2, 9), stream.between(11, 99), stream.between(1, 9)], build: bags },
    Subject {
        name: "evaluation",
        sample: |stream| vec![stream.between(3, 9), stream.between(11, 49), stream.between(11, 49)],
        build: evaluation,
    },
    Subject { name: "perimeter", sample: |stream| vec![stream.between(3, 9), stream.between(100, 999)], build: perimeter },
];

/// Sums of two three-digit numbers. `a+b` and `b+a` are the same problem.
fn addition(operands: &[u32]) -> Option<Exercise> {
    let &[a @ 100..=999, b @ 100..=999] = operands else {
        return None;
    };
    Some(Exercise {
        subject: "addition",
        written: format!("{a}+{b}"),
        canonical: format!("{}+{}", a.min(b), a.max(b)),
        questions: [format!("What is {a}+{b}?"), format!("Compute {a}+{b}.")],
        expression: format!("{a}+{b}"),
        worked_steps: column_arithmetic::add(a, b, 3),
        answer: a + b,
    })
}

/// Sorts two independent samples, so that all pairs are about equally likely. Sampling the larger number above the smaller one would favor
/// small differences.
fn sample_subtraction(stream: &mut Stream) -> Vec<u32> {
    let (one, other) = (stream.between(100, 899), stream.between(100, 899));
    vec![one.max(other) + 100, one.min(other)]
}

/// Differences of two three-digit numbers. The difference has three digits too, so that no result starts with a zero.
fn subtraction(operands: &[u32]) -> Option<Exercise> {
    let &[a @ 200..=999, b @ 100..=899] = operands else {
        return None;
    };
    let answer = a.checked_sub(b).filter(|&answer| answer >= 100)?;
    Some(Exercise {
        subject: "subtraction",
        written: format!("{a}-{b}"),
        canonical: format!("{a}-{b}"),
        questions: [format!("What is {a}-{b}?"), format!("Compute {a}-{b}.")],
        expression: format!("{a}-{b}"),
        worked_steps: column_arithmetic::subtract(a, b, 3),
        answer,
    })
}

/// Linear equations `ay+b=c` with a two-digit solution: subtract `b`, then divide by `a`.
fn linear(operands: &[u32]) -> Option<Exercise> {
    let &[a @ 3..=6, b @ 11..=99, c @ 131..=693] = operands else {
        return None;
    };
    // The product has three digits, and `a` fits into the first two, so that the division always has two steps.
    let product = c - b;
    let answer = Some(product / a).filter(|answer| product % a == 0 && (40..=99).contains(answer))?;
    let (difference, division) = (column_arithmetic::subtract(c, b, 3), column_arithmetic::divide(product, a, 3, 2));
    Some(Exercise {
        subject: "linear",
        written: format!("{a}y+{b}={c}"),
        canonical: format!("{a}y+{b}={c}"),
        questions: [format!("If {a}y+{b}={c}, find y."), format!("Solve {a}y+{b}={c} for y.")],
        expression: format!("({c}-{b})/{a}"),
        worked_steps: format!("{difference},{division}"),
        answer,
    })
}

/// Remainders of three-digit numbers by long division.
fn remainder(operands: &[u32]) -> Option<Exercise> {
    let &[number @ 100..=999, divisor @ 3..=6] = operands else {
        return None;
    };
    Some(Exercise {
        subject: "remainder",
        written: format!("{number}mod{divisor}"),
        canonical: format!("{number}mod{divisor}"),
        questions: [
            format!("What is the remainder when {number} is divided by {divisor}?"),
            format!("What is left when {number} is divided by {divisor}?"),
        ],
        expression: format!("{number} mod {divisor}"),
        worked_steps: column_arithmetic::divide(number, divisor, 3, 1),
        answer: number % divisor,
    })
}

/// A term of an arithmetic sequence: count the steps, multiply by the difference, and add the start.
fn sequence(operands: &[u32]) -> Option<Exercise> {
    let &[start @ 11..=99, difference @ 2..=9, term @ 3..=9] = operands else {
        return None;
    };
    let steps = term - 1;
    let risen = steps * difference;
    let (rise, sum) = (format!("{term}-1={steps},{steps}*{difference}={risen:02}"), column_arithmetic::add(risen, start, 2));
    Some(Exercise {
        subject: "sequence",
        written: format!("{start},+{difference},term{term}"),
        // Swapping the factors gives the same arithmetic.
        canonical: format!("{start}+{}*{}", steps.min(difference), steps.max(difference)),
        questions: [
            format!("A sequence starts at {start} and goes up by {difference}. What is term {term}?"),
            format!("Find term {term} of a sequence that starts at {start} and goes up by {difference}."),
        ],
        expression: format!("{start}+{steps}*{difference}"),
        worked_steps: format!("{rise},{sum}"),
        answer: start + risen,
    })
}

/// Digit sums of six-digit numbers. Numbers with the same digits in another order are the same problem.
fn digit_sum(operands: &[u32]) -> Option<Exercise> {
    let &[number @ 100_000..=999_999] = operands else {
        return None;
    };
    let mut digits: Vec<u32> = number.to_string().chars().filter_map(|digit| digit.to_digit(10)).collect();
    let mut total = digits[0];
    let mut worked_steps = digits[0].to_string();
    for (place, digit) in digits.iter().enumerate().skip(1) {
        total += digit;
        // The number has a comma in the middle. The steps have a semicolon there, so the model never has to count beyond three.
        let separator = match place {
            1 => "",
            3 => ";",
            _ => ",",
        };
        worked_steps += &format!("{separator}+{digit}={total:02}");
    }
    let expression = digits.iter().map(u32::to_string).collect::<Vec<_>>().join("+");
    digits.sort_unstable();
    let (thousands, rest) = (number / 1000, number % 1000);
    Some(Exercise {
        subject: "digit-sum",
        written: number.to_string(),
        canonical: digits.iter().map(u32::to_string).collect(),
        questions: [
            format!("What is the sum of the digits of {thousands},{rest:03}?"),
            format!("Add up the digits of {thousands},{rest:03}."),
        ],
        expression,
        worked_steps,
        answer: total,
    })
}

fn sample_maximum(stream: &mut Stream) -> Vec<u32> {
    let mut numbers: Vec<u32> = Vec::new();
    while numbers.len() < 3 {
        let number = stream.between(10, 99);
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    numbers
}

/// The largest of three different two-digit numbers, in any order.
fn maximum(operands: &[u32]) -> Option<Exercise> {
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
        subject: "maximum",
        written: format!("{a},{b},{c}"),
        canonical: sorted.map(|number| number.to_string()).join(","),
        questions: [format!("What is the largest of {a}, {b} and {c}?"), format!("Of {a}, {b} and {c}, find the largest.")],
        expression: format!("max({a},{b},{c})"),
        worked_steps: format!("{},{}", compare(a, b), compare(pair, c)),
        answer: sorted[2],
    })
}

/// Writes a comparison by the sign of the difference, followed by the larger number, such as `38-91<0(91)`.
fn compare(a: u32, b: u32) -> String {
    let sign = if a < b { '<' } else { '>' };
    format!("{a}-{b}{sign}0({})", a.max(b))
}

/// Equally filled bags plus a few loose pieces: a two-digit number times a digit, plus a digit.
fn bags(operands: &[u32]) -> Option<Exercise> {
    let &[bags @ 2..=9, content @ 11..=99, more @ 1..=9] = operands else {
        return None;
    };
    Some(Exercise {
        subject: "bags",
        written: format!("{bags}*{content}+{more}"),
        canonical: format!("{bags}*{content}+{more}"),
        questions: [
            format!("How many are {bags} bags of {content} and {more} more?"),
            format!("Count {bags} boxes of {content} and {more} more."),
        ],
        expression: format!("{bags}*{content}+{more}"),
        worked_steps: column_arithmetic::multiply(content, bags, more, 2),
        answer: bags * content + more,
    })
}

/// The value of `k(x+a)` at a given `x`: a sum of two-digit numbers, then its product with a digit.
fn evaluation(operands: &[u32]) -> Option<Exercise> {
    let &[factor @ 3..=9, term @ 11..=49, x @ 11..=49] = operands else {
        return None;
    };
    let sum = x + term;
    Some(Exercise {
        subject: "evaluation",
        written: format!("{factor}(x+{term}),x={x}"),
        canonical: format!("{factor}*({}+{})", term.min(x), term.max(x)),
        questions: [format!("What is {factor}(x+{term}) at x={x}?"), format!("If x={x}, find {factor}(x+{term}).")],
        expression: format!("{factor}*({x}+{term})"),
        worked_steps: format!("{},{}", column_arithmetic::add(x, term, 2), column_arithmetic::multiply(sum, factor, 0, 2)),
        answer: factor * sum,
    })
}

/// The perimeter of a shape with equal sides: a three-digit number times a digit.
fn perimeter(operands: &[u32]) -> Option<Exercise> {
    let &[sides @ 3..=9, length @ 100..=999] = operands else {
        return None;
    };
    Some(Exercise {
        subject: "perimeter",
        written: format!("{sides}*{length}"),
        canonical: format!("{sides}*{length}"),
        questions: [
            format!("What is the perimeter of a shape with {sides} equal sides of {length}?"),
            format!("A shape has {sides} equal sides of {length}. Find its perimeter."),
        ],
        expression: format!("{sides}*{length}"),
        worked_steps: column_arithmetic::multiply(length, sides, 0, 3),
        answer: sides * length,
    })
}
