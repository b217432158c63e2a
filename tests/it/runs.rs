//! Tests `rlvr runs`, and `--json` of `rlvr train`, through the program.

use std::path::Path;

use serde_json::Value;

use crate::fixture::{command, document, document_list, fail, json, stderr, stdout, succeed};

/// Arguments of a short run without evaluations.
const SHORT: [&str; 9] = ["train", "--set", "eval.limit=4", "--set", "rollout.groups=1", "--set", "checkpoint.every=1", "--steps", "2"];

fn train(root: &Path) -> Vec<&str> {
    [&SHORT[..], &["--out", root.to_str().unwrap()]].concat()
}

#[test]
fn runs_lists_each_run_with_its_state_and_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let summary = document(&succeed(&[&train(&path("a"))[..], &["--json"]].concat()));
    assert_eq!(summary, json(&path("a/summary.json")), "train --json prints the summary");
    std::fs::create_dir_all(path("study/arm")).unwrap();
    succeed(&train(&path("study/arm/seed-0")));
    // A run that wants more steps than it has done was interrupted.
    let config = path("study/arm/seed-0/config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("steps = 2", "steps = 5")).unwrap();
    std::fs::create_dir(path("broken")).unwrap();
    std::fs::write(path("broken/config.toml"), "model = [").unwrap();

    let listed = document_list(&succeed(&["runs", folder.path().to_str().unwrap(), "--json"]), "runs");
    let facts = |run: &Value| (run["state"].as_str().unwrap().to_owned(), run["step"].as_u64().unwrap(), run["steps"].as_u64().unwrap());
    let found: Vec<(String, u64, u64)> = listed.iter().map(facts).collect();
    assert_eq!(found, [("finished".into(), 2, 2), ("unreadable".into(), 0, 0), ("interrupted".into(), 2, 5)]);
    assert_eq!(listed[0]["base"]["greedy"], summary["base"]["greedy"]);
    assert_eq!(listed[0]["last"]["sampled"], summary["last"]["sampled"]);
    assert!(listed[1]["reason"].as_str().unwrap().contains("config.toml"), "{}", listed[1]);

    let output = command(&["runs", "."]).current_dir(folder.path()).output().unwrap();
    let table = stdout(&output);
    assert!(table.contains("finished") && table.contains("2/5") && table.contains("study/arm/seed-0"), "{table}");
    assert!(stderr(&output).contains("broken: "), "{}", stderr(&output));
    assert!(fail(&["runs", path("none").to_str().unwrap()], 2).contains("there is no folder"));
}

#[test]
fn train_dry_run_prints_its_settings_as_json() {
    let settings = document(&succeed(&["train", "--steps", "7", "--dry-run", "--json"]));
    assert_eq!((&settings["train"]["steps"], &settings["model"]), (&7.into(), &"tiny".into()));
}
