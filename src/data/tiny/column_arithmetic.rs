//! Column arithmetic in the notation that all subjects share, one column per step. Each step states its operands and carry, and ends with
//! the partial result in parentheses. Each character therefore depends only on a few characters shortly before it, and the answer can be
//! copied from the steps.

/// Returns the lowest `width` digits of `number`, least significant first.
fn digits(number: u32, width: usize) -> Vec<u32> {
    (0..width as u32).map(|place| number / 10u32.pow(place) % 10).collect()
}

/// Writes `a + b` in `width` columns, such as `4+6=10(0),3+5+1=09(90),3+5+0=08(890)`. Both numbers must have at most `width` digits.
pub(super) fn add(a: u32, b: u32, width: usize) -> String {
    let mut carry = 0;
    let mut steps = Vec::new();
    for (place, (a, b)) in digits(a, width).into_iter().zip(digits(b, width)).enumerate() {
        let sum = a + b + carry;
        let carried = if place == 0 { String::new() } else { format!("+{carry}") };
        steps.push((format!("{a}+{b}{carried}={sum:02}"), sum));
        carry = sum / 10;
    }
    with_results(steps)
}

/// Writes `a - b` in `width` columns, such as `4-6=8-10(8),3-5-1=7-10(78),8-5-1=2-00(278)`. Requires `a >= b`.
///
/// A column that would be negative borrows 10 from the next one, as in `4-6=8-10`, and the next column subtracts 1.
pub(super) fn subtract(a: u32, b: u32, width: usize) -> String {
    let mut borrow = 0;
    let mut steps = Vec::new();
    for (place, (a, b)) in digits(a, width).into_iter().zip(digits(b, width)).enumerate() {
        let borrows = u32::from(a < b + borrow);
        let rest = a + 10 * borrows - b - borrow;
        let borrowed = if place == 0 { String::new() } else { format!("-{borrow}") };
        steps.push((format!("{a}-{b}{borrowed}={rest}-{borrows}0"), rest));
        borrow = borrows;
    }
    with_results(steps)
}

/// Writes `a * factor + more` in `width` columns, such as `8*7+5=56+5=61(1),3*7+6=21+6=27(271)`. `factor` and `more` are single digits.
///
/// If `more` is 0, the first column has no addition: `4*6=24(4),8*6+2=48+2=50(504)`.
pub(super) fn multiply(a: u32, factor: u32, more: u32, width: usize) -> String {
    let mut carry = more;
    let mut steps = Vec::new();
    for a in digits(a, width) {
        let sum = a * factor + carry;
        let product = a * factor;
        let step = if steps.is_empty() && more == 0 {
            format!("{a}*{factor}={product:02}")
        } else {
            format!("{a}*{factor}+{carry}={product:02}+{carry}={sum:02}")
        };
        steps.push((step, sum));
        carry = sum / 10;
    }
    with_results(steps)
}

/// Writes the long division of `number`, padded to `width` digits, by a single digit: `24/5=4r4,45/5=9r0`. The first step divides the first
/// `start` digits.
pub(super) fn divide(number: u32, divisor: u32, width: usize, start: usize) -> String {
    let mut rest = 0;
    let mut steps = Vec::new();
    for (place, digit) in digits(number, width).into_iter().rev().enumerate() {
        let part = rest * 10 + digit;
        rest = part;
        if place + 1 >= start {
            rest = part % divisor;
            steps.push(format!("{part:02}/{divisor}={}r{rest}", part / divisor));
        }
    }
    steps.join(",")
}

/// Joins the steps, lowest column first, and appends the partial result to each. `steps` has each column's text and value; the carry of the
/// last column is part of the result.
fn with_results(steps: Vec<(String, u32)>) -> String {
    let last = steps.len() - 1;
    let mut result = String::new();
    let mut written = Vec::new();
    for (place, (step, value)) in steps.into_iter().enumerate() {
        result = if place < last { format!("{}{result}", value % 10) } else { format!("{value}{result}") };
        written.push(format!("{step}({result})"));
    }
    written.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn add_subtract_multiply_and_divide_write_columns() {
        assert_eq!(add(334, 556, 3), "4+6=10(0),3+5+1=09(90),3+5+0=08(890)");
        assert_eq!(add(95, 87, 2), "5+7=12(2),9+8+1=18(182)");
        assert_eq!(subtract(834, 556, 3), "4-6=8-10(8),3-5-1=7-10(78),8-5-1=2-00(278)");
        assert_eq!(multiply(38, 7, 5, 2), "8*7+5=56+5=61(1),3*7+6=21+6=27(271)");
        assert_eq!(multiply(84, 6, 0, 2), "4*6=24(4),8*6+2=48+2=50(504)");
        assert_eq!(divide(245, 5, 3, 2), "24/5=4r4,45/5=9r0");
        assert_eq!(divide(847, 6, 3, 1), "08/6=1r2,24/6=4r0,07/6=1r1");
    }
}
