//! A small run, and changed copies of it that are resumed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::fixture::{copy_folder, files, result, rlvr, stderr, succeed};

/// Four steps, each with an evaluation and a checkpoint; the last three checkpoints have a state.
const SMALL: [&str; 14] = [
    "--steps",
    "4",
    "--set",
    "eval.every=1",
    "--set",
    "eval.limit=4",
    "--set",
    "checkpoint.every=1",
    "--set",
    "checkpoint.keep_last=3",
    "--set",
    "rollout.groups=2",
    "--set",
    "rollout.group_size=4",
];

/// A small uninterrupted run, and copies of it.
pub struct Case {
    /// Holds the run as `whole`.
    pub root: tempfile::TempDir,
    /// The files of the run, by `result`.
    pub expected: BTreeMap<String, Vec<u8>>,
}

impl Case {
    /// Trains the run.
    pub fn new(more: &[&str]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let whole = root.path().join("whole");
        succeed(&[&["train", "--out", whole.to_str().unwrap()][..], &SMALL, more].concat());
        let expected = result(&whole);
        Self { root, expected }
    }

    /// Changes a copy of the run and resumes it. Returns the copy's path, the exit code and the messages.
    pub fn resume(&self, change: impl Fn(&Path), more: &[&str]) -> (PathBuf, Option<i32>, String) {
        let run = self.root.path().join("run");
        let _ = std::fs::remove_dir_all(&run);
        copy_folder(&self.root.path().join("whole"), &run);
        change(&run);
        let output = rlvr(&[&["train", "--resume", run.to_str().unwrap()][..], more].concat());
        (run, output.status.code(), stderr(&output))
    }

    /// Checks that the changed run prints all of `expected`, and that its result is that of the uninterrupted run.
    pub fn recovers(&self, what: &str, change: impl Fn(&Path), more: &[&str], expected: &[&str]) {
        let (run, code, messages) = self.resume(change, more);
        assert_eq!(code, Some(0), "{what}: {messages}");
        expected.iter().for_each(|part| assert!(messages.contains(part), "{what}: expected \"{part}\" in {messages}"));
        let found = result(&run);
        assert!(found.keys().eq(self.expected.keys()), "{what}: {:?} and {:?}", found.keys(), self.expected.keys());
        for (name, bytes) in &self.expected {
            assert!(found[name] == *bytes, "{what}: {name} differs");
        }
    }

    /// Checks that resuming the changed run fails with `code` and all of `expected`, and changes no file.
    pub fn refuses(&self, change: impl Fn(&Path), more: &[&str], code: i32, expected: &[&str]) {
        let changed = self.root.path().join("changed");
        let _ = std::fs::remove_dir_all(&changed);
        copy_folder(&self.root.path().join("whole"), &changed);
        change(&changed);
        let (run, found, messages) = self.resume(change, more);
        assert_eq!(found, Some(code), "{messages}");
        expected.iter().for_each(|part| assert!(messages.contains(part), "expected \"{part}\" in {messages}"));
        assert!(files(&run) == files(&changed), "a refused resume changed files: {messages}");
    }
}
