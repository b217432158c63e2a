//! Failing runs as users see them: what they print and save, and that their advice works.

use std::path::Path;

use serde_json::Value;

use crate::fixture::{self, metrics, stderr, succeed, weights};

/// Runs a command that must fail with exit code 1 and print all of `expected`. Returns its messages.
fn fail(arguments: &[&str], expected: &[&str]) -> String {
    let messages = fixture::fail(arguments, 1);
    assert!(expected.iter().all(|part| messages.contains(part)), "expected {expected:?} in {messages}");
    messages
}

/// The arguments of a run that takes a second, without evaluation.
fn small<'a>(out: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let small = ["rollout.groups=2", "rollout.group_size=4", "rollout.max_new_tokens=40", "eval.benchmarks="];
    let sets = small.into_iter().flat_map(|set| ["--set", set]);
    ["train", "--out", out.to_str().unwrap()].into_iter().chain(sets).chain(more.iter().copied()).collect()
}

/// If an update fails before it changes anything, the run is saved, as the message says.
#[test]
fn update_that_fails_before_any_change_saves_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let (out, whole) = (folder.path().join("run"), folder.path().join("whole"));
    let gradients = folder.path().join("nowhere/gradients.safetensors");
    succeed(&small(&whole, &["--steps", "3"]));
    let run = small(&out, &["--steps", "3", "--dump-gradients", gradients.to_str().unwrap()]);
    fail(&run, &["the run up to step 0 is saved", "cannot write", "--resume"]);
    succeed(&["train", "--resume", out.to_str().unwrap()]);
    assert!(weights(&out, 3) == weights(&whole, 3), "the resumed run ended with other weights");
}

/// If the records of a step cannot be written, the step is not saved. The message names the last intact checkpoint, from which a resumed
/// run is bit-identical.
#[test]
fn step_that_cannot_be_recorded_names_the_last_intact_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let (out, whole) = (folder.path().join("run"), folder.path().join("whole"));
    let script = folder.path().join("reward.sh");
    let program = format!("reward.command=[\"sh\", {:?}]", script.display().to_string());
    let more = ["--steps", "4", "--set", "checkpoint.every=2", "--set", "reward.name=command", "--set", &program];
    // The program grades eight responses per step, and deletes a folder of the run in the third step.
    let write = |at_third: &str| {
        let text = format!("n=0\nwhile read -r line; do n=$((n+1)); if [ $n = 17 ]; then {at_third}; fi; echo $((n % 3)); done\n");
        std::fs::write(&script, text).unwrap();
    };
    write(":");
    succeed(&small(&whole, &more));
    write(&format!("rm -r {}/rollouts", out.display()));
    let messages = fail(&small(&out, &more), &["step 3 updated the policy but could not be recorded, so it was not saved", "cannot write"]);
    assert!(
        messages.contains("continue from the checkpoint of step 2, which repeats the steps from 3 on")
            && messages.contains(" train --resume ")
            && !messages.contains("is saved:"),
        "{messages}"
    );
    std::fs::create_dir(out.join("rollouts")).unwrap();
    // The resumed run starts the program anew at step 3, so it must continue the count.
    let text = "n=16\nwhile read -r line; do n=$((n+1)); echo $((n % 3)); done\n";
    std::fs::write(&script, text).unwrap();
    succeed(&["train", "--resume", out.to_str().unwrap()]);
    assert!(weights(&out, 4) == weights(&whole, 4), "the resumed run ended with other weights");
    let steps: Vec<u64> = metrics(&out).iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [1, 2, 3, 4]);
}

/// Sets the learning rate in a run's `config.toml`, as the message advises.
fn set_lr(run: &Path, lr: f64) {
    let path = run.join("config.toml");
    let mut settings: toml::Table = std::fs::read_to_string(&path).unwrap().parse().unwrap();
    settings["optim"]["lr"] = toml::Value::Float(lr);
    std::fs::write(&path, toml::to_string(&settings).unwrap()).unwrap();
}

/// A learning rate that destroys the weights stops the run without saving them. Going back with the old rate gives the weights of an
/// undisturbed run.
#[test]
fn diverged_run_saves_nothing_and_goes_back_to_a_good_state() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let run = out.to_str().unwrap();
    succeed(&small(&out, &["--steps", "8", "--set", "checkpoint.every=4", "--set", "checkpoint.keep_last=1"]));
    let whole = weights(&out, 8);
    // With `keep_last` 1, the state before the newest is also kept, because no later step has shown yet that the newest is good.
    let states = |step: u64| out.join(format!("checkpoints/{step:05}/state")).exists();
    assert!(states(4) && states(8));
    set_lr(&out, 1e38);
    let back = format!(" train --resume {run} --at 4\nCause: ");
    let messages = fail(&["train", "--resume", run, "--at", "4"], &["the run diverged and was stopped", &back, "have grown to a norm of"]);
    assert!(
        messages.contains("Lower optim.lr (now 1e38) in ") && messages.contains("diverged/00005.jsonl.gz (readable with --replay)"),
        "{messages}"
    );
    assert!(states(4) && !out.join("checkpoints/00005").exists());
    let (again, batch) = (folder.path().join("again"), out.join("diverged/00005.jsonl.gz"));
    succeed(&["train", "--replay", batch.to_str().unwrap(), "--model", "tiny", "--out", again.to_str().unwrap()]);
    set_lr(&out, 1e-4);
    succeed(&["train", "--resume", run, "--at", "4"]);
    assert!(weights(&out, 8) == whole, "the run ended with other weights");

    // In the first steps, there is no state yet.
    let out = folder.path().join("first");
    let run = out.to_str().unwrap();
    fail(&small(&out, &["--steps", "3", "--set", "optim.lr=1e38"]), &["No state was saved yet", "start over:\n", " --at 0"]);
    assert_eq!(std::fs::read_dir(out.join("checkpoints")).unwrap().count(), 0);
    set_lr(&out, 1e-4);
    succeed(&["train", "--resume", run, "--at", "0"]);
    assert!(out.join("checkpoints/00003/state").exists());
}

/// Gradients too large for f32: each update is skipped with a message, and three consecutive skipped steps stop the run.
#[test]
fn ensure_updates_stops_the_run_after_three_skipped_steps() {
    let folder = tempfile::tempdir().unwrap();
    let (out, script) = (folder.path().join("run"), folder.path().join("reward.sh"));
    let write = |first: u32| {
        let text = format!(
            "n=0\nwhile read -r line; do n=$((n+1)); if [ $n -gt {first} ]; then echo $((n % 2))e38; else echo $((n % 3)); fi; done\n"
        );
        std::fs::write(&script, text).unwrap();
    };
    // Eight responses per step, so the third step is the first with huge rewards.
    write(16);
    let program = format!("reward.command=[\"sh\", {:?}]", script.display().to_string());
    let more = [
        &["--steps", "9", "--set", "checkpoint.every=1", "--set", "reward.name=command", "--set", &program][..],
        &["--algo", "dr_grpo", "--set", "loss.policy=1e6"],
    ]
    .concat();
    let messages = fail(
        &small(&out, &more),
        &["the updates of 3 consecutive steps, up to step 5, were skipped", "go back to step 1 (saved states: ", " --at 1\nCause: "],
    );
    assert_eq!(messages.matches("an update was skipped: the ").count(), 3, "{messages}");
    let batch = out.join("diverged/00005.jsonl.gz");
    assert!(messages.contains(&format!("{} (readable with --replay)", batch.display())), "{messages}");
    let skipped: Vec<bool> = metrics(&out).iter().map(|line| line["watch/skipped"] == 1.0).collect();
    assert_eq!(skipped, [false, false, true, true, true]);
    // A replay of the batch skips its only update too, which does not stop the run.
    let again = folder.path().join("again");
    let replay = ["train", "--replay", batch.to_str().unwrap(), "--model", "tiny", "--algo", "dr_grpo", "--set", "loss.policy=1e6"];
    let messages = stderr(&succeed(&[&replay[..], &["--out", again.to_str().unwrap()]].concat()));
    assert!(messages.contains("step 1: an update was skipped: the "), "{messages}");
    write(1000);
    succeed(&["train", "--resume", out.to_str().unwrap(), "--at", "1"]);
    let steps: Vec<u64> = metrics(&out).iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, (1..=9).collect::<Vec<_>>());
}

/// A learning rate that ruins the policy but leaves it finite causes warnings in the console, the metrics and the events. A normal one does
/// not.
#[test]
fn monitor_warns_once_of_a_ruined_policy() {
    let folder = tempfile::tempdir().unwrap();
    // With the demonstration's batch, the first update ruins the policy.
    let run = |name: &str, lr: &str| {
        let out = folder.path().join(name);
        let messages =
            stderr(&succeed(&["train", "--out", out.to_str().unwrap(), "--steps", "5", "--set", "eval.benchmarks=", "--set", lr]));
        (messages, metrics(&out), out)
    };
    let (messages, metrics, out) = run("ruined", "optim.lr=1e3");
    assert_eq!(messages.matches("of the responses are not readable text").count(), 1, "{messages}");
    assert!(messages.contains("warning: step 2: "), "{messages}");
    assert!(messages.contains("the policy's entropy is ") && messages.contains("the gradient is exactly 0"), "{messages}");
    assert_eq!(metrics[0]["watch/warnings"], 0.0);
    assert!(metrics[1..].iter().all(|line| line["watch/garbled"] == 1.0 && line["watch/warnings"].as_f64() >= Some(1.0)), "{metrics:?}");
    let events = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path());
    let mut events = events.filter(|path| path.display().to_string().contains("events.out")).map(|path| std::fs::read(path).unwrap());
    let has = |bytes: Vec<u8>| bytes.windows(13).any(|window| window == b"watch/garbled");
    assert!(events.any(has));
    let (messages, metrics, _) = run("normal", "optim.lr=1e-4");
    assert!(!messages.contains("warning: step"), "{messages}");
    assert!(metrics.iter().all(|line| line["watch/warnings"] == 0.0));
}

/// A run that cannot learn prints a warning. A dry run warns of a prompt that requests a format that the reward does not read.
#[test]
fn monitor_and_dry_run_warn_of_a_run_that_cannot_learn() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let messages = stderr(&succeed(&small(
        &out,
        &["--steps", "22", "--question", "If 5y+29=74, find y.", "--answer", "9999", "--set", "rollout.max_new_tokens=8"],
    )));
    assert_eq!(
        messages.matches("warning: step 20: for 20 steps, all responses of each group had the same reward").count(),
        1,
        "{messages}"
    );
    let metrics = metrics(&out);
    assert_eq!((&metrics[18]["watch/no_signal"], &metrics[19]["watch/no_signal"]), (&Value::Null, &Value::from(1.0)));

    let never = folder.path().join("never");
    let dry_run = |question: &str, more: &[&str]| {
        let run = ["train", "--model", "tiny", "--dry-run", "--answer", "4", "--question", question, "--out", never.to_str().unwrap()];
        stderr(&succeed(&[&run[..], more].concat()))
    };
    let warning = "warning: 1 of 1 prompts (inline) asks for the answer as";
    let requests = "What is 2+2? End with a line of the form Answer: X, where X is the number.";
    assert!(dry_run(requests, &[]).contains(&format!("{warning} \"Answer:\", but the reward reads \\boxed{{}} only")));
    let instruction = ["--set", "prompt.instruction= Put the answer in \\boxed{}."];
    let messages = dry_run("What is 2+2? Give the number after ####, nothing else.", &instruction);
    assert!(messages.contains("prompt.instruction is left out of 1 of 1 prompts (inline)") && messages.contains(warning), "{messages}");
    // There is no warning if the prompt requests a box or no format, or if the reward does not read boxes.
    for (question, more) in [("What is 2+2?", &instruction[..]), ("What is 2+2?", &[]), (requests, &["--set", "reward.name=length(1, 9)"])]
    {
        let messages = dry_run(question, more);
        assert!(!messages.contains("warning") && !messages.contains("left out"), "{messages}");
    }
}
