//! Tests data commands and settings through the program: published files, the user's own sets, example names and the ranking. Tests that
//! need the published files read them from the shared folder, and print a note if it is missing.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::fixture::{self, command, document_list, shared, stdout};

/// Runs the program with a separate cache.
fn rlvr(arguments: &[&str], cache: &Path) -> Output {
    command(arguments).env("RLVR_CACHE", cache).output().unwrap()
}

/// Returns standard output and standard error.
fn outputs(output: &Output) -> (String, String) {
    (stdout(output), fixture::stderr(output))
}

#[test]
fn data_lists_pulls_and_checks_published_files() {
    let cache = tempfile::tempdir().unwrap();
    let check = |arguments: &[&str], code: i32, expected: &[&str]| {
        let output = rlvr(arguments, cache.path());
        let (out, err) = outputs(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {out}{err}");
        expected.iter().for_each(|expected| assert!((out.clone() + &err).contains(expected), "{arguments:?}: {expected:?} in {out}{err}"));
    };
    check(&["data", "list"], 0, &["math500", "675", "avg@8 at 0.6", "missing", "arc_easy", "ypwang61/One-Shot-RLVR", "21ed529"]);
    check(&["data", "pull", "math500"], 1, &["test/math500/test.jsonl is not in the cache", "--data-dir DIR or RLVR_DATA_DIR"]);
    check(&["data", "pull", "maths"], 2, &["unknown data file \"maths\"; expected one of dsr-sub, history, math500"]);
    check(&["data", "check", "aime24"], 1, &["aime24: missing; download it with rlvr data pull aime24", "0 of 1 files"]);
    let corrupt = cache.path().join("data/test/aime24/test.jsonl");
    std::fs::create_dir_all(corrupt.parent().unwrap()).unwrap();
    std::fs::write(&corrupt, "{}").unwrap();
    check(&["data", "check", "aime24"], 1, &["is not the published file: sha256"]);

    let Some(folder) = shared("data") else { return };
    let folder = folder.to_str().unwrap();
    let rows = ["math500: 500 rows", "aime24: 30", "aime25: 30", "amc23: 40", "minerva_math: 272", "olympiadbench: 675", "history: 1209"];
    let files = rlvr::data::registry::all().len();
    let all = format!("{files} of {files} files match the published checksums");
    check(&["data", "check", "--data-dir", folder], 0, &[&rows[..], &["dsr-sub: 1209 rows", &all]].concat());
    check(&["data", "list", "--json", "--data-dir", folder], 0, &[r#""name":"math500""#, "35dc41080a36", r#""state":"in the folder""#]);
    check(&["data", "pull", "paper", "--data-dir", folder], 0, &["olympiadbench/test.jsonl"]);
}

#[test]
fn select_reproduces_the_published_ranking() {
    let Some(folder) = shared("data") else { return };
    let output = rlvr(&["select", "--json", "--data-dir", folder.to_str().unwrap()], &folder);
    let lines = document_list(&output, "examples");
    assert_eq!(lines.len(), 1209);
    let indices = [124, 267, 531, 931, 212, 25, 568, 131, 649, 724, 875, 925, 682, 100, 291, 50, 870];
    let others = [(605, 60), (606, 906), (1201, 847), (1207, 174), (1208, 770), (1209, 789)];
    for (rank, index) in (1..).zip(indices).chain(others) {
        let line = &lines[rank - 1];
        assert_eq!((line["index"].as_u64(), line["example"].as_str()), (Some(index), Some(format!("pi{rank}").as_str())), "{line}");
    }
    // A user's history has only indices. The published one has example names too, even if it is given by path.
    let own = tempfile::tempdir().unwrap();
    let path = own.path().join("history.json");
    std::fs::write(&path, r#"{"7": [0.5, 0.5], "3": [0.0, 1.0]}"#).unwrap();
    let (out, err) = outputs(&rlvr(&["select", "--history", path.to_str().unwrap(), "--top", "1", "--json"], own.path()));
    assert_eq!(out, "{\"examples\":[{\"deviation\":0.5,\"epochs\":2,\"index\":3,\"mean\":0.5,\"rank\":1}]}\n", "{err}");
    let published = folder.join("train/acc_step_500.json");
    let (out, _) = outputs(&rlvr(&["select", "--history", published.to_str().unwrap(), "--top", "2"], own.path()));
    let cells: Vec<&str> = out.lines().nth(3).unwrap().split_whitespace().collect();
    assert_eq!(cells[..3], ["2", "pi2,", "267"], "{out}");
}

/// `select --run` ranks the examples of a run, and `train` accepts the name of the first.
#[test]
fn select_ranks_the_examples_of_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let run = run.to_str().unwrap();
    let small = ["rollout.groups=4", "rollout.group_size=4", "eval.benchmarks=", "loss.kl=0"].map(|set| ["--set", set]).concat();
    let train = ["train", "-v", "--example", "tiny/train/4", "--steps", "3", "--out", run];
    let output = rlvr(&[&train[..], &small].concat(), folder.path());
    let (_, err) = outputs(&output);
    assert!(output.status.success() && err.contains("4 examples x 1 group x 4 responses = 16 rollouts per step"), "{err}");
    let lines = document_list(&rlvr(&["select", "--run", run, "--json"], folder.path()), "examples");
    assert!(lines.len() == 4 && lines.iter().all(|line| line["epochs"] == 3), "{lines:?}");
    let deviations: Vec<f64> = lines.iter().map(|line| line["deviation"].as_f64().unwrap()).collect();
    assert!(deviations.is_sorted_by(|one, other| one >= other), "{deviations:?}");
    let first = lines[0]["example"].as_str().unwrap();
    let output = rlvr(&["train", "--example", first, "--dry-run"], folder.path());
    assert!(output.status.success(), "{first}: {}", outputs(&output).1);
    let none = rlvr(&["select", "--run", "none"], folder.path());
    assert!(none.status.code() == Some(2) && outputs(&none).1.contains("none is not a run folder"), "{}", outputs(&none).1);
}

#[test]
fn train_prints_how_examples_fill_a_batch() {
    let cache = tempfile::tempdir().unwrap();
    let check = |arguments: &[&str], expected: &str| {
        let output = rlvr(&[&["train", "--dry-run", "-v"], arguments].concat(), cache.path());
        let (out, err) = outputs(&output);
        assert!(output.status.success() && err.contains(expected), "{arguments:?}: {err}");
        out
    };
    let out = check(
        &["--question", "What is 6*7?", "--answer", "42"],
        "1 example x 8 groups x 8 responses = 64 rollouts per step (inline: \"What is 6*7?\", 42)",
    );
    // The printed settings reproduce the run.
    let config = cache.path().join("config.toml");
    std::fs::write(&config, &out).unwrap();
    assert_eq!(check(&["--config", config.to_str().unwrap()], "(inline: \"What is 6*7?\", 42)"), out);
    check(
        &["--question", "2-3?", "--answer", "-1", "--set", "rollout.groups=128"],
        "1 example x 128 groups x 8 responses = 1024 rollouts per step",
    );
    for half in [&["--question", "q"], &["--answer", "1"]] {
        assert_eq!(rlvr(&[&["train", "--dry-run"], &half[..]].concat(), cache.path()).status.code(), Some(2));
    }

    let Some(folder) = shared("data") else { return };
    let data = ["--data-dir", folder.to_str().unwrap(), "--set", "eval.benchmarks=", "--set", "rollout.groups=128", "--model", "tiny"];
    let checked = |example: &str, expected: &str| {
        let short = ["--set", "rollout.max_new_tokens=8", "--example", example];
        check(&[&data[..], &short].concat(), expected)
    };
    checked("pi1", "1 example x 128 groups x 8 responses = 1024 rollouts per step (pi1: \"The pressure");
    checked("pi1,pi13", "2 examples x 64 groups x 8 responses = 1024 rollouts per step");
    checked("pi1..pi16", "16 examples x 8 groups x 8 responses = 1024 rollouts per step");
    checked("pi1,pi2,pi13", "3 examples in turn on 128 groups x 8 responses = 1024 rollouts per step");
    checked("dsr-sub", "1208 examples in turn on 128 groups x 8 responses = 1024 rollouts per step");
    checked("dsr-sub/124", "1 example x 128 groups");
    let parquet = folder.join("train/merge_pi1_pi13_r128.parquet");
    checked(parquet.to_str().unwrap(), "2 examples x 64 groups x 8 responses = 1024 rollouts per step");
}

#[test]
fn eval_combines_benchmark_files_with_known_sets() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("sums.jsonl");
    std::fs::write(&own, "{\"question\": \"Compute 334+556.\", \"answer\": 890}\n{\"question\": \"Compute 1+1.\", \"answer\": \"2\"}\n")
        .unwrap();
    let own = own.to_str().unwrap();
    let output =
        rlvr(&["eval", "--model", "tiny", "--benchmark-file", own, "--benchmarks", "tiny", "--limit", "2", "--json"], folder.path());
    let lines = document_list(&output, "passes");
    let sets: Vec<&str> = lines.iter().map(|line| line["set"].as_str().unwrap()).collect();
    assert_eq!(sets, ["tiny", "tiny", "sums"], "{lines:?}");
    assert_eq!((&lines[2]["score"]["problems"], &lines[2]["published"]), (&Value::from(2), &Value::Null), "{lines:?}");
    let none = rlvr(&["eval", "--model", "tiny"], folder.path());
    assert_eq!(none.status.code(), Some(2), "{}", outputs(&none).1);
    let twice = rlvr(&["eval", "--model", "tiny", "--benchmark-file", own, "--benchmark-file", own], folder.path());
    assert!(twice.status.code() == Some(2) && outputs(&twice).1.contains("a set named sums is already selected"), "{}", outputs(&twice).1);
}

/// Editors and exporters write byte order marks, line separators and Windows line ends.
#[test]
fn commands_accept_byte_order_marks_and_line_separators() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("\u{FEFF}{text}\u{2028}\r\n\u{2029}\r\n")).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let check = |arguments: &[&str], expected: &str| {
        let (out, err) = outputs(&rlvr(arguments, folder.path()));
        assert!((out.clone() + &err).contains(expected), "{arguments:?}: {out}{err}");
    };
    let sample = write("sample.jsonl", "{\"id\": 1, \"prompt\": \"Compute 3+4.\"}");
    check(&["sample", "--model", "tiny", "--input", &sample, "--max-new-tokens", "2"], "\"completion_ids\":[");
    let score = write("score.jsonl", "{\"id\": 1, \"prompt\": \"Compute 3+4.\", \"completion\": \" 7\"}");
    check(&["score", "--model", "tiny", "--input", &score], "\"logprobs\":[-");
    let verify = write("verify.jsonl", "{\"id\": 1, \"gold\": \"7\", \"response\": \"\\\\boxed{7}\"}");
    check(&["verify", "--input", &verify], "\"correct\":true");
    let example = write("example.json", "{\"question\": \"q\", \"answer\": 7}");
    check(&["train", "--dry-run", "-v", "--model", "tiny", "--example", &example], "(example: \"q\", 7)");
    let config = write("config.toml", "seed = 5");
    check(&["train", "--dry-run", "--config", &config], "seed = 5");
    let history = write("history.json", "{\"7\": [0.5, 0.5], \"3\": [0.0, 1.0]}");
    check(&["select", "--history", &history, "--top", "1", "--json"], "\"index\":3");
    let utf_16 = folder.path().join("utf16.jsonl");
    std::fs::write(&utf_16, [0xFF, 0xFE, b'{', 0]).unwrap();
    check(&["verify", "--input", utf_16.to_str().unwrap()], "utf16.jsonl, line 1 is UTF-16 text, expected UTF-8");
}

/// A compressed file can expand to more than a machine's memory, so a line is read only up to the limit.
#[test]
fn commands_reject_an_endless_line() {
    use std::io::Write;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blank.jsonl.gz");
    let mut encoder = flate2::write::GzEncoder::new(std::fs::File::create(&path).unwrap(), flate2::Compression::fast());
    let blank = vec![b' '; 1 << 20];
    (0..65).for_each(|_| encoder.write_all(&blank).unwrap());
    encoder.finish().unwrap();
    let path = path.to_str().unwrap();
    for arguments in [vec!["train", "--replay", path], vec!["score", "--model", "tiny", "--input", path], vec!["verify", "--input", path]] {
        let output = rlvr(&arguments, folder.path());
        let (_, err) = outputs(&output);
        assert!(err.contains("blank.jsonl.gz, line 1 is longer than the limit of 67108864 bytes"), "{arguments:?}: {err}");
    }
}

#[test]
fn verify_reads_every_kind_of_gold_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("verify.jsonl");
    let check = |gold: &str, answer: &str, expected: &str| {
        std::fs::write(&path, format!("{{\"id\": 1, \"gold\": {gold}, \"response\": \"\\\\boxed{{{answer}}}\"}}")).unwrap();
        let (out, err) = outputs(&rlvr(&["verify", "--input", path.to_str().unwrap()], folder.path()));
        assert!(out.contains(expected), "{gold}: {out}{err}");
    };
    check("7", "7", "\"correct\":true");
    check("7.0", "7", "\"correct\":true,\"extracted\":\"7\",\"extraction\":\"boxed\",\"id\":1,");
    check("123456789012345678901234567890", "123456789012345678901234567890", "\"correct\":true");
    check("123456789012345678901234567890", "123456789012345678901234567891", "\"correct\":false");
    check("[\"8\", 7]", "7", "\"correct\":true");
    check("\"['70']\"", "70", "\"correct\":true");
    check("true", "1", "line 1: `gold` is true (true or false); expected text, a number, or a list");
    check("null", "1", "line 1: `gold` is null, which contains no answer");
    check("{\"a\": 1}", "1", "line 1: `gold` is an object with the fields a; expected");
}

#[test]
fn train_prints_which_answers_were_converted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    let check = |rows: &[&str], expected: &[&str]| {
        std::fs::write(&path, rows.join("\n")).unwrap();
        let output = rlvr(&["train", "--dry-run", "-v", "--model", "tiny", "--example", path.to_str().unwrap()], folder.path());
        let (_, err) = outputs(&output);
        assert!(output.status.success() && expected.iter().all(|expected| err.contains(expected)), "{rows:?}: {err}");
    };
    check(
        &[r#"{"question": "Natalia?", "answer": "48+24 = <<48+24=72>>72.\n#### 72"}"#],
        &[
            "a.jsonl: 1 of 1 rows have a worked solution as their answer; the text after #### or in the last box is used",
            "\"Natalia?\", 72)",
        ],
    );
    check(
        &[r#"{"question": "q", "answer": "['70', '71']"}"#],
        &["1 of 1 rows have several answers, any of which is correct", "\"q\", 70 or 71)"],
    );
    check(&[r#"{"question": "q", "answer": 12345678901234567890123}"#], &["\"q\", 12345678901234567890123)"]);
}
