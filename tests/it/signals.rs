//! Runs that a signal stops or kills, whose output is closed, or whose folder has a second writer. A resumed run is bit-identical to an
//! uninterrupted one.
#![cfg(unix)]

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use serde_json::Value;

use crate::fixture::{self, wait_for};

fn rlvr(arguments: &[&str]) -> Command {
    // If the tests run under nohup, they ignore SIGHUP, which the program would inherit.
    let mut command = match cfg!(target_os = "linux") {
        true => fixture::command_under(&["env", "--default-signal=HUP"], arguments),
        false => fixture::command(arguments),
    };
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// A running program, and the messages read from it.
struct Running {
    child: Child,
    messages: String,
}

impl Running {
    fn start(mut command: Command) -> Self {
        Self { child: command.spawn().unwrap(), messages: String::new() }
    }

    fn signal(&self, name: &str) {
        fixture::signal(&self.child, name);
    }

    /// Reads stderr up to a line that contains `text`.
    fn wait_for_message(&mut self, text: &str) {
        let mut lines = BufReader::new(self.child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert!(lines.read_line(&mut line).unwrap() > 0, "never printed {text:?}: {}", self.messages);
            self.messages += &line;
        }
        // The reader has buffered more of the output.
        self.messages += &String::from_utf8_lossy(lines.buffer());
        self.child.stderr = Some(lines.into_inner());
    }

    /// Waits for the program to end. Returns its status and all messages.
    fn wait(mut self) -> (ExitStatus, String) {
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut self.messages).unwrap();
        }
        (self.child.wait().unwrap(), self.messages)
    }
}

fn finish(command: Command) -> (ExitStatus, String) {
    Running::start(command).wait()
}

fn succeed(command: Command) -> String {
    let (status, messages) = finish(command);
    assert!(status.success(), "{status}: {messages}");
    messages
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

const STEPS: &str = "12";
const SETTINGS: [&str; 6] = ["--set", "eval.limit=60", "--set", "eval.every=4", "--set", "checkpoint.every=5"];

fn train(out: &Path) -> Command {
    rlvr(&[&["train", "--steps", STEPS, "--out", out.to_str().unwrap()][..], &SETTINGS].concat())
}

fn resume(out: &Path) -> Command {
    rlvr(&["train", "--resume", out.to_str().unwrap()])
}

/// Returns a run's last weights, its metrics lines without times, and its evaluations.
fn results(out: &Path) -> (Vec<u8>, Vec<Value>, Vec<Vec<u8>>) {
    let weights = fixture::weights(out, 12);
    let mut metrics = lines(&out.join("metrics.jsonl"));
    for line in &mut metrics {
        let is_time = |name: &str| name.starts_with("timing") || name.starts_with("perf") || name.ends_with("_s");
        line.as_object_mut().unwrap().retain(|name, _| !is_time(name));
    }
    let evaluations = [0, 4, 8, 12].map(|step| std::fs::read(out.join(format!("eval/{step:05}/tiny-t0.6x1.jsonl"))).unwrap());
    (weights, metrics, evaluations.to_vec())
}

#[test]
fn resume_after_a_signal_is_bit_identical() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    succeed(train(&path("whole")));
    let whole = results(&path("whole"));
    let steps_done = |out: &PathBuf, count: usize| lines(&out.join("metrics.jsonl")).len() >= count;
    let has_rollouts = |out: &PathBuf, step: u64| out.join(format!("rollouts/{step:05}.jsonl.gz")).exists();
    for (name, signal, code) in [("term", "TERM", 143), ("hup", "HUP", 129), ("int", "INT", 130)] {
        // Stop during a step, or during the evaluation after step 4, which has rollouts but no metrics line yet.
        for in_evaluation in [false, true] {
            let out = path(&format!("{name}-{in_evaluation}"));
            let run = Running::start(train(&out));
            wait_for("the time to stop", || if in_evaluation { has_rollouts(&out, 4) } else { steps_done(&out, 2) });
            run.signal(signal);
            let (status, messages) = run.wait();
            assert_eq!(status.code(), Some(code), "{name}: {messages}");
            assert!(messages.contains("--resume"), "{name}: {messages}");
            assert_eq!(
                messages.contains("finishing ") && messages.contains("press Ctrl-C again to stop now"),
                signal == "INT",
                "{messages}"
            );
            assert!(!out.join("lock").exists(), "{name}: the run removes its lock");
            succeed(resume(&out));
            assert!(results(&out) == whole, "{name}, in the evaluation: {in_evaluation}: the resumed run differs");
            assert!(!out.join("checkpoints/00004/state/line.json").exists());
        }
    }
}

#[test]
fn second_sigint_stops_immediately() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    // An evaluation that would take minutes.
    let settings = ["--steps", "1", "--set", "eval.benchmarks=tiny", "--set", "eval.decoding=t0.6x64"];
    let mut run = Running::start(rlvr(&[&["train", "--out", out.to_str().unwrap()][..], &settings].concat()));
    wait_for("the run", || out.join("metrics.jsonl").exists());
    run.signal("INT");
    run.wait_for_message("finishing the evaluation of the base model");
    run.signal("INT");
    let (status, messages) = run.wait();
    assert_eq!(status.code(), Some(130), "{messages}");
    assert!(messages.contains("stopping now") && messages.contains("starts over at step 0"), "{messages}");
}

#[test]
fn sighup_ignored_at_the_start_stays_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let train = [&["train", "--steps", STEPS, "--out", out.to_str().unwrap()][..], &SETTINGS].concat();
    let mut command = fixture::command_under(&["sh", "-c", "trap '' HUP; exec \"$0\" \"$@\""], &train);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let run = Running::start(command);
    wait_for("a step", || !lines(&out.join("metrics.jsonl")).is_empty());
    run.signal("HUP");
    let (status, messages) = run.wait();
    assert!(status.success(), "{messages}");
    assert_eq!(lines(&out.join("metrics.jsonl")).len(), 12);
}

#[test]
fn train_continues_when_its_output_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let mut arguments = vec!["train", "-v", "--steps", "4", "--out", out.to_str().unwrap()];
    arguments.extend(SETTINGS);
    let mut child = rlvr(&arguments).stdout(Stdio::piped()).spawn().unwrap();
    // Close the pipes before the first line.
    drop((child.stderr.take(), child.stdout.take()));
    assert!(child.wait().unwrap().success());
    assert_eq!(lines(&out.join("metrics.jsonl")).len(), 4);
    assert!(out.join("summary.json").exists() && out.join("checkpoints/00004/state/progress.json").exists());
}

#[test]
fn run_folder_lock_admits_one_writer() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let first = Running::start(train(&out));
    wait_for("the lock", || out.join("config.toml").exists());
    let pid = first.child.id();
    let (status, messages) = finish(resume(&out));
    assert_eq!(status.code(), Some(2), "{messages}");
    assert!(messages.contains("another process is writing in") && messages.contains(&format!("process {pid} on ")), "{messages}");
    let (status, messages) = finish(train(&out));
    assert_eq!(status.code(), Some(2), "{messages}");
    // The lock of a killed process does not block the next one.
    wait_for("steps", || lines(&out.join("metrics.jsonl")).len() >= 6);
    first.signal("KILL");
    let (status, messages) = first.wait();
    assert_eq!(status.code(), None, "{messages}");
    assert!(out.join("lock").exists());
    // Of several concurrent resumes, one succeeds and the others are refused.
    let runs: Vec<Running> = (0..3).map(|_| Running::start(resume(&out))).collect();
    let ends: Vec<(ExitStatus, String)> = runs.into_iter().map(Running::wait).collect();
    let codes: Vec<Option<i32>> = ends.iter().map(|(status, _)| status.code()).collect();
    assert_eq!(codes.iter().filter(|code| **code == Some(0)).count(), 1, "{ends:?}");
    assert_eq!(codes.iter().filter(|code| **code == Some(2)).count(), 2, "{ends:?}");
    let steps: Vec<u64> = lines(&out.join("metrics.jsonl")).iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, (1..=12).collect::<Vec<_>>());

    // Of several concurrent starts, one succeeds.
    let new = folder.path().join("new");
    let start = || Running::start(rlvr(&["train", "--steps", "1", "--set", "eval.benchmarks=", "--out", new.to_str().unwrap()]));
    let runs: Vec<Running> = (0..3).map(|_| start()).collect();
    let mut codes: Vec<Option<i32>> = runs.into_iter().map(|run| run.wait().0.code()).collect();
    codes.sort_unstable();
    assert_eq!(codes, [Some(0), Some(2), Some(2)]);
}

#[test]
fn eval_stops_at_the_next_token_and_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let eval = |out: &Path, more: &[&str]| {
        let arguments = ["eval", "--model", "tiny", "--benchmarks", "tiny", "--decoding", "t0.6x4", "--out", out.to_str().unwrap()];
        rlvr(&[&arguments[..], more].concat())
    };
    let (whole, stopped) = (folder.path().join("whole"), folder.path().join("stopped"));
    succeed(eval(&whole, &[]));
    let run = Running::start(eval(&stopped, &[]));
    let response_count = || lines(&stopped.join("tiny-t0.6x4.jsonl.unfinished")).len();
    wait_for("answers", || response_count() > 10);
    let (status, messages) = finish(eval(&stopped, &["--resume"]));
    assert!(status.code() == Some(2) && messages.contains("another process is writing in"), "{messages}");
    run.signal("TERM");
    let (status, messages) = run.wait();
    assert_eq!(status.code(), Some(143), "{messages}");
    assert!(messages.contains("run the same command with --resume to continue"), "{messages}");
    let before = response_count();
    succeed(eval(&stopped, &["--resume"]));
    let pass = |out: &Path| std::fs::read(out.join("tiny-t0.6x4.jsonl")).unwrap();
    assert!(before > 10 && pass(&stopped) == pass(&whole));

    let run = Running::start(rlvr(&["eval", "--model", "tiny", "--benchmarks", "tiny", "--decoding", "t0.6x64", "-v"]));
    // No message shows that the program has started. A signal before it installs its handler would end it without a message.
    wait_for("the signal handler", || catches(run.child.id(), 15));
    run.signal("TERM");
    let (status, messages) = run.wait();
    assert!(status.code() == Some(143) && messages.contains("no responses are saved: add --out to save them"), "{status}: {messages}");
}

/// True if a process has a handler for the signal.
fn catches(pid: u32, signal: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).map(str::trim).unwrap_or_default();
    u64::from_str_radix(mask, 16).unwrap_or(0) & (1 << (signal - 1)) != 0
}

/// A reward program ends when its run is killed, even if it does not read its input.
#[cfg(target_os = "linux")]
#[test]
fn reward_program_does_not_outlive_its_run() {
    let folder = tempfile::tempdir().unwrap();
    let (out, pid) = (folder.path().join("run"), folder.path().join("pid"));
    let script = folder.path().join("grade.sh");
    std::fs::write(&script, format!("echo $$ > {0}.part; mv {0}.part {0}; exec sleep 100000\n", pid.display())).unwrap();
    let command = format!("reward.command=[\"sh\", {:?}]", script.display().to_string());
    let settings =
        ["--set", "reward.name=command", "--set", &command, "--set", "reward.command_timeout_s=1000", "--set", "eval.benchmarks="];
    let start = || Running::start(rlvr(&[&["train", "--steps", "2", "--out", out.to_str().unwrap()][..], &settings].concat()));
    let run = start();
    wait_for("the program", || pid.exists());
    let program: u32 = std::fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    let is_alive = || {
        let stat = std::fs::read_to_string(format!("/proc/{program}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    assert!(is_alive());
    run.signal("KILL");
    run.wait();
    wait_for("the program's end", || !is_alive());
    // A signal also stops a run that waits for its reward program.
    std::fs::remove_file(&pid).unwrap();
    std::fs::remove_dir_all(&out).unwrap();
    let run = start();
    wait_for("the program", || pid.exists());
    run.signal("TERM");
    let (status, messages) = run.wait();
    assert!(status.code() == Some(143) && messages.contains("interrupted after step 0; everything is saved"), "{status}: {messages}");
}
