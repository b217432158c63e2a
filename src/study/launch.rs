//! Starts one run as a separate process, so that a signal reaches it exactly once and no two processes use the same run folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result};

use crate::checkpoint::lock::is_unsupported;
use crate::dist;

/// Number of log lines to print for a failed run.
const LOG_TAIL_LINES: usize = 5;

/// The process of a run.
#[derive(Debug)]
pub struct ChildRun {
    child: Child,
    log: PathBuf,
}

/// Locks a run folder for as long as the returned file stays open. `None` if another process holds the lock, such as a run that outlived
/// its study.
///
/// # Errors
/// If the lock file cannot be created or locked.
pub fn lock(root: &Path) -> Result<Option<File>> {
    let path = sibling(root, "lock");
    let cannot_write = || format!("cannot write {}", path.display());
    std::fs::create_dir_all(path.parent().unwrap_or(Path::new(""))).with_context(cannot_write)?;
    let file = OpenOptions::new().create(true).append(true).open(&path).with_context(cannot_write)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        // The study has warned that the file system has no locks.
        Err(TryLockError::Error(error)) if is_unsupported(&error) => Ok(Some(file)),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

impl ChildRun {
    /// Starts a command and appends its output to a log next to `root`. The process inherits the lock as its standard input, and so holds
    /// the lock until it ends. It is no rank, even if this process is one.
    ///
    /// # Errors
    /// If the log cannot be opened or the process cannot be started.
    pub fn start(mut command: Command, root: &Path, lock: File) -> Result<Self> {
        let log = sibling(root, "log");
        let open = || OpenOptions::new().create(true).append(true).open(&log).with_context(|| format!("cannot write {}", log.display()));
        dist::launch::hide_from(&mut command);
        command.stdin(Stdio::from(lock)).stdout(Stdio::from(open()?)).stderr(Stdio::from(open()?));
        // A terminal signals every process of its group. In the same group, a run would get the signal twice, from the terminal and
        // forwarded by the study, and would stop without finishing its step.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Self { child, log })
    }

    /// Returns the exit status without waiting; `None` while the process is running.
    ///
    /// # Errors
    /// If the status cannot be read.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("cannot read the status of a run")
    }

    /// Forwards a signal: the run saves and ends, after its current step unless `is_urgent`. Ignored if the run has just ended.
    pub fn signal(&mut self, signal: usize, is_urgent: bool) {
        #[cfg(unix)]
        {
            use rustix::process::{Pid, Signal, kill_process};
            use signal_hook::consts::{SIGHUP, SIGINT};

            let signal = match signal as i32 {
                SIGINT if !is_urgent => Signal::INT,
                SIGHUP => Signal::HUP,
                // SIGTERM has the effect of a second SIGINT, which may merge with the first.
                _ => Signal::TERM,
            };
            if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, signal);
            }
        }
        #[cfg(not(unix))]
        {
            let _ = (signal, is_urgent, self.child.kill());
        }
    }

    /// Returns the path of the log and its last lines.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let tail = lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n  ");
        format!("{}:\n  {tail}", self.log.display())
    }
}

/// Returns the path next to `root` with this extension: `seed-0.log` for `seed-0`.
fn sibling(root: &Path, extension: &str) -> PathBuf {
    let name = root.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    root.with_file_name(format!("{name}.{extension}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_is_held_until_the_process_ends() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("arm/seed-0");
        let first = lock(&root).unwrap().unwrap();
        assert!(lock(&root).unwrap().is_none());
        // The process still holds the lock through its standard input after this test has dropped it.
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two >&2; exec sleep 60"]);
        let mut run = ChildRun::start(command, &root, first).unwrap();
        assert!(lock(&root).unwrap().is_none() && run.try_wait().unwrap().is_none());
        while !run.log_tail().contains("two") {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        run.signal(15, true);
        assert!(!run.child.wait().unwrap().success());
        assert!(run.log_tail().ends_with("one\n  two"), "{}", run.log_tail());
        assert!(lock(&root).unwrap().is_some());
    }
}
