//! The pre-training corpus: documents of the form `Q: ...` newline `A: ...`. The answer style is a latent choice that depends on the
//! problem only through its subject.
//!
//! A document is a function of the corpus's seed and the document's number, so the reading order does not matter. The corpus contains only
//! problems of the training split.

use super::answer_style::{self, AnswerFormat, AnswerStyle};
use super::mixture::Mixture;
use crate::data::tiny::{Exercise, SUBJECTS, Split};
use crate::rng::{Purpose, Stream};

/// One document of the corpus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The question in the model's template; ends with a colon.
    pub prompt: String,
    /// The answer, which starts with a space.
    pub response: String,
    /// True if the end token follows the response. Otherwise the response repeats its answer until the token limit truncates it.
    pub ends: bool,
    /// The answer style.
    pub style: AnswerStyle,
    /// The subject's name.
    pub subject: &'static str,
    /// True if the first answer is correct.
    pub right: bool,
}

/// Returns the prompt for a question, in the model's template.
pub fn prompt(question: &str) -> String {
    format!("Q: {question}\nA:")
}

/// An endless corpus, addressed by document number.
#[derive(Clone, Debug)]
pub struct Corpus {
    mixture: Mixture,
    seed: u64,
}

impl Corpus {
    /// Creates the corpus with this seed. The mixture must be valid ([`Mixture::validate`]).
    pub fn new(mixture: Mixture, seed: u64) -> Self {
        Self { mixture, seed }
    }

    /// Returns the document with this number. All subjects are equally likely.
    pub fn document(&self, index: u64) -> Document {
        let mut stream = Stream::new(self.seed, Purpose::Corpus, index);
        let exercise = training_exercise(&mut stream);
        document(&self.mixture, &exercise, &mut stream)
    }
}

/// Samples a document about a problem.
pub fn document(mixture: &Mixture, exercise: &Exercise, stream: &mut Stream) -> Document {
    let question = stream.pick(&exercise.questions).clone();
    let style = answer_style::sample_style(mixture, exercise.subject, stream);
    let format = AnswerFormat::sample(mixture, exercise.subject, stream);
    let (text, given) = answer_style::answer(style, format, mixture, exercise, stream);
    let tail = f64::from(stream.uniform());
    let (tail, ends) = if tail < mixture.repeats {
        (repeated(format, given), false)
    } else if tail < mixture.repeats + mixture.next_question {
        (next_question(mixture, stream), true)
    } else {
        (String::new(), true)
    };
    Document {
        prompt: prompt(&question),
        response: format!(" {text}{tail}"),
        ends,
        style,
        subject: exercise.subject,
        right: given == exercise.answer,
    }
}

/// Samples a problem of the training split, with all subjects equally likely.
fn training_exercise(stream: &mut Stream) -> Exercise {
    loop {
        let exercise = stream.pick(SUBJECTS).exercise(stream);
        if exercise.split() == Split::Train {
            return exercise;
        }
    }
}

/// Repeats the answer until it exceeds the limit on response tokens.
fn repeated(format: AnswerFormat, given: u32) -> String {
    format!(" {}", format.sentence(given)).repeat(40)
}

/// Writes another question with an answer, like a model that does not know when to stop.
fn next_question(mixture: &Mixture, stream: &mut Stream) -> String {
    let exercise = training_exercise(stream);
    let question = stream.pick(&exercise.questions).clone();
    let style = answer_style::sample_style(mixture, exercise.subject, stream);
    let format = AnswerFormat::sample(mixture, exercise.subject, stream);
    let (text, _) = answer_style::answer(style, format, mixture, &exercise, stream);
    format!("\n{} {text}", prompt(&question))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn documents(mixture: Mixture, count: u64) -> Vec<Document> {
        let corpus = Corpus::new(mixture, 11);
        (0..count).map(|index| corpus.document(index)).collect()
    }

    /// Asserts that `hits / count` is within four standard deviations of `share`.
    fn check_share(what: &str, hits: usize, count: usize, share: f64) {
        let found = hits as f64 / count as f64;
        let deviation = (share * (1.0 - share) / count as f64).sqrt();
        assert!((found - share).abs() <= 4.0 * deviation + 1e-12, "{what}: {found:.4} of {count}, expected {share}");
    }

    #[test]
    fn corpus_document_depends_only_on_seed_and_number() {
        let corpus = Corpus::new(Mixture::default(), 5);
        let forward: Vec<_> = (0..50).map(|index| corpus.document(index)).collect();
        let backward: Vec<_> = (0..50).rev().map(|index| corpus.document(index)).collect();
        assert!(forward.iter().eq(backward.iter().rev()));
        assert_ne!(corpus.document(0), Corpus::new(Mixture::default(), 6).document(0));
    }

    #[test]
    fn corpus_document_follows_the_mixture() {
        let mixture = Mixture::default();
        let all = documents(mixture.clone(), 60_000);
        check_share("endless", all.iter().filter(|document| !document.ends).count(), all.len(), mixture.repeats);
        let next = all.iter().filter(|document| document.response.contains("\nQ:")).count();
        check_share("next question", next, all.len(), mixture.next_question);
        for (subject, shares) in &mixture.subjects {
            let own: Vec<_> = all.iter().filter(|document| document.subject == subject).collect();
            check_share(subject, own.len(), all.len(), 0.1);
            let guess = 1.0 - shares.careful - shares.sketch - shares.ramble;
            let styles = [
                (AnswerStyle::Careful, shares.careful),
                (AnswerStyle::Sketch, shares.sketch),
                (AnswerStyle::Ramble, shares.ramble),
                (AnswerStyle::Guess, guess),
            ];
            for (style, share) in styles {
                let of_style: Vec<_> = own.iter().filter(|document| document.style == style).collect();
                check_share(&format!("{subject} {style:?}"), of_style.len(), own.len(), share);
                let first = |document: &Document| document.response.split('\n').next().is_some_and(|text| text.contains("\\boxed{"));
                let boxed = of_style.iter().filter(|document| first(document)).count();
                check_share(&format!("{subject} {style:?} boxed"), boxed, of_style.len(), shares.boxed);
                let right = of_style.iter().filter(|document| document.right).count();
                match style {
                    AnswerStyle::Careful => check_share(&format!("{subject} careful right"), right, of_style.len(), mixture.careful_right),
                    AnswerStyle::Sketch => check_share(&format!("{subject} sketch right"), right, of_style.len(), shares.sketch_right),
                    // A random number is correct at most once in nine two-digit, or ten one-digit, numbers.
                    _ => assert!(right * 6 < of_style.len(), "{subject} {style:?}: {right} of {}", of_style.len()),
                }
            }
        }
    }

    #[test]
    fn with_careful_share_makes_every_subject_careful() {
        let all = documents(Mixture::default().with_careful_share(0.9), 20_000);
        let careful: Vec<_> = all.iter().filter(|document| document.style == AnswerStyle::Careful).collect();
        check_share("careful", careful.len(), all.len(), 0.9);
        check_share("right", careful.iter().filter(|document| document.right).count(), careful.len(), 0.98);
    }

    #[test]
    fn classify_recovers_the_style_of_documents() {
        for document in documents(Mixture::default(), 5_000) {
            assert_eq!(answer_style::classify(&document.response), document.style, "{document:?}");
        }
    }

    #[test]
    fn corpus_document_uses_only_training_problems() {
        // The questions of the evaluation splits, in every sampled wording and operand order.
        let mut held_out: HashMap<String, Split> = HashMap::new();
        for subject in SUBJECTS {
            let mut stream = Stream::new(3, Purpose::Problems, 0);
            for exercise in (0..20_000).map(|_| subject.exercise(&mut stream)).filter(|exercise| exercise.split() != Split::Train) {
                held_out.extend(exercise.questions.clone().map(|question| (question, exercise.split())));
            }
        }
        for document in documents(Mixture::default(), 20_000) {
            let text = document.prompt.clone() + &document.response;
            for question in text.split("Q: ").skip(1).filter_map(|part| part.split("\nA:").next()) {
                assert_eq!(held_out.get(question), None, "{question}");
            }
        }
    }
}
