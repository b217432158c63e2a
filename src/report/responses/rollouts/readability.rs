//! Whether a response is readable text, to find the step from which a policy writes gibberish. A measure for orientation: it sees broken
//! characters, repetitions and foreign scripts, not nonsense made of ordinary words.

use crate::eval::text_stats;
use crate::train::measures::is_garbled;

/// The share of letters that are not ASCII from which a response counts as unreadable, where the first responses have fewer.
const FOREIGN: f64 = 0.2;

/// Whether responses are readable, in comparison with the first recorded ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Readability {
    /// The share of letters that are not ASCII in the first recorded responses.
    pub base_foreign: f64,
}

impl Readability {
    /// Measures the first recorded responses.
    pub fn of_base<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let (foreign, all) = texts.map(text_stats::letters).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        Self { base_foreign: share(foreign, all) }
    }

    /// True if a response is garbled, ends in repetitions, or has many foreign letters where the first responses had few.
    pub fn is_unreadable(self, text: &str) -> bool {
        let (foreign, all) = text_stats::letters(text);
        let is_foreign = self.base_foreign < FOREIGN / 4.0 && share(foreign, all) > FOREIGN;
        is_foreign || is_garbled(text, &[]) || text_stats::has_repeated_tail(text)
    }
}

fn share(part: usize, all: usize) -> f64 {
    part as f64 / all.max(1) as f64
}

/// Returns the index of the first step from which most responses are unreadable at every later step too; `None` if there is none. `shares`
/// are the shares of unreadable responses, in order of steps.
pub fn gibberish_from(shares: &[f64]) -> Option<usize> {
    let readable = shares.iter().rposition(|share| *share < 0.5);
    let first = readable.map_or(0, |last| last + 1);
    (first < shares.len()).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_unreadable_sees_broken_repeated_and_foreign_text() {
        let english = Readability::of_base(["So x = 3 and with π = 3.14 we get that the answer is 4"].into_iter());
        let chinese = Readability::of_base(["所以答案是三"].into_iter());
        let check = |text: &str, expected: [bool; 2]| {
            assert_eq!([english, chinese].map(|measure| measure.is_unreadable(text)), expected, "{text:?}");
        };
        check("", [false, false]);
        check(" Step by step, 4+6=10(0); so \\boxed{890}.", [false, false]);
        check("所以答案是三", [true, false]);
        check("the answer \u{FFFD}\u{FFFD} is", [true, true]);
        check(&"again ".repeat(20), [true, true]);
        check("sin α + β", [true, false]);
    }

    #[test]
    fn gibberish_from_needs_all_later_steps() {
        let check = |shares: &[f64], expected: Option<usize>| assert_eq!(gibberish_from(shares), expected, "{shares:?}");
        check(&[], None);
        check(&[0.0, 0.1], None);
        check(&[0.0, 0.9, 0.1], None);
        check(&[0.0, 0.9, 0.1, 0.5, 0.8], Some(3));
        check(&[0.9, 0.9], Some(0));
    }
}
