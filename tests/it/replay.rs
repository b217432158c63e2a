//! Replay as users run it: replaying a run's recording reproduces its weights bit for bit, and mistakes are reported with advice.

use std::path::Path;

use crate::fixture::{bytes, fail, gzipped_json_lines, repository, stderr, succeed};

/// Trains two steps and records them with tokens. Returns the run folder.
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
fn replay_of_a_runs_own_recording_is_bit_identical() {
    let folder = tempfile::tempdir().unwrap();
    let run = recorded(folder.path());
    // One file has both steps, as concatenated gzip members.
    let recording = folder.path().join("rollouts.jsonl.gz");
    let steps = ["rollouts/00002.jsonl.gz", "rollouts/00001.jsonl.gz"].map(|step| bytes(&run.join(step)));
    std::fs::write(&recording, steps.concat()).unwrap();
    let (out, dump) = (folder.path().join("replayed"), folder.path().join("gradients.safetensors"));
    let paths = [&recording, &out, &dump].map(|path| path.to_str().unwrap());
    let messages = stderr(&succeed(&["train", "--replay", paths[0], "--out", paths[1], "--dump-gradients", paths[2]]));
    assert!(messages.contains("2 recorded steps of") && messages.contains("2 groups x 8 responses"), "{messages}");
    let weights = "checkpoints/00002/model.safetensors";
    assert!(bytes(&run.join(weights)) == bytes(&out.join(weights)), "the weights differ");
    assert!(bytes(&dump).len() > 900_000, "an f32 gradient for each of 227,392 parameters");
    // The recorded settings replay the recording again.
    let again = folder.path().join("again");
    let config = out.join("config.toml");
    succeed(&["train", "--config", config.to_str().unwrap(), "--out", again.to_str().unwrap()]);
    assert!(bytes(&again.join("metrics.jsonl")).len() > 100);
}

#[test]
fn replay_reports_recordings_that_do_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let run = recorded(folder.path());
    let recording = run.join("rollouts/00001.jsonl.gz");
    let recording = recording.to_str().unwrap();
    let check = |arguments: &[&str], expected: &str| {
        let out = folder.path().join("never");
        let messages = fail(&[&["train", "--out", out.to_str().unwrap()], arguments].concat(), 2);
        assert!(messages.contains(expected), "{messages}");
        assert!(!out.exists());
    };
    check(&["--replay", "nowhere.jsonl"], "cannot read nowhere.jsonl");
    check(&["--replay", recording, "--set", "rollout.groups=3"], "the recording has 2 groups of 8: leave both settings out");
    check(&["--replay", recording, "--example", "pi1"], "cannot be used with");
    let golden = repository("tests/golden/llama/policy");
    check(&["--replay", recording, "--model", golden.to_str().unwrap()], "is outside the model's vocabulary of 50");
    check(&["--replay", recording, "--reference", golden.to_str().unwrap()], "has a vocabulary of 50 tokens, but the policy's has 464");
    let cut = folder.path().join("cut.jsonl");
    std::fs::write(&cut, "{\"step\": 1, \"group\": 0, \"sample\": 0, \"reward\": 1, \"text\": \"x\"}\n").unwrap();
    check(&["--replay", cut.to_str().unwrap()], "cut.jsonl, line 1: no `prompt_ids`: a run records");
}

/// Writes a copy of a recording with `change` applied to every line. Returns the path of the copy.
fn changed(recording: &Path, to: &Path, change: impl Fn(&mut serde_json::Map<String, serde_json::Value>)) -> String {
    let line = |mut line: serde_json::Value| {
        change(line.as_object_mut().unwrap());
        line.to_string()
    };
    let lines: Vec<String> = gzipped_json_lines(recording).into_iter().map(line).collect();
    std::fs::write(to, format!("\u{FEFF}{}\r\n", lines.join("\r\n"))).unwrap();
    to.to_str().unwrap().to_owned()
}

#[test]
fn replay_cuts_padding_after_the_end_token_and_reports_it() {
    let folder = tempfile::tempdir().unwrap();
    let run = recorded(folder.path());
    let recording = run.join("rollouts/00001.jsonl.gz");
    let padded_length = 600;
    // The embedded model's end token is 0, a common padding token.
    let padded = changed(&recording, &folder.path().join("padded.jsonl"), |line| {
        for (key, padding) in [("completion_ids", serde_json::json!(0)), ("logprobs", serde_json::json!(-1.0))] {
            let list = line[key].as_array_mut().unwrap();
            list.resize(padded_length, padding);
        }
    });
    let weights = |replay: &str, name: &str| {
        let out = folder.path().join(name);
        let messages = stderr(&succeed(&["train", "--replay", replay, "--steps", "1", "--out", out.to_str().unwrap()]));
        (messages, bytes(&out.join("checkpoints/00001/model.safetensors")))
    };
    let (messages, from_padded) = weights(&padded, "padded");
    assert!(messages.contains("16 responses were padded after their first end token and were cut there"), "{messages}");
    let (messages, as_recorded) = weights(recording.to_str().unwrap(), "as-recorded");
    assert!(!messages.contains("padded") && from_padded == as_recorded, "{messages}");
    let continued = changed(&recording, &folder.path().join("on.jsonl"), |line| {
        for (key, more) in [("completion_ids", serde_json::json!([5, 6])), ("logprobs", serde_json::json!([-1.0, -1.0]))] {
            line[key].as_array_mut().unwrap().extend(more.as_array().unwrap().clone());
        }
    });
    let messages = fail(&["train", "--replay", &continued, "--out", folder.path().join("never").to_str().unwrap()], 2);
    assert!(messages.contains("continues after its end token 0"), "{messages}");
}

#[test]
fn replay_reports_or_refuses_logprobs_at_another_temperature() {
    let folder = tempfile::tempdir().unwrap();
    let run = recorded(folder.path());
    let recording = run.join("rollouts/00001.jsonl.gz");
    let shifted = |gap: f64| {
        changed(&recording, &folder.path().join(format!("{gap}.jsonl")), |line| {
            line.remove("temperature");
            let first = &mut line["logprobs"][0];
            *first = serde_json::json!(first.as_f64().unwrap() - gap);
        })
    };
    let out = folder.path().join("reported");
    let messages = stderr(&succeed(&["train", "--replay", &shifted(0.5), "--out", out.to_str().unwrap()]));
    assert!(messages.contains("differ from the policy's by up to 0.50 nats"), "{messages}");
    assert!(messages.contains("the recording does not state its temperature, and 0.6 was assumed (rollout.temperature)"), "{messages}");
    let never = folder.path().join("never");
    let messages = fail(&["train", "--replay", &shifted(13.0), "--out", never.to_str().unwrap()], 2);
    assert!(messages.contains("by up to 13.00 nats") && messages.contains("the limit is 12"), "{messages}");
    assert!(!never.exists());
    let group = changed(&recording, &folder.path().join("group.jsonl"), |line| line["group"] = serde_json::json!(u64::MAX));
    let messages = fail(&["train", "--replay", &group, "--out", never.to_str().unwrap()], 2);
    assert!(messages.contains("group.jsonl, line 1: `group` is 18446744073709551615, expected"), "{messages}");
}
