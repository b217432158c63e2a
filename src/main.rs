//! The `rlvr` program: parse, run, print the chain of errors, exit.

#![deny(clippy::print_stderr, clippy::print_stdout)]

use std::process::ExitCode;

use clap::Parser;

/// glibc gives every large block back to the kernel, and each step would fault it in again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = rlvr::cli::Cli::parse();
    match rlvr::cli::run(cli) {
        Ok(code) => code,
        Err(error) => {
            rlvr::output::line(&format!("error: {error:#}"));
            let is_usage = error.is::<rlvr::usage::Usage>() || error.is::<rlvr::checkpoint::lock::Held>();
            ExitCode::from(if is_usage { 2 } else { 1 })
        }
    }
}
