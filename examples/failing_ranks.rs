//! Ranks of which one fails, to check that all end: started by `scripts/check_mpi.py` under each MPI.
//!
//! ```text
//! mpirun -n 4 target/release/examples/failing_ranks error 2
//! ```
//!
//! The first argument is what happens, the second on which rank: `error` and `panic` on the main thread, `panic-in-thread` while the main
//! thread waits for the others, `exit` without a word, `sleep` until it is killed, `lengths`, a message of another length than expected,
//! `caught`, a panic that does not end the program, and `code`, an exit code other than 0 after success. The rank writes its process id to
//! `failing.pid`; rank 0 writes `done` if all ranks come to the end.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rlvr::dist::{World, launch};

fn main() -> ExitCode {
    launch::end(run(), |_| 1)
}

fn run() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, rank] = &arguments[..] else { bail!("expected what fails, and the rank") };
    let world = launch::join(launch::Gpus::All)?;
    world.wait_for_all()?;
    let failing: usize = rank.parse().context("the rank is not a number")?;
    if world.rank() == failing {
        std::fs::write("failing.pid", std::process::id().to_string())?;
        fail(what, &world)?;
    } else if what == "lengths" && world.rank() == failing ^ 1 {
        world.communicator().exchange(failing, &[0; 3], &mut [0; 4])?;
    }
    world.wait_for_all()?;
    if world.is_first() {
        std::fs::write("done", "")?;
    }
    Ok(ExitCode::from(if what == "code" { 7 } else { 0 }))
}

fn fail(what: &str, world: &World) -> Result<()> {
    match what {
        "error" => bail!("the disk is full"),
        "panic" => panic!("an index is out of range"),
        "panic-in-thread" => drop(std::thread::spawn(|| panic!("an index is out of range")).join()),
        "exit" => std::process::exit(3),
        "sleep" => std::thread::sleep(Duration::from_secs(600)),
        "caught" => drop(rlvr::input::catch_panics("a file", || -> Result<()> { panic!("corrupt") })),
        "lengths" => world.communicator().exchange(world.rank() ^ 1, &[0; 4], &mut [0; 4])?,
        "code" => {}
        _ => bail!("unknown failure {what}"),
    }
    Ok(())
}
