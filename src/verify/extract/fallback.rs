//! Finds answers without a box, for evaluation only: the text after "the answer is", else the last formula, else the last number. Published
//! evaluations do the same, so scores stay comparable. Training never does this, because a number somewhere in the text is not an answer.

use super::Extraction;

/// Phrases that introduce an answer, in lower case. The latest match in the text counts.
const PHRASES: [&str; 11] = [
    "final answer is",
    "answer is",
    "answer:",
    "answer：",
    "answer\n",
    "answer ",
    "答案是",
    "答案为",
    "答案：",
    "réponse est",
    "la réponse :",
];

/// Returns the most likely answer of a response without a box, and how it was found. With `wants_option`, looks for the letter of an option
/// only.
pub fn answer(response: &str, wants_option: bool) -> (Option<String>, Extraction) {
    let response = response.trim();
    // ASCII lower case keeps every byte at its offset.
    let lower = response.to_ascii_lowercase();
    let anchor = PHRASES.iter().filter_map(|phrase| lower.rfind(phrase).map(|at| at + phrase.len())).max();
    if wants_option {
        let after = anchor.and_then(|at| response.get(at..)).and_then(letter);
        let kind = if after.is_some() { Extraction::AnswerIs } else { Extraction::LastNumber };
        return match after.or_else(|| letter(response)) {
            Some(letter) => (Some(letter), kind),
            None => (None, Extraction::None),
        };
    }
    if anchor.and_then(|at| response.get(at..)).is_some_and(malformed_formula) {
        return (None, Extraction::None);
    }
    if let Some(found) = anchor.and_then(|at| response.get(at..)).and_then(stated) {
        return (Some(found), Extraction::AnswerIs);
    }
    if is_formula(response) {
        return (Some(response.to_owned()), Extraction::LastNumber);
    }
    match last_formula(response).or_else(|| last_number(response)) {
        Some(found) => (Some(found), Extraction::LastNumber),
        None => (None, Extraction::None),
    }
}

/// True if the text begins with an inline formula whose first character is a line break. Such a formula is malformed, so there is no
/// answer.
fn malformed_formula(text: &str) -> bool {
    let text = text.trim_start_matches([' ', ':', '*']);
    let inner = text.strip_prefix("\\(").or_else(|| text.strip_prefix('$').filter(|inner| !inner.starts_with('$')));
    inner.is_some_and(|inner| inner.trim_start_matches(' ').starts_with('\n'))
}

/// Returns the answer at the beginning of a text: a formula, or the words up to the end of the sentence.
fn stated(text: &str) -> Option<String> {
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, ':' | '*' | '：'));
    for (open, close) in [("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")] {
        let Some(inner) = text.strip_prefix(open) else { continue };
        let end = inner.find(close)?;
        return Some(with_percent(inner.get(..end)?, inner.get(end + close.len()..)?));
    }
    let line = text.lines().next()?;
    let end = line.find(". ").or_else(|| line.find('。')).unwrap_or(line.len());
    let mut sentence = line.get(..end)?.trim_end_matches(['.', '*', ' ', ',']).trim();
    if let Some(inner) = sentence.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')).filter(|inner| inner.contains('=')) {
        sentence = inner;
    }
    // In a longer sentence, the last number is the best guess.
    let words = sentence.split_whitespace().filter(|word| word.len() > 2 && word.chars().all(char::is_alphabetic)).count();
    let starts_with_word = sentence.split_whitespace().next().is_some_and(|word| word.len() > 2 && word.chars().all(char::is_alphabetic));
    if words > 4 || starts_with_word && words > 1 {
        return last_formula(sentence).or_else(|| last_number(sentence));
    }
    (!sentence.is_empty()).then(|| sentence.to_owned())
}

/// Returns the first isolated letter from A to H.
fn letter(text: &str) -> Option<String> {
    let mut previous = ' ';
    for (at, c) in text.char_indices() {
        let next = text.get(at + c.len_utf8()..).and_then(|rest| rest.chars().next()).unwrap_or(' ');
        if ('A'..='H').contains(&c) && !previous.is_ascii_alphanumeric() && !next.is_ascii_alphanumeric() && next != '\'' {
            return Some(c.to_string());
        }
        previous = c;
    }
    None
}

/// True if the text is short and contains no words, only mathematics.
fn is_formula(text: &str) -> bool {
    let mut rest = text;
    if text.len() > 80 || text.contains('\n') {
        return false;
    }
    while let Some(at) = rest.find(|c: char| c.is_alphabetic()) {
        let command = rest.get(..at).is_some_and(|before| before.ends_with('\\'));
        let tail = rest.get(at..).unwrap_or("");
        let length = tail.find(|c: char| !c.is_alphabetic()).unwrap_or(tail.len());
        let word = tail.get(..length).unwrap_or("");
        if !command && word.chars().count() > 1 && !matches!(word, "percent" | "pi" | "sqrt") {
            return false;
        }
        rest = tail.get(length..).unwrap_or("");
    }
    !text.is_empty()
}

/// Returns the content of the last formula between math delimiters.
fn last_formula(text: &str) -> Option<String> {
    let mut best: Option<(usize, String)> = None;
    for (open, close) in [("\\(", "\\)"), ("\\[", "\\]"), ("$", "$")] {
        let Some(end) = text.rfind(close) else { continue };
        let Some(start) = text.get(..end).and_then(|before| before.trim_end_matches('$').rfind(open)) else { continue };
        let inner = text.get(start + open.len()..end).unwrap_or("").trim_matches('$').trim();
        let later = best.as_ref().is_none_or(|(at, _)| *at < end);
        if later && !inner.is_empty() && inner.len() < 400 {
            best = Some((end, with_percent(inner, text.get(end + close.len()..).unwrap_or(""))));
        }
    }
    let (end, formula) = best?;
    // A number after the formula is more recent and takes precedence.
    match text.get(end..).and_then(last_number) {
        Some(number) => Some(number),
        None => Some(formula),
    }
}

/// Appends a percent sign to a formula if one follows its closing delimiter.
fn with_percent(formula: &str, after: &str) -> String {
    let after = after.trim_start();
    let percent = after.starts_with('%') || after.starts_with("percent");
    if percent { format!("{}\\%", formula.trim()) } else { formula.trim().to_owned() }
}

/// Returns the last number of a text, with its sign, thousands separators, fraction and percent sign.
fn last_number(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut end = bytes.len();
    loop {
        end = bytes.get(..end)?.iter().rposition(u8::is_ascii_digit)? + 1;
        let mut start = end;
        while start > 0 && bytes.get(start - 1).is_some_and(|b| b.is_ascii_digit() || matches!(b, b'.' | b',' | b'/')) {
            start -= 1;
        }
        let before = start.checked_sub(1).and_then(|at| bytes.get(at)).copied().unwrap_or(b' ');
        // A digit inside a name is not a number.
        if before.is_ascii_alphabetic() || before == b'_' {
            end = start;
            if end == 0 {
                return None;
            }
            continue;
        }
        while bytes.get(start).is_some_and(|b| matches!(b, b',' | b'/')) {
            start += 1;
        }
        let sign = before == b'-' && start.checked_sub(2).and_then(|at| bytes.get(at)).is_none_or(|b| !b.is_ascii_alphanumeric());
        let number = text.get(if sign { start - 1 } else { start }..end)?;
        return Some(with_percent(number, text.get(end..)?));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(response: &str, expected: Option<&str>) {
        assert_eq!(answer(response, false).0.as_deref(), expected, "{response}");
    }

    #[test]
    fn answer_finds_answers_without_a_box() {
        check("So the answer is 12.", Some("12"));
        check("The final answer is $\\frac{1}{2}$. Done.", Some("\\frac{1}{2}"));
        check("We add 3 and 4 and get 7 apples.", Some("7"));
        check("a total of 1,234 euros", Some("1,234"));
        check("it grew by 25%", Some("25\\%"));
        check("flat AX7YB", None);
        check("no idea", None);
        assert_eq!(answer("I would say it is (D), not E", true).0.as_deref(), Some("D"));
    }
}
