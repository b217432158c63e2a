//! The equality of the published training reward (DeepScaleR), for comparable rewards: two text normalizations, then a computer algebra
//! system. The normalizations are reproduced step by step, including their quirks: units are matched by name, and `8,996,734,080` is not a
//! number. Where the published grader calls its algebra system, our own comparison of values is used, without rounding.

use crate::verify::compare::scalar;
use crate::verify::fuel::Fuel;
use crate::verify::grader::deepscaler_text::{first_normalization, integer, is_fraction, second_normalization, without_commas};
use crate::verify::grader::strict::note_reading;
use crate::verify::read;
use crate::verify::read::lex::Commas;
use crate::verify::trace::{Stage, Trace, quoted};
use crate::verify::tree::Tree;
use crate::verify::value;
use crate::verify::value::evaluate::Reading;
use crate::verify::{Comparison, Method};

/// Longer answers, in bytes, are compared as text, because some steps are quadratic.
const MAX_LENGTH: usize = 2000;

/// Returns the content of the last `\boxed{...}` as the published extraction does: no space before the brace, no `\fbox`, and escaped
/// braces count like others.
pub fn last_boxed(response: &str) -> Option<&str> {
    let rest = response.get(response.rfind("\\boxed")?..)?.strip_prefix("\\boxed{")?;
    let mut depth = 1usize;
    for (at, byte) in rest.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return rest.get(..at);
        }
    }
    None
}

/// Decides whether the published training reward would be 1.
pub fn equal(gold: &str, answer: &str, trace: &mut Trace) -> Comparison {
    if gold.len().max(answer.len()) > MAX_LENGTH {
        let equal = gold.trim() == answer.trim();
        trace.note(Stage::Text, || {
            format!("{} as text; answers over {MAX_LENGTH} bytes are not parsed", if equal { "equal" } else { "not equal" })
        });
        return Comparison { equal, method: Method::Text };
    }
    if first_normalization(gold) == first_normalization(answer) {
        trace.note(Stage::Text, || format!("equal: both are {} after the first normalization", quoted(&first_normalization(gold))));
        return Comparison { equal: true, method: Method::Text };
    }
    let (gold, answer) = (second_normalization(gold), second_normalization(answer));
    if gold == answer {
        trace.note(Stage::Text, || format!("equal: both are {} after the second normalization", quoted(&gold)));
        return Comparison { equal: true, method: Method::Text };
    }
    if answer.is_empty() {
        trace.note(Stage::Text, || "not equal: the answer is empty");
        return Comparison { equal: false, method: Method::NoAnswer };
    }
    trace.note(Stage::Text, || format!("no verdict: {} and {} differ after two normalizations", quoted(&gold), quoted(&answer)));
    let (gold_parts, answer_parts) = (parts(&gold), parts(&answer));
    let ends = |text: &str| (text.chars().next(), text.chars().next_back());
    if gold_parts.len() > 1 && ends(&gold) != ends(&answer) || gold_parts.len() != answer_parts.len() {
        trace.note(Stage::Members, || {
            format!("not equal: different brackets or numbers of parts ({} and {})", gold_parts.len(), answer_parts.len())
        });
        return Comparison { equal: false, method: Method::Structure };
    }
    let mut weakest = Method::Text;
    for (gold, answer) in gold_parts.iter().zip(&answer_parts) {
        if gold_parts.len() > 1 {
            trace.set_depth(0);
            trace.note(Stage::Pair, || format!("{} with {}", quoted(gold), quoted(answer)));
            trace.set_depth(1);
        }
        let found = part(gold, answer, trace);
        if !found.equal {
            return found;
        }
        weakest = weakest.max(found.method);
    }
    Comparison { equal: true, method: weakest }
}

/// Compares one part of a tuple, or the whole answer: fractions only as text, an integer only with an integer, and the rest by algebra.
fn part(gold: &str, answer: &str, trace: &mut Trace) -> Comparison {
    let as_text = |rule: &str, trace: &mut Trace| {
        let equal = gold == answer;
        trace.note(Stage::Text, || format!("{} as text: {rule}", if equal { "equal" } else { "not equal" }));
        Comparison { equal, method: Method::Text }
    };
    if is_fraction(gold) && is_fraction(answer) {
        return as_text("this grader does not reduce fractions", trace);
    }
    if integer(gold).is_some() != integer(answer).is_some() || !may_evaluate(gold) || !may_evaluate(answer) {
        return as_text("only one side is an integer, or the published grader would not call its algebra system", trace);
    }
    let mut tree = Tree::default();
    let mut fuel = Fuel::new(Fuel::COMPARISON);
    let gold = read::read(gold, Commas::Separate, &mut tree, &mut fuel);
    note_reading("gold answer", &tree, gold, &fuel, trace);
    let answer = read::read(answer, Commas::Separate, &mut tree, &mut fuel);
    note_reading("answer", &tree, answer, &fuel, trace);
    let (Some(gold), Some(answer)) = (gold, answer) else {
        trace.note(Stage::Text, || "not equal: one side could not be parsed, and the texts differ");
        return Comparison { equal: false, method: Method::Text };
    };
    let found = scalar::compare(&mut tree, gold, answer, &mut fuel, trace);
    // The published algebra does not round, except to double precision.
    let doubles = crate::verify::value::decimal::decimal(&tree, gold, Reading::PLAIN).is_some()
        || crate::verify::value::decimal::decimal(&tree, answer, Reading::PLAIN).is_some();
    let size = |id, fuel: &mut Fuel| value::magnitude(&tree, id, fuel);
    let near = doubles
        && size(gold, &mut fuel).zip(size(answer, &mut fuel)).is_some_and(|(gold, answer)| (gold - answer).abs() <= 1e-15 * gold.abs());
    trace.count(&fuel);
    let equal = found.equal && found.method != Method::Rounded || near;
    if equal != found.equal {
        trace.note(Stage::Rounded, || {
            if near {
                "equal after all: the same number in double precision"
            } else {
                "not equal after all: this grader does not accept rounding"
            }
        });
    }
    Comparison { equal, ..found }
}

/// True if the published grader would call its algebra system.
fn may_evaluate(text: &str) -> bool {
    let names = text.replace("sqrt", "").replace("frac", "");
    let mut letters: Vec<char> = names.chars().filter(|c| c.is_alphabetic()).collect();
    letters.sort_unstable();
    letters.dedup();
    if letters.len() > 2 || text.contains("^{") || text.contains("^(") {
        return false;
    }
    let exponents = text.split('^').skip(1);
    for exponent in exponents {
        let digits = exponent.bytes().take_while(u8::is_ascii_digit).count();
        if digits > 1 || digits > 0 && exponent.get(digits..).is_some_and(|after| after.is_empty() && text.ends_with('^')) {
            return false;
        }
    }
    // A power of a power with plain digits.
    let powers = text.as_bytes().windows(3).any(|w| matches!(w, [b'^', digit, b'^'] if digit.is_ascii_digit()));
    !powers
}

/// Returns the parts of a tuple or an interval, or the whole text.
fn parts(text: &str) -> Vec<String> {
    let plain = without_commas(text);
    let bracket = |c: char| matches!(c, '(' | ')' | '[' | ']');
    let inner = plain.strip_prefix(bracket).and_then(|inner| inner.strip_suffix(bracket));
    match inner {
        Some(inner) if plain.len() > 2 && !inner.contains(bracket) => inner.split(',').map(|part| part.trim().to_owned()).collect(),
        _ => vec![plain],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(gold: &str, answer: &str, expected: bool) {
        assert_eq!(
            equal(gold, answer, &mut Trace::off()).equal,
            expected,
            "{gold} | {answer}: {} {}",
            second_normalization(gold),
            second_normalization(answer)
        );
    }

    #[test]
    fn equal_follows_the_published_steps() {
        check("12.8", "V = 12.8", true);
        check("12.8", "12.8 \\text{ mph}", true);
        check("12.8", "12.8 mph", false);
        check("3\\frac{1}{4}", "3.25", true);
        check("\\frac{2}{3}", "\\frac{4}{6}", false);
        check("\\frac{2}{3}", "2/3", true);
        check("7", "7.0", true);
        check("1234567", "1,234,567", true);
        check("1234567890", "1,234,567,890", false);
        check("30\\%", "0.3", false);
        check("(1,2)", "[1,2]", false);
        check("2\\sqrt{3}", "\\sqrt{12}", true);
    }

    #[test]
    fn last_boxed_accepts_only_plain_boxes() {
        assert_eq!(last_boxed("\\boxed{3} \\boxed{4}"), Some("4"));
        assert_eq!(last_boxed("\\boxed{3} \\boxed{4"), None);
        assert_eq!(last_boxed("\\boxed 4"), None);
        assert_eq!(last_boxed("\\fbox{4}"), None);
    }
}
