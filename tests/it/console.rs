//! What people and log collectors see of a run: the opening, the progress and the ending; without colors where nobody looks, quiet if
//! wanted, and as JSON.

use std::process::{Command, Output};

use serde_json::Value;

use crate::fixture::{command, error_of, fail, parse_json_lines, rlvr, stderr, stdout, succeed};

/// A run that takes seconds, with evaluations and a checkpoint.
fn train<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let small = ["train", "--out", out, "--steps", "2", "--set", "eval.limit=20", "--set", "rollout.groups=2", "--device", "cpu"];
    [&small[..], more].concat()
}

/// An evaluation that takes a second.
const EVAL: [&str; 7] = ["eval", "--model", "tiny", "--benchmarks", "tiny", "--limit", "20"];

fn has_escape_codes(text: &str) -> bool {
    text.contains('\u{1b}')
}

/// Parses stderr, each line of which must be a JSON object with a time, a level and a message.
fn json_messages(output: &Output) -> Vec<Value> {
    let lines = parse_json_lines(&stderr(output), "stderr");
    for line in &lines {
        assert!(["timestamp", "level", "message"].iter().all(|key| line[key].is_string()), "{line}");
    }
    lines
}

#[test]
fn train_opens_with_four_lines_and_ends_with_commands_that_run() {
    let folder = tempfile::tempdir().unwrap();
    // A space, so that the commands must be quoted.
    let out = folder.path().join("my run");
    let root = out.to_str().unwrap();
    let output = succeed(&train(root, &["--set", "checkpoint.every=1", "--set", "eval.every=1"]));
    let (messages, tables) = (stderr(&output), stdout(&output));
    let opening = [
        "model      tiny (227,392 parameters), evaluated on tiny every 1 step",
        "example    Compute 334+556. -> 890 (tiny/addition/334+556)",
        "algorithm  grpo, 2 groups x 8 responses, learning rate 0.0001, 2 steps",
        &format!("folder     {root}, on the CPU, f32, plain kernels"),
    ];
    assert!(messages.lines().take(4).eq(opening), "{messages}");
    assert!(messages.lines().nth(4).unwrap().starts_with("base model: tiny-greedy "), "notes are for -v: {messages}");
    assert!(tables.contains("accuracy [95%]") && tables.lines().all(|line| line.chars().count() <= 80), "{tables}");
    assert!(!has_escape_codes(&messages) && !has_escape_codes(&tables), "{messages}");

    let (_, next) = messages.split_once("Next:\n").unwrap_or_else(|| panic!("{messages}"));
    let (report, sample) = next.split_once("\n").unwrap();
    assert!(report.ends_with(&format!("report \"{root}\"")), "{next}");
    let answered = Command::new("sh").args(["-c", sample]).output().unwrap();
    assert!(answered.status.success() && !stdout(&answered).trim().is_empty(), "{sample}: {}", stderr(&answered));
}

#[test]
fn train_prints_a_resume_command_that_runs_after_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("a run");
    let root = out.to_str().unwrap();
    let failing = ["--set", "eval.benchmarks=", "--set", "reward.name=command", "--set", "reward.command=[\"false\"]"];
    let messages = error_of(&rlvr(&train(root, &failing)), 1);
    assert!(messages.contains(&format!(" train --resume \"{root}\"")), "{messages}");
    // The program fails again, but the command itself is complete.
    let resume = messages.split_once("then continue:\n").and_then(|(_, rest)| rest.split_once("\nCause: ")).unwrap().0;
    let resumed = Command::new("sh").args(["-c", resume]).output().unwrap();
    let messages = error_of(&resumed, 1);
    assert!(messages.contains("resumed after step 0"), "{messages}");
}

#[test]
fn quiet_shows_only_warnings_errors_and_results() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (run, loud) = (path("run"), path("loud"));
    let output = succeed(&[&["-q"][..], &train(&run, &[])].concat());
    assert_eq!(stderr(&output), "");
    assert!(stdout(&output).contains("accuracy [95%]"), "{}", stdout(&output));
    let warned = succeed(&[&["--quiet"][..], &train(&loud, &["--set", "loss.kl_estimator=k1", "--set", "eval.benchmarks="])].concat());
    let messages = stderr(&warned);
    assert!(messages.lines().all(|line| line.starts_with("warning: ")) && messages.contains("loss.kl_estimator is k1"), "{messages}");
    assert!(fail(&[&["-q"][..], &train(&run, &[])].concat(), 2).starts_with("error: "), "the folder exists");
    assert!(fail(&["-q", "-v", "train", "--dry-run"], 2).contains("cannot be used with"));
}

#[test]
fn eval_prints_a_line_per_tenth_without_a_terminal() {
    let output = succeed(&EVAL);
    let messages = stderr(&output);
    let progress = messages.lines().filter(|line| line.starts_with("evaluating tiny-greedy "));
    let expected: Vec<String> = (1..=10).map(|tenth| format!("evaluating tiny-greedy {}/20", 2 * tenth)).collect();
    assert!(progress.eq(expected.iter().map(String::as_str)), "{messages}");
    assert!(!has_escape_codes(&messages) && messages.contains("add --out DIR"), "{messages}");
}

#[test]
fn log_format_json_prints_only_json_to_stderr() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (run, scores) = (path("run"), path("scores"));
    let trained = succeed(&[&["--log-format", "json"][..], &train(&run, &["--set", "loss.kl_estimator=k1"])].concat());
    let lines = json_messages(&trained);
    let steps: Vec<&Value> = lines.iter().filter(|line| line["train_accuracy"].is_f64()).collect();
    assert!(steps.iter().map(|line| line["step"].as_u64()).eq([Some(1), Some(2)]), "{lines:?}");
    assert!(lines.iter().any(|line| line["level"] == "WARN" && line["message"].as_str().unwrap().starts_with("loss.kl_estimator is k1")));
    assert!(stdout(&trained).contains("accuracy [95%]"));

    let evaluated = succeed(&[&EVAL[..], &["--out", &scores, "--log-format=json"]].concat());
    let lines = json_messages(&evaluated);
    assert!(lines.iter().any(|line| line["done"] == 20 && line["total"] == 20 && line["work"] == "evaluating tiny-greedy"), "{lines:?}");

    // Events of the log have the same form.
    let verbose = succeed(&["-vv", "--log-format", "json", "eval", "--model", "tiny", "--benchmarks", "tiny", "--limit", "3"]);
    assert!(json_messages(&verbose).iter().any(|line| line["target"].is_string()));

    for (arguments, code, expected) in [
        (&["train", "--resume", "/nonexistent", "--log-format", "json"][..], 2, "there is no such folder"),
        (&["train", "--log-format", "json", "--bogus"], 2, "unexpected argument '--bogus'"),
        (&["--log-format=json", "eval", "--benchmarks", "tiny"], 2, "--model"),
    ] {
        let output = rlvr(arguments);
        let lines = json_messages(&output);
        let is_error = |line: &Value| line["level"] == "ERROR" && line["message"].as_str().unwrap().contains(expected);
        assert!(output.status.code() == Some(code) && lines.iter().any(is_error), "{arguments:?}: {lines:?}");
    }
}

#[test]
fn color_flag_and_variables_decide_about_escape_codes() {
    let help = |variables: &[(&str, &str)], color: &[&str]| {
        let output = command(&[color, &["train", "--help"]].concat()).envs(variables.iter().copied()).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        has_escape_codes(&stdout(&output))
    };
    assert!(!help(&[], &[]), "a pipe has no colors");
    assert!(help(&[], &["--color", "always"]));
    assert!(!help(&[("CLICOLOR_FORCE", "1")], &["--color=never"]));
    assert!(help(&[("CLICOLOR_FORCE", "1")], &[]));

    let error = |variables: &[(&str, &str)], color: &[&str]| {
        let output = command(&[color, &["train", "--resume", "/nonexistent"]].concat()).envs(variables.iter().copied()).output().unwrap();
        let text = error_of(&output, 2);
        assert!(text.contains("error:") && text.contains("there is no such folder"), "{text}");
        has_escape_codes(&text)
    };
    assert!(!error(&[], &[]) && error(&[], &["--color", "always"]));
    assert!(error(&[("CLICOLOR_FORCE", "1")], &[]) && !error(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], &[]));
}

#[test]
fn dry_run_prints_the_question_and_the_answer_as_read() {
    let question = "What is 2+2?\nGive the number.";
    let output = succeed(&["train", "--dry-run", "--model", "tiny", "--question", question, "--answer", "4", "--out", "/nonexistent/run"]);
    let messages = stderr(&output);
    assert!(messages.contains(&format!("question: {question}\nanswer: 4\n")), "{messages}");
    assert!(messages.contains("example    What is 2+2? Give the number. -> 4 (inline)\n"), "{messages}");
    let many = stderr(&succeed(&["train", "--dry-run", "--example", "tiny/train/20", "--out", "/nonexistent/run"]));
    assert!(many.matches("question: ").count() == 5 && many.contains("and 15 examples more"), "{many}");
}

/// Runs the program in a pseudo-terminal of 80 columns and this type. Returns what the terminal received.
#[cfg(target_os = "linux")]
fn in_terminal(kind: &str, arguments: &str) -> String {
    let program = command(&[]).get_program().to_str().unwrap().to_owned();
    let inner = format!("stty cols 80 rows 50; exec {program} {arguments}");
    let mut terminal = Command::new("script");
    terminal.args(["--quiet", "--return", "--command", &inner, "/dev/null"]).stdin(std::process::Stdio::null());
    terminal.env("TERM", kind).env_remove("NO_COLOR").env_remove("CLICOLOR").env_remove("CLICOLOR_FORCE");
    let output = terminal.output().expect("script (of util-linux) is needed to test the display in a terminal");
    assert!(output.status.success(), "{}", stdout(&output));
    stdout(&output)
}

#[cfg(target_os = "linux")]
#[test]
fn terminal_without_a_cursor_gets_lines() {
    let text = in_terminal("dumb", &EVAL.join(" "));
    assert!(text.contains("evaluating tiny-greedy 2/20\r\n") && !has_escape_codes(&text), "{text}");
}

#[cfg(target_os = "linux")]
#[test]
fn terminal_shows_the_runs_of_a_study() {
    let folder = tempfile::tempdir().unwrap();
    // The first evaluation takes long enough on any machine for the display to draw step 0.
    let study = "title = \"Two\"\nseeds = [0, 1]\n[base]\ntrain.steps = 2\neval.limit = 1000\n[[arm]]\nlabel = \"plain\"\n";
    let file = crate::fixture::write_file(folder.path(), "study.toml", study);
    let text = in_terminal("xterm", &format!("study {file} --jobs 2 --out {}", folder.path().join("out").display()));
    let plain = console::strip_ansi_codes(&text).into_owned();
    for shown in ["0/2  2 running", "plain, seed 0: step 0/2", "plain, seed 1: step 0/2", "[2/2] plain, seed "] {
        assert!(plain.contains(shown), "{shown}: {plain}");
    }
    assert!(!plain.contains("started"), "{plain}");
}

/// In a pseudo-terminal, work that lasts is drawn, and no line is wider than the terminal.
#[cfg(target_os = "linux")]
#[test]
fn terminal_shows_the_work_in_lines_that_fit() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    // Evaluations take several seconds on any machine, so that the display has time to draw them.
    let more = "--steps 2 --set eval.limit=1000 --set eval.decoding=t0.6x8 --set rollout.groups=2 --device cpu";
    let text = in_terminal("xterm", &format!("train --out {} {more}", out.display()));
    assert!(has_escape_codes(&text), "the progress is drawn: {text}");
    let plain = console::strip_ansi_codes(&text).into_owned();
    assert!(plain.contains("evaluating tiny-t0.6x8 ") && plain.contains("/8000") && plain.contains(" tokens/s"), "{plain}");
    assert!(plain.contains("0/2"), "{plain}");
    for line in plain.split(['\n', '\r']) {
        // The display pads its first line to the full width, and its second line begins with the spinner.
        let rest: String = line.chars().skip(80).collect();
        assert!(rest.is_empty() || rest.starts_with(|first| "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏".contains(first)), "{line:?}");
    }
}
