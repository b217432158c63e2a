//! The verifier on the shared cases, on answers of real models, and on the gold answers of the benchmarks.

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

/// Reads all rows of a shared file, and asserts that there are `count`, because a test on fewer rows would prove nothing.
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

/// Number of errors of a grader, and of the wrong and right answers it graded.
#[derive(Debug, PartialEq)]
struct Errors {
    false_positives: usize,
    false_negatives: usize,
    of_wrong: usize,
    of_right: usize,
}

/// Counts the errors in pairs of (verdict, truth).
fn errors(verdicts: impl Iterator<Item = (bool, bool)>) -> Errors {
    let verdicts: Vec<(bool, bool)> = verdicts.collect();
    let count = |wanted: fn(bool, bool) -> bool| verdicts.iter().filter(|(found, truth)| wanted(*found, *truth)).count();
    Errors {
        false_positives: count(|found, truth| found && !truth),
        false_negatives: count(|found, truth| !found && truth),
        of_wrong: count(|_, truth| !truth),
        of_right: count(|_, truth| truth),
    }
}

#[test]
fn verify_on_public_cases() {
    let Some(cases) = rows::<Case>("verifier/public.jsonl", 1265) else { return };
    let found = errors(cases.iter().map(|case| {
        let mode = if case.kind == "extract" { Mode::Eval } else { Mode::Reward };
        (verify::verify(&case.gold, &case.response, &Settings { mode, ..Settings::default() }).correct, case.truth)
    }));
    println!("public: {found:?}");
    assert_eq!((found.of_wrong, found.of_right), (428, 837));
    assert!(found.false_positives == 0 && found.false_negatives <= 5, "{found:?}");
}

#[test]
fn verify_on_real_answers() {
    let Some(answers) = answers() else { return };
    let graded = |answer: &Answer| answer.truth.map(|truth| (is_right(answer, Grader::Strict), truth));
    let all = errors(answers.iter().filter_map(graded));
    let adjudicated = errors(answers.iter().filter(|answer| answer.truth_source == "adjudicated").filter_map(graded));
    println!("real: {all:?}, of the adjudicated {adjudicated:?}");
    assert_eq!((all.of_wrong, all.of_right), (2054, 463));
    // The only false positive is 28 for "8 choose 2", which is 28.
    assert!(all.false_positives <= 1 && all.false_negatives == 0, "{all:?}");
    assert_eq!(adjudicated, Errors { false_positives: 0, false_negatives: 0, of_wrong: 17, of_right: 46 });
}

#[test]
fn graders_match_published_verdicts_on_real_answers() {
    let Some(answers) = answers() else { return };
    let agreeing = |grader: Grader, theirs: fn(&Verdicts) -> bool| {
        answers.iter().filter(|answer| theirs(&answer.verdicts) == is_right(answer, grader)).count()
    };
    let deepscaler = agreeing(Grader::Deepscaler, |verdicts| verdicts.rllm);
    let qwen = agreeing(Grader::Qwen, |verdicts| verdicts.qwen);
    println!("of {} real answers the published verdict: deepscaler {deepscaler}, qwen {qwen}", answers.len());
    assert!(deepscaler + 3 >= answers.len() && qwen * 100 >= answers.len() * 99, "{deepscaler} {qwen}");
}

#[test]
fn gold_answers_parse_and_equal_themselves() {
    let sets = [("aime24", 30), ("aime25", 30), ("amc23", 40), ("math500", 500), ("minerva_math", 272), ("olympiadbench", 675)];
    let (mut count, mut as_text) = (0, Vec::new());
    for (name, expected) in sets {
        let Some(rows) = rows::<Value>(&format!("data/test/{name}/test.jsonl"), expected) else { return };
        for row in rows {
            let gold = gold_answer(&row);
            count += 1;
            assert!(verify::equal(&gold, &gold).equal, "{name}: {gold}");
            if !verify::reads(&gold) {
                as_text.push(gold);
            }
        }
    }
    println!("{count} gold answers, as text only {}: {as_text:?}", as_text.len());
    assert!(as_text.len() * 100 <= count * 3);
}

/// Returns the gold answer of a row: its answer, its answers joined, or the last box of its solution.
fn gold_answer(row: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("an answer that is not text: {row}")).to_owned();
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
