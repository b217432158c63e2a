//! Runs in which something fails, as their users see them: what is told, what is saved, and that the advice works.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn rlvr(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rlvr")).args(arguments).env("HF_HUB_OFFLINE", "1").output().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn succeed(arguments: &[&str]) -> String {
    let output = rlvr(arguments);
    assert!(output.status.success(), "rlvr {}: {}", arguments.join(" "), told(&output));
    told(&output)
}

/// Runs what must fail. Gives what it told.
fn fail(arguments: &[&str], expected: &[&str]) -> String {
    let output = rlvr(arguments);
    let said = told(&output);
    assert_eq!(output.status.code(), Some(1), "rlvr {}: {said}", arguments.join(" "));
    assert!(expected.iter().all(|part| said.contains(part)), "expected {expected:?} in {said}");
    said
}

fn lines(path: &Path) -> Vec<Value> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn weights(run: &Path, step: u64) -> Vec<u8> {
    std::fs::read(run.join(format!("checkpoints/{step:05}/model.safetensors"))).unwrap()
}

/// A run of a second without evaluation.
fn small<'a>(out: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let small = ["rollout.groups=2", "rollout.group_size=4", "rollout.max_new=16", "eval.benchmarks="];
    let sets = small.into_iter().flat_map(|set| ["--set", set]);
    ["train", "--out", out.to_str().unwrap()].into_iter().chain(sets).chain(more.iter().copied()).collect()
}

/// An update that fails before it changes anything: everything is saved, as the message says.
#[test]
fn an_update_that_fails_before_it_begins_saves_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let (out, whole) = (folder.path().join("run"), folder.path().join("whole"));
    let gradients = folder.path().join("nowhere/gradients.safetensors");
    succeed(&small(&whole, &["--steps", "3"]));
    let run = small(&out, &["--steps", "3", "--dump-gradients", gradients.to_str().unwrap()]);
    fail(&run, &["the run up to step 0 is saved", "cannot write", "--resume"]);
    succeed(&["train", "--resume", out.to_str().unwrap()]);
    assert!(weights(&out, 3) == weights(&whole, 3), "the resumed run ended in other weights");
}

/// A step whose record cannot be written: it is not saved, and the last whole checkpoint is named, from which the run goes on in the same bits.
#[test]
fn a_step_that_cannot_be_recorded_names_the_last_whole_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let (out, whole) = (folder.path().join("run"), folder.path().join("whole"));
    let script = folder.path().join("reward.sh");
    let program = format!("reward.command=[\"sh\", {:?}]", script.display().to_string());
    let more = ["--steps", "4", "--set", "checkpoint.every=2", "--set", "reward.name=command", "--set", &program];
    // The program is asked for eight responses a step; it breaks the folder in the third.
    let write = |at_third: &str| {
        let text = format!("n=0\nwhile read -r line; do n=$((n+1)); if [ $n = 17 ]; then {at_third}; fi; echo $((n % 3)); done\n");
        std::fs::write(&script, text).unwrap();
    };
    write(":");
    succeed(&small(&whole, &more));
    write(&format!("rm -r {}/rollouts", out.display()));
    let said = fail(&small(&out, &more), &["step 3 updated the policy but could not be recorded, so it is not saved", "cannot write"]);
    assert!(said.contains("continue from the checkpoint of step 2 with --resume") && !said.contains("is saved:"), "{said}");
    std::fs::create_dir(out.join("rollouts")).unwrap();
    // The program counts from where it is started: from step 3 on it must say what it would have said.
    let text = "n=16\nwhile read -r line; do n=$((n+1)); echo $((n % 3)); done\n";
    std::fs::write(&script, text).unwrap();
    succeed(&["train", "--resume", out.to_str().unwrap()]);
    assert!(weights(&out, 4) == weights(&whole, 4), "the resumed run ended in other weights");
    let steps: Vec<u64> = lines(&out.join("metrics.jsonl")).iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [1, 2, 3, 4]);
}
