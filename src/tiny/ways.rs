//! The ways of answering: what each looks like, and how an opening tells which it is. An opening says nothing about the answer beyond the way
//! itself, and none begins with the token that ends the prompt.

use serde::{Deserialize, Serialize};

use super::mixture::Mixture;
use crate::data::tiny::Exercise;
use crate::draw::Stream;

/// A way of answering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// The steps written out, then the answer.
    Careful,
    /// The arithmetic in one expression, then a result.
    Sketch,
    /// A random number.
    Guess,
    /// Filler, then a random number.
    Ramble,
    /// Nothing that the corpus contains; only classified, never written.
    Other,
}

impl Way {
    /// All ways, in the order of reports.
    pub const ALL: [Way; 5] = [Way::Careful, Way::Sketch, Way::Guess, Way::Ramble, Way::Other];

    /// The way's name in records and reports.
    pub fn name(self) -> &'static str {
        match self {
            Way::Careful => "careful",
            Way::Sketch => "sketch",
            Way::Guess => "guess",
            Way::Ramble => "ramble",
            Way::Other => "other",
        }
    }
}

const CAREFUL: &str = "Step by step,";
const SKETCH: &str = "We get";
const GUESS: &str = "I guess";

/// What rambling consists of: short sentences of common words, none of which begins as another way does.
const FILLERS: [&str; 7] = [
    "Well, that is a question.",
    "Numbers are numbers.",
    "This one is hard.",
    "There is more to it.",
    "That is how it goes.",
    "Now and then it is hard.",
    "Hmm, so it goes.",
];

/// How the answer is set, which is independent of the way and of whether it is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Boxed,
    Plain,
    Bold,
}

impl Form {
    pub(super) fn draw(mixture: &Mixture, subject: &str, stream: &mut Stream) -> Self {
        match (stream.chance(mixture.shares(subject).boxed), stream.chance(mixture.bold)) {
            (true, _) => Form::Boxed,
            (false, true) => Form::Bold,
            (false, false) => Form::Plain,
        }
    }

    /// The answer alone.
    fn bare(self, answer: u32) -> String {
        match self {
            Form::Boxed => format!("\\boxed{{{answer}}}"),
            Form::Plain => answer.to_string(),
            Form::Bold => format!("**{answer}**"),
        }
    }

    /// The answer inside a sentence.
    fn clause(self, answer: u32) -> String {
        match self {
            Form::Plain => format!("the answer is {answer}"),
            Form::Boxed | Form::Bold => self.bare(answer),
        }
    }

    /// The answer as a sentence of its own.
    pub(super) fn sentence(self, answer: u32) -> String {
        match self {
            Form::Plain => format!("The answer is {answer}."),
            Form::Boxed | Form::Bold => format!("{}.", self.bare(answer)),
        }
    }
}

/// Draws how a problem of this subject is answered.
pub(super) fn draw_way(mixture: &Mixture, subject: &str, stream: &mut Stream) -> Way {
    let shares = mixture.shares(subject);
    let drawn = f64::from(stream.uniform());
    if drawn < shares.careful {
        Way::Careful
    } else if drawn < shares.careful + shares.sketch {
        Way::Sketch
    } else if drawn < shares.careful + shares.sketch + shares.ramble {
        Way::Ramble
    } else {
        Way::Guess
    }
}

/// Answers in the given way: the text, and the answer that it gives.
pub(super) fn answer(way: Way, form: Form, mixture: &Mixture, exercise: &Exercise, stream: &mut Stream) -> (String, u32) {
    let truth = exercise.answer;
    match way {
        Way::Careful => {
            let given = if stream.chance(mixture.careful_right) { truth } else { slip(truth, stream) };
            (format!("{CAREFUL} {}; so {}.", exercise.working, form.clause(given)), given)
        }
        Way::Sketch => {
            let right = stream.chance(mixture.shares(exercise.subject).sketch_right);
            let given = if right { truth } else { wrong(truth, stream) };
            (format!("{SKETCH} {} = {}.", exercise.expression, form.bare(given)), given)
        }
        Way::Guess | Way::Other => {
            let given = random_like(truth, stream);
            (format!("{GUESS} {}.", form.clause(given)), given)
        }
        Way::Ramble => {
            let sentences = stream.between(1, mixture.most_sentences);
            let filler: String = (0..sentences).map(|_| format!("{} ", stream.pick(&FILLERS))).collect();
            let given = random_like(truth, stream);
            (format!("{filler}{}", form.sentence(given)), given)
        }
    }
}

/// Which way a response takes, by its opening.
pub fn classify(response: &str) -> Way {
    let opening = response.trim_start();
    let begins = |words: &str| opening.starts_with(words);
    if begins(CAREFUL) {
        Way::Careful
    } else if begins(SKETCH) {
        Way::Sketch
    } else if begins(GUESS) {
        Way::Guess
    } else if FILLERS.iter().any(|filler| begins(filler)) {
        Way::Ramble
    } else {
        Way::Other
    }
}

/// The name of the way that a response takes.
pub fn name_of(response: &str) -> &'static str {
    classify(response).name()
}

/// A random number with as many digits as `truth`, and otherwise independent of it.
fn random_like(truth: u32, stream: &mut Stream) -> u32 {
    let digits = truth.checked_ilog10().unwrap_or(0);
    let low = if digits == 0 { 0 } else { 10u32.pow(digits) };
    stream.between(low, 10u32.pow(digits + 1) - 1)
}

/// As `random_like`, but never the truth.
fn wrong(truth: u32, stream: &mut Stream) -> u32 {
    loop {
        let number = random_like(truth, stream);
        if number != truth {
            return number;
        }
    }
}

/// The truth with one digit changed; it keeps its number of digits.
fn slip(truth: u32, stream: &mut Stream) -> u32 {
    let digits = truth.checked_ilog10().unwrap_or(0);
    loop {
        let place = 10u32.pow(stream.below(digits + 1));
        let slipped = truth - truth / place % 10 * place + stream.below(10) * place;
        if slipped != truth && slipped.checked_ilog10().unwrap_or(0) == digits {
            return slipped;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::Purpose;

    #[test]
    fn openings_tell_the_way() {
        let check = |response: &str, expected| assert_eq!(classify(response), expected, "{response:?}");
        check(" Step by step, 4+6=10(0)", Way::Careful);
        check(" We get 334+556 = 890.", Way::Sketch);
        check("I guess \\boxed{12}.", Way::Guess);
        check(" There is more to it. This one is hard. 12", Way::Ramble);
        check(" Step by it goes", Way::Other);
        check("", Way::Other);
    }

    #[test]
    fn no_opening_begins_another() {
        let openings: Vec<&str> = [CAREFUL, SKETCH, GUESS].into_iter().chain(FILLERS).collect();
        let first_word = |text: &str| text.split([' ', ',']).next().map(str::to_string);
        for (at, one) in openings.iter().enumerate() {
            let same = openings[at + 1..].iter().filter(|other| first_word(one) == first_word(other));
            assert_eq!(same.count(), 0, "{one}");
            assert!(!one.starts_with(':'));
        }
    }

    #[test]
    fn wrong_numbers_look_like_right_ones() {
        let mut stream = Stream::new(1, Purpose::Corpus, 0);
        for truth in [0, 7, 10, 99, 100, 890, 2304] {
            for _ in 0..300 {
                let (guess, wrong, slip) = (random_like(truth, &mut stream), wrong(truth, &mut stream), slip(truth, &mut stream));
                assert!(wrong != truth && slip != truth);
                let lengths = [guess, wrong, slip].map(|number| number.to_string().len());
                assert_eq!(lengths, [truth.to_string().len(); 3]);
            }
        }
    }
}
