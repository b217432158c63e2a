//! Compares the traces of 41 pairs with `cases.txt`. A block is a line `## GRADER [MODE]`, the gold answer, a second text, and the expected
//! trace. The second text is a response if there is a mode, otherwise an answer.

use std::collections::BTreeSet;

use super::*;
use crate::verify::{Grader, Method, Mode, Settings, Verifier};

struct Case {
    verifier: Verifier,
    is_response: bool,
    gold: &'static str,
    answer: &'static str,
    expected: Vec<&'static str>,
}

fn cases() -> Vec<Case> {
    let blocks = include_str!("cases.txt").split("\n## ").skip(1);
    blocks
        .map(|block| {
            let mut lines = block.lines();
            let words: Vec<&str> = lines.next().unwrap().split(' ').collect();
            let grader = match words[0] {
                "strict" => Grader::Strict,
                "deepscaler" => Grader::Deepscaler,
                "qwen" => Grader::Qwen,
                other => panic!("unknown grader {other:?}"),
            };
            let (mode, after_think) = match words.get(1).copied() {
                None | Some("reward") => (Mode::Reward, false),
                Some("think") => (Mode::Reward, true),
                Some("eval") => (Mode::Eval, false),
                Some(other) => panic!("unknown mode {other:?}"),
            };
            let verifier = Verifier::new(Settings { mode, grader, after_think });
            let (gold, answer) = (lines.next().unwrap(), lines.next().unwrap());
            let expected = lines.filter(|line| !line.is_empty()).collect();
            Case { verifier, is_response: words.len() > 1, gold, answer, expected }
        })
        .collect()
}

impl Case {
    /// Returns the verdict without a trace, the verdict with a trace, and the trace.
    fn explained(&self) -> ((bool, Method), (bool, Method), Trace) {
        if self.is_response {
            let (verdict, (traced, trace)) = (self.verifier.check(self.gold, self.answer), self.verifier.explain(self.gold, self.answer));
            ((verdict.correct, verdict.method), (traced.correct, traced.method), trace)
        } else {
            let (found, (traced, trace)) =
                (self.verifier.equal(self.gold, self.answer), self.verifier.explain_equal(self.gold, self.answer));
            ((found.equal, found.method), (traced.equal, traced.method), trace)
        }
    }
}

#[test]
fn explain_matches_the_expected_traces() {
    let mut wrong = String::new();
    for case in cases() {
        let found = case.explained().2.to_string();
        if found.lines().collect::<Vec<_>>() != case.expected {
            wrong.push_str(&format!("{}\n{}\n{found}\n", case.gold, case.answer));
        }
    }
    assert!(wrong.is_empty(), "unexpected traces:\n{wrong}");
}

#[test]
fn explain_ends_with_the_verdict() {
    for case in cases() {
        let (untraced, traced, trace) = case.explained();
        assert_eq!(untraced, traced, "{} {}", case.gold, case.answer);
        let (equal, method) = untraced;
        let last = trace.lines().last().unwrap();
        assert_eq!((last.stage, last.depth), (Stage::Verdict, 0));
        let found = if equal { "equal" } else { "not equal" };
        assert_eq!(last.text, format!("{found}, decided by {}", method.describe()));
    }
}

#[test]
fn explain_cases_cover_every_stage_and_method() {
    let cases = cases();
    assert!(cases.len() >= 20);
    let (mut stages, mut methods) = (BTreeSet::new(), BTreeSet::new());
    for case in &cases {
        let ((_, method), _, trace) = case.explained();
        methods.insert(method);
        stages.extend(trace.lines().iter().map(|line| line.stage));
    }
    use Stage::*;
    let all = [
        Extract, Text, Choice, Read, Pair, Words, Notation, Relation, Reals, Members, Letters, Signs, Exact, Identity, Numeric, Sampled,
        Rounded, Budget, Verdict,
    ];
    assert_eq!(stages, all.into_iter().collect());
    // A tolerance comes from a data set and never applies to a bare pair.
    for method in [
        Method::NoAnswer,
        Method::Text,
        Method::Choice,
        Method::Exact,
        Method::Identity,
        Method::Numeric,
        Method::Sampled,
        Method::Rounded,
        Method::Structure,
        Method::Exhausted,
    ] {
        assert!(methods.contains(&method), "{method:?}");
    }
}

#[test]
fn trace_off_records_nothing_and_formats_no_text() {
    let mut trace = Trace::off();
    trace.note(Stage::Text, || -> String { panic!("a disabled trace formatted its text") });
    assert!(trace.lines().is_empty() && trace.to_string().is_empty());
}

#[test]
fn trace_drops_lines_beyond_the_maximum_but_not_the_verdict() {
    let (gold, answer) = ((1..=60).map(|k| format!("x^{k}")).collect::<Vec<_>>(), (1..=60).map(|k| format!("y^{k}")).collect::<Vec<_>>());
    let (found, trace) = Verifier::default().explain_equal(&gold.join(","), &answer.join(","));
    assert!(!found.equal);
    let mut many = Trace::on();
    (0..MAX_LINES + 7).for_each(|_| many.note(Stage::Pair, || "a pair"));
    many.note(Stage::Verdict, || "equal");
    assert_eq!(many.lines().len(), MAX_LINES + 1);
    assert!(many.to_string().ends_with("… and 7 more lines\nverdict   equal\n"));
    assert!(trace.lines().len() <= MAX_LINES + 1 && trace.steps() > 0);
}
