//! Tests `rlvr eval --endpoint` through the program.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rlvr::checkpoint::Model;
use rlvr::flow::FinishReason;
use rlvr::interrupt::Interrupt;
use rlvr::kernels::Filter;
use rlvr::rng::Purpose;
use rlvr::rollout::limits::EngineSettings;
use rlvr::rollout::{Engine, Request, SamplingSettings};
use rlvr::tiny::embedded;
use rlvr::workers::Workers;
use serde_json::{Value, json};

use super::server::{Reaction, Received, Server};
use crate::fixture::{self, command, error_of, files, stderr};

/// Returns a command that evaluates thirty problems against a local test server.
fn eval(server: &Server, out: &Path, more: &[&str]) -> Command {
    let folder = out.to_str().unwrap();
    let mut command =
        command(&[&["eval", "--endpoint", &server.address, "--benchmarks", "tiny", "--limit", "30", "--out", folder], more].concat());
    command.env("NO_PROXY", "127.0.0.1");
    command
}

fn succeed(mut command: Command) -> Output {
    let output = command.output().unwrap();
    error_of(&output, 0);
    output
}

fn fail(mut command: Command, code: i32) -> String {
    error_of(&command.output().unwrap(), code)
}

/// Returns the files of a folder as text.
fn contents(folder: &Path) -> BTreeMap<String, String> {
    files(folder).into_iter().map(|(name, bytes)| (name, String::from_utf8(bytes).unwrap())).collect()
}

/// Responds to requests with the embedded model.
struct Served {
    model: Model,
    workers: Workers,
}

impl Served {
    fn new() -> Self {
        Self { model: embedded::load().unwrap(), workers: Workers::new(1).unwrap() }
    }

    fn answer(&self, received: &Received) -> Reaction {
        let (Model { decoder, text, end_tokens, .. }, body) = (&self.model, &received.body);
        let ids: Arc<[u32]> = text.encode(&received.prompt()).unwrap().into();
        let (prompt_tokens, seed) = (ids.len(), body["seed"].as_u64().unwrap());
        let max_new_tokens = body["max_tokens"].as_u64().unwrap() as usize;
        let request = Request { ids, max_new_tokens, purpose: Purpose::Evaluation, step: 0, prompt: 0, sample: 0 };
        let sampling = SamplingSettings {
            temperature: body["temperature"].as_f64().unwrap() as f32,
            filter: Filter::default(),
            records_sampling_mask: false,
            seed,
        };
        let settings = &EngineSettings::default();
        let engine = Engine {
            decoder,
            workers: &self.workers,
            settings,
            end_tokens,
            vocabulary: text.vocabulary(),
            interrupt: &Interrupt::default(),
        };
        let completion = engine.generate(&[request], &sampling, &|_| {}).unwrap().remove(0);
        let finish = if completion.finish == FinishReason::Stop { "stop" } else { "length" };
        Reaction::Body(json!({
            "choices": [{"index": 0, "text": text.decode(&completion.ids).unwrap(), "finish_reason": finish}],
            "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": completion.ids.len()},
        }))
    }
}

#[test]
fn eval_endpoint_matches_the_scores_of_the_local_model() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    let out = here.to_str().unwrap();
    fixture::succeed(&["eval", "--model", "tiny", "--benchmarks", "tiny", "--limit", "30", "--max-new-tokens", "60", "--out", out]);
    let served = Served::new();
    let server = Server::new(move |received| served.answer(received));
    let output = succeed(eval(&server, &there, &["--model", "tiny", "--max-new-tokens", "60"]));
    let (here, there) = (contents(&here), contents(&there));
    assert_eq!(there["tiny-greedy.jsonl"], here["tiny-greedy.jsonl"]);
    assert_eq!(there["tiny-t0.6x1.jsonl"].lines().count(), 30);
    // The conditions are the same, except for the generator.
    let conditions = |files: &BTreeMap<String, String>| serde_json::from_str::<Value>(&files["conditions.json"]).unwrap();
    let (here, there) = (&conditions(&here)["tiny-greedy"], &conditions(&there)["tiny-greedy"]);
    for name in ["template", "problems_sha256", "grader_version", "max_new", "seed"] {
        assert_eq!(here[name], there[name], "{name}");
    }
    assert_eq!(there["device"], json!(format!("{}/v1/completions", server.address)));
    let messages = stderr(&output);
    assert!(!messages.contains("a different number of tokens"), "{messages}");
}

#[test]
fn eval_endpoint_reports_failures_and_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, partial) = (folder.path().join("whole"), folder.path().join("partial"));
    let works = Arc::new(AtomicBool::new(true));
    let (server_works, first_prompt) = (works.clone(), Mutex::new(None));
    // While the fault is on, the server rejects the first prompt that it received, with any seed.
    let server = Server::new(move |received| {
        let server_works = server_works.load(Ordering::Relaxed);
        let first_prompt = first_prompt.lock().unwrap().get_or_insert_with(|| received.prompt()).clone();
        if !server_works && received.prompt() == first_prompt {
            Reaction::Status(400, "", "{\"message\": \"cannot\"}")
        } else {
            Reaction::Text("\\boxed{12}".into())
        }
    });
    succeed(eval(&server, &whole, &["--model", "tiny", "--endpoint-concurrency", "1"]));
    let whole = contents(&whole);
    let all = server.received().len();
    assert_eq!(all, 60);

    works.store(false, Ordering::Relaxed);
    let error = fail(eval(&server, &partial, &["--model", "tiny"]), 1);
    let first: Value = serde_json::from_str(whole["tiny-greedy.jsonl"].lines().next().unwrap()).unwrap();
    let id = first["id"].as_str().unwrap();
    let expected = format!(
        "(run the same command with --resume to retry the rest): 2 of 60 requests have no response, all others are complete; \
         failed: {id}, sample 0 (400 Bad Request: cannot); {id}, sample 0 (400 Bad Request: cannot)\n"
    );
    assert!(error.ends_with(&expected), "{error}");
    let stored: usize = contents(&partial).iter().filter(|(name, _)| name.contains("jsonl")).map(|(_, text)| text.lines().count()).sum();
    assert_eq!(stored, 58);

    works.store(true, Ordering::Relaxed);
    succeed(eval(&server, &partial, &["--model", "tiny", "--resume"]));
    assert_eq!(server.received().len(), all + 60 + 2);
    assert_eq!(contents(&partial), whole);
}

#[test]
fn eval_endpoint_sends_keys_names_and_chats() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(|_| Reaction::Text("\\boxed{12}".into()));
    let last = || server.received().pop().unwrap();
    let run = |name: &str, more: &[&str], key: (&str, &str)| {
        let mut command = eval(&server, &folder.path().join(name), more);
        command.env(key.0, key.1);
        stderr(&succeed(command))
    };
    let messages = run("plain", &["--model", "tiny", "--endpoint-model", "mine"], ("OPENAI_API_KEY", "first"));
    assert_eq!((&last().body["model"], last().authorization.as_deref()), (&json!("mine"), Some("Bearer first")));
    assert!(!messages.contains("the server writes"), "{messages}");
    run("key", &["--model", "tiny", "--endpoint-key-env", "OTHER"], ("OTHER", "second"));
    assert_eq!(last().authorization.as_deref(), Some("Bearer second"));
    run("chat", &["--model", "tiny", "--endpoint-chat"], ("OPENAI_API_KEY", ""));
    assert_eq!((last().path.as_str(), last().authorization), ("/v1/chat/completions", None));
    assert!(last().body["stop_token_ids"].is_array() && last().prompt().ends_with(['?', '.']), "{}", last().body);
    let messages = run("unknown", &["--model", "some-model"], ("OPENAI_API_KEY", ""));
    assert!(messages.contains("some-model is neither a folder nor a name on the hub: the server writes the prompts"), "{messages}");
    assert_eq!((last().path.as_str(), &last().body["model"]), ("/v1/chat/completions", &json!("some-model")));
    assert!(last().body.get("stop_token_ids").is_none());
}

#[test]
fn eval_endpoint_reports_wrong_usage_before_sending() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(|_| Reaction::Text(String::new()));
    let check = |more: &[&str], code: i32, expected: &str| {
        let error = fail(eval(&server, &folder.path().join("none"), more), code);
        assert!(error.contains(expected), "{error}");
    };
    check(&["--model", "tiny", "--endpoint-key-env", "NO_SUCH_KEY"], 2, "NO_SUCH_KEY is not set");
    check(&["--model", "tiny", "--endpoint-concurrency", "0"], 2, "it must be a whole number from 1 to 10000");
    check(&["--model", "tiny", "--max-new-tokens", "100000"], 2, "leave no room for a prompt");
    check(&["--model", "tiny", "--device", "cpu"], 2, "cannot be used with");
    check(&["--model", "some/model"], 1, "let the server write them with --endpoint-chat");
    let template = folder.path().join("template.jinja");
    std::fs::write(&template, "{{ messages }}").unwrap();
    check(
        &["--model", "tiny", "--endpoint-chat", "--chat-template", template.to_str().unwrap()],
        2,
        "configure the template on the server",
    );
    let error = fixture::fail(&["eval", "--model", "tiny", "--benchmarks", "tiny", "--endpoint-chat"], 2);
    assert!(error.contains("--endpoint <URL>"), "{error}");
    assert!(server.received().is_empty() && !folder.path().join("none").exists());
}

/// In errors and warnings, a server's message cannot control the terminal, and a key in it is hidden.
#[test]
fn eval_endpoint_strips_control_characters_from_server_messages() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(|received| {
        let key = received.authorization.clone().unwrap_or_default();
        // First attempts are retried, which logs a warning.
        let status = if received.before == 0 { 500 } else { 401 };
        Reaction::StatusFor(status, String::new(), format!("{{\"error\": \"\\u001b[2J\\u001b]0;title\\u0007 {key}\"}}"))
    });
    let mut command = eval(&server, &folder.path().join("out"), &["--model", "tiny"]);
    command.env("OPENAI_API_KEY", "secret-key");
    let messages = fail(command, 1);
    assert!(
        messages.contains("401 Unauthorized") && messages.contains("a request failed, retrying") && messages.contains("[the API key]"),
        "{messages}"
    );
    assert!(!messages.contains('\u{1b}') && !messages.contains('\u{7}') && !messages.contains("secret-key"), "{messages:?}");
}
