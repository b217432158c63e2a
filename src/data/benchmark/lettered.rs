//! Questions of the ARC challenge, whose answers are letters. The paper scores them; the files are the user's own, because no published copy of
//! them is pinned here.

use anyhow::{Result, bail};

use super::from_file;
use crate::data::Library;
use crate::flow::Problem;

/// A set that is known by name and read from a file of the user's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lettered {
    /// Its name on the command line and in results.
    pub name: &'static str,
    /// Its name in tables.
    pub title: &'static str,
    /// The path below a data folder.
    pub local: &'static str,
}

/// Both difficulties of ARC.
pub const LETTERED: [Lettered; 2] = [
    Lettered { name: "arc_easy", title: "ARC-E", local: "test/arc_easy/test.jsonl" },
    Lettered { name: "arc_challenge", title: "ARC-C", local: "test/arc_challenge/test.jsonl" },
];

impl Lettered {
    /// Its problems, in the file's order.
    ///
    /// # Errors
    /// When the file is not there (the message says what it looks like and where it goes) or a row is not a question with a letter.
    pub fn load(&self, library: &Library) -> Result<Vec<Problem>> {
        let Some(path) = library.own(self.local) else {
            bail!(
                r#"{} is read from a file of yours: put {{"question": "...", "choices": ["...", "..."], "answer": "B"}}, one a line, at DIR/{} and name DIR by --data-dir or RLVR_DATA_DIR"#,
                self.name,
                self.local
            );
        };
        let problems = from_file(&path)?;
        if let Some(problem) = problems.iter().find(|problem| !is_letter(&problem.answer)) {
            bail!("{}: the answer to {} is {:?}, expected the letter of a choice", path.display(), problem.id, problem.answer);
        }
        Ok(problems)
    }
}

fn is_letter(answer: &str) -> bool {
    matches!(answer.as_bytes(), [b'A'..=b'J'])
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::data::test_library;

    fn load(content: &str) -> Result<Vec<Problem>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LETTERED[0].local);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        LETTERED[0].load(&test_library(Some(folder.path().to_path_buf()), Path::new("/nonexistent"), ""))
    }

    #[test]
    fn choices_are_part_of_the_question_in_every_spelling() {
        let check = |row: &str, expected: &str| {
            let problems = load(row).unwrap_or_else(|error| panic!("{row}: {error:#}"));
            assert_eq!((problems[0].question.as_str(), problems[0].answer.as_str()), ("Which?\n(A) salt\n(B) sand", expected), "{row}");
        };
        check(r#"{"question": "Which?", "choices": ["salt", "sand"], "answer": "B"}"#, "B");
        check(r#"{"question": "Which?", "choices": {"text": ["salt", "sand"], "label": ["A", "B"]}, "answerKey": "B"}"#, "B");
        check(r#"{"question": "Which?", "choices": {"text": ["salt", "sand"], "label": ["1", "2"]}, "answerKey": "1"}"#, "A");
        check(
            r#"{"question": {"stem": "Which?", "choices": [{"text": "salt", "label": "A"}, {"text": "sand", "label": "B"}]}, "answerKey": "B"}"#,
            "B",
        );
        check(r#"{"question": "Which?\n(A) salt\n(B) sand", "answer": "A"}"#, "A");
    }

    #[test]
    fn what_is_not_lettered_is_refused() {
        let check = |row: &str, expected: &str| {
            let error = load(row).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        };
        check(r#"{"question": "Which?", "answer": "sand"}"#, "expected the letter of a choice");
        check(
            r#"{"question": "Which?", "choices": ["salt", "sand"], "answer": "C"}"#,
            "line 1: the answer \"C\" is none of the choices A, B",
        );
        check(r#"{"question": "Which?", "choices": "salt", "answer": "A"}"#, "line 1: `choices`");
        let nowhere = test_library(None, Path::new("/nonexistent"), "");
        let error = LETTERED[1].load(&nowhere).unwrap_err().to_string();
        assert!(error.contains("DIR/test/arc_challenge/test.jsonl"), "{error}");
    }
}
