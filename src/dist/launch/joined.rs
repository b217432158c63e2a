//! The ranks that this process has joined. Every way out of the program passes here: success leaves them, and all else ends them.

use std::panic::PanicHookInfo;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use anyhow::Result;

use super::super::World;
use super::variables::{Launch, Launcher};
use crate::{input, output};

/// How long a rank with an error waits before it prints it. Rank 0 usually has the same error: it prints its own and ends the others.
const GRACE: Duration = Duration::from_secs(2);

/// How often a rank checks that its launcher is still there.
#[cfg(unix)]
const LAUNCHER_POLL: Duration = Duration::from_millis(500);

/// The exit code after a panic, as Rust's own.
const PANICKED: i32 = 101;

static JOINED: RwLock<Option<World>> = RwLock::new(None);
static MAY_WAIT: AtomicBool = AtomicBool::new(false);

/// Remembers the ranks, so that the functions below and a panic reach them. Only rank 0 prints messages and results from now on.
pub(super) fn register(world: &World) {
    *JOINED.write().unwrap_or_else(PoisonError::into_inner) = Some(world.clone());
    if !world.is_first() {
        output::mode::hide_all_but_errors();
    }
    #[cfg(unix)]
    end_with_the_launcher();
    std::panic::set_hook(Box::new(|panic| {
        // One that a library's caller catches does not end the program.
        if !input::is_catching_panics() {
            fail(&describe(panic), PANICKED);
        }
    }));
}

/// Replaces the registered ranks by the same ones in another connection. Does nothing if none are registered.
#[cfg(feature = "cuda")]
pub(super) fn replace(world: &World) {
    JOINED.write().unwrap_or_else(PoisonError::into_inner).iter_mut().for_each(|joined| *joined = world.clone());
}

fn joined() -> Option<World> {
    JOINED.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Marks that other ranks may wait for this one from now on.
pub(super) fn others_may_wait() {
    MAY_WAIT.store(true, Ordering::SeqCst);
}

/// Ends the program after its work: success leaves the other ranks, and an error is printed and ends all of them. `code_of` is the exit code
/// of an error. Returns the exit code if this process has to end itself.
pub fn end(outcome: Result<ExitCode>, code_of: impl Fn(&anyhow::Error) -> u8) -> ExitCode {
    let finished = outcome.and_then(|code| joined().map_or(Ok(()), |world| world.communicator().finish()).map(|()| code));
    finished.unwrap_or_else(|error| {
        let code = code_of(&error);
        fail(&format!("{error:#}"), code.into());
        ExitCode::from(code)
    })
}

/// Prints an error with the rank in front, and ends all ranks. Returns if this process has joined none.
fn fail(text: &str, code: i32) {
    let launch = Launch::of_this_process().ok().flatten();
    let place = joined().map(|world| (world.rank(), Some(world.size()))).or(launch.map(|launch| (launch.rank, launch.world)));
    match place {
        None | Some((_, Some(1))) => output::print_error(text),
        Some((rank, _)) => {
            if rank != 0 {
                std::thread::sleep(GRACE);
            }
            output::print_error(&format!("rank {rank}: {text}"));
        }
    }
    if let Some(world) = joined() {
        world.communicator().abort(code);
    }
    // Other ranks may wait for this one in MPI_Init. Open MPI's mpirun and torchrun end them if a process returns an error, the others only if
    // a process is killed.
    if MAY_WAIT.load(Ordering::SeqCst) && launch.is_some_and(|launch| ![Launcher::OpenMpi, Launcher::Torchrun].contains(&launch.launcher)) {
        kill_this_process();
    }
}

/// Ends this process soon after its parent, the launcher, has ended. Open MPI's ranks notice that only when they exchange data.
#[cfg(unix)]
fn end_with_the_launcher() {
    let parent = rustix::process::getppid();
    std::thread::spawn(move || {
        while rustix::process::getppid() == parent {
            std::thread::sleep(LAUNCHER_POLL);
        }
        kill_this_process();
    });
}

#[cfg(unix)]
fn kill_this_process() {
    use rustix::process::{Signal, getpid, kill_process};

    // Unlike abort(), it leaves no core dump.
    let _ = kill_process(getpid(), Signal::KILL);
}

#[cfg(not(unix))]
fn kill_this_process() {
    std::process::abort();
}

/// Describes a panic: the thread, the place and the message.
fn describe(panic: &PanicHookInfo) -> String {
    let thread = std::thread::current();
    let place = panic.location().map_or_else(String::new, |place| format!(" at {place}"));
    let message = panic.payload_as_str().unwrap_or("no message");
    format!("thread '{}' panicked{place}: {message}", thread.name().unwrap_or("unnamed"))
}
