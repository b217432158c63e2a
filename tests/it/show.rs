//! Tests `rlvr show` on runs and evaluations, through the program.

use std::path::{Path, PathBuf};

use crate::fixture::{self, fail, json_lines, rollouts, stderr, stdout, succeed};

fn run_with_evaluations(folder: &Path) -> PathBuf {
    let root = folder.join("run");
    let sets = ["eval.limit=20", "eval.every=2", "rollout.groups=2", "rollout.group_size=4"].map(|set| ["--set", set]).concat();
    succeed(&[&["train", "--steps", "4", "--out", root.to_str().unwrap()], &sets[..]].concat());
    root
}

fn show(root: &Path, more: &[&str]) -> String {
    stdout(&succeed(&[&["show", root.to_str().unwrap()], more].concat()))
}

#[test]
fn show_presents_rollouts_and_held_out_problems() {
    let folder = tempfile::tempdir().unwrap();
    let root = run_with_evaluations(folder.path());
    let check = |more: &[&str], expected: &[&str]| {
        let found = show(&root, more);
        expected.iter().for_each(|expected| assert!(found.contains(expected), "{more:?}: {expected:?} in {found}"));
        assert!(!found.contains('\u{1b}'), "a pipe gets no colors: {found:?}");
        found
    };
    let base = json_lines(&root.join("eval/00000/tiny-greedy.jsonl"));
    let right = rollouts(&root, 1).iter().filter(|rollout| rollout["correct"] == true).count();
    check(&[], &["step 4 of 4, finished", "rollouts     4: 1, 2, 3, 4", "evaluations  3: 0, 2, 4", "tiny-greedy", "Compute 334+556."]);
    let first = check(&["--step", "1", "-n", "9"], &[&format!("step 1: 8 responses to tiny/addition/334+556, {right} right"), "gold 890"]);
    let texts = rollouts(&root, 1);
    let shown = texts.iter().filter(|rollout| first.contains(rollout["text"].as_str().unwrap().trim())).count();
    assert_eq!(shown, 8, "every response is shown once: {first}");
    check(&["--step", "40"], &["step 40 has no recorded rollouts; the nearest step with some is 4"]);
    let problem = check(&["--problem", "583+634"], &["What is 583+634?", "base model: wrong", "step 4: ", "gold 1217"]);
    assert!(problem.contains(base[0]["response"].as_str().unwrap().trim()), "{problem}");
    check(&["--problem", "583+634", "--step", "2", "--pass", "tiny-t0.6x1"], &["base model: ", "step 2: "]);
    let wrong = base.iter().filter(|answer| answer["correct"] == false && answer["subject"] == "linear").count();
    check(&["--wrong", "--subject", "linear", "--step", "0", "-n", "1"], &[&format!("wrong: {wrong} responses; 1 shown")]);
    check(&["--changed", "--pass", "tiny-t0.6x1"], &["tiny-t0.6x1, base model to step 4: 20 problems"]);
    let first = show(&root, &["--right", "--pass", "tiny-t0.6x1"]);
    assert!(!first.contains("✗"), "{first}");
}

#[test]
fn show_reads_evaluations_and_damaged_runs() {
    let folder = tempfile::tempdir().unwrap();
    let root = run_with_evaluations(folder.path());
    let evaluation = root.join("eval/00002");
    let found = show(&evaluation, &[]);
    assert!(found.contains("an evaluation of") && found.contains("wrong: "), "{found}");
    assert!(fail(&["show", evaluation.to_str().unwrap(), "--changed"], 2).contains("rlvr compare A B"));

    // What can be read is shown; what cannot is named.
    let metrics = root.join("metrics.jsonl");
    let text = fixture::text(&metrics);
    std::fs::write(&metrics, &text[..text.len() - 40]).unwrap();
    std::fs::write(root.join("eval/00004/scores.json"), "{").unwrap();
    let output = succeed(&["show", root.to_str().unwrap()]);
    assert!(stdout(&output).contains("step 3 of 4"), "{}", stdout(&output));
    assert!(stderr(&output).contains("scores.json is corrupt") && stderr(&output).contains("are left out: 4"), "{}", stderr(&output));
    std::fs::write(root.join("rollouts/00004.jsonl.gz"), "no gzip").unwrap();
    assert!(fail(&["show", root.to_str().unwrap(), "--step", "4"], 1).contains("00004.jsonl.gz"));
}

#[test]
fn show_escapes_control_characters() {
    let folder = tempfile::tempdir().unwrap();
    let root = run_with_evaluations(folder.path());
    let path = root.join("eval/00004/tiny-greedy.jsonl");
    let mut lines = json_lines(&path);
    lines[0]["response"] = "\u{1b}]0;title\u{7} \\boxed{1217}\u{202e}".into();
    std::fs::write(&path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    let found = show(&root, &["--problem", "583+634"]);
    assert!(found.contains("\\u{1b}]0;title\\u{7} \\boxed{1217}\\u{202e}"), "{found}");
    assert!(!found.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{found:?}");
}
