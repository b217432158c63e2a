//! Tests studies through the command line: complete, killed, interrupted and continued. The shipped studies are checked without weights or
//! downloads.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use rlvr::config;
use rlvr::eval::published::{BASE, Experiment, Row, Table, published};
use rlvr::study::{Study, experiment};
use rlvr::train::{RunSettings, algorithm};

use crate::fixture::{self, bytes, command, repository, rlvr, small_study, stderr, stdout, text, wait_for};

/// Returns stdout and stderr.
fn streams(output: &Output) -> (String, String) {
    (stdout(output), stderr(output))
}

fn succeed(arguments: &[&str]) -> (String, String) {
    streams(&fixture::succeed(arguments))
}

fn configs() -> PathBuf {
    repository("configs")
}

/// A study of two arms with different rewards.
fn small() -> String {
    small_study(
        "Two rewards",
        r#"[[arm]]
label = "outcome"

[[arm]]
label = "format"
set = { reward.name = "format" }"#,
    )
}

fn write_file(folder: &Path, study: &str) -> String {
    fixture::write_file(folder, "study.toml", study)
}

fn tables(out: &Path) -> [String; 2] {
    ["study.md", "study.json"].map(|name| text(&out.join(name)))
}

#[test]
fn study_continues_after_a_stop_with_the_same_table() {
    let folder = tempfile::tempdir().unwrap();
    let file = write_file(folder.path(), &small());
    let path = |name: &str| folder.path().join(name);
    let uninterrupted = path("uninterrupted");
    let (table, notes) = succeed(&["study", &file, "--out", uninterrupted.to_str().unwrap()]);
    assert_eq!(table, tables(&uninterrupted)[0]);
    assert!(
        table.contains("| outcome | 2 of 2 |") && table.contains("| format  | 2 of 2 |") && !table.contains("Unfinished runs"),
        "{table}"
    );
    let (start, end) = notes.split_once("format, seed 1: started\n").unwrap_or_else(|| panic!("{notes}"));
    assert!(start.contains("[3/4] outcome, seed 1: tiny-greedy ") && end.starts_with("[4/4] format, seed 1: tiny-greedy "), "{notes}");

    // A run of the study is identical to one of rlvr train.
    let single = path("single");
    let settings = ["--set", "eval={every=1,limit=20}", "--set", "checkpoint.every=1", "--set", "reward.name=format"];
    succeed(&[&["train", "--steps", "2", "--seed", "1", "--out", single.to_str().unwrap()][..], &settings].concat());
    for part in ["config.toml", "checkpoints/00002/model.safetensors", "eval/00002/scores.json"] {
        assert!(bytes(&single.join(part)) == bytes(&uninterrupted.join("format/seed-1").join(part)), "{part}");
    }

    for (name, signal, code) in [("killed", "KILL", None), ("interrupted", "INT", Some(130)), ("terminated", "TERM", Some(143))] {
        let out = path(name);
        let mut child =
            command(&["study", &file, "--out", out.to_str().unwrap()]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_for("the second run", || out.join("format/seed-0/config.toml").exists());
        fixture::signal(&child, signal);
        assert_eq!(child.wait().unwrap().code(), code, "{name}");
        let first = out.join("outcome/seed-0/checkpoints/00002/model.safetensors");
        let made = std::fs::metadata(&first).unwrap().modified().unwrap();
        let (_, notes) = succeed(&["study", &file, "--out", out.to_str().unwrap()]);
        assert!(notes.contains("1 of them already done") || notes.contains("2 of them already done"), "{name}: {notes}");
        assert_eq!(std::fs::metadata(&first).unwrap().modified().unwrap(), made, "{name}: a finished run was repeated");
        assert_eq!(tables(&out), tables(&uninterrupted), "{name}");
    }
    let (again, notes) = succeed(&["study", &file, "--out", uninterrupted.to_str().unwrap(), "--jobs", "2"]);
    assert!(again == table && notes.contains("4 of them already done"), "{notes}");

    let changed = write_file(folder.path(), &small().replace("limit = 20", "limit = 21"));
    let output = rlvr(&["study", &changed, "--out", uninterrupted.to_str().unwrap()]);
    let (_, notes) = streams(&output);
    assert_eq!(output.status.code(), Some(2));
    assert!(notes.contains("has a run with different settings (eval.limit was 20, now 21): give the study another --out"), "{notes}");
}

#[test]
fn study_reports_a_failed_run_and_finishes_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let study = small().replace("reward.name = \"format\"", "rollout.max_new_tokens = 100000").replace("seeds = [0, 1]", "");
    let (file, out) = (write_file(folder.path(), &study), folder.path().join("out"));
    let output = rlvr(&["study", &file, "--out", out.to_str().unwrap(), "--jobs", "2"]);
    let (table, notes) = streams(&output);
    assert_eq!(output.status.code(), Some(1), "{notes}");
    assert!(notes.contains("format, seed 0 failed") && notes.contains("exceeds the model's context length"), "{notes}");
    assert!(notes.contains("1 of the study's runs failed: run the same command again to retry them"), "{notes}");
    assert!(table.contains("| outcome | 1 of 1 |") && table.contains("Unfinished runs: format seed 0."), "{table}");
}

#[test]
fn study_dry_run_checks_every_arm() {
    let folder = tempfile::tempdir().unwrap();
    let arms = r#"
title = "Mistakes"
[[arm]]
label = "good"
set = { model = "Qwen/Qwen2.5-Math-7B", example = "pi1,pi13", eval.benchmarks = "paper" }
[[arm]]
label = "key"
set = { loss.entropie = 0 }
[[arm]]
label = "value"
set = { rollout.temperature = 0 }
[[arm]]
label = "example"
set = { example = "pi1210" }
[[arm]]
label = "benchmark"
set = { eval.benchmarks = "maths" }
[[arm]]
label = "model"
set = { model = "nobody" }
[[arm]]
label = "file"
config = "absent.toml"
"#;
    let file = write_file(folder.path(), arms);
    let output = rlvr(&["study", &file, "--dry-run"]);
    let (out, err) = streams(&output);
    let expected = [
        "ok  good: grpo with Qwen/Qwen2.5-Math-7B on pi1,pi13, 2000 steps of 128 x 8 responses, evaluated on paper, 1 seed",
        "bad key: unknown setting loss.entropie; [loss] has",
        "bad value: rollout.temperature is 0",
        "bad example: pi1210 is not in the ranking",
        "bad benchmark: unknown benchmark \"maths\"",
        "bad model: unknown model \"nobody\"",
        "bad file: cannot read ",
    ];
    assert_eq!(out.lines().count(), expected.len(), "{out}");
    for (line, expected) in out.lines().zip(expected) {
        assert!(line.starts_with(expected), "{line}");
    }
    assert!(output.status.code() == Some(2) && err.contains("6 of 7 arms cannot be run"), "{err}");
    let file = write_file(folder.path(), &small().replace("tiny-greedy", "math500-greedy"));
    let (out, _) = streams(&rlvr(&["study", &file, "--dry-run"]));
    assert!(out.contains("the study's table has the pass math500-greedy, but this arm evaluates tiny"), "{out}");
}

/// Checks the settings, examples and benchmarks of every arm of every shipped study.
#[test]
fn study_dry_run_accepts_the_shipped_studies() {
    let mut studies: Vec<PathBuf> = std::fs::read_dir(configs().join("tiny")).unwrap().map(|entry| entry.unwrap().path()).collect();
    studies.push(configs().join("paper/all.toml"));
    for path in studies {
        let (out, err) = streams(&rlvr(&["study", path.to_str().unwrap(), "--dry-run"]));
        assert!(!out.is_empty(), "{}: {err}", path.display());
        assert!(out.lines().all(|line| line.starts_with("ok ")), "{}: {out}", path.display());
    }
}

/// The configuration for a row of the published tables.
enum RowConfig {
    /// A training run with this settings file.
    File(String),
    /// None, because the row is the base model.
    Base,
    /// None, because the training data is not one of the named examples.
    OwnData,
}

fn row_config(table: &Table, row: &Row) -> RowConfig {
    match row.on.as_str() {
        BASE => RowConfig::Base,
        "math-7500" | "deepscaler" | "random-16" => RowConfig::OwnData,
        _ => RowConfig::File(file_name(&table.model, &row.on, &table.algorithm, &run_of(row))),
    }
}

/// Returns the variant of the run whose checkpoint a row reports.
fn run_of(row: &Row) -> String {
    let parts = row.variant.split(", ").filter(|part| *part != "highest" && !part.starts_with("step "));
    parts.collect::<Vec<_>>().join(", ")
}

/// `MODEL-EXAMPLE[-ALGORITHM][-VARIANT].toml`.
fn file_name(model: &str, on: &str, algorithm: &str, variant: &str) -> String {
    let slug = |text: &str| {
        let words: String = text.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
        words.split('-').filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-")
    };
    let algorithm = if algorithm == "grpo" { "" } else { algorithm };
    let parts = [model.to_owned(), slug(on), algorithm.to_owned(), slug(variant)];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-") + ".toml"
}

/// Resolves and validates a shipped settings file.
fn settings(path: &Path) -> Result<RunSettings, String> {
    let table = config::read(path).unwrap();
    let model = table.get("model").and_then(|model| model.as_str()).unwrap_or("Qwen/Qwen2.5-Math-1.5B");
    let settings =
        algorithm::resolve(&RunSettings::defaults_for(model), std::slice::from_ref(&table)).map_err(|error| format!("{error:#}"))?;
    settings.validate().map_err(|error| format!("{error:#}"))?;
    Ok(settings)
}

/// Every row of a trained model has a file whose settings match the row, and `all.toml` lists every file.
#[test]
fn published_rows_have_settings_files() {
    let folder = configs().join("paper");
    let listed: BTreeSet<String> = Study::read(&folder.join("all.toml")).unwrap().arms.into_iter().map(|arm| arm.label + ".toml").collect();
    let is_run = |name: &String| name.ends_with(".toml") && name != "all.toml";
    let present: BTreeSet<String> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).filter(is_run).collect();
    assert_eq!(listed, present, "all.toml lists the files of the folder");
    let short = |experiment: &Experiment| {
        let model = experiment.model.rsplit('/').next().unwrap_or_default().to_lowercase();
        (model, experiment.example.clone(), experiment.algorithm.clone(), experiment.variant.clone())
    };
    let mut needed = BTreeSet::from(["qwen2.5-math-1.5b-pi1-temperature-1.0.toml".to_owned()]);
    for table in &published().tables {
        for row in &table.rows {
            let RowConfig::File(name) = row_config(table, row) else { continue };
            needed.insert(name.clone());
            let settings = settings(&folder.join(&name)).unwrap_or_else(|error| panic!("{name}: {error}"));
            let expected = (table.model.clone(), row.on.clone(), table.algorithm.clone(), run_of(row));
            assert_eq!(short(&experiment::experiment_of(&settings)), expected, "{name}");
            let graders = [settings.reward.grader, settings.eval.grader].map(|grader| serde_json::to_value(grader).unwrap());
            assert_eq!(graders, ["deepscaler", "qwen"], "{name}");
            let distilled = table.model.starts_with("deepseek");
            // Only the rows at 32k tokens need every checkpoint.
            assert_eq!(settings.checkpoint.keep_spaced, if distilled { 0 } else { 8 }, "{name}");
            assert_eq!(settings.eval.decoding, if distilled { "t0.6p0.95x8" } else { "published" }, "{name}");
        }
    }
    assert_eq!(needed, present, "rows and files");
}

/// The index in configs/paper/README.md matches the tables; `RLVR_WRITE_INDEX=1 cargo test index` writes it.
#[test]
fn index_of_published_rows_is_current() {
    const BEGIN: &str = "<!-- index: written by tests/it/studies.rs -->\n";
    let path = configs().join("paper/README.md");
    let found = text(&path);
    let (above, _) = found.split_once(BEGIN).expect("the README has a marker for the index");
    let expected = format!("{above}{BEGIN}{}", index());
    if std::env::var_os("RLVR_WRITE_INDEX").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    assert!(found == expected, "configs/paper/README.md is out of date: run RLVR_WRITE_INDEX=1 cargo test --test it index");
}

fn index() -> String {
    let mut text = "\n| table | model | algorithm | row | published | file |\n|---|---|---|---|---|---|\n".to_owned();
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for table in &published().tables {
        for row in &table.rows {
            let what = if row.variant.is_empty() { row.on.clone() } else { format!("{}, {}", row.on, row.variant) };
            let figures = ["math500", "aime24", "mean"].into_iter().filter_map(|column| {
                let index = table.columns.iter().position(|name| name == column)?;
                Some(format!("{column} {}", row.values[index]))
            });
            let figures = figures.collect::<Vec<_>>().join(", ");
            let figures = if figures.is_empty() { format!("{} {}", table.columns[0], row.values[0]) } else { figures };
            let measure = if table.measure == "accuracy" { String::new() } else { format!(" ({})", table.measure) };
            let file = match row_config(table, row) {
                RowConfig::Base => "none: no training".to_owned(),
                RowConfig::OwnData => "none: data of your own, `--example FILE`".to_owned(),
                RowConfig::File(name) => match seen.get(&name) {
                    Some(first) => format!("same as {first}: [{name}]({name})"),
                    None => {
                        seen.insert(name.clone(), table.id.clone());
                        format!("[{name}]({name})")
                    }
                },
            };
            let _ = writeln!(text, "| {} | {} | {} | {what} | {figures}{measure} | {file} |", table.id, table.model, table.algorithm);
        }
    }
    text
}
