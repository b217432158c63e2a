//! Tests the server of reports: what it serves while a run starts, writes and ends, and what it refuses.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStderr, Stdio};

use serde_json::Value;

use crate::fixture::{command, signal, succeed, text, wait_for};

/// A program that serves a report, and its messages.
struct Served {
    child: Child,
    messages: BufReader<ChildStderr>,
    /// Such as `127.0.0.1:4000`.
    address: String,
}

impl Served {
    /// Starts the program, and reads its messages up to the address.
    fn start(arguments: &[&str]) -> Self {
        let mut child = command(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let messages = BufReader::new(child.stderr.take().unwrap());
        let mut served = Self { child, messages, address: String::new() };
        let mut seen = String::new();
        while served.address.is_empty() {
            let mut line = String::new();
            assert!(served.messages.read_line(&mut line).unwrap() > 0, "no address in: {seen}");
            let address = line.split_once("http://").and_then(|(_, rest)| rest.split('/').next());
            served.address = address.unwrap_or_default().to_owned();
            seen += &line;
        }
        served
    }

    /// Sends a request. Returns the status and the body.
    fn ask(&self, method: &str, path: &str, host: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn get(&self, path: &str) -> String {
        let (status, body) = self.ask("GET", path, &self.address);
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    fn version(&self) -> Value {
        serde_json::from_str(&self.get("/version")).unwrap()
    }

    /// Waits for the end. Returns the exit code and the remaining messages.
    fn end(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.messages.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

fn train(out: &Path, more: &[&str]) -> Vec<String> {
    let base = ["train", "--steps", "2", "--set", "eval={every=1,limit=20}", "--out", out.to_str().unwrap()];
    base.iter().chain(more).map(|one| (*one).to_owned()).collect()
}

#[test]
fn report_watch_follows_a_run_and_refuses_other_hosts() {
    let folder = tempfile::tempdir().unwrap();
    let [made, root] = ["made", "run"].map(|name| folder.path().join(name));
    succeed(&train(&made, &[]).iter().map(String::as_str).collect::<Vec<_>>());

    let served = Served::start(&["report", "--watch", root.to_str().unwrap()]);
    assert!(served.address.starts_with("127.0.0.1:"), "{}", served.address);
    let page = served.get("/");
    assert!(page.contains("nothing to report yet") && page.contains("connect-src 'self'"), "{page}");
    let waiting = served.version();
    assert_eq!(waiting["ended"], false);

    // The run appears.
    fs::rename(&made, &root).unwrap();
    wait_for("a new version", || served.version() != waiting);
    wait_for("the page of the run", || !served.get("/").contains("nothing to report yet"));
    let complete = served.version();
    let shown = format!("data-watch=\"/version?{}\"", complete["version"].as_str().unwrap());
    assert!(served.get("/").contains(&shown), "the page names its version");

    // The run writes another step, and is in the middle of the next one.
    let mut lines = text(&root.join("metrics.jsonl"));
    lines += &lines.lines().last().unwrap().replace("\"step\":2", "\"step\":3");
    fs::write(root.join("metrics.jsonl"), lines + "\n{\"step\":4,\"tra").unwrap();
    wait_for("a version after the step", || served.version() != complete);

    let index: Value = serde_json::from_str(&served.get("/responses/index.json")).unwrap();
    let problem = &index["problems"][0];
    let pass = index["passes"][problem["pass"].as_u64().unwrap() as usize].as_str().unwrap();
    let id: String = problem["id"].as_str().unwrap().bytes().map(|byte| format!("%{byte:02x}")).collect();
    let problem: Value = serde_json::from_str(&served.get(&format!("/responses/problem.json?pass={pass}&id={id}"))).unwrap();
    assert!(problem["samples"].as_array().is_some_and(|samples| !samples.is_empty()), "{problem}");

    assert!(!page.contains("id=\"responses-0\"") && !served.get("/").contains("id=\"rollouts-1\""), "responses stay on the server");
    let steps: Value = serde_json::from_str(&served.get("/responses/steps.json")).unwrap();
    assert_eq!(steps["steps"], serde_json::json!([1, 2]));
    let rollouts: Value = serde_json::from_str(&served.get("/responses/rollouts.json?step=2")).unwrap();
    assert!(rollouts["summary"]["step"] == 2 && rollouts["rollouts"].as_array().is_some_and(|all| !all.is_empty()), "{rollouts}");
    for (path, expected) in [
        ("rollouts.json?step=7", "the run has no rollouts of step 7; the nearest recorded step is 2"),
        ("problem.json?pass=other&id=x", "the run has no pass \"other\"; expected one of "),
        (&format!("problem.json?pass={pass}&id=x"), "has no response to a problem with the id \"x\""),
    ] {
        let (status, body) = served.ask("GET", &format!("/responses/{path}"), &served.address);
        let error: Value = serde_json::from_str(&body).unwrap();
        assert!(status == 404 && error["error"].as_str().is_some_and(|text| text.contains(expected)), "{path}: {status} {body}");
    }

    let port = served.address.split(':').next_back().unwrap();
    for (method, path, host, expected) in [
        ("GET", "/", "example.com".to_owned(), 403),
        ("GET", "/version", format!("example.com:{port}"), 403),
        ("GET", "/version", format!("localhost:{port}"), 200),
        ("POST", "/", served.address.clone(), 405),
        ("GET", "/../config.toml", served.address.clone(), 404),
    ] {
        assert_eq!(served.ask(method, path, &host).0, expected, "{method} {path} {host}");
    }
    signal(&served.child, "INT");
    assert_eq!(served.end().0, Some(130));
}

#[test]
fn train_report_serves_until_the_run_ends_and_writes_the_report() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("run");
    let served = Served::start(&train(&root, &["--report"]).iter().map(String::as_str).collect::<Vec<_>>());
    assert!(served.get("/").contains("data-watch="));
    // Asking for the version is what an open page does; the server waits until the page has got the final state.
    wait_for("the end of the run", || served.version()["ended"] == true);
    let last = served.get("/");
    let (code, messages) = served.end();
    let written = root.join("report.html");
    assert!(code == Some(0) && messages.contains(&format!("it is in {}", written.display())), "{code:?} {messages}");
    let page = text(&written);
    assert!(page.contains("<meta name=\"generator\" content=\"rlvr ") && !page.contains("data-watch"));
    let title = |page: &str| page.split("<title>").nth(1).and_then(|rest| rest.split("</title>").next()).map(str::to_owned);
    assert_eq!(title(&last), title(&page));
}
