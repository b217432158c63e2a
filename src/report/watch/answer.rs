//! The answers of the server, as a function from plain requests: the page, its version, and responses as JSON.

use serde_json::json;

use super::pages::{Pages, VERSION};
use crate::report::responses;

/// What a request asks for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The HTTP method.
    pub method: &'a str,
    /// The path, such as `/version`.
    pub path: &'a str,
    /// The query after `?`; empty if there is none.
    pub query: &'a str,
    /// The values of the `Host` header; one in a valid request.
    pub hosts: &'a [&'a str],
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The content type.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

/// Answers a request to the server at `port`. `is_ending` says that the server ends soon, so a new page is made without a pause.
///
/// A page of another site cannot read these answers, unless it gives its own name the address of this machine (DNS rebinding). The browser
/// then sends that name as the `Host`, which is refused here.
pub fn answer(pages: &mut Pages, asked: &Asked, port: u16, is_ending: bool) -> Answer {
    let is_ours = |host: &str| ["127.0.0.1", "localhost", "[::1]"].iter().any(|name| host == format!("{name}:{port}"));
    if !matches!(asked.hosts, [host] if is_ours(host)) {
        return text(403, format!("refused: open http://127.0.0.1:{port}/ instead"));
    }
    if !matches!(asked.method, "GET" | "HEAD") {
        return text(405, format!("{} is not supported: use GET", asked.method));
    }
    match asked.path {
        "/" => Answer { status: 200, content_type: "text/html; charset=utf-8", body: pages.html(is_ending).0.to_owned() },
        VERSION => json_answer(json!({"version": pages.version(is_ending), "ended": is_ending}).to_string()),
        "/responses/index.json" => found(pages.with_run(|run, _| responses::index_json(run))),
        "/responses/problem.json" => match (parameter(asked.query, "pass"), parameter(asked.query, "id")) {
            (Some(pass), Some(id)) => found(pages.with_run(|run, _| responses::problem_json(run, &pass, &id))),
            _ => error(400, "expected /responses/problem.json?pass=PASS&id=ID"),
        },
        "/responses/steps.json" => found(pages.with_run(responses::steps_json)),
        "/responses/rollouts.json" => match parameter(asked.query, "step").and_then(|step| step.parse().ok()) {
            Some(step) => found(pages.with_run(|run, summaries| responses::rollouts_json(run, summaries, step))),
            None => error(400, "expected /responses/rollouts.json?step=STEP, where STEP is a number"),
        },
        path => text(404, format!("there is no {path}; the report is at /")),
    }
}

fn text(status: u16, body: String) -> Answer {
    Answer { status, content_type: "text/plain; charset=utf-8", body: body + "\n" }
}

fn json_answer(body: String) -> Answer {
    Answer { status: 200, content_type: "application/json", body }
}

/// Says as JSON why there are no responses.
fn error(status: u16, reason: &str) -> Answer {
    Answer { status, ..json_answer(json!({"error": reason}).to_string()) }
}

fn found(found: Option<anyhow::Result<String>>) -> Answer {
    match found {
        Some(Ok(body)) => json_answer(body),
        Some(Err(reason)) => error(404, &format!("{reason:#}")),
        None => error(404, "this report is not about a single run that can be read"),
    }
}

/// Returns a decoded parameter of a query.
fn parameter(query: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::comparison::testing::record;
    use crate::report::subject::Subject;

    #[test]
    fn answer_checks_host_and_method() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("run");
        record(&root, |_| {}, "{\"step\":1}\n", &[(0, 1)]);
        let mut pages = Pages::new(Subject::of(&[root])).unwrap();
        let mut check = |method: &str, path: &str, hosts: &[&str], expected: (u16, &str)| {
            let (path, query) = path.split_once('?').unwrap_or((path, ""));
            let found = answer(&mut pages, &Asked { method, path, query, hosts }, 4000, false);
            assert!(found.status == expected.0 && found.body.contains(expected.1), "{method} {path} {hosts:?}: {found:?}");
        };
        for host in ["127.0.0.1:4000", "localhost:4000", "[::1]:4000"] {
            check("GET", "/", &[host], (200, "<!DOCTYPE html>"));
        }
        for hosts in [&["example.com"][..], &["127.0.0.1"], &["127.0.0.1:4001"], &["localhost.:4000"], &[], &["localhost:4000", "x"]] {
            check("GET", "/", hosts, (403, "refused: open http://127.0.0.1:4000/ instead"));
        }
        let ours = &["localhost:4000"];
        check("HEAD", "/version", ours, (200, "\"version\":"));
        check("POST", "/", ours, (405, "POST is not supported"));
        check("GET", "/version?1234", ours, (200, "\"ended\":false"));
        check("GET", "/etc/passwd", ours, (404, "there is no /etc/passwd"));
        check("GET", "/responses/problem.json?pass=tiny-greedy&id=p0", ours, (200, "{"));
        check(
            "GET",
            "/responses/problem.json?pass=tiny-greedy&id=nobody",
            ours,
            (404, "{\"error\":\"the pass tiny-greedy has no response to a problem with the id \\\"nobody\\\"\"}"),
        );
        check("GET", "/responses/problem.json?pass=other&id=p0", ours, (404, "{\"error\":\"the run has no pass"));
        check("GET", "/responses/problem.json?pass=tiny-greedy", ours, (400, "expected /responses/problem.json?pass=PASS&id=ID"));
        check("GET", "/responses/index.json", ours, (200, "\"problems\":"));
        check("GET", "/responses/steps.json", ours, (200, "\"steps\":[]"));
        check("GET", "/responses/rollouts.json?step=1", ours, (404, "{\"error\":\"the run has no rollouts of step 1\"}"));
        for invalid in ["", "?step=", "?step=-1", "?step=one", "?step=1.5"] {
            check("GET", &format!("/responses/rollouts.json{invalid}"), ours, (400, "expected /responses/rollouts.json?step=STEP"));
        }
    }

    #[test]
    fn answer_has_no_responses_of_several_runs() {
        let folder = tempfile::tempdir().unwrap();
        let roots = ["a", "b"].map(|name| folder.path().join(name));
        for root in &roots {
            record(root, |_| {}, "", &[(0, 1)]);
        }
        let mut pages = Pages::new(Subject::of(&roots)).unwrap();
        for path in ["index.json", "steps.json", "rollouts.json?step=1"].map(|name| format!("/responses/{name}")) {
            let (path, query) = path.split_once('?').unwrap_or((path.as_str(), ""));
            let found = answer(&mut pages, &Asked { method: "GET", path, query, hosts: &["localhost:4000"] }, 4000, false);
            let expected = error(404, "this report is not about a single run that can be read");
            assert_eq!(found, expected, "{path}");
        }
    }

    #[test]
    fn parameter_decodes_values() {
        let check = |query: &str, expected: Option<&str>| assert_eq!(parameter(query, "id").as_deref(), expected, "{query}");
        check("pass=a&id=tiny%2Faddition%2F583%2B634", Some("tiny/addition/583+634"));
        check("id=a+b&id=c", Some("a b"));
        check("id=%C3%A9", Some("é"));
        check("id=", Some(""));
        check("id", Some(""));
        check("", None);
        check("pass=1", None);
    }
}
