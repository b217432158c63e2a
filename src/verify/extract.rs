//! Finds the final answer in a response. Defines what counts as a box; does not look inside the answer. Never sees the prompt, so a
//! `\boxed{}` there is not mistaken for the answer.

mod fallback;

use serde::{Deserialize, Serialize};

use super::grader::{deepscaler, qwen};
use super::trace::{Stage, Trace, quoted};
use super::{Grader, Mode, Settings, choice, text};

/// Lists with this many parts or more must be in one box.
const MAX_PARTS: usize = 9;
/// Maximum length in bytes of the text between two boxes of one answer.
const MAX_GAP: usize = 48;

/// How an answer was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extraction {
    /// In the last box.
    Boxed,
    /// After "the answer is" or a similar phrase (evaluation only).
    AnswerIs,
    /// The last formula, number or option letter of the response (evaluation only).
    LastNumber,
    /// No answer was found.
    None,
}

/// The last box of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boxed<'a> {
    /// No `\boxed` or `\fbox` at all.
    Missing,
    /// The last box is never closed, usually because the response was cut off.
    Unclosed,
    /// The content of the last box, without surrounding white space.
    Content(&'a str),
}

impl<'a> Boxed<'a> {
    /// Returns the content of a complete box, otherwise `None`.
    pub fn content(self) -> Option<&'a str> {
        match self {
            Boxed::Content(content) => Some(content),
            Boxed::Missing | Boxed::Unclosed => None,
        }
    }

    /// True if there is a box and the last one is closed.
    pub fn is_complete(self) -> bool {
        matches!(self, Boxed::Content(_))
    }
}

/// Returns the content of the last `\boxed{...}` or `\fbox{...}` of `text`. Braces must balance; spaces before the brace and `\boxed 7` are
/// accepted. If boxes are nested, the innermost is the last. Runs in linear time.
///
/// ```
/// # use rlvr::verify::{last_boxed, Boxed};
/// assert_eq!(last_boxed(r"so \boxed{\frac{1}{2}}."), Boxed::Content(r"\frac{1}{2}"));
/// assert_eq!(last_boxed(r"\boxed{3} then \boxed{4"), Boxed::Unclosed);
/// ```
pub fn last_boxed(text: &str) -> Boxed<'_> {
    let Some(rest) = after_last_command(text) else {
        return Boxed::Missing;
    };
    let inner = rest.trim_start();
    match inner.strip_prefix('{') {
        Some(inner) => match closing_brace(inner) {
            Some(end) => Boxed::Content(inner[..end].trim()),
            None => Boxed::Unclosed,
        },
        // Only a space can replace the brace. The answer is then the next word.
        None if inner.len() < rest.len() => {
            let end = inner.find(|c: char| c.is_whitespace() || c == '$').unwrap_or(inner.len());
            let word = inner[..end].trim_end_matches(['.', ',']);
            if word.is_empty() { Boxed::Unclosed } else { Boxed::Content(word) }
        }
        None => Boxed::Unclosed,
    }
}

/// Returns the text up to the content of its last box, including the opening brace. `None` if there is no box or the last one is never
/// closed.
///
/// ```
/// # use rlvr::verify::text_before_boxed;
/// assert_eq!(text_before_boxed(r"so \boxed{4}."), Some(r"so \boxed{"));
/// assert_eq!(text_before_boxed(r"so \boxed{4"), None);
/// ```
pub fn text_before_boxed(text: &str) -> Option<&str> {
    last_boxed(text).content()?;
    let rest = after_last_command(text)?.trim_start();
    let content = rest.strip_prefix('{').unwrap_or(rest);
    text.strip_suffix(content)
}

/// Returns the answer of a response under `settings`, and how it was found. The gold answer is used only to see whether the answer is an
/// option letter, and how many parts it has.
pub(super) fn answer(gold: &str, response: &str, settings: &Settings, trace: &mut Trace) -> (Option<String>, Extraction) {
    // The published graders read the whole text by default.
    let skips_thinking = settings.grader == Grader::Strict || settings.after_think;
    let response = match response.rfind("</think>").filter(|_| skips_thinking) {
        Some(at) => {
            trace.note(Stage::Extract, || "reading only the text after the last </think>");
            &response[at + "</think>".len()..]
        }
        None if settings.after_think => {
            trace.note(Stage::Extract, || "no answer: the response has no </think>");
            return (None, Extraction::None);
        }
        None => response,
    };
    let boxed = match settings.grader {
        Grader::Strict => {
            last_boxed(response).content().map(|content| joined_boxes(response, list_length(gold)).unwrap_or_else(|| content.to_owned()))
        }
        Grader::Deepscaler => deepscaler::last_boxed(response).map(str::to_owned),
        Grader::Qwen => qwen::last_boxed(response).map(str::to_owned),
    };
    match (boxed, settings.mode) {
        (Some(content), _) => {
            trace.note(Stage::Extract, || format!("from the last box: {}", quoted(&content)));
            (Some(content), Extraction::Boxed)
        }
        (None, Mode::Reward) => {
            trace.note(Stage::Extract, || match last_boxed(response) {
                Boxed::Unclosed => "no answer: the last box is never closed",
                _ => "no answer: there is no box",
            });
            (None, Extraction::None)
        }
        (None, Mode::Eval) => {
            let found = fallback::answer(response, choice::is_option(&text::normalize(gold)));
            trace.note(Stage::Extract, || match &found {
                (Some(answer), Extraction::AnswerIs) => {
                    format!("no box; from the stated answer: {}", quoted(answer))
                }
                (Some(answer), _) => format!("no box; from the last formula, number or letter: {}", quoted(answer)),
                (None, _) => "no answer: no box, no stated answer and no number".to_owned(),
            });
            found
        }
    }
}

/// Returns the number of parts of a gold answer, counted by separators outside brackets, at most `MAX_PARTS`. It may be too large, because
/// some commas belong to numbers.
fn list_length(gold: &str) -> usize {
    let (mut depth, mut parts) = (0usize, 1);
    let inner = text::strip_delimiters(gold).trim_start_matches(['{', '\\']);
    for byte in inner.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b',' | b';' if depth == 0 => parts += 1,
            _ => {}
        }
    }
    parts.max(1 + gold.matches("\\text{ and }").count()).min(MAX_PARTS)
}

/// Joins the last `parts` boxes into one answer, if only a few words on the same line separate them and no further box directly precedes
/// them. The answer is all of them together, so a right part among wrong ones is never accepted.
fn joined_boxes(response: &str, parts: usize) -> Option<String> {
    if parts < 2 || parts == MAX_PARTS {
        return None;
    }
    let mut found: Vec<&str> = Vec::new();
    let mut end = response.len();
    while found.len() <= parts {
        let before = response.get(..end)?;
        let Some(rest) = after_last_command(before) else { break };
        let Boxed::Content(content) = last_boxed(before) else { break };
        let start = before.len() - rest.len();
        let gap = rest.get(rest.find(content)? + content.len()..)?;
        if !found.is_empty() && (gap.len() > MAX_GAP || gap.contains(['\n', '.'])) {
            break;
        }
        found.push(content);
        end = before.get(..start)?.rfind('\\')?;
    }
    found.reverse();
    (found.len() == parts).then(|| found.join(", "))
}

/// Returns the text after the last `\boxed` or `\fbox` that is a whole command; `\boxedfoo` is a different command.
fn after_last_command(text: &str) -> Option<&str> {
    let mut end = text.len();
    loop {
        let at = text[..end].rfind('\\')?;
        let rest = text[at + 1..].strip_prefix("boxed").or_else(|| text[at + 1..].strip_prefix("fbox"));
        match rest {
            Some(rest) if !rest.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                return Some(rest);
            }
            _ => end = at,
        }
    }
}

/// Returns the byte offset of the brace that closes a group whose opening brace precedes `text`. An escaped brace, `\{`, is part of a set
/// and does not count.
fn closing_brace(text: &str) -> Option<usize> {
    let mut depth = 1usize;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'{' => depth += 1,
            b'}' if depth == 1 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Boxed) {
        assert_eq!(last_boxed(text), expected, "{text}");
    }

    #[test]
    fn last_boxed_returns_the_last_box() {
        check("no box", Boxed::Missing);
        check(r"\boxed{1} and \boxed{2}", Boxed::Content("2"));
        check(r"\boxed{1} and \boxed{2", Boxed::Unclosed);
        check(r"\fbox{7}", Boxed::Content("7"));
        check(r"\boxed  { x^2 } end", Boxed::Content("x^2"));
        check(r"$\boxed 7$.", Boxed::Content("7"));
        check(r"\boxed 7.", Boxed::Content("7"));
        check(r"\boxed", Boxed::Unclosed);
        check(r"\boxed{}", Boxed::Content(""));
        check(r"\boxed{\boxed{5}}", Boxed::Content("5"));
        check(r"\boxed{\left\{ 1 \right.}", Boxed::Content(r"\left\{ 1 \right."));
        check(r"\boxed{5}}}}", Boxed::Content("5"));
        check(r"\boxedtimes{3}", Boxed::Missing);
    }

    #[test]
    fn answer_ignores_boxes_before_the_end_of_thinking() {
        let thinking = r"<think> \boxed{4} </think> so it is four";
        assert_eq!(answer("4", thinking, &Settings::default(), &mut Trace::off()), (None, Extraction::None));
        let r1 = Settings { after_think: true, ..Settings::default() };
        assert_eq!(answer("4", r"\boxed{4}", &r1, &mut Trace::off()), (None, Extraction::None));
        assert_eq!(answer("4", r"hm </think> \boxed{4}", &r1, &mut Trace::off()), (Some("4".to_owned()), Extraction::Boxed));
    }
}
