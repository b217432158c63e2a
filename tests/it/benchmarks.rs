//! Tests the six published sets in the shared folder: their number of rows, their decodings, and that the grader accepts every gold answer
//! as an answer to its own problem.

use rlvr::data::DataStore;
use rlvr::data::benchmark::{self, Decoding};
use rlvr::flow::Problem;
use rlvr::verify::{GoldAnswer, Grader, Mode, Settings, verify_gold_answer};

use crate::fixture::shared;

fn store() -> Option<DataStore> {
    shared("data").map(|folder| DataStore::open(Some(&folder)).unwrap())
}

fn problems(name: &str, store: &DataStore) -> Vec<Problem> {
    benchmark::select(name).unwrap()[0].load(store).unwrap()
}

fn is_correct(problem: &Problem, response: &str, settings: &Settings) -> bool {
    let gold = GoldAnswer { answer: &problem.answer, unit: &problem.unit, tolerance: problem.tolerance };
    verify_gold_answer(&gold, response, settings).correct
}

#[test]
fn verify_gold_answer_accepts_every_gold_answer_in_a_box() {
    let Some(store) = store() else { return };
    let expected = [("math500", 500), ("aime24", 30), ("aime25", 30), ("amc23", 40), ("minerva_math", 272), ("olympiadbench", 675)];
    for (name, rows) in expected {
        let problems = problems(name, &store);
        assert_eq!(problems.len(), rows, "{name}");
        for (mode, grader) in [Mode::Reward, Mode::Eval].into_iter().flat_map(|mode| [(mode, Grader::Strict), (mode, Grader::Qwen)]) {
            let settings = Settings { mode, grader, ..Settings::default() };
            let is_wrong = |problem: &&Problem| !is_correct(problem, &format!("So it is $\\boxed{{{}}}$.", problem.answer), &settings);
            let wrong: Vec<&Problem> = problems.iter().filter(is_wrong).collect();
            assert!(wrong.is_empty(), "{name}, {mode:?}, {grader:?}: {} of {rows} are wrong: {wrong:#?}", wrong.len());
        }
        println!("{name}: {rows} of {rows} gold answers are correct in both modes");
    }
}

#[test]
fn benchmark_decoding_is_the_published_one() {
    for (names, expected) in [("math500,minerva_math,olympiadbench", Decoding::GREEDY), ("aime24,aime25,amc23", Decoding::AVG_AT_8)] {
        for benchmark in benchmark::select(names).unwrap() {
            assert_eq!(benchmark.decoding, expected, "{}", benchmark.name);
        }
    }
}

/// Answers as models write them, for gold answers in unusual notations.
#[test]
fn verify_gold_answer_accepts_other_notations() {
    let Some(store) = store() else { return };
    let check = |set: &str, id: &str, right: &[&str], wrong: &[&str]| {
        let problems = problems(set, &store);
        let problem = problems.iter().find(|problem| problem.id == format!("{set}/{id}")).unwrap();
        for (answers, expected) in [(right, true), (wrong, false)] {
            for answer in answers {
                let found = is_correct(problem, &format!("\\boxed{{{answer}}}"), &Settings::default());
                assert_eq!(found, expected, "{} ({}): {answer}", problem.id, problem.answer);
            }
        }
    };
    check("aime24", "67", &["025", "25", "25.0"], &["250", "26"]);
    check("aime25", "19", &["336^\\circ", "336", "336^{\\circ}"], &["336.5", "33"]);
    check("amc23", "0", &["27", "27.0", "27 \\text{ miles}"], &["2.7", "28"]);
    check("olympiadbench", "1664", &["69, 84", "84, 69", "69 \\text{ and } 84"], &["69", "84", "69, 84, 85"]);
    check("olympiadbench", "1760", &["90, 90", "90^\\circ, 90^\\circ"], &["90", "90, 80"]);
    check("olympiadbench", "2419", &["166", "166\\text{ cm}^2"], &["166\\text{ m}^2", "32"]);
    check("olympiadbench", "2444", &["8", "8\\text{ min}", "8\\text{ minutes}"], &["8\\text{ hours}", "24"]);
    check("olympiadbench", "2592", &["4.2", "4.2\\%", "r = 4.2", "4.24"], &["4.4", "0.042"]);
}

/// A list of numbers in another order is the same answer; a list without one of the members is not.
#[test]
fn verify_gold_answer_ignores_the_order_of_lists_but_needs_all_members() {
    let Some(store) = store() else { return };
    let plain = |part: &&str| part.trim().parse::<i64>().is_ok();
    let (mut lists, mut in_order) = (0, Vec::new());
    for problem in problems("olympiadbench", &store) {
        let inner = problem.answer.replace('$', "");
        let parts: Vec<&str> = inner.split(',').collect();
        if parts.len() < 2 || !parts.iter().all(plain) {
            continue;
        }
        lists += 1;
        let boxed = |parts: &[&str]| format!("\\boxed{{{}}}", parts.join(", "));
        let reversed: Vec<&str> = parts.iter().rev().copied().collect();
        if !is_correct(&problem, &boxed(&reversed), &Settings::default()) {
            in_order.push(problem.id.clone());
        }
        assert!(!is_correct(&problem, &boxed(&parts[1..]), &Settings::default()), "{}: {}", problem.id, problem.answer);
    }
    assert!(lists > 30 && in_order.is_empty(), "of {lists} lists: {in_order:?}");
}
