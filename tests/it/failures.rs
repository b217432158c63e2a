//! Runs in which something fails, as their users see them: what is told, what is saved, and that the advice works.

use std::path::Path;

use serde_json::Value;

use crate::fixture::{self, metrics, succeed, told, weights};

/// Runs what must fail with all this in what it tells, which is given.
fn fail(arguments: &[&str], expected: &[&str]) -> String {
    let said = fixture::fail(arguments, 1);
    assert!(expected.iter().all(|part| said.contains(part)), "expected {expected:?} in {said}");
    said
}

/// A run of a second without evaluation.
fn small<'a>(out: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let small = ["rollout.groups=2", "rollout.group_size=4", "rollout.max_new=40", "eval.benchmarks="];
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
    let steps: Vec<u64> = metrics(&out).iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [1, 2, 3, 4]);
}

/// Sets the learning rate in a run's settings, as the message says that users should.
fn set_lr(run: &Path, lr: f64) {
    let path = run.join("config.toml");
    let mut settings: toml::Table = std::fs::read_to_string(&path).unwrap().parse().unwrap();
    settings["optim"]["lr"] = toml::Value::Float(lr);
    std::fs::write(&path, toml::to_string(&settings).unwrap()).unwrap();
}

/// A learning rate that destroys the weights: nothing of it is saved, the state before stays, and going back to it with the old rate ends in
/// the bits that the run would have ended in.
#[test]
fn a_destroyed_policy_replaces_nothing_and_the_run_goes_back() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let run = out.to_str().unwrap();
    succeed(&small(&out, &["--steps", "8", "--set", "checkpoint.every=4", "--set", "checkpoint.keep_last=1"]));
    let whole = weights(&out, 8);
    // With one state kept, the one before it is kept too: the step after the newest has not shown yet what it is worth.
    let states = |step: u64| out.join(format!("checkpoints/{step:05}/state")).exists();
    assert!(states(4) && states(8));
    set_lr(&out, 1e38);
    let back = format!("go back to step 4 with --resume {run} --at 4");
    let said = fail(&["train", "--resume", run, "--at", "4"], &["the run diverged and was stopped", &back, "have grown to a norm of"]);
    assert!(said.contains("Lower optim.lr (it is 1e38) in ") && said.contains("diverged/00005.jsonl.gz, which --replay reads"), "{said}");
    assert!(states(4) && !out.join("checkpoints/00005").exists());
    let (again, batch) = (folder.path().join("again"), out.join("diverged/00005.jsonl.gz"));
    succeed(&["train", "--replay", batch.to_str().unwrap(), "--model", "tiny", "--out", again.to_str().unwrap()]);
    set_lr(&out, 1e-4);
    succeed(&["train", "--resume", run, "--at", "4"]);
    assert!(weights(&out, 8) == whole, "the run ended in other weights");

    // From the very beginning there is no state yet.
    let out = folder.path().join("first");
    let run = out.to_str().unwrap();
    fail(&small(&out, &["--steps", "3", "--set", "optim.lr=1e38"]), &["No state was saved yet", "begin again with --resume", "--at 0"]);
    assert_eq!(std::fs::read_dir(out.join("checkpoints")).unwrap().count(), 0);
    set_lr(&out, 1e-4);
    succeed(&["train", "--resume", run, "--at", "0"]);
    assert!(out.join("checkpoints/00003/state").exists());
}

/// Gradients beyond f32: each update is skipped and told, and three in a row stop the run.
#[test]
fn three_skipped_updates_in_a_row_stop_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let (out, script) = (folder.path().join("run"), folder.path().join("reward.sh"));
    let write = |first: u32| {
        let text = format!(
            "n=0\nwhile read -r line; do n=$((n+1)); if [ $n -gt {first} ]; then echo $((n % 2))e38; else echo $((n % 3)); fi; done\n"
        );
        std::fs::write(&script, text).unwrap();
    };
    // Eight responses a step: the third is the first that breaks.
    write(16);
    let program = format!("reward.command=[\"sh\", {:?}]", script.display().to_string());
    let more = [
        &["--steps", "9", "--set", "checkpoint.every=1", "--set", "reward.name=command", "--set", &program][..],
        &["--algo", "dr_grpo", "--set", "loss.policy=1e6"],
    ]
    .concat();
    let said =
        fail(&small(&out, &more), &["the updates of 3 steps in a row, up to step 5, were skipped", "go back to step 1 with --resume"]);
    assert_eq!(said.matches("an update was skipped: the ").count(), 3, "{said}");
    let batch = out.join("diverged/00005.jsonl.gz");
    assert!(said.contains(&format!("{}, which --replay reads", batch.display())), "{said}");
    let skipped: Vec<bool> = metrics(&out).iter().map(|line| line["watch/skipped"] == 1.0).collect();
    assert_eq!(skipped, [false, false, true, true, true]);
    // The recording reads back, and its one update is skipped again without an end of the run.
    let again = folder.path().join("again");
    let replay = ["train", "--replay", batch.to_str().unwrap(), "--model", "tiny", "--algo", "dr_grpo", "--set", "loss.policy=1e6"];
    let said = told(&succeed(&[&replay[..], &["--out", again.to_str().unwrap()]].concat()));
    assert!(said.contains("step 1: an update was skipped: the "), "{said}");
    write(1000);
    succeed(&["train", "--resume", out.to_str().unwrap(), "--at", "1"]);
    let steps: Vec<u64> = metrics(&out).iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, (1..=9).collect::<Vec<_>>());
}

/// A learning rate that ruins the policy without making it infinite: told in the console, the metrics and the events; an ordinary one is not.
#[test]
fn a_ruined_policy_is_warned_about_once() {
    let folder = tempfile::tempdir().unwrap();
    // The demonstration's own batch: the first update already ruins the policy.
    let run = |name: &str, lr: &str| {
        let out = folder.path().join(name);
        let said = told(&succeed(&["train", "--out", out.to_str().unwrap(), "--steps", "5", "--set", "eval.benchmarks=", "--set", lr]));
        (said, metrics(&out), out)
    };
    let (said, metrics, out) = run("ruined", "optim.lr=1e3");
    assert_eq!(said.matches("of the responses are not readable text").count(), 1, "{said}");
    assert!(said.contains("warning, step 2: "), "{said}");
    assert!(said.contains("the policy's entropy is ") && said.contains("the gradient is exactly 0"), "{said}");
    assert_eq!(metrics[0]["watch/warnings"], 0.0);
    assert!(metrics[1..].iter().all(|line| line["watch/garbled"] == 1.0 && line["watch/warnings"].as_f64() >= Some(1.0)), "{metrics:?}");
    let events = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path());
    let mut events = events.filter(|path| path.display().to_string().contains("events.out")).map(|path| std::fs::read(path).unwrap());
    let has = |bytes: Vec<u8>| bytes.windows(13).any(|window| window == b"watch/garbled");
    assert!(events.any(has));
    let (said, metrics, _) = run("ordinary", "optim.lr=1e-4");
    assert!(!said.contains("warning, step"), "{said}");
    assert!(metrics.iter().all(|line| line["watch/warnings"] == 0.0));
}

/// A run that has nothing to learn from says so, and a prompt that asks for what no reward reads is told before anything is computed.
#[test]
fn a_run_that_cannot_learn_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let said = told(&succeed(&small(
        &out,
        &["--steps", "22", "--question", "If 5y+29=74, find y.", "--answer", "9999", "--set", "rollout.max_new=8"],
    )));
    assert_eq!(said.matches("warning, step 20: for 20 steps all responses of a group had the same reward").count(), 1, "{said}");
    let metrics = metrics(&out);
    assert_eq!((&metrics[18]["watch/no_signal"], &metrics[19]["watch/no_signal"]), (&Value::Null, &Value::from(1.0)));

    let never = folder.path().join("never");
    let dry = |question: &str, more: &[&str]| {
        let run = ["train", "--model", "tiny", "--dry-run", "--answer", "4", "--question", question, "--out", never.to_str().unwrap()];
        told(&succeed(&[&run[..], more].concat()))
    };
    let warning = "warning: 1 of 1 prompts (inline) ask for the answer as";
    let asks = "What is 2+2? End with a line of the form Answer: X, where X is the number.";
    assert!(dry(asks, &[]).contains(&format!("{warning} \"Answer:\", but the reward reads \\boxed{{}} only")));
    let instruction = ["--set", "prompt.instruction= Put the answer in \\boxed{}."];
    let said = dry("What is 2+2? Give the number after ####, nothing else.", &instruction);
    assert!(said.contains("prompt.instruction is left out of 1 of 1 prompts (inline)") && said.contains(warning), "{said}");
    // What is right is not warned about: a box, no instruction at all, and a reward that reads no boxes.
    for (question, more) in [("What is 2+2?", &instruction[..]), ("What is 2+2?", &[]), (asks, &["--set", "reward.name=length(1, 9)"])] {
        let said = dry(question, more);
        assert!(!said.contains("warning") && !said.contains("left out"), "{said}");
    }
}
