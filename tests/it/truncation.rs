//! Truncated sampling (top-k, top-p, min-p) is refused unless `rollout.truncated` allows it. With `renormalise`, sampler and trainer agree
//! bit for bit.

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use crate::fixture::{command, error_of, metrics, rlvr, rollouts, stderr, weights};

const RENORMALIZE: &str = "rollout.truncated=renormalise";

/// Trains `steps` steps with two groups each, and records tokens at every step.
fn train(out: &Path, steps: u64, sets: &[&str]) -> Output {
    let mut command = command(&["train", "--steps", &steps.to_string(), "--out", out.to_str().unwrap()]);
    for set in [&["eval.every=1", "eval.limit=1", "rollout.groups=2", "rollout.max_new_tokens=40"], sets].concat() {
        command.args(["--set", set]);
    }
    command.output().unwrap()
}

/// Returns the messages of a run. Panics unless it succeeded.
fn succeed(output: &Output) -> String {
    error_of(output, 0)
}

fn replay(recording: &Path, out: &Path, more: &[&str]) -> Output {
    rlvr(&[&["train", "--replay", recording.to_str().unwrap(), "--out", out.to_str().unwrap()], more].concat())
}

/// Returns the largest logprob gap of each step.
fn gaps(run: &Path) -> Vec<f64> {
    metrics(run).iter().map(|line| line["rollout/logprob_gap_max"].as_f64().unwrap()).collect()
}

fn numbers(line: &Value, key: &str) -> Vec<f64> {
    line[key].as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// Returns the number of token ids that the mask of a position keeps; `None` for the whole vocabulary.
fn size(kept: &Value) -> Option<u64> {
    let of_ids = |ids: &Value| ids.as_array().map_or(1, |run| run[1].as_u64().unwrap() - run[0].as_u64().unwrap() + 1);
    kept.as_array().map(|ids| ids.iter().map(of_ids).sum())
}

/// The settings that replay the run of [`recorded`].
const REPLAYED: [&str; 4] = ["--set", "rollout.temperature=1.1", "--set", "train.updates_per_rollout=2"];

/// Records two steps with all filters and two updates each. Returns the run folder and the recording.
fn recorded(folder: &Path) -> (PathBuf, PathBuf) {
    let run = folder.join("recorded");
    let filters = ["rollout.top_p=0.9", "rollout.top_k=5", "rollout.min_p=0.05", "rollout.temperature=1.1"];
    succeed(&train(&run, 2, &[&filters[..], &[RENORMALIZE, "train.updates_per_rollout=2"]].concat()));
    let recording = folder.join("recording.jsonl.gz");
    let steps = [1, 2].map(|step| std::fs::read(run.join(format!("rollouts/{step:05}.jsonl.gz"))).unwrap());
    std::fs::write(&recording, steps.concat()).unwrap();
    (run, recording)
}

#[test]
fn renormalized_sampler_and_trainer_agree_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let filters: [&[&str]; 4] = [
        &["rollout.top_p=0.9", "rollout.temperature=1.0"],
        &["rollout.top_k=5"],
        &["rollout.min_p=0.05", "rollout.temperature=1.3"],
        &["rollout.top_p=0.9", "rollout.top_k=5", "rollout.min_p=0.05", "rollout.temperature=0.8"],
    ];
    for (number, filter) in filters.into_iter().enumerate() {
        let run = folder.path().join(number.to_string());
        let messages = succeed(&train(&run, 2, &[filter, &[RENORMALIZE]].concat()));
        assert!(!messages.contains("warning"), "{messages}");
        assert_eq!(gaps(&run), [0.0; 2], "{filter:?}");
        let mut truncated = 0;
        for line in rollouts(&run, 2) {
            let (logprobs, sampled) = (numbers(&line, "logprobs"), numbers(&line, "logprobs_sampled"));
            let kept = line["kept"].as_array().unwrap();
            assert_eq!((kept.len(), sampled.len()), (logprobs.len(), logprobs.len()));
            for ((kept, logprob), sampled) in kept.iter().zip(logprobs).zip(sampled) {
                let size = size(kept).unwrap();
                assert!(size >= 1 && (size <= 5 || !filter.contains(&"rollout.top_k=5")), "{kept}");
                assert!(size != 1 || sampled == 0.0, "a single kept token has probability 1: {sampled}");
                assert!(sampled > logprob - 1e-5 && sampled <= 0.0);
                truncated += usize::from(sampled > logprob);
            }
        }
        assert!(truncated > 10, "{filter:?} excluded tokens at {truncated} positions only");
    }
}

#[test]
fn replay_of_a_renormalized_recording_is_bit_identical() {
    let folder = tempfile::tempdir().unwrap();
    let (run, recording) = recorded(folder.path());
    assert_eq!(gaps(&run), [0.0; 2], "the gap of each step's first update");
    let again = folder.path().join("again");
    succeed(&replay(&recording, &again, &REPLAYED));
    assert_eq!(gaps(&again), [0.0; 2]);
    assert!(weights(&run, 2) == weights(&again, 2), "the weights differ");
    // With the distribution over the whole vocabulary, the same tokens have another gradient.
    let whole = folder.path().join("whole");
    succeed(&replay(&recording, &whole, &[&REPLAYED[..], &["--set", "rollout.truncated=mismatch"]].concat()));
    assert!(weights(&run, 2) != weights(&whole, 2), "the sampling masks must change the weights");
    let check = |truncated: &str, recording: &Path, expected: &str| {
        let truncated = format!("rollout.truncated={truncated}");
        let output = replay(recording, &folder.path().join("never"), &[&REPLAYED[..], &["--set", &truncated]].concat());
        let messages = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{messages}");
        assert!(messages.contains(expected), "{messages}");
    };
    check("refuse", &recording, "rollout.truncated is refuse: set it to renormalise");
    let bare = folder.path().join("bare.jsonl");
    let without = rollouts(&run, 1).into_iter().map(|mut line| {
        let fields = line.as_object_mut().unwrap();
        fields.retain(|name, _| name != "kept" && name != "logprobs_sampled");
        format!("{line}\n")
    });
    std::fs::write(&bare, without.collect::<String>()).unwrap();
    check("renormalise", &bare, "has no `kept` and `logprobs_sampled`: record the run with rollout.truncated=renormalise");
}

#[test]
fn filters_are_refused_unless_truncation_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    for filter in ["rollout.top_p=0.9", "rollout.top_k=5", "rollout.min_p=0.05"] {
        let output = train(&out, 1, &[filter]);
        let messages = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{messages}");
        let name = filter.split('=').next().unwrap();
        assert!(messages.contains(&format!("{name} is ")), "{messages}");
        assert!(messages.contains("rollout.truncated=renormalise") && messages.contains("rollout.truncated=mismatch"), "{messages}");
        assert!(!out.exists());
    }
    let messages = succeed(&train(&out, 1, &["rollout.top_p=0.7", "rollout.truncated=mismatch", "rollout.temperature=1.0"]));
    assert!(
        messages.contains("warning: rollout.truncated is mismatch and rollout.top_p is 0.7: responses are sampled from part"),
        "{messages}"
    );
    assert_eq!(gaps(&out), [0.0], "both log-probabilities are over the whole vocabulary");
    assert!(rollouts(&out, 1).iter().all(|line| line.get("kept").is_none() && line.get("logprobs_sampled").is_none()));
}
