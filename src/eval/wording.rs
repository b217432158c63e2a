//! What a response is like as text, whatever it answers: words of doubt, and signs that the model has fallen apart.

/// Characters in the longest block whose repetition counts.
const LONGEST_BLOCK: usize = 200;
/// How often a block is said in a row until it counts.
const TIMES: usize = 4;
/// Characters of repetition that count at least: `0.33333333` is none.
const SHORTEST_TAIL: usize = 60;

/// The words of a list with commas between, in lower case.
pub fn words(list: &str) -> Vec<String> {
    list.split(',').map(|word| word.trim().to_lowercase()).filter(|word| !word.is_empty()).collect()
}

/// Whether the response ends in one block of up to 200 characters, said at least four times in a row over 60 characters or more. The last
/// repetition may be cut off anywhere.
pub fn has_repeated_tail(response: &str) -> bool {
    let reversed: Vec<char> = response.trim_end().chars().rev().take(TIMES * LONGEST_BLOCK).collect();
    (1..=LONGEST_BLOCK.min(reversed.len() / TIMES)).any(|block| {
        let needed = SHORTEST_TAIL.max(TIMES * block);
        needed <= reversed.len() && (block..needed).all(|at| reversed[at] == reversed[at - block])
    })
}

/// How many of a text's letters are not ASCII, and how many letters it has.
pub fn letters(response: &str) -> (usize, usize) {
    response.chars().filter(|c| c.is_alphabetic()).fold((0, 0), |(foreign, all), c| (foreign + usize::from(!c.is_ascii()), all + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_that_repeat_are_found() {
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
        check(&digits(165).repeat(4), true); // blocks of 198 characters
        check(&digits(169).repeat(4), false); // and of 210
    }

    #[test]
    fn letters_are_counted() {
        assert_eq!(letters("x = π, 答案 3"), (3, 4));
        assert_eq!(letters("12 + 3"), (0, 0));
    }

    #[test]
    fn a_list_of_words_is_read() {
        assert_eq!(words("Rethink, recheck,,"), ["rethink", "recheck"]);
        assert!(words("").is_empty());
    }
}
