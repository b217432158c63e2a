//! Detects which answer format a prompt requests, by its words. Owns these words. Knows nothing about rewards.

use crate::output::Level;

/// A format that a prompt can request for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerFormat {
    /// In `\boxed{}`, the format that the built-in rewards read.
    Boxed,
    /// After `####`, as in GSM8K.
    Hashes,
    /// In `<answer></answer>`.
    Tag,
    /// On a line that starts with `Answer:`.
    Line,
    /// In a JSON object with the key `answer`.
    Json,
}

/// The marks of each format, in lower case.
const MARKS: [(AnswerFormat, &[&str]); 5] = [
    (AnswerFormat::Boxed, &["\\boxed", "\\fbox", "boxed{"]),
    (AnswerFormat::Hashes, &["####"]),
    (AnswerFormat::Tag, &["<answer>"]),
    (AnswerFormat::Line, &["answer:"]),
    (AnswerFormat::Json, &["\"answer\":"]),
];

/// A mark is part of an instruction, not of the problem, if one of these words is near it.
const INSTRUCTION_WORDS: [&str; 22] = [
    "put", "write", "give", "output", "respond", "reply", "return", "provide", "present", "state", "place", "enclose", "enclosed", "wrap",
    "end", "format", "form", "line", "within", "inside", "after", "final",
];
/// The maximum distance of such a word from a mark, in characters: about two sentences.
const NEAR: usize = 160;

impl AnswerFormat {
    /// Returns the format as shown in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Boxed => "\\boxed{}",
            Self::Hashes => "####",
            Self::Tag => "<answer></answer>",
            Self::Line => "\"Answer:\"",
            Self::Json => "JSON with \"answer\"",
        }
    }
}

/// Returns the formats that a text requests, in the order of [`AnswerFormat`]. A mark at the very end of the text, such as `Answer:`, is a
/// cue for the response, not a request.
pub fn requested_formats(text: &str) -> Vec<AnswerFormat> {
    let text = text.trim_end().to_lowercase();
    let is_requested =
        |marks: &[&str]| marks.iter().any(|mark| text.match_indices(mark).any(|(at, _)| is_instruction(&text, at, mark.len())));
    MARKS.iter().filter(|(_, marks)| is_requested(marks)).map(|(format, _)| *format).collect()
}

/// True if the mark of `length` bytes at `at` belongs to an instruction: other text follows it, and an instruction word is near.
fn is_instruction(text: &str, at: usize, length: usize) -> bool {
    let (before, after) = (&text[..at], &text[at + length..]);
    let start = before.char_indices().rev().nth(NEAR - 1).map_or(0, |(start, _)| start);
    let end = after.char_indices().nth(NEAR).map_or(after.len(), |(end, _)| end);
    !after.is_empty() && (has_instruction_word(&before[start..]) || has_instruction_word(&after[..end]))
}

fn has_instruction_word(text: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric()).any(|word| INSTRUCTION_WORDS.contains(&word))
}

/// The answer formats that a prompt requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptFormats {
    /// The id of the example.
    pub id: String,
    /// True if `prompt.instruction` is left out because the question has an instruction.
    pub is_left_out: bool,
    /// The formats that the prompt requests.
    pub formats: Vec<AnswerFormat>,
}

/// Returns messages for the user: which prompts keep their own instruction and, if `reads_boxes`, which prompts request only formats that
/// the reward does not read.
pub fn messages(prompts: &[PromptFormats], reads_boxes: bool) -> Vec<(Level, String)> {
    let mut lines = Vec::new();
    let left_out: Vec<&PromptFormats> = prompts.iter().filter(|prompt| prompt.is_left_out).collect();
    if !left_out.is_empty() {
        let which = counted(&left_out, prompts.len());
        let text =
            format!("prompt.instruction is left out of {which}, which have their own instruction (prompt.append=always appends it anyway)");
        lines.push((Level::Info, text));
    }
    let is_unread = |prompt: &&PromptFormats| reads_boxes && !prompt.formats.is_empty() && !prompt.formats.contains(&AnswerFormat::Boxed);
    let unread: Vec<&PromptFormats> = prompts.iter().filter(is_unread).collect();
    if let Some(first) = unread.first() {
        let which = counted(&unread, prompts.len());
        let formats: Vec<&str> = first.formats.iter().map(|format| format.name()).collect();
        let text = format!(
            "{which} {} for the answer as {}, but the reward reads \\boxed{{}} only, so responses that follow the prompt earn nothing: ask for \
             \\boxed{{}} in the question, or remove the instruction from it (prompt.instruction is then appended), or use your own reward \
             program (reward.name=command)",
            if unread.len() == 1 { "asks" } else { "ask" },
            formats.join(" or ")
        );
        lines.push((Level::Warning, text));
    }
    lines
}

/// Formats a number of prompts as `1 of 3 prompts (a)`, with the ids of the first three.
fn counted(some: &[&PromptFormats], all: usize) -> String {
    let names: Vec<&str> = some.iter().take(3).map(|prompt| prompt.id.as_str()).collect();
    format!("{} of {all} prompts ({}{})", some.len(), names.join(", "), if some.len() > 3 { ", ..." } else { "" })
}

#[cfg(test)]
mod tests {
    use super::AnswerFormat::*;
    use super::*;

    #[test]
    fn requested_formats_finds_every_answer_format() {
        let check = |text: &str, expected: &[AnswerFormat]| assert_eq!(requested_formats(text), expected, "{text:?}");
        check("What is 2+2? Let's think step by step and output the final answer within \\boxed{}.", &[Boxed]);
        check("Please reason step by step, and put your final answer within \\boxed{{}}.", &[Boxed]);
        check("What is 2+2? Let's think step by step and output the final answer after \"####\".", &[Hashes]);
        check(
            "Solve it. The last line of your response should be of the form Answer: $Answer (without quotes) where $Answer is the answer.",
            &[Line],
        );
        check("What is 2+2?\n\nRemember to put your answer on its own line after \"Answer:\".", &[Line]);
        check("Reason in <think> </think> tags, then give the result as <answer> 7 </answer>.", &[Tag]);
        check("Return JSON: {\"answer\": 7}", &[Json]);
        check("End with a line \"Answer: X\", where X stands in \\boxed{}.", &[Boxed, Line]);
        // No requests: the embedded model's template, a cue for the response, and a mark that belongs to a problem.
        check("Q: Compute 334+556.\nA:", &[]);
        check("Question: What is 2+2?\nAnswer:", &[]);
        check("What number goes into the box: 3 + \\boxed{?} = 7", &[]);
        check("", &[]);
    }

    #[test]
    fn messages_name_prompts_with_formats_that_no_reward_reads() {
        let prompt =
            |id: &str, is_left_out: bool, formats: &[AnswerFormat]| PromptFormats { id: id.into(), is_left_out, formats: formats.to_vec() };
        let prompts = [prompt("a", false, &[Boxed]), prompt("b", true, &[Line]), prompt("c", true, &[Boxed, Tag]), prompt("d", false, &[])];
        let found = messages(&prompts, true);
        assert!(found[0].1.starts_with("prompt.instruction is left out of 2 of 4 prompts (b, c)"), "{found:?}");
        assert!(
            found[1].0 == Level::Warning
                && found[1].1.starts_with("1 of 4 prompts (b) asks for the answer as \"Answer:\", but the reward reads \\boxed{} only"),
            "{found:?}"
        );
        assert_eq!((found.len(), messages(&prompts, false).len()), (2, 1));
        assert!(messages(&prompts[..1], true).is_empty());
    }
}
