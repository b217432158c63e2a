//! Which format a prompt asks its answer in, by its words. Owns the phrases that ask for one; must never know which reward reads it.

/// How a prompt wants its answer written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerFormat {
    /// In `\boxed{}`, which is what rewards read.
    Boxed,
    /// After `####`, as GSM8K has it.
    Hashes,
    /// In `<answer></answer>`.
    Tag,
    /// On a line that begins with `Answer:`.
    Line,
    /// In a JSON object with the key `answer`.
    Json,
}

/// What stands for each format, in lower case.
const MARKS: [(AnswerFormat, &[&str]); 5] = [
    (AnswerFormat::Boxed, &["\\boxed", "\\fbox", "boxed{"]),
    (AnswerFormat::Hashes, &["####"]),
    (AnswerFormat::Tag, &["<answer>"]),
    (AnswerFormat::Line, &["answer:"]),
    (AnswerFormat::Json, &["\"answer\":"]),
];

/// Words of which one stands near a mark that is meant as an instruction, and not as part of the problem.
const ASKING: [&str; 22] = [
    "put", "write", "give", "output", "respond", "reply", "return", "provide", "present", "state", "place", "enclose", "enclosed", "wrap",
    "end", "format", "form", "line", "within", "inside", "after", "final",
];
/// How far before or after a mark such a word may stand, in characters: about two sentences.
const NEAR: usize = 160;

impl AnswerFormat {
    /// As people write it.
    pub fn written(self) -> &'static str {
        match self {
            Self::Boxed => "\\boxed{}",
            Self::Hashes => "####",
            Self::Tag => "<answer></answer>",
            Self::Line => "\"Answer:\"",
            Self::Json => "JSON with \"answer\"",
        }
    }
}

/// Every format that a text asks for, in the order of the list above. An `Answer:` that ends the text is the beginning of the response, not an
/// instruction.
pub fn asked(text: &str) -> Vec<AnswerFormat> {
    let text = text.trim_end().to_lowercase();
    let is_asked = |marks: &[&str]| marks.iter().any(|mark| text.match_indices(mark).any(|(at, _)| is_instruction(&text, at, mark.len())));
    MARKS.iter().filter(|(_, marks)| is_asked(marks)).map(|(format, _)| *format).collect()
}

/// Whether a mark belongs to a request: text or at least a quotation mark follows, and an asking word stands near.
fn is_instruction(text: &str, at: usize, length: usize) -> bool {
    let (before, after) = (&text[..at], &text[at + length..]);
    let start = before.char_indices().rev().nth(NEAR - 1).map_or(0, |(start, _)| start);
    let end = after.char_indices().nth(NEAR).map_or(after.len(), |(end, _)| end);
    !after.is_empty() && (asks(&before[start..]) || asks(&after[..end]))
}

fn asks(text: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric()).any(|word| ASKING.contains(&word))
}

/// A prompt and what it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asking {
    /// The example's name.
    pub id: String,
    /// Whether `prompt.instruction` is left out, because the question has an instruction of its own.
    pub is_left_out: bool,
    /// The formats that are asked for.
    pub formats: Vec<AnswerFormat>,
}

/// What is told about a run's prompts, in lines for people: which have an instruction of their own, and which ask for an answer that a reward
/// of boxes never finds.
pub fn lines(prompts: &[Asking], reads_boxes: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let left_out: Vec<&Asking> = prompts.iter().filter(|prompt| prompt.is_left_out).collect();
    if !left_out.is_empty() {
        let which = counted(&left_out, prompts.len());
        lines.push(format!(
            "prompt.instruction is left out of {which}, which ask for a format themselves (prompt.append=always appends it)"
        ));
    }
    let is_unread = |prompt: &&Asking| reads_boxes && !prompt.formats.is_empty() && !prompt.formats.contains(&AnswerFormat::Boxed);
    let unread: Vec<&Asking> = prompts.iter().filter(is_unread).collect();
    if let Some(first) = unread.first() {
        let which = counted(&unread, prompts.len());
        let formats: Vec<&str> = first.formats.iter().map(|format| format.written()).collect();
        lines.push(format!(
            "warning: {which} ask for the answer as {}, but the reward reads \\boxed{{}} only, so a response that obeys earns nothing. Ask for \
             \\boxed{{}} in the question, or take the instruction out of it (then prompt.instruction is appended), or reward by a program of \
             yours (reward.name=command)",
            formats.join(" or ")
        ));
    }
    lines
}

/// `1 of 3 prompts (a)`, with the first names.
fn counted(some: &[&Asking], all: usize) -> String {
    let names: Vec<&str> = some.iter().take(3).map(|prompt| prompt.id.as_str()).collect();
    format!("{} of {all} prompts ({}{})", some.len(), names.join(", "), if some.len() > 3 { ", ..." } else { "" })
}

#[cfg(test)]
mod tests {
    use super::AnswerFormat::*;
    use super::*;

    #[test]
    fn asked_finds_every_way_of_asking_for_an_answer() {
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
    fn lines_name_prompts_whose_answers_no_reward_reads() {
        let asking =
            |id: &str, is_left_out: bool, formats: &[AnswerFormat]| Asking { id: id.into(), is_left_out, formats: formats.to_vec() };
        let prompts = [asking("a", false, &[Boxed]), asking("b", true, &[Line]), asking("c", true, &[Boxed, Tag]), asking("d", false, &[])];
        let told = lines(&prompts, true);
        assert!(told[0].starts_with("prompt.instruction is left out of 2 of 4 prompts (b, c)"), "{told:?}");
        assert!(
            told[1].starts_with("warning: 1 of 4 prompts (b) ask for the answer as \"Answer:\", but the reward reads \\boxed{} only"),
            "{told:?}"
        );
        assert_eq!((told.len(), lines(&prompts, false).len()), (2, 1));
        assert!(lines(&prompts[..1], true).is_empty());
    }
}
