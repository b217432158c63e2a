//! Tests reports about several runs and about studies through the command line: complete, with missing and broken runs, and refused.

use std::fs;
use std::path::Path;

use crate::fixture::{fail, rlvr, small_study, stderr, stdout, succeed, text, write_file};

/// The alternatives of a small study.
const AXIS: &str = r#"[[axis]]
name = "entropy"
alternatives = [{ label = "with" }, { label = "without", set = { loss.entropy = 0 } }]"#;

/// Checks that a page has each of these parts and makes no request.
fn check(page: &str, parts: &[&str]) {
    for part in parts {
        assert!(page.contains(part), "{part:?} is not in the page");
    }
    for request in ["src=\"", "href=\"http", "url(", "@import"] {
        assert!(!page.contains(request), "{request:?} is in the page");
    }
    assert!(page.contains("connect-src 'none'") && page.len() < 2_000_000);
}

#[test]
fn report_compares_runs_and_tells_a_study() {
    let folder = tempfile::tempdir().unwrap();
    let file = write_file(folder.path(), "study.toml", &small_study("Entropy & <temperature>", AXIS));
    let out = folder.path().join("study");
    let run = |name: &str| out.join(name).to_str().unwrap().to_owned();
    succeed(&["study", &file, "--out", out.to_str().unwrap()]);

    // A study: the numbers of its table, a picture of each arm, and the axes in order.
    let told = succeed(&["report", out.to_str().unwrap()]);
    let written = out.join("report.html");
    assert_eq!(stdout(&told).trim(), written.to_str().unwrap());
    let page = text(&written);
    let table = text(&out.join("study.md"));
    let row = table.lines().find(|line| line.starts_with("| without ")).unwrap();
    let last = row.split('|').nth(4).unwrap().trim();
    let (mean, interval) = last.split_once(" [").unwrap();
    let cells = format!("<td>{mean} <span class=\"interval\">[{interval}</span></td>");
    let parts =
        ["Entropy &amp; &lt;temperature&gt;", "A study of 2 arms and 4 runs", &cells, "id=\"arm-0\"", "id=\"arm-1\"", "loss.entropy"];
    check(&page, &parts);
    assert!(!page.contains("not started") && !page.contains("<h3>Missing</h3>"));

    // Runs: groups by settings, and a run that is missing.
    let compared = folder.path().join("compared.html");
    let [a0, a1, b0] = ["with/seed-0", "with/seed-1", "without/seed-0"].map(run);
    let output = rlvr(&["report", &a0, &a1, &b0, &run("nowhere"), "-o", compared.to_str().unwrap()]);
    assert!(output.status.success() && stderr(&output).contains("nowhere"), "{}", stderr(&output));
    let page = text(&compared);
    let parts = [
        "3 runs in 2 groups",
        "The groups differ in loss.entropy.",
        "A: entropy 0.001",
        "B: entropy 0",
        "seeds 0, 1",
        "One of the groups has only one run",
        "there is no such folder",
        "id=\"compare-train\"",
        "B: entropy 0 minus A: entropy 0.001",
    ];
    check(&page, &parts);
    check(&stdout(&succeed(&["report", &a0, &b0, "-o", "-"])), &["2 runs in 2 groups", "Each group has only one run"]);

    // What a study lost is named, and the rest is shown.
    fs::remove_dir_all(run("without/seed-1")).unwrap();
    fs::write(Path::new(&run("without/seed-0")).join("config.toml"), "model = ").unwrap();
    fs::remove_dir_all(Path::new(&a1).join("checkpoints")).unwrap();
    succeed(&["report", out.to_str().unwrap()]);
    let parts = [
        "without, seed 1: not started",
        "without, seed 0: ",
        "config.toml",
        "with, seed 1: its last checkpoint or its summary is missing",
        "1 of 2",
        "No numbers yet.",
    ];
    check(&text(&written), &parts);

    // A file that is not a report stays.
    fs::write(&written, "my notes").unwrap();
    let error = fail(&["report", out.to_str().unwrap()], 2);
    assert!(error.contains("is not a report by rlvr") && text(&written) == "my notes", "{error}");
}

#[test]
fn report_refuses_what_is_neither_a_run_nor_a_study() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap();
    let check = |arguments: &[&str], code: i32, expected: &str| {
        let error = fail(&[&["report"], arguments].concat(), code);
        assert!(error.contains(expected), "{error}");
    };
    let absent = format!("{root}/absent");
    check(&[&absent], 2, "there is no such folder");
    check(&[], 2, "<RUN>");
    check(&[root, "--port", "80"], 2, "--watch");
    check(&[&absent, &format!("{root}/other")], 1, "no run can be read");
    write_file(folder.path(), "notes.txt", "");
    check(&[root], 2, "is neither the folder of a run (it has no config.toml) nor of a study (it has no study.json)");
    write_file(folder.path(), "study.json", "{\"title\": \"cut");
    check(&[root], 1, "study.json is corrupt");
    check(&[root, &absent], 2, "is a study: give it alone");
}
