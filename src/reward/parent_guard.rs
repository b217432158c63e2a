//! Ensures that a user's program does not outlive this one, even if this one is killed. `rlvr` starts itself, asks the operating system to
//! be killed when its parent ends, and then becomes the program. This works only on Linux (`PR_SET_PDEATHSIG`, which survives `exec`). The
//! parent is the thread that started the program. Child processes of the program are not killed, but see the end of their input.

use std::path::Path;
use std::process::Command;

/// The hidden subcommand: `rlvr with-parent PID -- PROGRAM ARGUMENT...`
pub const SUBCOMMAND: &str = "with-parent";

/// Returns the command that starts a program through `guard`, which is `rlvr` itself.
pub fn command(guard: &Path, program: &[String]) -> Command {
    let mut command = Command::new(guard);
    command.arg(SUBCOMMAND).arg(std::process::id().to_string()).arg("--").args(program);
    command
}

/// Returns the path of this program, to use as a guard, or `None` if the operating system does not support it. The path remains valid if
/// the file is replaced during the run.
pub fn this_program() -> Option<&'static Path> {
    cfg!(target_os = "linux").then(|| Path::new("/proc/self/exe"))
}

/// Replaces this process with the program. Returns only on failure, with the reason. `parent` is the process ID of the run.
#[cfg(target_os = "linux")]
pub fn exec_with_parent_guard(parent: u32, program: &[String]) -> anyhow::Error {
    use std::os::unix::process::CommandExt;

    use anyhow::anyhow;
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};

    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return anyhow!(error).context("cannot tie a program to its parent");
    }
    // The parent may have died before the call above.
    if getppid().is_none_or(|pid| pid.as_raw_nonzero().get() != parent as i32) {
        return anyhow!("the run that started {} has ended", program[0]);
    }
    let error = Command::new(&program[0]).args(&program[1..]).exec();
    anyhow!(error).context(format!("cannot start {}", program[0]))
}

/// Never called here, because [`this_program`] returns `None`.
#[cfg(not(target_os = "linux"))]
pub fn exec_with_parent_guard(_: u32, program: &[String]) -> anyhow::Error {
    anyhow::anyhow!("cannot tie {} to its parent on this system", program[0])
}
