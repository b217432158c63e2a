//! Computes rewards with a user's program, which reads one JSON line per response and prints one line for each. The program starts with the
//! first batch, keeps running between steps, and is stopped at the end of the run or after its first mistake. docs/rewards.md describes the
//! protocol.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::{Batch, Graded, Reward, RewardSettings, parent_guard};
use crate::dist;

/// How long a program may take to exit after its input is closed.
const EXIT_TIMEOUT: Duration = Duration::from_secs(1);
/// The interval at which waiting for replies checks for interrupts.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// The maximum number of unread replies. A program that prints more has to wait.
const MAX_UNREAD_REPLIES: usize = 64;
/// The maximum size of a reply in bytes.
const MAX_REPLY_BYTES: u64 = 1 << 20;
/// The maximum length of a line quoted in an error, in characters.
const MAX_QUOTED_CHARS: usize = 80;

/// A reward that a program computes.
struct CommandReward {
    command: Vec<String>,
    timeout: Duration,
    /// `None` before the first batch and after a mistake.
    program: RefCell<Option<Program>>,
}

pub(super) fn make(_: &[f64], settings: &RewardSettings) -> Result<Box<dyn Reward>> {
    ensure!(
        !settings.command.is_empty(),
        r#"reward.command is empty: set it to the program and its arguments, for example ["python3", "grade.py"]"#
    );
    let timeout = Duration::try_from_secs_f64(settings.command_timeout_s).ok().filter(|timeout| !timeout.is_zero());
    let timeout = timeout
        .with_context(|| format!("reward.command_timeout_s is {}; it must be a positive number of seconds", settings.command_timeout_s))?;
    Ok(Box::new(CommandReward { command: settings.command.clone(), timeout, program: RefCell::new(None) }))
}

/// Checks that the program in `reward.command` exists, without running it. Does nothing if `reward.command` is empty.
///
/// # Errors
/// If there is no such file, at the given path or, for a bare name, in a folder in PATH.
pub fn ensure_program(settings: &RewardSettings) -> Result<()> {
    let Some(program) = settings.command.first() else { return Ok(()) };
    let is_path = program.contains(std::path::MAIN_SEPARATOR);
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let is_found =
        if is_path { Path::new(program).is_file() } else { std::env::split_paths(&folders).any(|path| path.join(program).is_file()) };
    let reason = if is_path { "there is no such file" } else { "it is not in PATH" };
    ensure!(is_found, "reward.command starts {program}, but {reason}: give the program's path");
    Ok(())
}

impl Reward for CommandReward {
    /// One program serves all ranks: that of rank 0.
    fn of_batch(&self, batch: &Batch) -> Result<Vec<f32>> {
        let rewards = batch.world.is_first().then(|| self.ask_program(batch)).transpose();
        batch.world.from_first(batch.world.agree(rewards)?.unwrap_or_default())
    }
}

impl CommandReward {
    fn ask_program(&self, batch: &Batch) -> Result<Vec<f32>> {
        let mut running = self.program.borrow_mut();
        let mut program = match running.take() {
            Some(program) => program,
            None => Program::start(&self.command, batch.guard)?,
        };
        let rewards = program.rewards(batch, self.timeout).with_context(|| format!("reward.command {}", self.command.join(" ")))?;
        *running = Some(program);
        Ok(rewards)
    }
}

/// A running program. Separate threads write its input and read its output, so it may reply before it has read everything.
struct Program {
    child: Child,
    /// Sends the lines of a batch to the program; `None` after its input is closed.
    input: Option<Sender<Vec<u8>>>,
    replies: Receiver<Vec<u8>>,
}

impl Program {
    /// Starts the program, through `guard` if given. On Linux a guarded program is killed when the calling thread ends, so that thread must
    /// live as long as the run.
    fn start(command: &[String], guard: Option<&Path>) -> Result<Self> {
        let mut process = guard.map_or_else(|| unguarded(command), |guard| parent_guard::command(guard, command));
        // The program is no rank of the run.
        dist::launch::hide_from(&mut process);
        // The program inherits stderr.
        process.stdin(Stdio::piped()).stdout(Stdio::piped());
        // Use a separate process group, so that Ctrl-C reaches only the run, which then stops the program cleanly.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut process, 0);
        let mut child = process.spawn().with_context(|| format!("cannot start reward.command {}", command.join(" ")))?;
        let (mut stdin, stdout) = child.stdin.take().zip(child.stdout.take()).context("the program has no stdin or stdout")?;
        let (input, batches) = channel::<Vec<u8>>();
        std::thread::spawn(move || batches.iter().try_for_each(|lines| stdin.write_all(&lines).and_then(|()| stdin.flush())));
        let (sender, replies) = sync_channel(MAX_UNREAD_REPLIES);
        std::thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            let mut line = Vec::new();
            while stdout.by_ref().take(MAX_REPLY_BYTES).read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
                line.pop_if(|last| *last == b'\n');
                if sender.send(std::mem::take(&mut line)).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, input: Some(input), replies })
    }

    /// Sends the responses of a batch and returns their rewards, in order.
    ///
    /// # Errors
    /// If interrupted, or the program printed extra lines, prints an invalid line, ends, or takes longer than `timeout`.
    fn rewards(&mut self, batch: &Batch, timeout: Duration) -> Result<Vec<f32>> {
        if let Ok(line) = self.replies.try_recv() {
            bail!("printed a line before it received the responses of step {}: {}", batch.step, quoted(&line));
        }
        let count = batch.responses.len();
        let mut lines = Vec::new();
        for (index, graded) in batch.responses.iter().enumerate() {
            serde_json::to_writer(&mut lines, &request_line(batch, index, graded))?;
            lines.push(b'\n');
        }
        // If the program no longer reads, replies will be missing, which is reported below.
        let _ = self.input.as_ref().map(|input| input.send(lines));
        let deadline = Instant::now() + timeout;
        let mut rewards = Vec::with_capacity(count);
        while rewards.len() < count {
            let progress = format!("{} of {count} responses of step {}", rewards.len(), batch.step);
            batch.interrupt.check()?;
            let left = deadline.saturating_duration_since(Instant::now());
            match self.replies.recv_timeout(left.min(POLL_INTERVAL)) {
                Ok(line) => rewards.push(reward(&line).with_context(|| format!("line {} of step {}", rewards.len() + 1, batch.step))?),
                Err(RecvTimeoutError::Timeout) if left > POLL_INTERVAL => {}
                Err(RecvTimeoutError::Timeout) => {
                    // A child process may keep the output open after the program has ended.
                    if let Some(status) = self.child.try_wait()? {
                        bail!("ended ({status}) after answering {progress}");
                    }
                    bail!("answered {progress} in {} s: make it faster, or raise reward.command_timeout_s", timeout.as_secs_f64())
                }
                Err(RecvTimeoutError::Disconnected) => match self.exit_status()? {
                    Some(status) => bail!("ended ({status}) after answering {progress}"),
                    None => bail!("closed its output after answering {progress}"),
                },
            }
        }
        Ok(rewards)
    }

    /// Waits up to [`EXIT_TIMEOUT`] for the exit status. `None` if the program is still running.
    fn exit_status(&mut self) -> std::io::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + EXIT_TIMEOUT;
        loop {
            let status = self.child.try_wait()?;
            if status.is_some() || Instant::now() >= deadline {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn unguarded(command: &[String]) -> Command {
    let mut process = Command::new(&command[0]);
    process.args(&command[1..]);
    process
}

impl Drop for Program {
    fn drop(&mut self) {
        // Closing its input tells the program to exit.
        self.input = None;
        let _ = self.exit_status();
        stop(&mut self.child);
    }
}

/// Kills the program and its child processes. Ignores errors, which mean that it has already ended.
fn stop(child: &mut Child) {
    #[cfg(unix)]
    let _ = rustix::process::kill_process_group(rustix::process::Pid::from_child(child), rustix::process::Signal::KILL);
    let _ = child.kill();
    let _ = child.wait();
}

/// Returns the line that the program receives for a response.
fn request_line(batch: &Batch, index: usize, graded: &Graded) -> Value {
    let rollout = graded.rollout;
    let problem = &rollout.prompt.problem;
    json!({
        "index": index,
        "batch": batch.responses.len(),
        "step": batch.step,
        "group": rollout.group,
        "sample": rollout.sample,
        "example": problem.id,
        "question": problem.question,
        "answer": problem.answer,
        "alternatives": problem.alternatives,
        "response": rollout.text,
        "tokens": rollout.completion.ids.len(),
        "finish": rollout.completion.finish,
        "extracted": graded.verdict.extracted,
        "correct": graded.verdict.correct,
    })
}

/// Parses a reply: a number, or an object with a number in `reward`.
fn reward(line: &[u8]) -> Result<f32> {
    let value: Option<Value> = serde_json::from_slice(line).ok();
    let number = value.as_ref().map(|value| value.get("reward").unwrap_or(value)).and_then(Value::as_f64);
    match number.map(|number| number as f32).filter(|number| number.is_finite()) {
        Some(number) => Ok(number),
        None => bail!(r#"is {}; expected {{"reward": 0.5}} or a number, one line for each response"#, quoted(line)),
    }
}

fn quoted(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let cut: String = text.chars().take(MAX_QUOTED_CHARS).collect();
    if cut.len() < text.len() { format!("\"{cut}...\"") } else { format!("\"{cut}\"") }
}

#[cfg(test)]
mod tests {
    use super::super::testing::group;
    use super::super::{Graded, RewardSettings, Rewards, grade};
    use super::*;
    use crate::dist::World;
    use crate::interrupt::Interrupt;

    fn settings(script: &str, timeout_s: f64) -> RewardSettings {
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        RewardSettings { name: "command".into(), command, command_timeout_s: timeout_s, ..RewardSettings::default() }
    }

    fn compute(rewards: &Rewards, step: u64, responses: &[&str]) -> Result<Vec<f32>> {
        let settings = RewardSettings::default();
        let rollouts = group("7", responses);
        let graded = rollouts.iter().map(|rollout| Graded { rollout, verdict: grade(&settings, &rollout.prompt.problem, &rollout.text) });
        let responses: Vec<Graded> = graded.collect();
        let batch = Batch {
            responses: &responses,
            group_size: responses.len(),
            seed: 0,
            step,
            scorer: None,
            interrupt: &Interrupt::default(),
            guard: None,
            world: World::solo(),
        };
        Ok(rewards.of_batch(&batch)?.into_iter().map(|one| one.total).collect())
    }

    #[test]
    fn command_reward_keeps_its_program_running_between_steps() {
        // The script counts the lines over all steps.
        let rewards =
            Rewards::new(&settings("n=0; while read -r line; do n=$((n+1)); echo \"{\\\"reward\\\": $n}\"; done", 20.0), 100).unwrap();
        assert!(rewards.needs_program() && !rewards.needs_label());
        assert_eq!(compute(&rewards, 1, &["a", "b"]).unwrap(), [1.0, 2.0]);
        assert_eq!(compute(&rewards, 2, &["c"]).unwrap(), [3.0]);
    }

    #[test]
    fn command_reward_sends_step_response_and_verdict() {
        let script = r#"while read -r line; do case "$line" in *'"correct":true'*'"response":"\\boxed{7}"'*'"step":4'*) echo 1;; *) echo -0.5;; esac; done"#;
        let rewards = Rewards::new(&settings(script, 20.0), 100).unwrap();
        assert_eq!(compute(&rewards, 4, &[r"\boxed{7}", r"\boxed{8}"]).unwrap(), [1.0, -0.5]);
    }

    /// The batch exceeds the capacity of a pipe in both directions, and the program replies to each line before it reads the next.
    #[test]
    fn command_reward_does_not_block_on_long_batches() {
        let long = "x".repeat(3000);
        let rewards = Rewards::new(&settings("while read -r line; do echo 1; done", 60.0), 100).unwrap();
        assert_eq!(compute(&rewards, 1, &vec![long.as_str(); 400]).unwrap(), [1.0; 400]);
    }

    #[test]
    fn command_reward_reports_how_its_program_failed() {
        let check = |script: &str, timeout_s: f64, expected: &str| {
            let rewards = Rewards::new(&settings(script, timeout_s), 100).unwrap();
            let start = Instant::now();
            let message = format!("{:#}", compute(&rewards, 5, &["a", "b"]).unwrap_err());
            assert!(message.contains(expected), "{script}: {message}");
            drop(rewards);
            assert!(start.elapsed() < Duration::from_secs(15), "{script} took {:?}", start.elapsed());
        };
        check("read -r line; echo 1; sleep 100", 3.0, "answered 1 of 2 responses of step 5 in 3 s");
        // A child process keeps the pipes open, and is killed too.
        check("sleep 100; echo late", 0.3, "answered 0 of 2 responses");
        check("read -r line; echo 1; exit 3", 20.0, "ended (exit status: 3) after answering 1 of 2 responses of step 5");
        check("echo loading; sleep 100", 20.0, "\"loading\"");
        check("exec >&-; sleep 100", 20.0, "closed its output after answering 0 of 2");
        check("read -r line; echo 1; echo fine", 20.0, "line 2 of step 5: is \"fine\"; expected {\"reward\": 0.5}");
        check("read -r line; echo '{\"score\": 1}'", 20.0, r#"line 1 of step 5: is "{"score": 1}""#);
        check("read -r line; echo 1e60", 20.0, "is \"1e60\"; expected");
        check("read -r line; echo 1; echo", 20.0, "line 2 of step 5: is \"\"");
    }

    #[test]
    fn command_reward_rejects_an_extra_line() {
        let rewards = Rewards::new(&settings("read -r line; echo 1; echo 1; echo 0; cat > /dev/null", 20.0), 100).unwrap();
        assert_eq!(compute(&rewards, 1, &["a", "b"]).unwrap(), [1.0, 1.0]);
        std::thread::sleep(Duration::from_millis(200));
        let message = format!("{:#}", compute(&rewards, 2, &["a"]).unwrap_err());
        assert!(message.contains("printed a line before it received the responses of step 2: \"0\""), "{message}");
    }

    #[test]
    fn ensure_program_finds_missing_programs() {
        let named = |program: &str| ensure_program(&RewardSettings { command: vec![program.into()], ..RewardSettings::default() });
        assert!(named("sh").is_ok() && named("/bin/sh").is_ok() && ensure_program(&RewardSettings::default()).is_ok());
        assert!(named("no-such-grader").unwrap_err().to_string().contains("it is not in PATH"));
        assert!(named("./no/such/grader").unwrap_err().to_string().contains("there is no such file"));
        let error = Rewards::new(&settings("true", 0.0), 100).err().unwrap().to_string();
        assert!(error.contains("reward.command_timeout_s is 0"), "{error}");
    }
}
