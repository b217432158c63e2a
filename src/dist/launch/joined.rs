//! The ranks that this process has joined. Every way out of the program passes here: success leaves them, and all else ends them.

use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Result;

use super::super::World;
use super::variables::Launch;
use crate::{input, output};

/// How long a rank with an error waits before it prints it. Rank 0 usually has the same error: it prints its own and ends the others.
const GRACE: Duration = Duration::from_secs(2);

/// The exit code after a panic, as Rust's own.
const PANICKED: i32 = 101;

static JOINED: OnceLock<World> = OnceLock::new();

/// Remembers the ranks, so that the functions below and a panic reach them. Only rank 0 prints messages and results from now on.
pub(super) fn register(world: &World) {
    if JOINED.set(world.clone()).is_err() {
        return;
    }
    if !world.is_first() {
        output::mode::hide_all_but_errors();
    }
    std::panic::set_hook(Box::new(|panic| {
        // One that a library's caller catches does not end the program.
        if !input::is_catching_panics() {
            output::print_error(&prepare_error(&describe(panic)));
            abort_if_joined(PANICKED);
        }
    }));
}

/// Returns the text of an error that ends the program as it is printed: with the rank in front. A rank other than 0 first waits a while.
pub fn prepare_error(text: &str) -> String {
    let started = || Launch::of_this_process().ok().flatten().map(|launch| (launch.rank, launch.world));
    let place = JOINED.get().map(|world| (world.rank(), Some(world.size()))).or_else(started);
    let Some((rank, _)) = place.filter(|(_, world)| *world != Some(1)) else { return text.to_owned() };
    if rank != 0 {
        std::thread::sleep(GRACE);
    }
    format!("rank {rank}: {text}")
}

/// Ends all ranks with this exit code; returns if this process has joined none.
pub fn abort_if_joined(code: i32) {
    if let Some(world) = JOINED.get() {
        world.communicator().abort(code);
    }
}

/// Leaves the other ranks after success; does nothing if this process has joined none.
///
/// # Errors
/// If the connection fails.
pub fn finish_if_joined() -> Result<()> {
    JOINED.get().map_or(Ok(()), |world| world.communicator().finish())
}

/// Describes a panic: the thread, the place and the message.
fn describe(panic: &PanicHookInfo) -> String {
    let thread = std::thread::current();
    let place = panic.location().map_or_else(String::new, |place| format!(" at {place}"));
    let message = panic.payload_as_str().unwrap_or("no message");
    format!("thread '{}' panicked{place}: {message}", thread.name().unwrap_or("unnamed"))
}
