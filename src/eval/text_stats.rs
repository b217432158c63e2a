//! Text statistics of responses: self-reflection words and signs of degenerate output.

/// The maximum length of a repeated block in characters.
const MAX_BLOCK: usize = 200;
/// The minimum number of consecutive repetitions.
const MIN_REPETITIONS: usize = 4;
/// The minimum length of all repetitions in characters, so that `0.33333333` does not count.
const MIN_TAIL: usize = 60;

/// Splits a comma-separated list into words in lower case.
pub fn words(list: &str) -> Vec<String> {
    list.split(',').map(|word| word.trim().to_lowercase()).filter(|word| !word.is_empty()).collect()
}

/// True if the response ends with at least four repetitions of a block of up to 200 characters, over at least 60 characters in total. The
/// last repetition may be incomplete.
pub fn has_repeated_tail(response: &str) -> bool {
    let reversed: Vec<char> = response.trim_end().chars().rev().take(MIN_REPETITIONS * MAX_BLOCK).collect();
    (1..=MAX_BLOCK.min(reversed.len() / MIN_REPETITIONS)).any(|block| {
        let needed = MIN_TAIL.max(MIN_REPETITIONS * block);
        needed <= reversed.len() && (block..needed).all(|at| reversed[at] == reversed[at - block])
    })
}

/// Returns the number of letters that are not ASCII, and the number of all letters.
pub fn letters(response: &str) -> (usize, usize) {
    response.chars().filter(|c| c.is_alphabetic()).fold((0, 0), |(foreign, all), c| (foreign + usize::from(!c.is_ascii()), all + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_repeated_tail_finds_repetitions() {
        let check = |response: &str, expected: bool| assert_eq!(has_repeated_tail(response), expected, "{response:?}");
        check("", false);
        check("The answer is 1/3 = 0.33333333333333333333", false);
        check(&"7".repeat(59), false);
        check(&"7".repeat(60), true);
        check(&format!("So x = 3. {}", "Let me check this again. ".repeat(4)), true);
        check(&format!("So x = 3. {}", "Let me check this again. ".repeat(3)), false);
        check(&format!("{}Let me ch", "Let me check this again. ".repeat(4)), true);
        check(&format!("{}The answer is 3.", "Let me check this again. ".repeat(9)), false);
        check(&"一二三".repeat(20), true);
        let digits = |last: usize| (100..=last).map(|number| number.to_string()).collect::<String>();
        check(&digits(165).repeat(4), true); // a block of 198 characters
        check(&digits(169).repeat(4), false); // a block of 210 characters
    }

    #[test]
    fn letters_counts_non_ascii_and_all() {
        assert_eq!(letters("x = π, 答案 3"), (3, 4));
        assert_eq!(letters("12 + 3"), (0, 0));
    }

    #[test]
    fn words_splits_a_list() {
        assert_eq!(words("Rethink, recheck,,"), ["rethink", "recheck"]);
        assert!(words("").is_empty());
    }
}
