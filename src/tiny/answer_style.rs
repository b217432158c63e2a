//! The answer styles: how each is written, and how the opening of a response identifies it. An opening reveals only the style. No opening
//! starts with the token that ends the prompt.

use serde::{Deserialize, Serialize};

use super::mixture::Mixture;
use crate::data::tiny::Exercise;
use crate::rng::Stream;

/// An answer style.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnswerStyle {
    /// Writes out the steps, then the answer.
    Careful,
    /// States the arithmetic as one expression, then a result.
    Sketch,
    /// States a random number.
    Guess,
    /// Writes filler sentences, then a random number.
    Ramble,
    /// Any other response. The corpus has none; only [`classify`] returns it.
    Other,
}

impl AnswerStyle {
    /// All styles, in the order of reports.
    pub const ALL: [AnswerStyle; 5] =
        [AnswerStyle::Careful, AnswerStyle::Sketch, AnswerStyle::Guess, AnswerStyle::Ramble, AnswerStyle::Other];

    /// Returns the style's name in records and reports.
    pub fn name(self) -> &'static str {
        match self {
            AnswerStyle::Careful => "careful",
            AnswerStyle::Sketch => "sketch",
            AnswerStyle::Guess => "guess",
            AnswerStyle::Ramble => "ramble",
            AnswerStyle::Other => "other",
        }
    }
}

const CAREFUL: &str = "Step by step,";
const SKETCH: &str = "We get";
const GUESS: &str = "I guess";

/// The sentences in rambling responses. They are short, use common words, and do not start like another style.
const FILLERS: [&str; 7] = [
    "Well, that is a question.",
    "Numbers are numbers.",
    "This one is hard.",
    "There is more to it.",
    "That is how it goes.",
    "Now and then it is hard.",
    "Hmm, so it goes.",
];

/// The format of the final answer, independent of the answer style and of whether the answer is correct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnswerFormat {
    Boxed,
    Plain,
    Bold,
}

impl AnswerFormat {
    /// Samples the format for a problem of this subject.
    pub(super) fn sample(mixture: &Mixture, subject: &str, stream: &mut Stream) -> Self {
        match (stream.chance(mixture.shares(subject).boxed), stream.chance(mixture.bold)) {
            (true, _) => AnswerFormat::Boxed,
            (false, true) => AnswerFormat::Bold,
            (false, false) => AnswerFormat::Plain,
        }
    }

    /// Formats the answer alone.
    fn bare(self, answer: u32) -> String {
        match self {
            AnswerFormat::Boxed => format!("\\boxed{{{answer}}}"),
            AnswerFormat::Plain => answer.to_string(),
            AnswerFormat::Bold => format!("**{answer}**"),
        }
    }

    /// Formats the answer within a sentence.
    fn clause(self, answer: u32) -> String {
        match self {
            AnswerFormat::Plain => format!("the answer is {answer}"),
            AnswerFormat::Boxed | AnswerFormat::Bold => self.bare(answer),
        }
    }

    /// Formats the answer as its own sentence.
    pub(super) fn sentence(self, answer: u32) -> String {
        match self {
            AnswerFormat::Plain => format!("The answer is {answer}."),
            AnswerFormat::Boxed | AnswerFormat::Bold => format!("{}.", self.bare(answer)),
        }
    }
}

/// Samples the answer style for a problem of this subject.
pub(super) fn sample_style(mixture: &Mixture, subject: &str, stream: &mut Stream) -> AnswerStyle {
    let shares = mixture.shares(subject);
    let uniform = f64::from(stream.uniform());
    if uniform < shares.careful {
        AnswerStyle::Careful
    } else if uniform < shares.careful + shares.sketch {
        AnswerStyle::Sketch
    } else if uniform < shares.careful + shares.sketch + shares.ramble {
        AnswerStyle::Ramble
    } else {
        AnswerStyle::Guess
    }
}

/// Writes an answer in the given style and format. Returns the text and the number that it states as the answer.
pub(super) fn answer(
    style: AnswerStyle,
    format: AnswerFormat,
    mixture: &Mixture,
    exercise: &Exercise,
    stream: &mut Stream,
) -> (String, u32) {
    let truth = exercise.answer;
    match style {
        AnswerStyle::Careful => {
            let given = if stream.chance(mixture.careful_right) { truth } else { with_wrong_digit(truth, stream) };
            (format!("{CAREFUL} {}; so {}.", exercise.worked_steps, format.clause(given)), given)
        }
        AnswerStyle::Sketch => {
            let is_correct = stream.chance(mixture.shares(exercise.subject).sketch_right);
            let given = if is_correct { truth } else { wrong(truth, stream) };
            (format!("{SKETCH} {} = {}.", exercise.expression, format.bare(given)), given)
        }
        AnswerStyle::Guess | AnswerStyle::Other => {
            let given = random_like(truth, stream);
            (format!("{GUESS} {}.", format.clause(given)), given)
        }
        AnswerStyle::Ramble => {
            let sentences = stream.between(1, mixture.most_sentences);
            let filler: String = (0..sentences).map(|_| format!("{} ", stream.pick(&FILLERS))).collect();
            let given = random_like(truth, stream);
            (format!("{filler}{}", format.sentence(given)), given)
        }
    }
}

/// Recognizes the answer style of a response by its opening.
pub fn classify(response: &str) -> AnswerStyle {
    let opening = response.trim_start();
    let starts_with = |words: &str| opening.starts_with(words);
    if starts_with(CAREFUL) {
        AnswerStyle::Careful
    } else if starts_with(SKETCH) {
        AnswerStyle::Sketch
    } else if starts_with(GUESS) {
        AnswerStyle::Guess
    } else if FILLERS.iter().any(|filler| starts_with(filler)) {
        AnswerStyle::Ramble
    } else {
        AnswerStyle::Other
    }
}

/// Returns the name of a response's answer style.
pub fn style_name(response: &str) -> &'static str {
    classify(response).name()
}

/// Returns a random number that has as many digits as `truth` but is otherwise independent of it.
fn random_like(truth: u32, stream: &mut Stream) -> u32 {
    let digits = truth.checked_ilog10().unwrap_or(0);
    let low = if digits == 0 { 0 } else { 10u32.pow(digits) };
    stream.between(low, 10u32.pow(digits + 1) - 1)
}

/// Like [`random_like`], but never returns `truth`.
fn wrong(truth: u32, stream: &mut Stream) -> u32 {
    loop {
        let number = random_like(truth, stream);
        if number != truth {
            return number;
        }
    }
}

/// Changes one digit of `truth`, without changing the number of digits.
fn with_wrong_digit(truth: u32, stream: &mut Stream) -> u32 {
    let digits = truth.checked_ilog10().unwrap_or(0);
    loop {
        let place = 10u32.pow(stream.below(digits + 1));
        let changed = truth - truth / place % 10 * place + stream.below(10) * place;
        if changed != truth && changed.checked_ilog10().unwrap_or(0) == digits {
            return changed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    #[test]
    fn classify_recognizes_the_opening() {
        let check = |response: &str, expected| assert_eq!(classify(response), expected, "{response:?}");
        check(" Step by step, 4+6=10(0)", AnswerStyle::Careful);
        check(" We get 334+556 = 890.", AnswerStyle::Sketch);
        check("I guess \\boxed{12}.", AnswerStyle::Guess);
        check(" There is more to it. This one is hard. 12", AnswerStyle::Ramble);
        check(" Step by it goes", AnswerStyle::Other);
        check("", AnswerStyle::Other);
    }

    #[test]
    fn openings_differ_in_their_first_word() {
        let openings: Vec<&str> = [CAREFUL, SKETCH, GUESS].into_iter().chain(FILLERS).collect();
        let first_word = |text: &str| text.split([' ', ',']).next().map(str::to_string);
        for (at, one) in openings.iter().enumerate() {
            let same = openings[at + 1..].iter().filter(|other| first_word(one) == first_word(other));
            assert_eq!(same.count(), 0, "{one}");
            assert!(!one.starts_with(':'));
        }
    }

    #[test]
    fn wrong_numbers_have_as_many_digits_as_the_truth() {
        let mut stream = Stream::new(1, Purpose::Corpus, 0);
        for truth in [0, 7, 10, 99, 100, 890, 2304] {
            for _ in 0..300 {
                let (guess, wrong) = (random_like(truth, &mut stream), wrong(truth, &mut stream));
                let slip = with_wrong_digit(truth, &mut stream);
                assert!(wrong != truth && slip != truth);
                let lengths = [guess, wrong, slip].map(|number| number.to_string().len());
                assert_eq!(lengths, [truth.to_string().len(); 3]);
            }
        }
    }
}
