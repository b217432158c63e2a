//! Tests `rlvr sample`, and the chat templates of the commands that render conversations, through the program.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::fixture::{self, document_list, error_of, fail, rlvr, stderr, stdout, stdout_json, succeed, text, write_file};

/// Writes the embedded model to a folder, without its chat template. Returns the folder's path.
fn without_template(folder: &Path) -> String {
    let path = folder.join("bare");
    let name = path.to_str().unwrap().to_owned();
    succeed(&["init", "--like", "tiny", "--out", &name]);
    let config = path.join("tokenizer_config.json");
    let mut fields = fixture::json(&config);
    assert!(fields.as_object_mut().unwrap().remove("chat_template").is_some());
    std::fs::write(config, fields.to_string()).unwrap();
    name
}

#[test]
fn sample_returns_responses_in_order_with_their_ids() {
    let folder = tempfile::tempdir().unwrap();
    let input = write_file(
        folder.path(),
        "in.jsonl",
        &[
            json!({"id": "long", "prompt": "What is 334+556?", "answer": "890"}),
            json!({"id": 2, "prompt_ids": [52, 25, 220]}),
            json!({"id": ["x"], "messages": [{"role": "user", "content": "What is 334+556?"}]}),
        ]
        .map(|line| format!("{line}\n\n"))
        .concat(),
    );
    let sample = |n: &str| stdout_json(&rlvr(&["sample", "--model", "tiny", "--input", &input, "-n", n, "--max-new-tokens", "40"]));
    let two = sample("2");
    let order: Vec<(Value, u64)> = two.iter().map(|line| (line["id"].clone(), line["sample"].as_u64().unwrap())).collect();
    let ids = [json!("long"), json!(2), json!(["x"])];
    assert_eq!(order, ids.iter().flat_map(|id| [(id.clone(), 0), (id.clone(), 1)]).collect::<Vec<_>>());
    for line in &two {
        let logprobs: Vec<f64> = line["logprobs"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
        assert_eq!(logprobs.len(), line["completion_ids"].as_array().unwrap().len());
        assert!((logprobs.iter().sum::<f64>() - line["sum"].as_f64().unwrap()).abs() < 1e-4, "{line}");
        assert!(["stop", "length"].contains(&line["finish"].as_str().unwrap()));
    }
    // A response depends on its position and the seed, not on the other prompts.
    assert_eq!(sample("1"), two.iter().step_by(2).cloned().collect::<Vec<_>>());
    let alone = stdout_json(&rlvr(&["sample", "--model", "tiny", "--prompt", "What is 334+556?", "--json", "--max-new-tokens", "40"]));
    assert_eq!((&alone[0]["text"], &alone[0]["id"]), (&two[0]["text"], &Value::Null));

    // As text, a single response is streamed and several are numbered. The text is the same.
    let text =
        |n: &str| rlvr(&["sample", "--model", "tiny", "--chat", "--prompt", "What is 334+556?", "-n", n, "--max-new-tokens", "40"]).stdout;
    let (one, many) = (String::from_utf8(text("1")).unwrap(), String::from_utf8(text("2")).unwrap());
    assert_eq!(one, format!("{}\n", two[0]["text"].as_str().unwrap()));
    assert!(many.starts_with(&format!("0:{}", two[0]["text"].as_str().unwrap())) && many.contains("\n1:"), "{many}");
}

#[test]
fn sample_reports_the_file_and_line_of_bad_input() {
    let folder = tempfile::tempdir().unwrap();
    let check = |content: &str, more: &[&str], expected: &str| {
        let input = write_file(folder.path(), "in.jsonl", content);
        let output = rlvr(&[&["sample", "--model", "tiny", "--input", &input], more].concat());
        let error = error_of(&output, 2);
        assert!(error.contains("in.jsonl") && error.contains(expected), "{error}");
        assert!(output.stdout.is_empty());
    };
    check("{\"prompt\": \"a\"}\n\n{\"prompt\": 3}\n", &[], "in.jsonl, line 3: `prompt`: invalid type: integer `3`, expected a string");
    check("{\"prompt\": \"a\"}\n{\"prom", &[], "in.jsonl, line 2: EOF");
    check("{\"prompt\": \"a\", \"prompt_ids\": [1]}", &[], "line 1: expected exactly one of prompt, prompt_ids and messages");
    check("{\"id\": 1}", &[], "line 1: expected exactly one of prompt, prompt_ids and messages");
    check("{\"prompt_ids\": []}", &[], "line 1: the prompt has no tokens");
    check("{\"prompt_ids\": [1, 100000]}", &[], "line 1: token 100000 is beyond the model's vocabulary");
    check("{\"messages\": []}", &[], "line 1: messages is empty");
    check("{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}", &["--raw"], "line 1: messages need the chat template");
    check("{\"prompt\": \"a\"}", &["--max-new-tokens", "100000"], "line 1: a prompt of");
    check("", &[], "has no lines");

    let usage = |arguments: &[&str], expected: &str| {
        let error = fail(&[&["sample", "--model", "tiny"], arguments].concat(), 2);
        assert!(error.contains(expected), "{error}");
    };
    usage(&[], "<--prompt <PROMPT>|--input <FILE>|--interactive>");
    usage(&["--prompt", "a", "--input", "b"], "cannot be used with");
    usage(&["--prompt", "a", "--raw", "--chat"], "cannot be used with");
    usage(&["--prompt", "a", "-n", "0"], "'0' for '-n <N>': it must be a whole number from 1");
    usage(&["--prompt", "a", "--date", "yesterday"], "expected YYYY-MM-DD");
    usage(&["--prompt", "a", "--chat-template", "no-such-file"], "cannot read the chat template no-such-file");
    usage(&["--input", "no-such-file"], "cannot read no-such-file");
}

#[test]
fn sample_does_not_panic_on_a_closed_pipe() {
    let mut command = fixture::command(&["sample", "--model", "tiny", "--prompt", "What is 1+1?", "-n", "4", "--json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let error = error_of(&child.wait_with_output().unwrap(), 1);
    assert!(error.starts_with("error: cannot write to stdout"), "{error}");
}

/// Without a terminal, each line of stdin is a question or a command, and only answers and verdicts are on stdout.
#[test]
fn sample_interactive_answers_each_line() {
    let talk = |lines: &str| {
        let mut command = fixture::command(&["sample", "--model", "tiny", "--interactive", "--max-new-tokens", "40"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        (stdout(&output), stderr(&output))
    };
    let one = |more: &[&str]| {
        stdout(&succeed(&[&["sample", "--model", "tiny", "--max-new-tokens", "40", "--prompt", "What is 334+556?"], more].concat()))
    };
    let (found, errors) = talk("What is 334+556?\n\n/again\nWhat is 334+556?\n/temperature 0\n/n 2\n/again\n/exit\nWhat is 1+1?\n");
    assert_eq!(found, [one(&[]), one(&["--seed", "1"]), one(&[]), one(&["--temperature", "0", "-n", "2", "--seed", "1"])].concat());
    assert_eq!(errors, "");
    let (found, errors) = talk("/again\n/foo\n/gold 890\n/temperature 0\nWhat is 334+556?\n/gold\nWhat is 334+556?");
    let answer = one(&["--temperature", "0"]);
    assert!(found.starts_with(&format!("{answer}wrong (gold 890): ")) && found.ends_with(&format!("\n{answer}")), "{found}");
    assert_eq!(found.lines().count(), 3, "{found}");
    assert!(errors.contains("there is no question to answer again") && errors.contains("unknown command /foo"), "{errors}");
    let (found, errors) = talk(&format!("{}\nWhat is 334+556?\n", "long ".repeat(9000)));
    assert!(found == one(&[]) && errors.contains("exceed the model's context length"), "{found}{errors}");
}

/// Commands that render conversations need a template. Commands on plain text do not.
#[test]
fn chat_template_is_required_for_conversations() {
    let folder = tempfile::tempdir().unwrap();
    let bare = without_template(folder.path());
    let check = |arguments: &[&str]| {
        let error = fail(arguments, 1);
        // A training's opening lines may come first.
        let lines = error.lines().skip_while(|line| !line.starts_with("error: ")).count();
        assert!(error.contains("has no chat template: give one with --chat-template FILE") && (1..=3).contains(&lines), "{error}");
        assert!(error.contains("prompt.chat_template=FILE") && error.contains(&bare), "{error}");
    };
    let run = folder.path().join("run");
    check(&["sample", "--model", &bare, "--prompt", "1+1?"]);
    check(&["eval", "--model", &bare, "--benchmarks", "tiny", "--limit", "1"]);
    check(&["train", "--model", &bare, "--example", "tiny/addition/334+556", "--set", "eval.benchmarks=", "--out", run.to_str().unwrap()]);
    assert!(!run.exists());

    stdout_json(&rlvr(&["sample", "--model", &bare, "--prompt", "1+1=", "--raw", "--json", "--max-new-tokens", "3"]));
    let ids = write_file(folder.path(), "ids.jsonl", "{\"prompt_ids\": [52]}");
    stdout_json(&rlvr(&["sample", "--model", &bare, "--input", &ids, "--max-new-tokens", "3"]));
    let pairs = write_file(folder.path(), "pairs.jsonl", "{\"prompt\": \"1+1\", \"completion\": \"=2\"}");
    stdout_json(&rlvr(&["score", "--model", &bare, "--input", &pairs]));
}

#[test]
fn chat_template_option_is_used_recorded_and_exported() {
    let folder = tempfile::tempdir().unwrap();
    let bare = without_template(folder.path());
    let source = "{{ strftime_now('%Y-%m-%d') }} Q: {{ messages[0].content }}\nA:";
    let template = write_file(folder.path(), "template.jinja", source);
    let json = |more: &[&str]| {
        stdout_json(&rlvr(&[&["sample", "--model", &bare, "--json", "--max-new-tokens", "8", "--temperature", "0"], more].concat()))
    };
    let rendered = json(&["--prompt", "What is 1+1?", "--chat-template", &template, "--date", "2024-07-26"]);
    assert_eq!(rendered, json(&["--prompt", "2024-07-26 Q: What is 1+1?\nA:", "--raw"]));
    let malformed = write_file(folder.path(), "malformed.jinja", "{% if %}");
    let error = fail(&["sample", "--model", &bare, "--prompt", "a", "--chat-template", &malformed], 1);
    assert!(error.contains("the chat template does not parse"), "{error}");
    let eval = ["eval", "--model", &bare, "--benchmarks", "tiny", "--limit", "1", "--chat-template", &template, "--json"];
    assert_eq!(document_list(&rlvr(&eval), "passes").len(), 2);

    // A run records the date in its prompts, and a resumed run keeps it.
    let run = folder.path().join("run");
    let set = format!("prompt.chat_template={template}");
    let train = |date: Option<&str>, out: &Path| {
        let date = date.map(|date| format!("prompt.date={date}"));
        let mut arguments =
            vec!["train", "--model", &bare, "--example", "tiny/addition/334+556", "--steps", "1", "--out", out.to_str().unwrap()];
        for set in [
            "rollout.groups=1",
            "rollout.group_size=2",
            "rollout.max_new_tokens=4",
            "eval.benchmarks=",
            "train.micro_batch_tokens=512",
            &set,
        ] {
            arguments.extend(["--set", set]);
        }
        arguments.extend(date.iter().flat_map(|date| ["--set", date]));
        succeed(&arguments);
    };
    let recorded = |out: &Path| text(&out.join("config.toml"));
    train(Some("2024-07-26"), &run);
    assert!(recorded(&run).contains("date = \"2024-07-26\""), "{}", recorded(&run));
    succeed(&["train", "--resume", run.to_str().unwrap(), "--steps", "2"]);
    assert!(recorded(&run).contains("date = \"2024-07-26\""));
    assert_eq!(text(&run.join("checkpoints/00002/chat_template.jinja")), source);
    let exported = run.join("checkpoints/00002");
    stdout_json(&rlvr(&["sample", "--model", exported.to_str().unwrap(), "--prompt", "What is 1+1?", "--json", "--max-new-tokens", "3"]));

    let today = folder.path().join("today");
    train(None, &today);
    let text = recorded(&today);
    let date = text.lines().find_map(|line| line.strip_prefix("date = ")).unwrap();
    assert!(date.len() == 12 && date.starts_with("\"20"), "{date}");
}
