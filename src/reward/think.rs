//! Rewards the format of DeepSeek-R1-Zero (arXiv 2501.12948, section 2.2.2) with a boxed answer: a thought between tags, then the answer.

use super::Graded;
use crate::verify::last_boxed;

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// Returns 1 if the response is one non-empty thought followed by a complete box, with any content. If the prompt ends with the opening
/// tag, the response may omit it.
pub(super) fn reward(graded: &Graded) -> f32 {
    f32::from(has_format(&graded.rollout.prompt.text, &graded.rollout.text))
}

fn has_format(prompt: &str, response: &str) -> bool {
    let response = response.trim_start();
    let is_opened = prompt.trim_end().ends_with(OPEN);
    let thought = response.strip_prefix(OPEN).or(is_opened.then_some(response));
    let Some((thought, answer)) = thought.and_then(|rest| rest.split_once(CLOSE)) else { return false };
    let is_repeated = [OPEN, CLOSE].iter().any(|tag| answer.contains(tag)) || thought.contains(OPEN);
    !thought.trim().is_empty() && !is_repeated && last_boxed(answer).is_complete()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_format_requires_a_thought_and_then_a_box() {
        let check = |prompt: &str, response: &str, expected: bool| assert_eq!(has_format(prompt, response), expected, "{response}");
        check("", r"<think>so</think> \boxed{4}", true);
        check("", "\n<think>\nso\n</think>\n\nIt is $\\boxed{4}$.", true);
        check("", r"so</think> \boxed{4}", false);
        check("Assistant:<think>\n", r"so</think> \boxed{4}", true);
        check("Assistant:<think>\n", r"<think>so</think> \boxed{4}", true);
        for wrong in [
            r"\boxed{4}",
            r"<think>so \boxed{4}</think> four",
            r"<think> </think> \boxed{4}",
            r"<think>so \boxed{4}",
            r"Well: <think>so</think> \boxed{4}",
            r"<think>so</think> \boxed{4",
            r"<think>so</think> hm</think> \boxed{4}",
            r"<think>so<think>so</think> \boxed{4}",
            r"<think>so</think> <think>so</think> \boxed{4}",
        ] {
            check("", wrong, false);
        }
    }
}
