//! The `rlvr` program: parses the command line, runs the command, prints any error with its causes, and exits.

#![deny(clippy::print_stderr, clippy::print_stdout)]

use std::process::ExitCode;

/// Used instead of glibc's allocator, which returns every large block to the kernel, so that each step would page-fault it in again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match rlvr::cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match rlvr::cli::run(cli) {
        Ok(code) => code,
        Err(error) => {
            rlvr::output::print_error(&format!("{error:#}"));
            let is_usage = error.is::<rlvr::usage::Usage>() || error.is::<rlvr::checkpoint::lock::FolderInUse>();
            ExitCode::from(if is_usage { 2 } else { 1 })
        }
    }
}
