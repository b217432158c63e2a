//! Records the commit that the program is built from, and builds the kernels.

#[path = "src/kernels/build.rs"]
mod kernels;

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rustc-env=RLVR_COMMIT={}", given_commit().or_else(packaged_commit).or_else(checked_out_commit).unwrap_or_default());
    kernels::build();
}

/// Returns the commit in the environment, for a build without the checkout's `.git`, as in a container.
fn given_commit() -> Option<String> {
    println!("cargo:rerun-if-env-changed=RLVR_COMMIT");
    std::env::var("RLVR_COMMIT").ok().filter(|commit| !commit.is_empty())
}

/// Returns the commit of a packaged crate, which `cargo package` records.
fn packaged_commit() -> Option<String> {
    println!("cargo:rerun-if-changed=build.rs");
    let text = std::fs::read_to_string(".cargo_vcs_info.json").ok()?;
    let (_, rest) = text.split_once("\"sha1\": \"")?;
    Some(rest.chars().take_while(char::is_ascii_hexdigit).take(12).collect())
}

/// Returns the commit that is checked out; `None` without git. Git appends to `logs/HEAD` when another commit is checked out.
fn checked_out_commit() -> Option<String> {
    // The folder may lie inside another project's checkout, whose commit says nothing about this program.
    if !Path::new(".git").exists() {
        return None;
    }
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    if Path::new(&log).exists() {
        println!("cargo:rerun-if-changed={log}");
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
