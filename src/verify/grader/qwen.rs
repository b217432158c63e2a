//! The equality of the published evaluation (Qwen2.5-Math), for comparable scores: numbers are equal within one part in ten thousand, or if
//! one is a hundred times the other, and most brackets are ignored. The text steps follow the published ones; the algebra uses our own
//! parser and arithmetic.

use crate::verify::choice;
use crate::verify::compare;
use crate::verify::fuel::Fuel;
use crate::verify::grader::strict::note_reading;
use crate::verify::read;
use crate::verify::read::lex::Commas;
use crate::verify::text;
use crate::verify::trace::{Stage, Trace, digits, quoted};
use crate::verify::tree::Tree;
use crate::verify::value::approx::{Approx, Point};
use crate::verify::value::evaluate::{Reading, evaluate};
use crate::verify::{Comparison, Method};

/// Maximum relative difference of two equal numbers.
const TOLERANCE: f64 = 1e-4;
/// Maximum number of parts of a tuple, including nested parts.
const MAX_PARTS: usize = 200;
/// Maximum length of an answer in bytes. Longer ones are compared as text.
const MAX_LENGTH: usize = 4000;

/// Returns the answer as the published extraction does: the text after the last "boxed" up to its closing brace, or to the end if it is
/// never closed.
pub fn last_boxed(response: &str) -> Option<&str> {
    let rest = response.get(response.rfind("boxed")? + "boxed".len()..)?;
    let Some(inner) = rest.strip_prefix('{') else {
        return Some(rest.split('$').next().unwrap_or("").trim());
    };
    let mut depth = 1usize;
    for (at, byte) in inner.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return inner.get(..at);
        }
    }
    Some(inner)
}

/// Decides whether the published evaluation would count the answer as correct.
pub fn equal(gold: &str, answer: &str, trace: &mut Trace) -> Comparison {
    if gold.len().max(answer.len()) > MAX_LENGTH {
        let equal = gold.trim() == answer.trim();
        trace.note(Stage::Text, || {
            format!("{} as text; answers over {MAX_LENGTH} bytes are not parsed", if equal { "equal" } else { "not equal" })
        });
        return Comparison { equal, method: Method::Text };
    }
    let gold_text = text::normalize(gold);
    if choice::is_option(&gold_text)
        && let Some(letter) = answer.chars().rfind(|c| ('A'..='E').contains(c))
    {
        let equal = gold_text.contains(letter);
        trace.note(Stage::Choice, || format!("{}: the last letter of the answer is {letter}", if equal { "equal" } else { "not equal" }));
        return Comparison { equal, method: Method::Choice };
    }
    let mut fuel = Fuel::new(Fuel::COMPARISON);
    let found = by_parts(gold, answer, &mut fuel, trace);
    trace.count(&fuel);
    found
}

fn by_parts(gold: &str, answer: &str, fuel: &mut Fuel, trace: &mut Trace) -> Comparison {
    let mut pending = vec![(strip(gold), strip(answer))];
    let mut weakest = Method::Text;
    let mut done = 0;
    // Tuples are compared part by part; `pending` lists the parts still to compare.
    while let Some((gold, answer)) = pending.pop() {
        done += 1;
        if done > MAX_PARTS {
            trace.note(Stage::Budget, || format!("not equal: more than {MAX_PARTS} parts"));
            return Comparison { equal: false, method: Method::Exhausted };
        }
        match step(&gold, &answer, fuel, trace) {
            Step::Decided(found) if !found.equal => return found,
            Step::Decided(found) => weakest = weakest.max(found.method),
            Step::Parts(parts) => pending.extend(parts),
        }
    }
    Comparison { equal: true, method: weakest }
}

/// Result of comparing one pair of texts.
enum Step {
    Decided(Comparison),
    Parts(Vec<(String, String)>),
}

fn step(gold: &str, answer: &str, fuel: &mut Fuel, trace: &mut Trace) -> Step {
    trace.set_depth(0);
    let decided = |equal, method, stage, rule: &str, trace: &mut Trace| {
        trace.note(stage, || format!("{}: {rule}", if equal { "equal" } else { "not equal" }));
        Step::Decided(Comparison { equal, method })
    };
    if answer.is_empty() {
        return decided(false, Method::NoAnswer, Stage::Text, "the answer is empty", trace);
    }
    if gold.eq_ignore_ascii_case(answer) {
        return decided(true, Method::Text, Stage::Text, "the same text after cleaning", trace);
    }
    trace.note(Stage::Text, || format!("no verdict: {} and {} differ after cleaning", quoted(gold), quoted(answer)));
    if let (Some(g), Some(a)) = (number(gold), number(answer)) {
        let equal = [g / 100.0, g, g * 100.0].iter().any(|g| close(*g, a));
        let rule = "numbers, compared within one part in ten thousand, also scaled by 1/100 and 100";
        return decided(equal, Method::Numeric, Stage::Numeric, rule, trace);
    }
    let bare = |text: &str| text.replace(['{', '}', '(', ')', '[', ']'], "").to_lowercase();
    let enclosed = |text: &str, open: char, close: char| text.starts_with(open) && text.ends_with(close);
    let loose = enclosed(answer, '[', ']') && !gold.starts_with('(') || enclosed(answer, '(', ')') && !gold.starts_with('[');
    let (g, a) = if loose { (bare(gold), bare(answer)) } else { (gold.replace(['{', '}'], ""), answer.replace(['{', '}'], "")) };
    if g.replace(['(', ')'], "").eq_ignore_ascii_case(&a.replace(['(', ')'], "")) && (loose || !is_tuple(gold)) {
        return decided(true, Method::Text, Stage::Text, "the same text except for brackets", trace);
    }
    if is_tuple(gold) && is_tuple(answer) {
        let parts = |text: &str| -> Vec<String> { text[1..text.len() - 1].split(',').map(|part| part.trim().to_owned()).collect() };
        let (g, a) = (parts(gold), parts(answer));
        if g.len() == a.len() && (g.len() > 1 || g.first().map(String::as_str) != Some(gold)) {
            trace.note(Stage::Members, || format!("part by part; {} pairs must be equal", g.len()));
            return Step::Parts(g.into_iter().zip(a).collect());
        }
    }
    // `x = 5` matches `5`. Two equations are compared below.
    let value = |text: &str| -> Option<String> {
        let (name, value) = text.split_once('=')?;
        (name.trim().chars().count() <= 2 && !value.contains('=')).then(|| value.trim().to_owned())
    };
    match (value(gold), value(answer)) {
        (None, Some(value)) if !gold.contains('=') => {
            trace.note(Stage::Relation, || format!("comparing the value of the answer, {}", quoted(&value)));
            return Step::Parts(vec![(gold.to_owned(), value)]);
        }
        (Some(value), None) if !answer.contains('=') => {
            trace.note(Stage::Relation, || format!("comparing the value of the gold answer, {}", quoted(&value)));
            return Step::Parts(vec![(value, answer.to_owned())]);
        }
        _ => {}
    }
    // An equation on one side only is not a value, and neither is a numeral with a base.
    let based = |text: &str| text.as_bytes().windows(2).any(|w| matches!(w, [digit, b'_'] if digit.is_ascii_digit()));
    if gold.contains('=') != answer.contains('=') || based(gold) != based(answer) {
        return decided(false, Method::Structure, Stage::Relation, "an equation or a base on one side only", trace);
    }
    Step::Decided(algebra(gold, answer, fuel, trace))
}

/// Compares values with the tolerance of the evaluation.
fn algebra(gold: &str, answer: &str, fuel: &mut Fuel, trace: &mut Trace) -> Comparison {
    // The published parser knows LaTeX only: it reads plain names as products of letters, and stops at the first comma.
    if has_plain_name(gold) || has_plain_name(answer) {
        trace.note(Stage::Text, || "not equal: this grader reads plain names as products of letters");
        return Comparison { equal: false, method: Method::Text };
    }
    let first = |text: &str| -> String { if is_tuple(text) { text.to_owned() } else { text.split(',').next().unwrap_or("").to_owned() } };
    let (gold, answer) = (&first(gold), &first(answer));
    let mut tree = Tree::default();
    let mut read = |side: &str, text: &str| {
        let id = read::read(text, Commas::Separate, &mut tree, fuel);
        note_reading(side, &tree, id, fuel, trace);
        id
    };
    let (Some(gold), Some(answer)) = (read("gold answer", gold), read("answer", answer)) else {
        trace.note(Stage::Text, || "not equal: one side could not be parsed, and the texts differ");
        return Comparison { equal: false, method: Method::Text };
    };
    let mut value = |id| {
        let mut approx = Approx::new(Point::Natural(0));
        let constant = crate::verify::tree::rewrite::symbols(&tree, id).is_empty();
        constant.then(|| evaluate(&tree, id, Reading::PLAIN, &mut approx, fuel)).flatten().filter(|value| value.is_real())
    };
    if let (Some(g), Some(a)) = (value(gold), value(answer)) {
        let equal = close(g.re, a.re);
        trace.note(Stage::Numeric, || format!("{}: {} and {}", if equal { "equal" } else { "not equal" }, digits(g.re), digits(a.re)));
        return Comparison { equal, method: Method::Numeric };
    }
    compare::compare(&mut tree, gold, answer, fuel, trace)
}

/// True if two letters follow each other outside a command.
fn has_plain_name(text: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_alphabetic()) {
        let length = rest[at..].bytes().take_while(u8::is_ascii_alphabetic).count();
        if length > 1 && !rest[..at].ends_with('\\') && !rest[..at].ends_with("\\begin{") && !rest[..at].ends_with("\\end{") {
            return true;
        }
        rest = &rest[at + length..];
    }
    false
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= TOLERANCE * a.abs().max(b.abs())
}

fn is_tuple(text: &str) -> bool {
    text.len() > 2 && text.starts_with(['(', '[']) && text.ends_with([')', ']']) && text.is_char_boundary(text.len() - 1)
}

/// Parses a number as the published evaluation does: without commas, and with a percent sign as a hundredth.
fn number(text: &str) -> Option<f64> {
    let plain = text.replace("{,}", "").replace(',', "");
    let value = match plain.strip_suffix('%') {
        Some(share) => share.trim_end_matches('\\').trim().parse::<f64>().ok()? / 100.0,
        None => plain.parse::<f64>().ok()?,
    };
    value.is_finite().then_some(value)
}

/// Applies the published cleaning: removes units, text, currency and percent signs, and spaces.
fn strip(text: &str) -> String {
    let text = text.trim().trim_start_matches(':').trim_end_matches(['.', '/']);
    let mut s = text::normalize(text).replace("^{\\circ}", "").replace("^\\circ", "").replace("\\%", "").replace('%', "");
    s = s.replace("\\mathbf", "").replace("\\mathrm", "").replace("\\{", "").replace("\\}", "").replace("x\\in", "");
    // \text after an answer is a unit. At the start, its content is the answer.
    if let Some(at) = s.find("\\text{").or_else(|| s.find("\\mbox{")) {
        let body = s.get(at..).and_then(|text| text.split_once('{')).map_or("", |(_, body)| body);
        let inner = body.split('}').next().unwrap_or("").to_owned();
        s = if at == 0 { inner } else { s.get(..at).unwrap_or("").to_owned() };
    }
    let s = s.replace("infinity", "\\infty").replace("\\emptyset", "{}").replace("and", "").replace(' ', "");
    let units = ["cm", "inches", "meters", "miles", "hours", "minutes", "seconds", "dollars", "degrees", "units", "mph", "feet"];
    match units.iter().find_map(|unit| s.strip_suffix(unit)) {
        Some(number) if number.ends_with(|c: char| c.is_ascii_digit()) => number.to_owned(),
        _ => s,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(gold: &str, answer: &str, expected: bool) {
        assert_eq!(equal(gold, answer, &mut Trace::off()).equal, expected, "{gold} | {answer}");
    }

    #[test]
    fn equal_follows_the_published_leniency() {
        check("5", "5.0", true);
        check("0.25", "25", true);
        check("25", "0.25", true);
        check("3.1416", "\\pi", true);
        check("(1,2)", "(1, 2)", true);
        check("(1,2)", "[1,2]", true);
        check("(1,2)", "(2,1)", false);
        check("\\frac{1}{2}", "0.5", true);
        check("5", "x=5", true);
        check("B", "the option (B)", true);
        check("7", "8", false);
    }

    #[test]
    fn last_boxed_accepts_an_unclosed_box() {
        assert_eq!(last_boxed("so \\boxed{5"), Some("5"));
        assert_eq!(last_boxed("so \\boxed{5}."), Some("5"));
        assert_eq!(last_boxed("five"), None);
    }
}
