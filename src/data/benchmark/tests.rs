use super::*;
use crate::data::store::{shared_store, test_store};

#[test]
fn select_accepts_names_and_tags() {
    let names = |specification: &str| select(specification).map(|found| found.iter().map(|b| b.name).collect::<Vec<_>>());
    assert_eq!(names("aime25, math500,aime25").unwrap(), ["aime25", "math500"]);
    assert_eq!(names("paper").unwrap(), ["math500", "aime24", "amc23", "minerva_math", "olympiadbench", "aime25"]);
    assert_eq!(names("amc23,paper,arc_easy").unwrap().len(), 7);
    for bad in ["math", "", "math500,"] {
        let error = names(bad).unwrap_err().to_string();
        assert!(error.contains("expected one of math500, aime24, ") && error.contains("arc_challenge, paper (the six"), "{error}");
    }
}

/// The pinned sets with their numbers of problems.
fn published() -> impl Iterator<Item = (&'static Benchmark, usize)> {
    BENCHMARKS.iter().filter_map(|benchmark| match benchmark.source {
        Source::Pinned { rows, .. } => Some((benchmark, rows)),
        Source::Own { .. } => None,
    })
}

#[test]
fn load_returns_the_published_number_of_problems() {
    let Some(store) = shared_store() else { return };
    for (benchmark, rows) in published() {
        let problems = benchmark.load(&store).unwrap();
        let ids: std::collections::HashSet<_> = problems.iter().map(|problem| &problem.id).collect();
        assert_eq!((problems.len(), ids.len()), (rows, rows), "{}", benchmark.name);
    }
    let is_papers = |(benchmark, _): &(&Benchmark, usize)| benchmark.tags.contains(&PAPER);
    let rows: Vec<(&str, usize, usize)> = published().filter(is_papers).map(|(b, rows)| (b.name, rows, b.decoding.samples)).collect();
    let papers =
        [("math500", 500, 1), ("aime24", 30, 8), ("amc23", 40, 8), ("minerva_math", 272, 1), ("olympiadbench", 675, 1), ("aime25", 30, 8)];
    assert_eq!(rows, papers);
}

#[test]
fn load_reads_published_rows() {
    let Some(store) = shared_store() else { return };
    let check = |benchmark: &str, number: usize, id: &str, answer: &str, subject: &str, level: &str| {
        let problems = select(benchmark).unwrap()[0].load(&store).unwrap();
        let problem = &problems[number];
        let got = (problem.id.as_str(), problem.answer.as_str(), problem.subject.as_str(), problem.level.as_str());
        assert_eq!(got, (id, answer, subject, level));
    };
    check("math500", 0, "math500/test/precalculus/807.json", r"\left( 3, \frac{\pi}{2} \right)", "Precalculus", "2");
    check("aime24", 7, "aime24/67", "025", "", "");
    check("aime25", 19, "aime25/19", r"336^\circ", "", "");
    check("amc23", 0, "amc23/0", "27", "", "");
    check("amc23", 15, "amc23/17", "-1", "", "");
    check("minerva_math", 0, "minerva_math/0", "1.6", "Introduction to Astronomy (8.282J Spring 2006)", "");
    check("olympiadbench", 0, "olympiadbench/1606", "2", "Combinatorics", "");
}

/// MATH500 contains each answer twice, in `solution` and in `answer`; both must agree.
#[test]
fn answer_of_boxed_solution_agrees_with_the_answer_field() {
    let Some(store) = shared_store() else { return };
    let Source::Pinned { file, fields, .. } = &BENCHMARKS[0].source else { panic!("MATH500 is published") };
    for row in &rows::read_jsonl(&store.path(file).unwrap()).unwrap() {
        assert_eq!(fields.answer.of(row).unwrap(), row.text(&["answer"]).unwrap(), "{}", row.location);
    }
}

#[test]
fn from_file_locates_a_missing_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.jsonl");
    std::fs::write(&path, "{\"question\": \"q\", \"answer\": \"B\", \"subject\": \"s\"}\n{\"question\": \"r\"}\n").unwrap();
    let error = from_file(&path).unwrap_err().to_string();
    assert!(error.contains("mine.jsonl, line 2: no `answer`"), "{error}");
}

fn load_arc(content: &str) -> Result<Vec<Problem>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test/arc_easy/test.jsonl");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, content).unwrap();
    select("arc_easy").unwrap()[0].load(&test_store(Some(folder.path().to_path_buf()), Path::new("/nonexistent"), ""))
}

#[test]
fn load_appends_choices_to_the_question() {
    let check = |row: &str, expected: &str| {
        let problems = load_arc(row).unwrap_or_else(|error| panic!("{row}: {error:#}"));
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
fn load_rejects_answers_that_are_not_letters() {
    let check = |row: &str, expected: &str| {
        let error = load_arc(row).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
    };
    check(r#"{"question": "Which?", "answer": "sand"}"#, "it must be the letter of a choice");
    check(
        r#"{"question": "Which?", "choices": ["salt", "sand"], "answer": "C"}"#,
        "line 1: the answer \"C\" is not a choice; expected one of A, B",
    );
    check(r#"{"question": "Which?", "choices": "salt", "answer": "A"}"#, "line 1: `choices`");
    let nowhere = test_store(None, Path::new("/nonexistent"), "");
    let error = select("arc_challenge").unwrap()[0].load(&nowhere).unwrap_err().to_string();
    assert!(error.contains("DIR/test/arc_challenge/test.jsonl"), "{error}");
}
