//! Starts the processes without MPI, with the variables that torchrun sets. NCCL then connects their GPUs.

use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{exit_code, pass_signals, send, spawn};
use crate::dist::launch::variables::MASTER_ADDRESS;
use crate::dist::nccl::unique_id::ADDRESS_VARIABLE;

const POLL: Duration = Duration::from_millis(50);
/// How long the other processes have to end by themselves after one has failed, in which they may print why.
const GRACE: Duration = Duration::from_secs(5);

/// Starts `count` processes with these words, passes signals on, and returns the exit code of the first that fails. The others then end.
pub fn start(count: usize, words: &[OsString]) -> Result<ExitCode> {
    // NCCL of rank 0 will listen at the port, which nobody uses now.
    let port =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr()).context("cannot find a free port")?.port();
    let child = |rank: usize| {
        let number = |name: &str, value: usize| (name.to_owned(), value.to_string());
        let variables = [
            number("RANK", rank),
            number("LOCAL_RANK", rank),
            number("WORLD_SIZE", count),
            number("LOCAL_WORLD_SIZE", count),
            (MASTER_ADDRESS.to_owned(), Ipv4Addr::LOCALHOST.to_string()),
            (ADDRESS_VARIABLE.to_owned(), format!("{}:{port}", Ipv4Addr::LOCALHOST)),
        ];
        spawn(words, variables)
    };
    let children: Vec<Child> = (0..count).map(child).collect::<Result<_>>()?;
    let pids: Vec<u32> = children.iter().map(Child::id).collect();
    pass_signals(move |stop| pids.iter().for_each(|pid| send(*pid, stop)))?;
    wait(children).map(|status| status.map_or(ExitCode::SUCCESS, |status| ExitCode::from(exit_code(status))))
}

/// Waits until all processes have ended. Returns the status of the first that fails.
fn wait(mut children: Vec<Child>) -> Result<Option<ExitStatus>> {
    let mut failed: Option<(ExitStatus, Instant)> = None;
    loop {
        let mut running = 0;
        for child in &mut children {
            match child.try_wait().context("cannot wait for a process")? {
                None if failed.is_some_and(|(_, since)| since.elapsed() > GRACE) => {
                    // It may have just ended.
                    let _ = child.kill();
                    running += 1;
                }
                None => running += 1,
                Some(status) if !status.success() && failed.is_none() => failed = Some((status, Instant::now())),
                Some(_) => {}
            }
        }
        if running == 0 {
            return Ok(failed.map(|(status, _)| status));
        }
        std::thread::sleep(POLL);
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn wait_returns_the_first_failure_and_ends_the_others() {
        let wait_for = |scripts: &[&str]| {
            let children = scripts.iter().map(|script| Command::new("sh").args(["-c", script]).spawn().unwrap()).collect();
            wait(children).unwrap().map(exit_code)
        };
        assert_eq!(wait_for(&["exit 0", "sleep 0.1"]), None);
        let started = Instant::now();
        assert_eq!(wait_for(&["exec sleep 60", "exit 7", "sleep 1; exit 8"]), Some(7));
        assert!(started.elapsed() < Duration::from_secs(30));
    }
}
