//! Runs the commands in README.md, in the book and in help texts. An entry that needs what a test does not have says so in a comment:
//! `# Needs a GPU`. `rlvr.sh` reduces the work: fewer steps, problems and repetitions.

mod blocks;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use blocks::{Document, Entry, documents};
use rayon::prelude::*;

use crate::fixture::{copy_folder, repository, succeed};
use crate::testing;

/// Commands of other programs that a checkout runs elsewhere: continuous integration builds, tests and installs the program.
const RUN_ELSEWHERE: [&str; 4] =
    ["cargo test", "cargo install --path .", "cargo build --release", "cargo build --release --no-default-features"];

#[test]
fn commands_in_the_documentation_run() {
    let Some(data) = testing::shared("data") else { return };
    let documents = documents();
    let count: usize = documents.iter().map(|document| document.entries.len()).sum();
    assert!(count > 60, "only {count} entries were found");
    let failures: Vec<String> = documents.par_iter().flat_map_iter(|document| run(document, &data)).collect();
    assert!(failures.is_empty(), "{} of {count} entries failed:\n\n{}", failures.len(), failures.join("\n\n"));
}

/// Runs a document's entries in a new folder. Returns a description of each failure.
fn run(document: &Document, data: &Path) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path(), data);
    let runnable = document.entries.iter().filter(|entry| entry.needs.is_none());
    runnable.filter_map(|entry| run_entry(entry, folder.path(), data).err()).collect()
}

/// Prepares a folder that looks like a checkout: configs and examples, and the folders that stand for a user's model and data.
fn prepare(folder: &Path, data: &Path) {
    for name in ["configs", "examples"] {
        copy_folder(&repository(name), &folder.join(name));
    }
    let bin = folder.join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::fs::write(bin.join("rlvr"), include_str!("rlvr.sh")).unwrap();
    std::fs::set_permissions(bin.join("rlvr"), std::fs::Permissions::from_mode(0o755)).unwrap();
    symlink(data, folder.join("DATA")).unwrap();
    succeed(&["init", "--like", "tiny", "--out", folder.join("DIR").to_str().unwrap()]);
}

fn run_entry(entry: &Entry, folder: &Path, data: &Path) -> Result<(), String> {
    let script = entry.script.replace("cargo run --release -- ", "rlvr ");
    if RUN_ELSEWHERE.contains(&script.trim()) {
        return Ok(());
    }
    let path = format!("{}:{}", folder.join("bin").display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", &script]).current_dir(folder).stdin(Stdio::null());
    command.env("PATH", path).env("RLVR_PROGRAM", env!("CARGO_BIN_EXE_rlvr")).env("RLVR_DATA_DIR", data);
    command.env("HF_HUB_OFFLINE", "1").env("HF_HOME", folder.join("hub")).env("RLVR_CACHE", folder.join("cache"));
    let start = std::time::Instant::now();
    let output = command.output().unwrap();
    println!("{:6.1} s  {}: {}", start.elapsed().as_secs_f64(), entry.place, script.lines().next().unwrap_or_default());
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let end: Vec<&str> = stderr.lines().skip(stderr.lines().count().saturating_sub(8)).collect();
    let failure = || format!("{}: {}\n{}\n{}", entry.place, output.status, script.trim(), end.join("\n"));
    if output.status.success() { Ok(()) } else { Err(failure()) }
}
