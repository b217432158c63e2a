//! Tests the verifier on shared cases, on answers of real models, and on the gold answers of the benchmarks.

use rlvr::verify::{self, Grader, Mode, Settings};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::fixture::{json_lines, shared};

/// A case from the test suites of published graders.
#[derive(Deserialize)]
struct Case {
    kind: String,
    gold: String,
    response: String,
    /// True if the response is right.
    truth: bool,
}

/// An answer of a real model, with the verdicts of published graders.
#[derive(Deserialize)]
struct Answer {
    gold: String,
    answer: String,
    /// `None` if no one has checked the answer by hand and the graders disagree.
    truth: Option<bool>,
    /// `adjudicated` if the answer was checked by hand.
    truth_source: String,
    verdicts: Verdicts,
}

#[derive(Deserialize)]
struct Verdicts {
    rllm: bool,
    qwen: bool,
}

/// Reads all rows of a shared file, or returns `None` without the file. Asserts that there are `count` rows, because a test on fewer would
/// prove nothing.
fn rows<T: DeserializeOwned>(path: &str, count: usize) -> Option<Vec<T>> {
    let rows: Vec<T> = json_lines(&shared(path)?)
        .into_iter()
        .zip(1..)
        .map(|(row, line)| serde_json::from_value(row).unwrap_or_else(|error| panic!("{path}, line {line}: {error}")))
        .collect();
    assert_eq!(rows.len(), count, "{path}");
    Some(rows)
}

fn answers() -> Option<Vec<Answer>> {
    rows("verifier/real_public.jsonl", 2533)
}

fn is_right(answer: &Answer, grader: Grader) -> bool {
    let response = format!("\\boxed{{{}}}", answer.answer);
    verify::verify(&answer.gold, &response, &Settings { grader, ..Settings::default() }).correct
}

/// The numbers of false positives and false negatives of a grader, and of the wrong and right answers that it graded.
#[derive(Debug, PartialEq)]
struct Errors {
    false_positives: usize,
    false_negatives: usize,
    wrong_answers: usize,
    right_answers: usize,
}

/// Counts the errors in pairs of (verdict, truth).
fn errors(verdicts: impl Iterator<Item = (bool, bool)>) -> Errors {
    let verdicts: Vec<(bool, bool)> = verdicts.collect();
    let count = |wanted: fn(bool, bool) -> bool| verdicts.iter().filter(|(found, truth)| wanted(*found, *truth)).count();
    Errors {
        false_positives: count(|found, truth| found && !truth),
        false_negatives: count(|found, truth| !found && truth),
        wrong_answers: count(|_, truth| !truth),
        right_answers: count(|_, truth| truth),
    }
}

#[test]
fn verify_decides_public_cases() {
    let Some(cases) = rows::<Case>("verifier/public.jsonl", 1265) else { return };
    let found = errors(cases.iter().map(|case| {
        let mode = if case.kind == "extract" { Mode::Eval } else { Mode::Reward };
        (verify::verify(&case.gold, &case.response, &Settings { mode, ..Settings::default() }).correct, case.truth)
    }));
    println!("public: {found:?}");
    assert_eq!((found.wrong_answers, found.right_answers), (428, 837));
    assert!(found.false_positives == 0 && found.false_negatives <= 5, "{found:?}");
}

#[test]
fn verify_decides_real_answers() {
    let Some(answers) = answers() else { return };
    let graded = |answer: &Answer| answer.truth.map(|truth| (is_right(answer, Grader::Strict), truth));
    let all = errors(answers.iter().filter_map(graded));
    let adjudicated = errors(answers.iter().filter(|answer| answer.truth_source == "adjudicated").filter_map(graded));
    println!("real: {all:?}, adjudicated: {adjudicated:?}");
    assert_eq!((all.wrong_answers, all.right_answers), (2054, 463));
    // The only false positive is 28 for "8 choose 2", which is 28.
    assert!(all.false_positives <= 1 && all.false_negatives == 0, "{all:?}");
    assert_eq!(adjudicated, Errors { false_positives: 0, false_negatives: 0, wrong_answers: 17, right_answers: 46 });
}

#[test]
fn grader_verdicts_match_published_ones_on_real_answers() {
    let Some(answers) = answers() else { return };
    let agreeing = |grader: Grader, theirs: fn(&Verdicts) -> bool| {
        answers.iter().filter(|answer| theirs(&answer.verdicts) == is_right(answer, grader)).count()
    };
    let deepscaler = agreeing(Grader::Deepscaler, |verdicts| verdicts.rllm);
    let qwen = agreeing(Grader::Qwen, |verdicts| verdicts.qwen);
    println!("same verdict as published on {} real answers: deepscaler {deepscaler}, qwen {qwen}", answers.len());
    assert!(deepscaler + 3 >= answers.len() && qwen * 100 >= answers.len() * 99, "{deepscaler} {qwen}");
}

#[test]
fn equal_and_can_parse_accept_gold_answers_of_benchmarks() {
    let sets = [("aime24", 30), ("aime25", 30), ("amc23", 40), ("math500", 500), ("minerva_math", 272), ("olympiadbench", 675)];
    let (mut count, mut as_text) = (0, Vec::new());
    for (name, expected) in sets {
        let Some(rows) = rows::<Value>(&format!("data/test/{name}/test.jsonl"), expected) else { return };
        for row in rows {
            let gold = gold_answer(&row);
            count += 1;
            assert!(verify::equal(&gold, &gold).equal, "{name}: {gold}");
            if !verify::can_parse(&gold) {
                as_text.push(gold);
            }
        }
    }
    println!("{count} gold answers, {} compared as text only: {as_text:?}", as_text.len());
    assert!(as_text.len() * 100 <= count * 3);
}

/// Returns the gold answer of a row: its answer, its answers joined, or the last box of its solution.
fn gold_answer(row: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("the answer is not text: {row}")).to_owned();
    match row.get("answer").or_else(|| row.get("final_answer")) {
        Some(Value::Array(answers)) => answers.iter().map(text).collect::<Vec<_>>().join(", "),
        Some(Value::Number(answer)) => answer.to_string(),
        Some(answer) => text(answer),
        None => {
            let solution = row["solution"].as_str().unwrap_or_else(|| panic!("no answer and no solution: {row}"));
            verify::last_boxed(solution).content().unwrap_or_else(|| panic!("no answer in a box: {row}")).to_owned()
        }
    }
}
