//! Runs every command line of `tests/bad_input.tsv` and compares the exit code and the error, word for word.

use std::path::Path;

use crate::fixture::{command, repository, stderr, stdout, succeed, text, write_file};

/// Fewest cases that the table must have.
const FEWEST: usize = 80;

/// Writes the files and the run that the command lines name.
fn prepare(folder: &Path) {
    for (name, content) in [
        ("text.txt", "hello\n"),
        ("bad.jsonl", "{\n"),
        ("empty.jsonl", ""),
        ("unanswered.jsonl", "{\"question\": \"1+1?\"}\n"),
        ("bad.toml", "a = ["),
        ("unknown.toml", "[rollout]\ngroops = 1\n"),
    ] {
        write_file(folder, name, content);
    }
    std::fs::create_dir(folder.join("empty")).unwrap();
    let run = folder.join("run");
    let sets = ["eval.limit=4", "rollout.groups=1", "checkpoint.every=1"].map(|set| ["--set", set]).concat();
    succeed(&[&["train", "--steps", "2", "--out", run.to_str().unwrap()], &sets[..]].concat());
}

/// Returns the error on stderr without the word itself and without clap's pointers to the help, on one line.
fn error_in(stderr: &str) -> String {
    let start = if stderr.starts_with("error: ") { 0 } else { stderr.find("\nerror: ").map_or(0, |at| at + 1) };
    let error = stderr[start..].trim_start_matches("error: ");
    let ends = ["\n\nUsage: ", "\n\nFor more information"].into_iter().filter_map(|tail| error.find(tail));
    error[..ends.min().unwrap_or(error.len())].trim_end().replace('\n', "\\n")
}

#[test]
fn bad_input_gives_the_listed_errors() {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path());
    let table = text(&repository("tests/bad_input.tsv"));
    let lines: Vec<&str> = table.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert!(lines.len() >= FEWEST, "only {} cases", lines.len());
    let mut wrong = String::new();
    for line in lines {
        let [arguments, code, error] = <[&str; 3]>::try_from(line.split('\t').collect::<Vec<_>>()).expect("three columns");
        let output = command(&arguments.split(' ').collect::<Vec<_>>()).current_dir(folder.path()).output().unwrap();
        // Suggested commands start with the program's path, as it was started.
        let error_text = error_in(&stderr(&output)).replace(env!("CARGO_BIN_EXE_rlvr"), "rlvr");
        let found = (output.status.code().map(|code| code.to_string()), error_text);
        if found != (Some(code.to_owned()), error.to_owned()) {
            wrong.push_str(&format!(
                "rlvr {arguments}\n  expected {code}: {error}\n  found    {}\n",
                [found.0.unwrap_or_default(), found.1].join(": ")
            ));
        }
        // Only `verify` prints results before it fails: those of the good lines.
        assert!(stdout(&output).is_empty() || arguments.starts_with("verify"), "rlvr {arguments}: {}", stdout(&output));
    }
    assert!(wrong.is_empty(), "{wrong}");
}
