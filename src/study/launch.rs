//! One run as a process of its own: started so that a stop reaches it once, and so that no two processes ever work in one folder.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result};

/// Lines of a failed run's log that are told.
const TOLD_LINES: usize = 5;

/// A run at work.
#[derive(Debug)]
pub struct Launched {
    child: Child,
    log: PathBuf,
}

/// Takes a run's folder: nobody else works in it while the file is open. `None` where somebody does, such as a run that outlived its study.
pub fn lock(root: &Path) -> Result<Option<File>> {
    let path = beside(root, "lock");
    let in_folder = || format!("cannot write {}", path.display());
    std::fs::create_dir_all(path.parent().unwrap_or(Path::new(""))).with_context(in_folder)?;
    let file = OpenOptions::new().create(true).append(true).open(&path).with_context(in_folder)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

impl Launched {
    /// Starts a command whose output goes into a log beside `root`. The run holds the lock as its standard input, for as long as it lives.
    pub fn start(program: &Path, arguments: &[OsString], root: &Path, lock: File) -> Result<Self> {
        let log = beside(root, "log");
        let open = || OpenOptions::new().create(true).append(true).open(&log).with_context(|| format!("cannot write {}", log.display()));
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::from(lock)).stdout(Stdio::from(open()?)).stderr(Stdio::from(open()?));
        // The terminal signals every process of a group; a run would count that and the one passed on as two, and end at once.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { child, log })
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("cannot ask after a run")
    }

    /// Passes a signal on: the run saves itself and ends, without finishing its step where that is urgent. One that has just ended does not
    /// hear it.
    pub fn signal(&mut self, signal: usize, is_urgent: bool) {
        #[cfg(unix)]
        {
            use rustix::process::{Pid, Signal, kill_process};
            use signal_hook::consts::{SIGHUP, SIGINT};

            let signal = match signal as i32 {
                SIGINT if !is_urgent => Signal::INT,
                SIGHUP => Signal::HUP,
                // A second SIGINT has the same effect; two in a row may come as one.
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

    /// What it said last, for people.
    pub fn last_words(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let told = lines[lines.len().saturating_sub(TOLD_LINES)..].join("\n  ");
        format!("{}:\n  {told}", self.log.display())
    }
}

/// `seed-0.log` beside `seed-0`.
fn beside(root: &Path, ending: &str) -> PathBuf {
    let name = root.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    root.with_file_name(format!("{name}.{ending}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_worked_in_once() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("arm/seed-0");
        let first = lock(&root).unwrap().unwrap();
        assert!(lock(&root).unwrap().is_none());
        // The process that has it as its input keeps it when everybody else has let go.
        let arguments = ["-c", "echo one; echo two >&2; exec sleep 60"].map(OsString::from);
        let mut run = Launched::start(Path::new("sh"), &arguments, &root, first).unwrap();
        assert!(lock(&root).unwrap().is_none() && run.ended().unwrap().is_none());
        while !run.last_words().contains("two") {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        run.signal(15, true);
        assert!(!run.child.wait().unwrap().success());
        assert!(run.last_words().ends_with("one\n  two"), "{}", run.last_words());
        assert!(lock(&root).unwrap().is_some());
    }
}
