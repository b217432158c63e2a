//! `rlvr report` as users see it: the page about a small run, and about broken copies of it.

mod html;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::fixture::{copy_folder, fail, succeed};

/// The sections of a page about a run with evaluations.
const SECTIONS: [&str; 8] = ["start", "benchmarks", "gain", "training", "subjects", "words", "pass-at-k", "configuration"];

/// A run of two steps with three evaluations. All tests copy it.
fn run() -> &'static Path {
    static RUN: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = RUN.get_or_init(|| {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("small <run> & more");
        let out = path.to_str().unwrap();
        succeed(&["train", "--steps", "2", "--set", "eval.limit=20", "--set", "eval.every=1", "--out", out]);
        (parent, path)
    });
    path
}

/// A copy of the run, changed by `change`.
fn copy(change: impl FnOnce(&Path)) -> (TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("copy");
    copy_folder(run(), &path);
    change(&path);
    (parent, path)
}

/// Reports a run, checks the page, and returns its text without data and scripts.
fn report(run: &Path) -> String {
    succeed(&["report", run.to_str().unwrap()]);
    let page = fs::read_to_string(run.join("report.html")).unwrap();
    html::check(&page);
    assert!(page.len() < 2_000_000, "{} bytes", page.len());
    page.split("<script").next().unwrap().to_owned()
}

fn check_parts(page: &str, expected: &[&str]) {
    expected.iter().for_each(|part| assert!(page.contains(part), "no {part:?} in {page}"));
}

#[test]
fn report_writes_one_complete_page() {
    let (_parent, copy) = copy(|_| ());
    let page = report(&copy);
    let tags = html::check(&fs::read_to_string(copy.join("report.html")).unwrap());
    let sections: Vec<&str> = tags.iter().filter(|tag| tag.name == "section").filter_map(|tag| tag.get("id")).collect();
    for section in SECTIONS {
        assert!(sections.contains(&section), "no section {section} in {sections:?}");
    }
    let names = |tag: &html::Tag| tag.name == "svg" && tag.get("role") == Some("img");
    assert!(tags.iter().filter(|tag| names(tag)).count() >= 15, "too few pictures");
    check_parts(&page, &["2 steps of training on tiny/addition/334+556", "What this does not show", "train accuracy has not saturated"]);
    assert!(!page.contains("What is missing"), "{page}");
    // The same run gives the same page.
    let first = fs::read(copy.join("report.html")).unwrap();
    report(&copy);
    assert!(first == fs::read(copy.join("report.html")).unwrap(), "the page differs at the second time");
}

#[test]
fn report_shows_what_a_broken_run_still_has() {
    let check = |change: fn(&Path), expected: &[&str]| {
        let (_parent, copy) = copy(change);
        check_parts(&report(&copy), expected);
    };
    let cut_metrics = |run: &Path| {
        let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        fs::write(run.join("metrics.jsonl"), &text[..text.len() - 100]).unwrap();
    };
    check(cut_metrics, &["What is missing", "has lines that are not records, which are left out: 2", "The run stopped at step 1 of 2"]);
    check(
        |run| {
            fs::remove_file(run.join("summary.json")).unwrap();
            fs::remove_file(run.join("launch.json")).unwrap();
        },
        &["2 steps of training"],
    );
    check(
        |run| fs::remove_file(run.join("eval/00002/tiny-greedy.jsonl")).unwrap(),
        &["What is missing", "tiny-greedy.jsonl", "2 steps of training"],
    );
    check(|run| fs::remove_dir_all(run.join("eval/00000")).unwrap(), &["the base model was not evaluated, so the gain is unknown"]);
    check(
        |run| {
            fs::remove_dir_all(run.join("eval/00001")).unwrap();
            fs::remove_dir_all(run.join("eval/00002")).unwrap();
        },
        &["Before training on tiny/addition/334+556", "no later evaluation says what training changed"],
    );
    check(
        |run| {
            fs::remove_dir_all(run.join("eval")).unwrap();
            fs::create_dir(run.join("eval")).unwrap();
            fs::remove_file(run.join("metrics.jsonl")).unwrap();
        },
        &["The run has no evaluation yet.", "No evaluation says how", "no training step is recorded yet"],
    );
    check(|run| fs::write(run.join("eval/00002/scores.json"), "{\"tiny-greedy\": {}}").unwrap(), &["What happened"]);
}

#[test]
fn report_refuses_what_is_not_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let error = fail(&["report", folder.path().to_str().unwrap()], 2);
    assert!(error.contains("is not a run folder"), "{error}");
}
