//! Whether a response is readable text, by its characters and tokens alone: what a policy gives that was trained to pieces.

/// One token again and again, so often, is no writing; fewer can be a row of zeros or a line of dashes.
const REPEATED: usize = 16;

/// Whether a response has broken characters inside, or one token fills at least half of it without interruption. A character that the limit
/// of tokens cut in two at the very end does not count.
pub fn is_garbled(text: &str, ids: &[u32]) -> bool {
    let whole = text.strip_suffix(char::REPLACEMENT_CHARACTER).unwrap_or(text);
    let is_broken = |c: char| c == char::REPLACEMENT_CHARACTER || (c.is_control() && !c.is_whitespace());
    let run = longest_run(ids);
    whole.contains(is_broken) || (run >= REPEATED && 2 * run >= ids.len())
}

fn longest_run(ids: &[u32]) -> usize {
    ids.chunk_by(|one, next| one == next).map(<[u32]>::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_garbled_tells_writing_from_noise() {
        let check = |text: &str, ids: &[u32], expected: bool| assert_eq!(is_garbled(text, ids), expected, "{text:?} {ids:?}");
        let words: Vec<u32> = (0..60).collect();
        check("Step by step, 4+6=10.\n\tSo \\boxed{10}. 東京 naïve 🙂", &words, false);
        check("cut in the middle of a charact\u{FFFD}", &words, false);
        check("broken \u{FFFD} inside", &words, true);
        check("\u{FFFD}\u{FFFD}", &words, true);
        check("bell \u{7}", &words, true);
        check("", &[], false);
        // Twenty zeros in a number are writing, twenty of thirty tokens are not; a short response cannot repeat enough.
        check("1000", &[&words[..], &[7; 20]].concat(), false);
        check("aaaa", &[&words[..10], &[7; 20]].concat(), true);
        check("aaaa", &[7; 12], false);
    }
}
