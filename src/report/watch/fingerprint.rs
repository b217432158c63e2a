//! A cheap summary of the state of folders, which changes when a run writes: the sizes and times of its records.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

/// The files of a run or study whose size and time count.
const FILES: [&str; 6] = ["config.toml", "launch.json", "metrics.jsonl", "summary.json", "lock", "study.json"];

/// Returns a short text that is different after a run in one of the folders has written a step, an evaluation or its summary, or has
/// started or ended. A study's runs are in `ARM/seed-N`.
pub fn fingerprint(paths: &[PathBuf]) -> String {
    let mut state = String::new();
    for path in paths {
        add_run(path, &mut state);
        if !path.join("config.toml").exists() {
            folders(path).iter().flat_map(|arm| folders(arm)).filter(|run| is_seed(run)).for_each(|run| add_run(&run, &mut state));
        }
    }
    Sha256::digest(state).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn add_run(root: &Path, state: &mut String) {
    FILES.iter().for_each(|name| add(&root.join(name), state));
    folders(&root.join("eval")).iter().for_each(|path| add(&path.join("scores.json"), state));
}

/// Adds a file's path, size and time of change; nothing if it does not exist.
fn add(path: &Path, state: &mut String) {
    let Ok(metadata) = std::fs::metadata(path) else { return };
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |time| time.as_nanos());
    let _ = writeln!(state, "{} {} {modified}", path.display(), metadata.len());
}

fn is_seed(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("seed-"))
}

/// Lists the folders in a folder, in order; empty if it cannot be read.
fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    #[test]
    fn fingerprint_changes_when_a_run_writes() {
        let root = tempfile::tempdir().unwrap();
        let run = root.path().join("run");
        let study_run = root.path().join("study/arm/seed-0");
        let paths = [run.clone(), root.path().join("study")];
        let append = |path: PathBuf| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(b"line\n").unwrap();
        };
        let changes = [
            run.join("config.toml"),
            run.join("metrics.jsonl"),
            run.join("metrics.jsonl"),
            run.join("eval/00010/scores.json"),
            run.join("lock"),
            study_run.join("config.toml"),
            study_run.join("metrics.jsonl"),
            root.path().join("study/study.json"),
        ];
        let mut seen = vec![fingerprint(&paths)];
        for path in changes {
            append(path.clone());
            let found = fingerprint(&paths);
            assert!(!seen.contains(&found), "{}", path.display());
            assert_eq!(found, fingerprint(&paths));
            seen.push(found);
        }
        append(run.join("report.html"));
        assert_eq!(seen.last(), Some(&fingerprint(&paths)), "the report itself is no change");
        fs::remove_file(run.join("lock")).unwrap();
        assert_ne!(seen.last(), Some(&fingerprint(&paths)));
    }
}
