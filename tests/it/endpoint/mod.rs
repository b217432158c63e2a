//! Tests requests to a server that is slow, busy, drops connections or fails permanently: no request is lost, and failures are reported.

mod program;
pub mod server;

use std::collections::BTreeMap;
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

use rlvr::eval::{Endpoint, EndpointSettings, EvalRequest, FailedRequests, GenerationConfig, Generator, Prompts, Response};
use rlvr::flow::{FinishReason, Problem};
use rlvr::interrupt::Interrupted;
use rlvr::text::ChatSettings;
use rlvr::tiny::embedded;
use serde_json::json;
use server::{Reaction, Received, Server, completion};

const GREEDY: GenerationConfig = GenerationConfig { temperature: 0.0, top_p: 1.0, max_new_tokens: 20, seed: 5 };
const SAMPLED: GenerationConfig = GenerationConfig { temperature: 0.6, ..GREEDY };

/// Returns `samples` requests for each of the problems `p0`, `p1`, ..., whose answers are their numbers.
fn requests(problems: u32, samples: u32) -> Vec<EvalRequest> {
    let problem = |number: u32| Problem {
        id: format!("p{number}"),
        question: format!("Compute {number}+0."),
        answer: number.to_string(),
        ..Problem::default()
    };
    let of = |number: u32| {
        let problem = Arc::new(problem(number));
        (0..samples).map(move |sample| EvalRequest { problem: problem.clone(), number, sample })
    };
    (0..problems).flat_map(of).collect()
}

/// The response of a server that can add.
fn add(received: &Received) -> Reaction {
    let prompt = received.prompt();
    Reaction::Text(format!("It is {}", prompt.split_once("Compute ").unwrap().1.split_once('+').unwrap().0))
}

fn settings(server: &Server) -> EndpointSettings {
    EndpointSettings {
        url: server.address.clone(),
        model: "served".into(),
        concurrency: 4,
        timeout: Duration::from_secs(60),
        retries: 3,
        initial_backoff: Duration::from_millis(10),
        ..EndpointSettings::default()
    }
}

fn rendered() -> Prompts {
    Prompts::Rendered(embedded::text_with(&ChatSettings::default()).unwrap())
}

/// The responses by index of the request, and the error, if any.
struct Outcome {
    responses: BTreeMap<usize, Response>,
    error: Option<anyhow::Error>,
}

impl Outcome {
    /// Asserts that every request got the correct response.
    fn assert_complete(&self, requests: &[EvalRequest]) {
        assert!(self.error.is_none(), "{:?}", self.error);
        assert_eq!(self.responses.len(), requests.len());
        for (number, answered) in &self.responses {
            let expected = format!("It is {}", requests[*number].number);
            assert_eq!(*answered, Response { text: expected, tokens: 3, finish: Some(FinishReason::Stop) });
        }
    }

    fn failures(&self) -> &FailedRequests {
        self.error.as_ref().unwrap().downcast_ref().unwrap()
    }
}

fn generate(settings: EndpointSettings, prompts: Prompts, requests: &[EvalRequest], generation: &GenerationConfig) -> Outcome {
    let endpoint = Endpoint::new(settings, prompts).unwrap();
    let responses = Mutex::new(BTreeMap::new());
    let error = endpoint.generate(requests, generation, &|number, answered| {
        assert!(responses.lock().unwrap().insert(number, answered).is_none(), "{number} was answered twice");
        Ok(())
    });
    Outcome { responses: responses.into_inner().unwrap(), error: error.err() }
}

#[test]
fn endpoint_sends_the_rendered_prompts_and_sampling_settings() {
    let server = Server::new(add);
    let requests = requests(3, 2);
    let key = Some("secret".to_owned());
    let outcome = generate(EndpointSettings { key, ..settings(&server) }, rendered(), &requests, &SAMPLED);
    outcome.assert_complete(&requests);
    let received = server.received();
    let text = embedded::text_with(&ChatSettings::default()).unwrap();
    let mut expected: Vec<String> = requests.iter().map(|request| text.text.prompt(request.problem.clone(), "").unwrap().text).collect();
    let mut got: Vec<String> = received.iter().map(Received::prompt).collect();
    expected.sort();
    got.sort();
    assert_eq!(got, expected);
    let mut seeds: Vec<u64> = received.iter().map(|received| received.body["seed"].as_u64().unwrap()).collect();
    seeds.sort_unstable();
    seeds.dedup();
    assert_eq!(seeds.len(), 6, "each request has a different seed");
    for received in &received {
        assert_eq!((received.path.as_str(), received.authorization.as_deref()), ("/v1/completions", Some("Bearer secret")));
        let body = &received.body;
        assert_eq!(
            (&body["model"], &body["temperature"], &body["max_tokens"], &body["n"], &body["top_p"], &body["top_k"]),
            (&json!("served"), &json!(0.6), &json!(20), &json!(1), &json!(1.0), &json!(-1))
        );
        assert_eq!(body["stop_token_ids"], json!(text.end_tokens));
    }

    // The same requests in a different order and number have the same bodies.
    let again = Server::new(add);
    let part: Vec<EvalRequest> = requests.iter().rev().take(2).cloned().collect();
    generate(settings(&again), rendered(), &part, &SAMPLED).assert_complete(&part);
    let bodies: Vec<_> = received.iter().map(|received| &received.body).collect();
    assert!(again.received().iter().all(|received| bodies.contains(&&received.body)));
}

#[test]
fn endpoint_lets_the_server_render_chats() {
    let server = Server::new(add);
    let requests = requests(2, 1);
    generate(EndpointSettings { standard: true, ..settings(&server) }, Prompts::Messages(None), &requests, &GREEDY)
        .assert_complete(&requests);
    let mut received = server.received();
    received.sort_by_key(Received::prompt);
    assert_eq!(received[0].path, "/v1/chat/completions");
    assert_eq!(received[0].authorization, None);
    assert_eq!(received[0].body["messages"], json!([{"role": "user", "content": "Compute 0+0."}]));
    assert_eq!(received[0].body["temperature"], json!(0.0));
    assert!(["prompt", "top_k", "stop", "stop_token_ids"].iter().all(|name| received[0].body.get(name).is_none()), "{}", received[0].body);
}

#[test]
fn endpoint_reports_responses_cut_off_by_length() {
    let server = Server::new(|received| Reaction::Body(completion(received, "It is", "length")));
    let outcome = generate(settings(&server), rendered(), &requests(1, 1), &GREEDY);
    assert_eq!(outcome.responses[&0], Response { text: "It is".into(), tokens: 2, finish: Some(FinishReason::Length) });
}

#[test]
fn endpoint_counts_tokens_if_the_server_does_not() {
    let server = Server::new(|_| Reaction::Body(json!({"choices": [{"text": "It is 1", "finish_reason": "stop"}]})));
    let outcome = generate(settings(&server), rendered(), &requests(1, 1), &GREEDY);
    let text = embedded::text_with(&ChatSettings::default()).unwrap().text;
    assert_eq!(outcome.responses[&0].tokens, text.encode("It is 1").unwrap().len() + 1);
    let outcome = generate(settings(&server), Prompts::Messages(None), &requests(1, 1), &GREEDY);
    assert_eq!(outcome.responses[&0].tokens, 0);
}

#[test]
fn endpoint_skips_prompts_longer_than_the_context() {
    let server = Server::new(add);
    let text = || embedded::text_with(&ChatSettings::default()).unwrap();
    let generation = GenerationConfig { max_new_tokens: text().context_length, ..GREEDY };
    for prompts in [rendered(), Prompts::Messages(Some(text()))] {
        let outcome = generate(settings(&server), prompts, &requests(1, 2), &generation);
        let too_long = Response { text: String::new(), tokens: 0, finish: None };
        assert_eq!(outcome.responses.into_values().collect::<Vec<_>>(), [too_long.clone(), too_long]);
        assert!(outcome.error.is_none() && server.received().is_empty());
    }
}

/// Two faulty attempts at the first problem; the third attempt succeeds.
#[test]
fn endpoint_retries_temporary_failures() {
    let check_within = |timeout: Duration, name: &str, fault: fn() -> Reaction| {
        let server =
            Server::new(move |received| if received.before < 2 && received.prompt().contains(" 0+0") { fault() } else { add(received) });
        let requests = requests(6, 1);
        let settings = EndpointSettings { timeout, ..settings(&server) };
        generate(settings, rendered(), &requests, &GREEDY).assert_complete(&requests);
        assert_eq!(server.received().len(), 8, "{name}");
    };
    let check = |name: &str, fault: fn() -> Reaction| check_within(Duration::from_secs(60), name, fault);
    check("500", || Reaction::Status(500, "", "{\"error\": {\"message\": \"out of memory\"}}"));
    check("503", || Reaction::Status(503, "", "<html>starting</html>"));
    check("429", || Reaction::Status(429, "Retry-After: 0\r\n", ""));
    check("invalid JSON", || Reaction::Garbage);
    check("an error instead of a response", || Reaction::Body(json!({"error": {"message": "preempted"}})));
    check("an aborted response", || Reaction::Body(json!({"choices": [{"text": "It", "finish_reason": "abort"}]})));
    check("a connection that is closed in the middle", || Reaction::Cut);
    check("a connection that is closed in the middle of chunks", || Reaction::CutInChunks);
    check("a connection that is closed at once", || Reaction::Close);
    // So late that even a busy machine responds to all the others first.
    let late = || Reaction::Later(Duration::from_secs(60), Box::new(Reaction::Close));
    check_within(Duration::from_secs(3), "a response after the timeout", late);
}

#[test]
fn endpoint_waits_for_slow_responses() {
    let server = Server::new(|received| Reaction::Later(Duration::from_millis(700), Box::new(add(received))));
    let requests = requests(4, 1);
    generate(settings(&server), rendered(), &requests, &GREEDY).assert_complete(&requests);
    assert_eq!(server.received().len(), 4);
}

/// A wait that the server requests delays all requests that have not been sent, but not those that were rejected before.
#[test]
fn endpoint_respects_retry_after() {
    let server = Server::new(|received| if received.before == 0 && received.prompt().contains(" 0+0") { busy() } else { add(received) });
    let requests = requests(8, 1);
    let settings = EndpointSettings { concurrency: 1, ..settings(&server) };
    generate(settings, rendered(), &requests, &GREEDY).assert_complete(&requests);
    let received = server.received();
    assert!(received[1].at - received[0].at >= Duration::from_secs(1), "{:?}", received[1].at - received[0].at);

    // The first four attempts arrive together and are rejected together.
    let together = Barrier::new(4);
    let server = Server::new(move |received| {
        if received.before == 0 {
            together.wait();
            busy()
        } else {
            add(received)
        }
    });
    generate(self::settings(&server), rendered(), &requests, &GREEDY).assert_complete(&requests);
    let received = server.received();
    assert!(received[..4].iter().all(|received| received.before == 0) && received.len() == 16, "{received:?}");
    assert!(received[4].at - received[3].at >= Duration::from_secs(1), "pending requests are rejected once each, then all pause");
}

fn busy() -> Reaction {
    Reaction::Status(429, "Retry-After: 1\r\n", "{\"message\": \"too many requests\"}")
}

#[test]
fn endpoint_reports_permanent_failures_and_completes_all_others() {
    let rejected = || Reaction::Status(400, "", "{\"error\": {\"message\": \"the prompt is too long\"}}");
    let server = Server::new(move |received| match received.prompt() {
        prompt if prompt.contains(" 3+0") => rejected(),
        prompt if prompt.contains(" 5+0") => Reaction::Status(500, "", ""),
        prompt if prompt.contains(" 6+0") => Reaction::Body(json!({"choices": [{"text": "no", "finish_reason": "content_filter"}]})),
        _ => add(received),
    });
    let requests = requests(8, 2);
    let outcome = generate(settings(&server), rendered(), &requests, &SAMPLED);
    let responses: Vec<u32> = outcome.responses.keys().map(|number| requests[*number].number).collect();
    assert_eq!(responses, [0, 0, 1, 1, 2, 2, 4, 4, 7, 7]);
    let rejected = "400 Bad Request: the prompt is too long";
    let withheld = "the finish reason is \"content_filter\", expected stop or length";
    let failures = outcome.failures();
    let found: Vec<(&str, u32, &str)> = failures.failed.iter().map(|(id, sample, why)| (id.as_str(), *sample, why.as_str())).collect();
    let failed = "500 Internal Server Error";
    assert_eq!(
        found,
        [("p3", 0, rejected), ("p3", 1, rejected), ("p5", 0, failed), ("p5", 1, failed), ("p6", 0, withheld), ("p6", 1, withheld)]
    );
    let sentence =
        "6 of 16 requests have no response, all others are complete; failed: p3, sample 0 (400 Bad Request: the prompt is too long); p3";
    assert!(failures.to_string().starts_with(sentence), "{failures}");
    // 400 and a content filter are permanent failures at once, 500 only after all retries.
    assert_eq!(server.received().len(), 10 + 2 + 2 + 2 * 4);
}

#[test]
fn endpoint_stops_if_the_server_rejects_everything() {
    let check = |status: u16, body: &'static str, expected: &str| {
        let server = Server::new(move |_| Reaction::Status(status, "", body));
        let outcome = generate(EndpointSettings { concurrency: 2, ..settings(&server) }, rendered(), &requests(50, 1), &GREEDY);
        assert!(outcome.responses.is_empty() && server.received().len() <= 4, "{}", server.received().len());
        let failures = outcome.failures().to_string();
        assert!(failures.starts_with(expected) && failures.contains("; 50 of 50 requests have no response"), "{failures}");
    };
    check(401, "{\"error\": \"Unauthorized\"}", "the server rejects all requests: 401 Unauthorized: Unauthorized; ");
    check(
        404,
        "{\"message\": \"The model `served` does not exist.\"}",
        "the server rejects all requests: 404 Not Found: The model `served` does not exist.; ",
    );
    check(405, "", "the server rejects all requests: 405 Method Not Allowed; ");
}

#[test]
fn endpoint_stops_if_the_server_is_unreachable_or_out_of_order() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = Server::new(|_| Reaction::Status(502, "", "Bad Gateway"));
    let unreachable = EndpointSettings { url: format!("http://{closed}"), ..settings(&server) };
    let outcome = generate(unreachable, rendered(), &requests(50, 1), &GREEDY);
    assert!(outcome.failures().to_string().starts_with("the server cannot be reached: "), "{}", outcome.failures());

    let outcome = generate(settings(&server), rendered(), &requests(50, 1), &GREEDY);
    let expected =
        "16 requests in a row failed after all retries, the last one with: 502 Bad Gateway: Bad Gateway; 50 of 50 requests have no";
    assert!(outcome.failures().to_string().starts_with(expected), "{}", outcome.failures());
    assert!(server.received().len() <= 19 * 4, "{}", server.received().len());
}

/// The server responds only when `concurrency` requests are pending, and records the maximum number.
#[test]
fn endpoint_keeps_exactly_concurrency_requests_pending() {
    let check = |concurrency: usize, waves: u32| {
        let together = Barrier::new(concurrency);
        let server = Server::new(move |received| {
            together.wait();
            Reaction::Later(Duration::from_millis(50), Box::new(add(received)))
        });
        let requests = requests(waves * concurrency as u32, 1);
        generate(EndpointSettings { concurrency, ..settings(&server) }, rendered(), &requests, &GREEDY).assert_complete(&requests);
        assert_eq!((server.max_pending(), server.received().len()), (concurrency, requests.len()));
    };
    check(1, 3);
    check(7, 4);
    check(40, 2);
}

#[test]
fn endpoint_stops_if_the_callback_fails() {
    let server = Server::new(add);
    let endpoint = Endpoint::new(EndpointSettings { concurrency: 2, ..settings(&server) }, rendered()).unwrap();
    let error = endpoint.generate(&requests(100, 1), &GREEDY, &|_, _| anyhow::bail!("the disk is full")).unwrap_err();
    assert_eq!(error.to_string(), "the disk is full");
    assert!(server.received().len() <= 4, "{}", server.received().len());
}

#[test]
fn endpoint_new_rejects_invalid_settings() {
    let server = Server::new(add);
    let check = |settings: EndpointSettings, expected: &str| {
        let error = format!("{:#}", Endpoint::new(settings, Prompts::Messages(None)).err().unwrap());
        assert!(error.contains(expected) && !error.contains("secret"), "{error}");
    };
    check(EndpointSettings { url: "nowhere".into(), ..settings(&server) }, "expected one such as http://localhost:8000/v1");
    check(EndpointSettings { concurrency: 0, ..settings(&server) }, "set it to at least 1");
    check(EndpointSettings { timeout: Duration::ZERO, ..settings(&server) }, "set it to at least 1");
    check(EndpointSettings { key: Some("secret\n".into()), ..settings(&server) }, "characters that are not allowed in an HTTP header");
}

/// Neither the prompt nor the key is sent elsewhere, and the error gives the new address.
#[test]
fn endpoint_reports_redirects_without_following_them() {
    for status in [301, 302, 303, 307, 308] {
        let other = Server::new(add);
        let location = format!("Location: {}/v2/completions\r\n", other.address);
        let server = Server::new(move |_| Reaction::StatusFor(status, location.clone(), String::new()));
        let key = Some("secret-key".to_owned());
        let outcome = generate(EndpointSettings { key, concurrency: 1, ..settings(&server) }, rendered(), &requests(5, 1), &GREEDY);
        let failures = outcome.failures().to_string();
        let expected = format!(
            "the server redirects to {}/v2/completions, which is not followed: give the right address with --endpoint",
            other.address
        );
        assert!(failures.contains(&expected), "{failures}");
        assert!(other.received().is_empty() && server.received().len() == 1, "{status}");
    }
}

#[test]
fn endpoint_gives_up_on_an_endless_response() {
    let server = Server::new(|received| if received.prompt().contains(" 1+0") { Reaction::Endless } else { add(received) });
    let outcome = generate(settings(&server), rendered(), &requests(3, 1), &GREEDY);
    assert_eq!(outcome.responses.keys().copied().collect::<Vec<_>>(), [0, 2]);
    assert!(
        outcome.failures().to_string().contains("p1, sample 0 (the response is larger than the maximum of 16 MiB"),
        "{}",
        outcome.failures()
    );
}

#[test]
fn endpoint_hides_a_key_that_the_server_repeats() {
    let server = Server::new(|received| {
        let key = received.authorization.clone().unwrap_or_default();
        Reaction::StatusFor(401, String::new(), format!("{{\"error\": \"Incorrect API key: {key}\"}}"))
    });
    let key = Some("secret-key".to_owned());
    let outcome = generate(EndpointSettings { key, ..settings(&server) }, rendered(), &requests(1, 1), &GREEDY);
    let failures = outcome.failures().to_string();
    assert!(failures.contains("Incorrect API key: Bearer [the API key]") && !failures.contains("secret-key"), "{failures}");
}

#[test]
fn endpoint_stops_without_waiting_for_responses() {
    let server = Server::new(|received| {
        if received.prompt().contains(" 0+0") {
            add(received)
        } else {
            Reaction::Later(Duration::from_secs(120), Box::new(Reaction::Close))
        }
    });
    let settings = EndpointSettings { timeout: Duration::from_secs(100), ..settings(&server) };
    let interrupt = settings.interrupt.clone();
    let start = Instant::now();
    let endpoint = Endpoint::new(settings, rendered()).unwrap();
    let error = endpoint.generate(&requests(8, 1), &GREEDY, &|_, _| {
        interrupt.request_stop_now(15);
        Ok(())
    });
    assert_eq!(error.unwrap_err().downcast::<Interrupted>().unwrap(), Interrupted { signal: 15 });
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}
