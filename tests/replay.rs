//! Recorded rollouts instead of sampled ones: a run's own recording repeats it to the bit, and mistakes say what to do.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use std::path::Path;
use std::process::{Command, Output};

fn rlvr(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rlvr")).args(arguments).env("HF_HUB_OFFLINE", "1").env_remove("RLVR_DATA_DIR").output().unwrap()
}

fn succeed(arguments: &[&str]) -> String {
    let output = rlvr(arguments);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "rlvr {}: {told}", arguments.join(" "));
    told
}

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Two steps of training, recorded with their tokens.
fn recorded(folder: &Path) -> std::path::PathBuf {
    let out = folder.join("recorded");
    succeed(&[
        "train",
        "--steps",
        "2",
        "--set",
        "eval.every=1",
        "--set",
        "eval.limit=2",
        "--set",
        "rollout.groups=2",
        "--out",
        out.to_str().unwrap(),
    ]);
    out
}

#[test]
fn a_runs_own_recording_repeats_it_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let run = recorded(folder.path());
    // Both steps in one file, packed members one after the other.
    let recording = folder.path().join("rollouts.jsonl.gz");
    let steps = ["rollouts/00002.jsonl.gz", "rollouts/00001.jsonl.gz"].map(|step| bytes(&run.join(step)));
    std::fs::write(&recording, steps.concat()).unwrap();
    let (out, dump) = (folder.path().join("replayed"), folder.path().join("gradients.safetensors"));
    let paths = [&recording, &out, &dump].map(|path| path.to_str().unwrap());
    let told = succeed(&["train", "--replay", paths[0], "--out", paths[1], "--dump-gradients", paths[2]]);
    assert!(told.contains("2 recorded steps of") && told.contains("2 groups of 8"), "{told}");
    let weights = "checkpoints/00002/model.safetensors";
    assert!(bytes(&run.join(weights)) == bytes(&out.join(weights)), "the weights differ");
    assert!(bytes(&dump).len() > 900_000, "a gradient in f32 for each of 227,392 parameters");
    // The settings that it recorded replay it again.
    let again = folder.path().join("again");
    let config = out.join("config.toml");
    succeed(&["train", "--config", config.to_str().unwrap(), "--out", again.to_str().unwrap()]);
    assert!(bytes(&again.join("metrics.jsonl")).len() > 100);
}

#[test]
fn what_cannot_be_replayed_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let run = recorded(folder.path());
    let recording = run.join("rollouts/00001.jsonl.gz");
    let recording = recording.to_str().unwrap();
    let check = |arguments: &[&str], expected: &str| {
        let out = folder.path().join("never");
        let output = rlvr(&[&["train", "--out", out.to_str().unwrap()], arguments].concat());
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(expected), "{told}");
        assert!(!out.exists());
    };
    check(&["--replay", "nowhere.jsonl"], "cannot read nowhere.jsonl");
    check(&["--replay", recording, "--set", "rollout.groups=3"], "the recording has 2 groups of 8: leave them out");
    check(&["--replay", recording, "--example", "pi1"], "cannot be used with");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/llama/policy");
    check(&["--replay", recording, "--model", golden.to_str().unwrap()], "is beyond the model's vocabulary of 50");
    check(&["--replay", recording, "--reference", golden.to_str().unwrap()], "50 rows of vocabulary, the policy 464: they do not compare");
    let cut = folder.path().join("cut.jsonl");
    std::fs::write(&cut, "{\"step\": 1, \"group\": 0, \"sample\": 0, \"reward\": 1, \"text\": \"x\"}\n").unwrap();
    check(&["--replay", cut.to_str().unwrap()], "cut.jsonl, line 1: no prompt_ids; a run records");
}
