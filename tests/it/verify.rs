//! The verifier against its own cases, a line a case.

use rlvr::verify;

/// The cases: whether the pair is equal, the reference, the answer.
fn cases() -> Vec<(bool, &'static str, &'static str)> {
    let lines = include_str!("../verify_cases.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (sign, pair) = line.split_once(' ').expect("a sign and a pair");
            let (gold, answer) = pair.split_once(" ||| ").or_else(|| pair.split_once(" | ")).expect("a reference and an answer");
            (sign == "=", gold, answer)
        })
        .collect()
}

#[test]
fn own_cases() {
    let wrong: Vec<String> = cases()
        .into_iter()
        .filter_map(|(expected, gold, answer)| {
            let found = verify::equal(gold, answer);
            (found.equal != expected).then(|| format!("{gold} | {answer}: {found:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{} wrong verdicts:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn everything_equals_itself() {
    for (_, gold, answer) in cases() {
        assert!(verify::equal(gold, gold).equal, "{gold}");
        assert!(verify::equal(answer, answer).equal, "{answer}");
    }
}
