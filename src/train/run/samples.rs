//! Renders a few responses as Markdown, for trackers that show text.

use std::fmt::Write as _;

use crate::eval::{Answer, EvalSet, Pass};
use crate::flow::{Problem, ScoredRollout};

/// The number of responses in a text.
const COUNT: usize = 4;
/// The longest part of a question or a response that is shown, in characters.
const MAX_CHARS: usize = 6000;

/// Renders training responses: up to two right and two wrong ones, or four of one kind, in the order in which they were sampled.
pub(super) fn of_training(scored: &[ScoredRollout]) -> String {
    let of_kind = |correct: bool| scored.iter().enumerate().filter(move |(_, scored)| scored.correct == correct).take(COUNT);
    let (right, wrong): (Vec<_>, Vec<_>) = (of_kind(true).collect(), of_kind(false).collect());
    let from_right = right.len().min(COUNT - wrong.len().min(COUNT / 2));
    let mut chosen: Vec<_> = right.into_iter().take(from_right).chain(wrong.into_iter().take(COUNT - from_right)).collect();
    chosen.sort_by_key(|(index, _)| *index);
    let mut text = String::new();
    for (_, ScoredRollout { rollout, reward, correct, .. }) in chosen {
        let Problem { id, answer, .. } = &*rollout.prompt.problem;
        let heading = format!("{id}, group {}, sample {}: {}, reward {reward}", rollout.group, rollout.sample, verdict(*correct));
        section(&mut text, &heading, &format!("label {}", code(answer)), &[&rollout.text]);
    }
    text
}

/// Renders responses to four problems, the same at every evaluation, spread over the benchmark.
pub(super) fn of_evaluation(sets: &[EvalSet], pass: &Pass) -> String {
    let problems: Vec<&Answer> = pass.answers.iter().filter(|answer| answer.sample == 0).collect();
    let count = problems.len().min(COUNT);
    let mut text = String::new();
    for answer in (0..count).map(|number| problems[number * problems.len() / count]) {
        let Answer { id, gold, extracted, correct, response, .. } = answer;
        let extracted = extracted.as_ref().map_or_else(|| "no boxed answer".to_owned(), |extracted| format!("answer {}", code(extracted)));
        let question = question(sets, pass, id).unwrap_or_default();
        section(&mut text, &format!("{id}: {}", verdict(*correct)), &format!("gold {}, {extracted}", code(gold)), &[question, response]);
    }
    text
}

fn question<'a>(sets: &'a [EvalSet], pass: &Pass, id: &str) -> Option<&'a str> {
    let set = sets.iter().find(|set| set.decodings.iter().any(|decoding| set.pass_name(*decoding) == pass.name))?;
    set.problems.iter().find(|problem| problem.id == id).map(|problem| problem.question.as_str())
}

fn verdict(correct: bool) -> &'static str {
    if correct { "right" } else { "wrong" }
}

/// Appends a heading, a line, and blocks of foreign text, which Markdown shows as they are.
fn section(text: &mut String, heading: &str, line: &str, blocks: &[&str]) {
    let _ = write!(text, "#### {}\n\n{line}\n\n", heading.replace(['\n', '`', '<'], " "));
    for block in blocks.iter().filter(|block| !block.is_empty()) {
        let shown: String = block.chars().take(MAX_CHARS).map(visible).collect();
        let cut = if shown.len() < block.len() { "\n(cut)\n" } else { "" };
        let fence = "`".repeat(longest_run_of_backticks(&shown).max(2) + 1);
        let _ = write!(text, "{fence}text\n{shown}\n{fence}\n{cut}\n");
    }
}

/// Makes inline code of a short text.
fn code(text: &str) -> String {
    let text: String = text.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let fence = "`".repeat(longest_run_of_backticks(&text) + 1);
    format!("{fence} {text} {fence}")
}

/// Replaces a control character other than a line feed or a tab with its symbol for display.
fn visible(c: char) -> char {
    match c {
        '\n' | '\t' => c,
        '\u{7f}' => '\u{2421}',
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)).unwrap_or(char::REPLACEMENT_CHARACTER),
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

fn longest_run_of_backticks(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn section_shows_foreign_text_as_it_is() {
        let check = |block: &str, expected: &str| {
            let mut text = String::new();
            section(&mut text, "a `b`\nc", "line", &[block]);
            assert_eq!(text, format!("#### a  b  c\n\nline\n\n{expected}"));
        };
        check("So \\boxed{890}.", "```text\nSo \\boxed{890}.\n```\n\n");
        check("```python\nx\n```\u{1b}[31m", "````text\n```python\nx\n```\u{241b}[31m\n````\n\n");
        check("", "");
        check(&"x".repeat(MAX_CHARS + 1), &format!("```text\n{}\n```\n\n(cut)\n\n", "x".repeat(MAX_CHARS)));
    }

    #[test]
    fn code_contains_any_text() {
        assert_eq!(code("a`b\nc"), "`` a`b c ``");
        assert_eq!(code("890"), "` 890 `");
    }
}
