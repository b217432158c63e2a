//! Tests the verifier on our own cases, one per line: pairs of answers, and whole responses.

use rlvr::verify::{self, Grader, Mode, Settings, Stage, Verifier};

/// Returns the cases: whether the pair is equal, the gold answer, the answer.
fn cases() -> Vec<(bool, &'static str, &'static str)> {
    let lines = include_str!("../verify_cases.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (sign, pair) = line.split_once(' ').expect("a sign and a pair");
            let (gold, answer) = pair.split_once(" ||| ").or_else(|| pair.split_once(" | ")).expect("a gold answer and an answer");
            (sign == "=", gold, answer)
        })
        .collect()
}

#[test]
fn equal_decides_own_cases() {
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
fn equal_is_reflexive_on_own_cases() {
    for (_, gold, answer) in cases() {
        assert!(verify::equal(gold, gold).equal, "{gold}");
        assert!(verify::equal(answer, answer).equal, "{answer}");
    }
}

/// Returns the responses: settings, whether the response is right, the gold answer, the response.
fn responses() -> Vec<(Settings, bool, &'static str, String)> {
    let lines = include_str!("../verify_responses.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (mode, rest) = line.split_once(' ').expect("a mode");
            let settings = match mode {
                "reward" => Settings::default(),
                "think" => Settings { after_think: true, ..Settings::default() },
                "eval" => Settings { mode: Mode::Eval, ..Settings::default() },
                other => panic!("unknown mode {other:?}"),
            };
            let (sign, pair) = rest.split_once(' ').expect("a sign and a pair");
            assert!(["=", "!"].contains(&sign), "{line}");
            let (gold, response) = pair.split_once(" <- ").expect("a gold answer and a response");
            (settings, sign == "=", gold, response.replace('⏎', "\n"))
        })
        .collect()
}

#[test]
fn verify_decides_own_responses() {
    let cases = responses();
    assert!(cases.len() > 50);
    let wrong: Vec<String> = cases
        .into_iter()
        .filter_map(|(settings, expected, gold, response)| {
            let found = verify::verify(gold, &response, &settings);
            (found.correct != expected).then(|| format!("{gold} <- {response}: {found:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{} wrong verdicts:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn equal_rejects_an_unrelated_number() {
    for (_, gold, answer) in cases() {
        for text in [gold, answer] {
            assert!(!verify::equal(text, "8675309").equal && !verify::equal("8675309", text).equal, "{text}");
        }
    }
}

#[test]
fn explain_equal_has_the_verdict_of_equal() {
    for grader in [Grader::Strict, Grader::Deepscaler, Grader::Qwen] {
        let verifier = Verifier::new(Settings { grader, ..Settings::default() });
        for (_, gold, answer) in cases() {
            let (found, trace) = verifier.explain_equal(gold, answer);
            assert_eq!(found, verifier.equal(gold, answer), "{grader:?}: {gold} | {answer}");
            let verdicts = trace.lines().iter().filter(|line| line.stage == Stage::Verdict).count();
            assert_eq!((verdicts, trace.lines().last().map(|line| line.stage)), (1, Some(Stage::Verdict)), "{gold} | {answer}");
        }
    }
}
