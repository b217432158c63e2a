//! Which checkpoints a run keeps on disk (`checkpoint.keep_last`, `checkpoint.keep_spaced`), and that an interrupted or killed run keeps
//! the same ones.

use std::path::Path;

use serde_json::Value;

use crate::fixture::{json, rlvr, stderr, succeed, weights};

/// Ten steps with a checkpoint each, of which 2 are kept evenly spaced and one with its state. There is no evaluation to name others.
const SMALL: [&str; 18] = [
    "--set",
    "eval.benchmarks=",
    "--set",
    "checkpoint.every=1",
    "--set",
    "checkpoint.keep_last=1",
    "--set",
    "checkpoint.keep_spaced=2",
    "--set",
    "rollout.groups=2",
    "--set",
    "rollout.group_size=4",
    "--set",
    "rollout.max_new_tokens=30",
    "--set",
    "checkpoint.dtype=f32",
    "--set",
    "optim.schedule=constant",
];

fn train(out: &Path, more: &[&str]) {
    succeed(&[&["train", "--out", out.to_str().unwrap()][..], &SMALL, more].concat());
}

/// Returns the names in `checkpoints/`, each with `+` if it has a state.
fn kept(run: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(run.join("checkpoints")).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: std::path::PathBuf| {
        let state = if path.join("state").exists() { "+" } else { "" };
        path.file_name().unwrap().to_str().unwrap().trim_start_matches('0').to_owned() + state
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort_by_key(|name| (name.len(), name.clone()));
    names
}

/// Rewrites a setting in `[checkpoint]` of a run's `config.toml`; `None` removes it.
fn set(run: &Path, name: &str, value: Option<i64>) {
    let path = run.join("config.toml");
    let mut settings: toml::Table = std::fs::read_to_string(&path).unwrap().parse().unwrap();
    let checkpoint = settings["checkpoint"].as_table_mut().unwrap();
    match value {
        Some(value) => checkpoint.insert(name.to_owned(), toml::Value::Integer(value)),
        None => checkpoint.remove(name),
    };
    std::fs::write(&path, toml::to_string(&settings).unwrap()).unwrap();
}

#[test]
fn keep_spaced_keeps_the_same_checkpoints_after_an_interruption_or_a_kill() {
    let root = tempfile::tempdir().unwrap();
    let whole = root.path().join("whole");
    train(&whole, &["--steps", "10"]);
    // The state of step 9 is kept as the last good one, because no later step has sampled from step 10 yet.
    let expected = ["4", "8", "9+", "10+"];
    assert_eq!(kept(&whole), expected);

    // A run that stops after 5 steps and continues. Between its parts, it is as if it had been killed while it deleted step 3: the folder
    // was renamed and half deleted, and step 1 was not reached.
    let run = root.path().join("run");
    train(&run, &["--steps", "5"]);
    assert_eq!(kept(&run), ["2", "4+", "5+"]);
    let checkpoints = run.join("checkpoints");
    std::fs::create_dir_all(checkpoints.join("00003.partial/state")).unwrap();
    std::fs::create_dir_all(checkpoints.join("00001")).unwrap();
    std::fs::copy(checkpoints.join("00004/config.json"), checkpoints.join("00001/config.json")).unwrap();
    let resumed = rlvr(&["train", "--resume", run.to_str().unwrap(), "--steps", "10"]);
    assert!(resumed.status.success(), "{}", stderr(&resumed));
    assert!(stderr(&resumed).contains("deleted checkpoints/00003.partial"), "{}", stderr(&resumed));
    assert_eq!(kept(&run), expected);
    assert!([4, 8, 10].iter().all(|step| weights(&run, *step) == weights(&whole, *step)), "the weights depend on what is kept");

    // Steps without a state are no place to go back to.
    for step in ["3", "4"] {
        let refused = rlvr(&["train", "--resume", run.to_str().unwrap(), "--at", step]);
        let message = stderr(&refused);
        assert_eq!(refused.status.code(), Some(2), "{message}");
        let parts = [&format!("the state of step {step} in "), "9 (intact), 10 (intact), 0 (the initial model)"];
        assert!(parts.iter().all(|part| message.contains(*part)), "{message}");
    }
    let back = rlvr(&["train", "--resume", run.to_str().unwrap(), "--at", "9"]);
    assert!(back.status.success(), "{}", stderr(&back));
    assert_eq!(kept(&run), expected);
}

/// A run recorded before the setting existed keeps all checkpoints, as does a run with 0.
#[test]
fn keep_spaced_is_off_in_recorded_settings_without_it() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    train(&run, &["--steps", "2", "--set", "checkpoint.keep_spaced=0"]);
    set(&run, "keep_spaced", None);
    let resumed = rlvr(&["train", "--resume", run.to_str().unwrap(), "--steps", "6"]);
    assert!(resumed.status.success(), "{}", stderr(&resumed));
    assert_eq!(kept(&run), ["1", "2", "3", "4", "5+", "6+"]);
    let settings: toml::Table = std::fs::read_to_string(run.join("config.toml")).unwrap().parse().unwrap();
    assert_eq!(settings["checkpoint"]["keep_spaced"].as_integer(), Some(0), "the resumed run records what it does");
}

/// Checkpoints of the steps that `summary.json` names are kept between the spaced ones.
#[test]
fn keep_spaced_keeps_the_checkpoints_that_the_summary_names() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    let evaluated = ["--steps", "6", "--set", "eval.benchmarks=tiny", "--set", "eval.limit=4", "--set", "eval.every=1"];
    train(&run, &[&evaluated[..], &["--set", "checkpoint.keep_spaced=1", "--set", "eval.max_new_tokens=30"]].concat());
    let summary: Value = json(&run.join("summary.json"));
    let mut named: Vec<u64> = ["last", "best"].iter().map(|which| summary[which]["step"].as_u64().unwrap()).collect();
    named.extend(summary["saturation_step"].as_u64());
    let exported = |step: u64| run.join(format!("checkpoints/{step:05}/model.safetensors")).exists();
    assert!(named.iter().all(|step| *step == 0 || exported(*step)), "{named:?} of {:?}", kept(&run));
    let best = summary["best"]["step"].as_u64().unwrap();
    let unnamed: Vec<u64> = [1, 2, 3].into_iter().filter(|step| *step != best && !named.contains(step)).collect();
    assert!(unnamed.iter().all(|step| !exported(*step)), "{unnamed:?} of {:?}", kept(&run));
}
