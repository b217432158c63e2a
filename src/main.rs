//! The `rlvr` program: parses the command line, runs the command, prints any error with its causes, and exits. Among several ranks,
//! success leaves the others and an error ends them.

#![deny(clippy::print_stderr, clippy::print_stdout)]

use std::process::ExitCode;

use rlvr::dist::launch;

/// Used instead of glibc's allocator, which returns every large block to the kernel, so that each step would page-fault it in again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match rlvr::cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    launch::end(rlvr::cli::run(cli), |error| {
        let is_usage = error.is::<rlvr::usage::Usage>() || error.is::<rlvr::checkpoint::lock::FolderInUse>();
        if is_usage { 2 } else { 1 }
    })
}
