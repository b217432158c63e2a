//! Tests rewards through the program: sums and their parts in a run's records, reward programs that fail and are fixed, wrong labels,
//! questions without answers, and scores of other graders next to ours.

use std::path::Path;

use serde_json::Value;

use crate::fixture::{document_list, error_of, json, json_lines, metrics, rlvr, rollouts, stderr, stdout, stdout_json, succeed, weights};

/// Settings of a run that takes about a second.
const SMALL: [&str; 8] =
    ["--set", "rollout.groups=2", "--set", "eval.benchmarks=", "--set", "rollout.max_new_tokens=40", "--set", "checkpoint.keep_last=1"];

/// Returns the arguments of a run in `out` with `steps` steps and this reward setting.
fn train<'a>(out: &'a str, steps: &'a str, reward: &'a str) -> Vec<&'a str> {
    [&["train", "--out", out, "--steps", steps, "--set", reward][..], &SMALL].concat()
}

#[test]
fn train_records_the_parts_of_a_reward_sum() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let reward = r#"reward.name="outcome + 0.5*format - 0.25*length(10, 30) + 0.125*random(0.5) + 0.1*probability""#;
    let mut arguments = train(out.to_str().unwrap(), "2", reward);
    arguments.extend(["--set", "reward.overlong_buffer=20"]);
    succeed(&arguments);
    for (metrics, step) in metrics(&out).iter().zip(1..) {
        let responses = rollouts(&out, step);
        assert_eq!(responses.len(), 16);
        for response in &responses {
            let part = |name: &str| response["rewards"][name].as_f64().unwrap();
            let expected = part("outcome") + 0.5 * part("format") - 0.25 * part("length") + 0.125 * part("random");
            let expected = expected + 0.1 * part("probability") + part("overlong");
            assert!((response["reward"].as_f64().unwrap() - expected).abs() < 1e-5, "{response}");
            assert_eq!(
                (part("outcome") == 1.0, part("format") == 1.0),
                (response["correct"] == true, response["boxed"] == true),
                "{response}"
            );
            assert!((0.0..=1.0).contains(&part("probability")) && (-1.0..=0.0).contains(&part("overlong")), "{response}");
            assert_eq!(part("probability") > 0.0, response["boxed"] == true, "{response}");
        }
        let check = |key: &str, value: &dyn Fn(&Value) -> f64| {
            let mean = responses.iter().map(value).sum::<f64>() / 16.0;
            assert!((metrics[key].as_f64().unwrap() - mean).abs() < 1e-6, "{key} in {metrics}");
        };
        for name in ["length", "random", "probability", "overlong"] {
            check(&format!("reward/{name}/mean"), &|response| response["rewards"][name].as_f64().unwrap());
        }
        check("reward/mean", &|response| response["reward"].as_f64().unwrap());
        // The means of `outcome` and `format` have names of their own.
        check("train/accuracy", &|response| response["rewards"]["outcome"].as_f64().unwrap());
        check("train/boxed_share", &|response| response["rewards"]["format"].as_f64().unwrap());
        assert!(metrics.get("reward/outcome/mean").or(metrics.get("reward/format/mean")).is_none(), "{metrics}");
    }
}

/// The reward equals the result of `rlvr score` for the gold answer after the same reasoning.
#[test]
fn probability_reward_matches_rlvr_score() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let mut arguments = train(out.to_str().unwrap(), "1", "reward.name=probability");
    arguments.extend(["--set", "rollout.temperature=1"]);
    succeed(&arguments);
    let sampled = rollouts(&out, 1);
    let boxed: Vec<&Value> = sampled.iter().filter(|response| response["boxed"] == true).collect();
    assert!(!boxed.is_empty() && boxed.len() < sampled.len());
    let pair = |response: &&Value| {
        let text = response["text"].as_str().unwrap();
        let reasoning = &text[..text.rfind("\\boxed{").unwrap() + "\\boxed{".len()];
        let line = |completion: String| serde_json::json!({"prompt": "Q: Compute 334+556.\nA:", "completion": completion}).to_string();
        [line(reasoning.to_owned()), line(format!("{reasoning}890"))].join("\n")
    };
    let input = folder.path().join("pairs.jsonl");
    std::fs::write(&input, boxed.iter().map(pair).collect::<Vec<_>>().join("\n")).unwrap();
    let output = rlvr(&["score", "--model", "tiny", "--input", input.to_str().unwrap()]);
    let logprobs = |line: &Value| line["logprobs"].as_array().unwrap().iter().map(|one| one.as_f64().unwrap()).collect();
    let scored: Vec<Vec<f64>> = stdout_json(&output).iter().map(logprobs).collect();
    assert_eq!(scored.len(), 2 * boxed.len(), "{}", stderr(&output));
    for (response, pair) in boxed.iter().zip(scored.chunks(2)) {
        let answer = &pair[1][pair[0].len()..];
        let expected = answer.iter().map(|logprob| logprob.exp()).sum::<f64>() / answer.len() as f64;
        assert!((response["reward"].as_f64().unwrap() - expected).abs() < 1e-4, "{response}: {expected}");
    }
}

#[test]
fn train_resume_repeats_random_rewards_and_labels() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (whole, part) = (path("whole"), path("part"));
    // The learning rate must not depend on the number of steps.
    let constant = ["--set", "checkpoint.every=1", "--set", "optim.schedule=constant"];
    let noisy = [&["--example", "tiny/train/20", "--label-noise", "0.6", "--label-seed", "3"][..], &constant].concat();
    let run = |out: &Path, steps| {
        let reward = "reward.name=outcome+random(0.3)";
        stderr(&succeed(&[&train(out.to_str().unwrap(), steps, reward)[..], &noisy].concat()))
    };
    let messages = run(&whole, "3");
    assert!(messages.contains("12 of 20 labels changed (reward.label_noise 0.6, reward.label_seed 3): tiny/"), "{messages}");
    let labels = json_lines(&whole.join("labels.jsonl"));
    assert_eq!(labels.len(), 12);
    assert!(labels.iter().all(|label| label["label"] != label["answer"] && label["example"].as_str().unwrap().starts_with("tiny/")));
    run(&part, "2");
    succeed(&["train", "--resume", part.to_str().unwrap(), "--steps", "3"]);
    assert!(weights(&whole, 3) == weights(&part, 3), "the resumed run has different weights");
    assert_eq!(labels, json_lines(&part.join("labels.jsonl")));
    let random = |run: &Path| rollouts(run, 3).iter().map(|response| response["rewards"]["random"].as_f64().unwrap()).collect::<Vec<_>>();
    assert_eq!(random(&whole), random(&part));
}

#[test]
fn train_label_flag_replaces_the_label() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let messages = stderr(&succeed(&[&train(out.to_str().unwrap(), "1", "reward.name=outcome")[..], &["--label", "13"]].concat()));
    assert!(messages.contains("-> label 13 (tiny/") && messages.contains("tiny/addition/334+556 13 instead of 890"), "{messages}");
    assert_eq!(json_lines(&out.join("labels.jsonl"))[0]["label"], "13");
    let is_correct = |response: &Value| response["text"].as_str().unwrap().contains("\\boxed{13}");
    assert!(rollouts(&out, 1).iter().all(|response| (response["correct"] == true) == is_correct(response)));
}

#[test]
fn train_accepts_unlabeled_questions_with_label_free_rewards() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    for (name, reward) in [("majority", "reward.name=majority"), ("none", "reward.name=none")] {
        let out = path(name);
        let question = ["--question", "Compute 12+13.", "--model", "tiny", "--set", "loss.entropy=0.01"];
        let messages = stderr(&succeed(&[&train(&out, "1", reward)[..], &question].concat()));
        assert!(messages.contains("no label"), "{messages}");
        let metrics = metrics(Path::new(&out));
        assert_eq!(metrics[0]["train/accuracy"], 0.0);
        assert!(metrics[0]["actor/grad_norm"].as_f64().unwrap() > 0.0, "the entropy bonus trains without a reward");
        assert!(name != "none" || metrics[0]["reward/mean"] == 0.0);
    }
    let unlabeled = path("unlabeled.jsonl");
    std::fs::write(&unlabeled, "{\"question\": \"Compute 12+13.\"}\n{\"question\": \"Compute 2+3.\", \"answer\": 5}\n").unwrap();
    let example = ["--example", unlabeled.as_str(), "--model", "tiny"];
    let messages = stderr(&succeed(&[&train(&path("file"), "1", "reward.name=format")[..], &example].concat()));
    assert!(messages.contains("examples   2 of ") && messages.contains("2 groups x 8 responses"), "{messages}");
}

/// A reward program fails at the second step. After the program is fixed, the resumed run ends like a run without the failure.
#[test]
fn train_resumes_after_a_failed_reward_program() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let write = |name: &str, at_second_step: &str| {
        let script = format!(
            r#"
import json, sys, time
for line in sys.stdin:
    request = json.loads(line)
    if request["step"] == 2 and request["index"] == 1:
        {at_second_step}
    print(json.dumps({{"reward": len(request["response"]) % 3}}), flush=True)
"#
        );
        std::fs::write(path(name), script).unwrap();
        format!("reward.command=[\"python3\", {:?}]", path(name).display().to_string())
    };
    let run = |out: &Path, command: &str| {
        let command = ["--set", command, "--set", "reward.command_timeout_s=5"];
        rlvr(&[&train(out.to_str().unwrap(), "3", "reward.name=command")[..], &command].concat())
    };
    let whole = path("whole");
    assert!(run(&whole, &write("right.py", "pass")).status.success());
    for (name, fault, expected) in [
        ("dead", "sys.exit(4)", "ended (exit status: 4) after answering 1 of 16 responses of step 2"),
        ("slow", "time.sleep(60)", "answered 1 of 16 responses of step 2 in 5 s: make it faster, or raise reward.command_timeout_s"),
        ("wrong", "print('fine', flush=True)", "line 2 of step 2: is \"fine\"; expected {\"reward\": 0.5}"),
    ] {
        let (out, script) = (path(name), format!("{name}.py"));
        let messages = error_of(&run(&out, &write(&script, fault)), 1);
        assert!(
            messages.contains(expected) && messages.contains("the run up to step 1 is saved") && messages.contains("--resume"),
            "{messages}"
        );
        write(&script, "pass");
        succeed(&["train", "--resume", out.to_str().unwrap()]);
        assert!(weights(&out, 3) == weights(&whole, 3), "{name}: the resumed run has different weights");
        assert_eq!(metrics(&out).len(), 3, "{name}");
    }
}

/// The first batch fails. The run resumes from the start, and does not evaluate the base model again.
#[test]
fn train_resumes_after_a_reward_program_fails_in_the_first_batch() {
    let folder = tempfile::tempdir().unwrap();
    let (out, script) = (folder.path().join("run"), folder.path().join("grade.sh"));
    std::fs::write(&script, "exit 7\n").unwrap();
    let command = format!("reward.command=[\"sh\", {:?}]", script.display().to_string());
    let mut arguments = train(out.to_str().unwrap(), "1", "reward.name=command");
    arguments.extend(["--set", &command, "--set", "eval.benchmarks=tiny", "--set", "eval.limit=20"]);
    let messages = stderr(&rlvr(&arguments));
    assert!(messages.contains("ended (exit status: 7)") && messages.contains("the run up to step 0 is saved"), "{messages}");
    std::fs::write(&script, "while read -r line; do echo 1; done\n").unwrap();
    let messages = stderr(&succeed(&["train", "--resume", out.to_str().unwrap()]));
    assert!(!messages.contains("base model:"), "{messages}");
    assert_eq!(metrics(&out)[0]["reward/mean"], 1.0);
    let summary: Value = json(&out.join("summary.json"));
    assert_eq!((summary["base"]["step"].as_u64(), summary["last"]["step"].as_u64()), (Some(0), Some(1)));
}

#[test]
fn eval_records_strict_scores_with_another_grader() {
    let folder = tempfile::tempdir().unwrap();
    let set = folder.path().join("set.jsonl");
    std::fs::write(&set, "{\"question\": \"Compute 12+13.\", \"answer\": \"25\"}\n").unwrap();
    let out = folder.path().join("run");
    let mut arguments = train(out.to_str().unwrap(), "1", "reward.grader=deepscaler");
    arguments.extend(["--set", "eval.grader=qwen", "--set", "eval.benchmarks=tiny", "--set", "eval.limit=30"]);
    succeed(&arguments);
    let scores: Value = json(&out.join("eval/00001/scores.json"));
    let score = &scores["tiny-greedy"];
    assert!(score["accuracy"]["mean"].is_f64() && score["accuracy_strict"]["mean"].is_f64(), "{score}");
    assert!(json_lines(&out.join("eval/00001/tiny-greedy.jsonl")).iter().all(|answer| answer["correct_strict"].is_boolean()));
    let output = |more: &[&str]| {
        rlvr(&[&["eval", "--model", "tiny", "--benchmark-file", set.to_str().unwrap(), "--grader", "deepscaler"], more].concat())
    };
    assert!(stdout(&output(&[])).contains("strict grader"), "{}", stdout(&output(&[])));
    let line = &document_list(&output(&["--json"]), "passes")[0];
    assert_eq!(line["grader"], "deepscaler");
    assert!(line["score"]["accuracy_strict"]["mean"].is_f64(), "{line}");
}

#[test]
fn train_reports_invalid_rewards_before_loading_weights() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("never");
    let check = |arguments: &[&str], expected: &str| {
        let output = rlvr(&[&["train", "--out", out.to_str().unwrap()], arguments].concat());
        let messages = stderr(&output);
        assert!(messages.contains(expected), "{arguments:?}: {messages}");
        assert_eq!(output.status.code(), Some(2), "{messages}");
        assert!(!out.exists());
    };
    check(&["--set", "reward.name=outcome + gold"], "unknown reward \"gold\"; expected one of outcome, format, inverse, random(p)");
    check(&["--set", "reward.name=outcome +"], "expected a reward at the end");
    check(&["--set", "reward.name=random(2)"], "random(2) is not a probability");
    check(&["--set", "reward.name=command"], "reward.command is empty: set it to the program");
    check(&["--set", "reward.command=[\"sh\"]"], "use the reward \"command\"");
    check(&["--set", "reward.name=command", "--set", "reward.command=[\"no-such-grader\"]"], "it is not in PATH");
    check(&["--label-noise", "0.6"], "give it a wrong label with --label");
    check(&["--label-noise", "1.6", "--example", "tiny/train/8"], "'1.6' for '--label-noise <SHARE>': it must be a number from 0 to 1");
    check(&["--label", "3", "--example", "tiny/train/8"], "there are 8: use --label-noise SHARE");
    check(&["--label", "3", "--label-noise", "0.5"], "cannot be used with");
    check(&["--set", "reward.overlong_buffer=81"], "it must be at most rollout.max_new_tokens (80)");
    check(&["--question", "Compute 1+1.", "--model", "tiny"], "the question has no answer");
}
