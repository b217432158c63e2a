//! Foreign texts made safe to look at, and short enough for a page.

use std::borrow::Cow;

use crate::output::escape_controls;

/// Of a longer text, a page with a limit keeps this many characters at the start and half as many at the end.
const KEPT_CHARS: usize = 20_000;

/// Escapes the control characters of a text.
pub fn safe(text: &str) -> Cow<'_, str> {
    escape_controls(text)
}

/// Escapes the control characters of a response. With `shorten`, leaves out the middle of a very long one.
pub fn text(response: &str, shorten: bool) -> String {
    let chars = if shorten { response.chars().count() } else { 0 };
    let kept = KEPT_CHARS + KEPT_CHARS / 2;
    if chars <= kept {
        return safe(response).into_owned();
    }
    let at = |count: usize| response.char_indices().nth(count).map_or(response.len(), |(at, _)| at);
    let (start, end) = (&response[..at(KEPT_CHARS)], &response[at(chars - KEPT_CHARS / 2)..]);
    format!("{}\n[... {} characters are left out here ...]\n{}", safe(start), chars - kept, safe(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_leaves_out_the_middle_of_a_very_long_response() {
        let check = |chars: usize, expected: usize| {
            let found = text(&"é".repeat(chars), true);
            assert_eq!(found.chars().filter(|c| *c == 'é').count(), expected, "{chars}");
            assert_eq!(found.contains("characters are left out"), chars > expected);
        };
        check(0, 0);
        check(30_000, 30_000);
        check(30_001, 30_000);
        check(1_000_000, 30_000);
        assert_eq!(text(&"é".repeat(30_001), false).len(), 60_002);
    }
}
