//! Detects the answer format that a prompt asks for, by its words. Owns these phrases. Knows nothing about which reward reads the answer.

/// The format that a prompt asks its answer in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerFormat {
    /// In `\boxed{}`, the format that rewards read.
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

/// A mark is part of an instruction, rather than of the problem, if one of these words is near it.
const INSTRUCTION_WORDS: [&str; 22] = [
    "put", "write", "give", "output", "respond", "reply", "return", "provide", "present", "state", "place", "enclose", "enclosed", "wrap",
    "end", "format", "form", "line", "within", "inside", "after", "final",
];
/// The maximum distance of such a word from a mark, in characters: about two sentences.
const NEAR: usize = 160;

impl AnswerFormat {
    /// Returns the format as written in messages.
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

/// Returns the formats that a text asks for, in the order of [`AnswerFormat`]. `Answer:` at the end of the text is a cue for the response,
/// not an instruction.
pub fn asked(text: &str) -> Vec<AnswerFormat> {
    let text = text.trim_end().to_lowercase();
    let is_requested =
        |marks: &[&str]| marks.iter().any(|mark| text.match_indices(mark).any(|(at, _)| is_instruction(&text, at, mark.len())));
    MARKS.iter().filter(|(_, marks)| is_requested(marks)).map(|(format, _)| *format).collect()
}

/// True if a mark belongs to an instruction: some text, if only a quotation mark, follows it, and an asking word is near.
fn is_instruction(text: &str, at: usize, length: usize) -> bool {
    let (before, after) = (&text[..at], &text[at + length..]);
    let start = before.char_indices().rev().nth(NEAR - 1).map_or(0, |(start, _)| start);
    let end = after.char_indices().nth(NEAR).map_or(after.len(), |(end, _)| end);
    !after.is_empty() && (has_instruction_word(&before[start..]) || has_instruction_word(&after[..end]))
}

fn has_instruction_word(text: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric()).any(|word| INSTRUCTION_WORDS.contains(&word))
}

/// A prompt with the formats it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptFormats {
    /// The name of the example.
    pub id: String,
    /// True if `prompt.instruction` is left out because the question has its own instruction.
    pub is_left_out: bool,
    /// The formats that the prompt asks for.
    pub formats: Vec<AnswerFormat>,
}

/// Returns messages about a run's prompts: which have their own instruction, and which ask for an answer format that a reward that reads
/// boxes never finds.
pub fn messages(prompts: &[PromptFormats], reads_boxes: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let left_out: Vec<&PromptFormats> = prompts.iter().filter(|prompt| prompt.is_left_out).collect();
    if !left_out.is_empty() {
        let which = counted(&left_out, prompts.len());
        lines.push(format!("prompt.instruction is left out of {which}, which already ask for a format (prompt.append=always appends it)"));
    }
    let is_unread = |prompt: &&PromptFormats| reads_boxes && !prompt.formats.is_empty() && !prompt.formats.contains(&AnswerFormat::Boxed);
    let unread: Vec<&PromptFormats> = prompts.iter().filter(is_unread).collect();
    if let Some(first) = unread.first() {
        let which = counted(&unread, prompts.len());
        let formats: Vec<&str> = first.formats.iter().map(|format| format.name()).collect();
        lines.push(format!(
            "warning: {which} ask for the answer as {}, but the reward reads \\boxed{{}} only, so responses that follow the prompt earn nothing. Ask for \
             \\boxed{{}} in the question, or remove the instruction from it (prompt.instruction is then appended), or use your own reward \
             program (reward.name=command)",
            formats.join(" or ")
        ));
    }
    lines
}

/// Formats `1 of 3 prompts (a)`, with the names of the first few.
fn counted(some: &[&PromptFormats], all: usize) -> String {
    let names: Vec<&str> = some.iter().take(3).map(|prompt| prompt.id.as_str()).collect();
    format!("{} of {all} prompts ({}{})", some.len(), names.join(", "), if some.len() > 3 { ", ..." } else { "" })
}

#[cfg(test)]
mod tests {
    use super::AnswerFormat::*;
    use super::*;

    #[test]
    fn asked_finds_every_answer_format() {
        let check = |text: &str, expected: &[AnswerFormat]| assert_eq!(asked(text), expected, "{text:?}");
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
        // The embedded model's template, a cue for the response, and marks that belong to a problem.
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
        assert!(messages[0].starts_with("prompt.instruction is left out of 2 of 4 prompts (b, c)"), "{messages:?}");
        assert!(
            messages[1].starts_with("warning: 1 of 4 prompts (b) ask for the answer as \"Answer:\", but the reward reads \\boxed{} only"),
            "{messages:?}"
        );
        assert_eq!((messages.len(), messages(&prompts, false).len()), (2, 1));
        assert!(messages(&prompts[..1], true).is_empty());
    }
}
