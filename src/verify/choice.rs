//! Options of a multiple-choice question: a letter, with or without brackets and text. If both sides are options and at least one is a bare
//! letter, the letters decide, and the text is not compared.

use crate::verify::trace::{Stage, Trace};
use crate::verify::{Comparison, Method};

/// Letters that can name an option, in upper case.
const LETTERS: std::ops::RangeInclusive<u8> = b'A'..=b'J';

/// Compares two normalized answers as options. Returns `None` unless both are options and at least one is a bare letter.
pub fn compare(gold: &str, answer: &str, trace: &mut Trace) -> Option<Comparison> {
    let Some((gold, gold_alone)) = option(gold) else {
        trace.note(Stage::Choice, || "no verdict: the gold answer is not an option");
        return None;
    };
    let Some((answer, answer_alone)) = option(answer) else {
        trace.note(Stage::Choice, || format!("no verdict: the gold answer may be option {gold}, but the answer is not an option"));
        return None;
    };
    if !gold_alone && !answer_alone {
        trace.note(Stage::Choice, || "no verdict: both options have text, so their letters do not decide");
        return None;
    }
    let equal = gold.eq_ignore_ascii_case(&answer);
    trace.note(Stage::Choice, || format!("{}: option {gold} and option {answer}", if equal { "equal" } else { "not equal" }));
    Some(Comparison { equal, method: Method::Choice })
}

/// True if a gold answer is the bare upper-case letter of an option.
pub fn is_option(gold: &str) -> bool {
    option(gold).is_some_and(|(letter, alone)| alone && letter.is_ascii_uppercase())
}

/// Returns the letter of an option, and whether it stands alone, without text.
fn option(text: &str) -> Option<(char, bool)> {
    let mut rest = text;
    for command in ["\\text{", "\\textbf{", "\\mathrm{", "\\mathbf{", "\\mbox{", "\\textrm{", "\\bf{", "\\textup{"] {
        rest = rest.strip_prefix(command).unwrap_or(rest);
    }
    let lower = rest.get(..7).map(str::to_ascii_lowercase);
    if lower.as_deref() == Some("option ") || lower.as_deref() == Some("choice ") {
        rest = rest.get(7..)?;
    }
    let bracketed = rest.starts_with('(');
    rest = rest.trim_start_matches(['(', '{', ' ']);
    let letter = rest.chars().next()?;
    if !u8::try_from(letter).is_ok_and(|byte| LETTERS.contains(&byte.to_ascii_uppercase())) {
        return None;
    }
    let after = &rest[1..];
    let bare = after.trim_matches(['}', ')', '.', ':', ' ', ']']);
    if bare.is_empty() {
        return Some((letter, true));
    }
    // Text after the letter needs a separator: `C) 42`, `C. 42` and `(C) 42` are options; `C+1` and `Carl` are not.
    let upright = text.len() - rest.len() > usize::from(bracketed) && after.starts_with('}');
    let after = after.trim_start_matches('}');
    let separated = after.trim_start().starts_with([')', ':', '.']);
    let plausible = letter.is_ascii_uppercase() && (separated || starts_text(after, upright)) && !names_second_option(after, separated);
    plausible.then_some((letter, false))
}

/// True if `after` is the text of an option that has no separator: words or a number after a space, or text in braces. A formula may follow
/// an upright letter; after any other letter it would be a factor.
fn starts_text(after: &str, upright: bool) -> bool {
    // `C \text{ is wrong}` comments on an option and does not choose it.
    let is_comment = |text: &str| matches!(text.trim_start().split(' ').next(), Some("is" | "are" | "was" | "isn't"));
    if let Some(words) = after.strip_prefix(' ') {
        let letters = words.bytes().take_while(u8::is_ascii_alphabetic).count();
        return letters > 2 && !is_comment(words) || words.starts_with(|c: char| c.is_ascii_digit());
    }
    if after.split_once('{').is_some_and(|(_, text)| is_comment(text)) {
        return false;
    }
    let text = ["\\text{", "\\textbf{", "\\textit{", "\\textrm{", "\\mbox{"].iter().any(|command| after.starts_with(command));
    text || upright && after.starts_with(|c: char| matches!(c, '\\' | '(') || c.is_ascii_digit())
}

/// True if the text names a second option, either right after the first (`B and C`) or anywhere with a separator (`B) or (C)`).
fn names_second_option(after: &str, separated: bool) -> bool {
    let is_letter = |c: char| u8::try_from(c).is_ok_and(|byte| LETTERS.contains(&byte));
    let mut rest = after.trim_start_matches([')', ':', '.', ' ']);
    loop {
        let joints = ["\\text{", "\\textbf{", "\\mathrm{", "and", "or", "nor", ",", ";", "/", "&", "-", "\\", "(", "{", "}", " ", "not"];
        match joints.iter().find_map(|joint| rest.strip_prefix(joint)) {
            Some(shorter) => rest = shorter,
            None => break,
        }
    }
    let mut chars = rest.chars();
    if chars.next().is_some_and(is_letter) && !chars.next().is_some_and(|c| c.is_alphanumeric()) {
        return true;
    }
    let chars: Vec<char> = after.chars().collect();
    let padded = [chars.as_slice(), &[' ', ' ']].concat();
    padded.windows(3).any(|window| match *window {
        [before, letter, next] if is_letter(letter) && !before.is_alphanumeric() && before != '\\' => {
            // Without a separator after the first letter, any other lone letter counts as a second option.
            matches!(next, ')' | '}' | ':' | '.') || !separated && !next.is_alphanumeric()
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(gold: &str, answer: &str, expected: Option<bool>) {
        assert_eq!(compare(gold, answer, &mut Trace::off()).map(|found| found.equal), expected, "{gold} {answer}");
    }

    #[test]
    fn compare_decides_options_by_letter() {
        check("B", "(B)", Some(true));
        check("\\text{(B)}", "b", Some(true));
        check("B", "B) 17", Some(true));
        check("B", "\\textbf{(B)}\\ 17", Some(true));
        check("B", "C: 17", Some(false));
        check("B", "B+1", None);
        check("B", "Bob", None);
        check("17", "B", None);
    }
}
