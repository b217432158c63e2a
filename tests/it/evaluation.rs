//! Tests evaluations through the program: resuming after interruptions, batch sizes, comparisons, and the conditions of scores.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::fixture::{command, document_list, fail, files, json, stderr, stdout, succeed, wait_for};

const TINY: [&str; 7] = ["eval", "--model", "tiny", "--benchmarks", "tiny", "--limit", "300"];

#[test]
fn eval_resume_after_a_kill_writes_the_same_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (whole, killed) = (path("whole"), path("killed"));
    succeed(&[&TINY[..], &["--out", &whole]].concat());
    // Two sequences at a time, to leave time to kill the process.
    let slow = [&TINY[..], &["--out", &killed, "--max-running", "2"]].concat();
    let unfinished = PathBuf::from(&killed).join("tiny-t0.6x1.jsonl.unfinished");
    let mut child = command(&slow).stderr(std::process::Stdio::null()).spawn().unwrap();
    wait_for("answers", || std::fs::read_to_string(&unfinished).is_ok_and(|text| text.lines().count() >= 40));
    child.kill().unwrap();
    child.wait().unwrap();
    // A partially written record is dropped.
    let mut text = std::fs::read_to_string(&unfinished).unwrap();
    text.truncate(text.trim_end().len() - 10);
    let known = text.lines().count() - 1;
    assert!(known < 300, "the evaluation finished before it was killed");
    std::fs::write(&unfinished, text).unwrap();
    let stderr = fail(&slow, 2);
    assert!(stderr.contains("already exists and is left unchanged: choose another --out, or continue with --resume"), "{stderr}");
    let resumed = document_list(&succeed(&[&TINY[..], &["--out", &killed, "--resume", "--json"]].concat()), "passes");
    let answered: Vec<u64> = resumed.iter().map(|line| line["times"]["answered"].as_u64().unwrap()).collect();
    assert_eq!(answered, [0, 300 - known as u64], "only missing responses are sampled");
    assert!(files(Path::new(&whole)) == files(Path::new(&killed)), "the resumed files differ");
    let again = document_list(&succeed(&[&TINY[..], &["--out", &killed, "--resume", "--json"]].concat()), "passes");
    assert!(again.iter().all(|line| line["times"]["answered"] == 0), "no responses are missing");
    let other = fail(&[&TINY[..], &["--out", &killed, "--resume", "--max-new-tokens", "40"]].concat(), 2);
    assert!(other.contains("under other conditions (tiny-greedy: max_new: 80, here 40)"), "{other}");
}

#[test]
fn eval_depends_on_the_seed_but_not_on_the_batch() {
    let folder = tempfile::tempdir().unwrap();
    let evaluate = |name: &str, more: &[&str]| {
        let out = folder.path().join(name);
        succeed(&[&TINY[..5], &["--limit", "40", "--samples", "4", "--out", out.to_str().unwrap()], more].concat());
        files(&out)
    };
    let usual = evaluate("usual", &[]);
    assert!(evaluate("one", &["--max-running", "1"]) == usual);
    assert!(evaluate("seven", &["--max-running", "7"]) == usual);
    let seeded = evaluate("seeded", &["--seed", "1"]);
    assert!(seeded["tiny-greedy.jsonl"] == usual["tiny-greedy.jsonl"]);
    assert!(seeded["tiny-t0.6x4.jsonl"] != usual["tiny-t0.6x4.jsonl"]);
}

#[test]
fn eval_prints_the_conditions_of_every_score() {
    let evaluate = |more: &[&str]| succeed(&[&TINY[..5], &["--limit", "40", "--samples", "4", "--seed", "3"], more].concat());
    let output = evaluate(&["--json"]);
    let [greedy, sampled] = <[Value; 2]>::try_from(document_list(&output, "passes")).unwrap();
    for line in [&greedy, &sampled] {
        for name in ["revision", "template", "problems_sha256", "rlvr"] {
            assert!(line[name].as_str().is_some_and(|value| !value.is_empty()), "{name} in {line}");
        }
        let found = ["model", "dtype", "device", "kernels", "grader", "set"].map(|name| line[name].as_str().unwrap());
        assert_eq!(found, ["tiny", "f32", "cpu", "plain", "strict", "tiny"]);
        let found = ["max_new", "seed", "grader_version", "problems"].map(|name| line[name].as_u64().unwrap());
        assert_eq!(found, [80, 3, u64::from(rlvr::verify::VERSION), 40]);
        let times = ["elapsed_s", "grading_s"].map(|name| line["times"][name].as_f64().unwrap());
        assert!(times[1] < times[0], "{line}");
    }
    assert_eq!((greedy["temperature"].as_f64(), greedy["samples"].as_u64()), (Some(0.0), Some(1)));
    assert!(greedy["score"]["pass_at"].as_array().unwrap().is_empty() && greedy["score"]["majority"].is_null());
    let means: Vec<f64> = sampled["score"]["pass_at"].as_array().unwrap().iter().map(|at| at["mean"].as_f64().unwrap()).collect();
    assert_eq!(means.len(), 4);
    assert!(means.windows(2).all(|pair| pair[0] <= pair[1]), "{means:?}");
    assert!((means[0] - sampled["score"]["accuracy"]["mean"].as_f64().unwrap()).abs() < 1e-9);
    assert!(sampled["score"]["majority"]["mean"].is_f64());
    assert!(stderr(&output).contains("grading took"), "{}", stderr(&output));
    // Without --json, the same scores are in tables.
    let tables = stdout(&evaluate(&[]));
    assert!(tables.contains("majority of k") && tables.contains("tiny-greedy by subject") && !tables.contains('{'), "{tables}");
}

#[test]
fn eval_applies_the_decoding_flag_to_all_sets() {
    let output = succeed(&[&TINY[..5], &["--limit", "20", "--decoding", "t0.8p0.9x3", "--json"]].concat());
    let [line] = <[Value; 1]>::try_from(document_list(&output, "passes")).unwrap();
    assert_eq!(line["pass"].as_str(), Some("tiny-t0.8p0.9x3"));
    let found = ["temperature", "top_p", "samples"].map(|name| line[name].as_f64().unwrap());
    assert_eq!(found, [0.8, 0.9, 3.0]);
    let stderr = fail(&[&TINY[..], &["--decoding", "beam"]].concat(), 2);
    assert!(stderr.contains("\"beam\" is not a decoding; expected greedy, t0.6x8"), "{stderr}");
}

#[test]
fn eval_resume_keeps_earlier_scores_in_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("scores");
    // An evaluation that is killed at the start leaves an empty folder.
    std::fs::create_dir(&out).unwrap();
    for sets in ["tiny", "tiny-validation"] {
        let arguments = ["eval", "--model", "tiny", "--benchmarks", sets, "--limit", "10", "--out", out.to_str().unwrap()];
        succeed(&[&arguments[..], if sets == "tiny" { &[] } else { &["--resume"] }].concat());
    }
    let scores: Value = json(&out.join("scores.json"));
    let names: Vec<&String> = scores.as_object().unwrap().keys().collect();
    assert_eq!(names, ["tiny-greedy", "tiny-t0.6x1", "tiny-validation-greedy", "tiny-validation-t0.6x1"]);
}

#[test]
fn compare_pairs_two_evaluations_by_problem() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    for (name, seed) in [("a", "0"), ("b", "1")] {
        succeed(&[&TINY[..], &["--seed", seed, "--out", &path(name)]].concat());
    }
    let output = succeed(&["compare", &path("a"), &path("b"), "--json"]);
    let [greedy, sampled] = <[Value; 2]>::try_from(document_list(&output, "passes")).unwrap();
    assert_eq!((greedy["pass"].as_str(), sampled["pass"].as_str()), (Some("tiny-greedy"), Some("tiny-t0.6x1")));
    let same = &greedy["comparison"];
    assert_eq!((same["difference"]["mean"].as_f64(), same["won"].as_u64(), same["lost"].as_u64()), (Some(0.0), Some(0), Some(0)));
    let other = &sampled["comparison"];
    assert_eq!((other["problems"].as_u64(), sampled["unpaired"].as_u64()), (Some(300), Some(0)));
    assert!(other["won"].as_u64() > Some(0) && other["lost"].as_u64() > Some(0), "{other}");
    let stderr = stderr(&output);
    assert!(stderr.contains("tiny-t0.6x1 was measured under different conditions: seed: 0, here 1"), "{stderr}");
    let files = [path("a/tiny-greedy.jsonl"), path("b/tiny-t0.6x1.jsonl")];
    let table = stdout(&succeed(&["compare", &files[0], &files[1], "--fallback"]));
    assert!(table.contains("B - A in points") && table.lines().count() == 3 && !table.contains('{'), "{table}");
    std::fs::create_dir(path("empty")).unwrap();
    assert!(fail(&["compare", &path("a"), &path("empty")], 2).contains("they have no pass in common"));
    assert!(fail(&["compare", &path("a"), &path("nowhere")], 2).contains("does not exist"));
}
