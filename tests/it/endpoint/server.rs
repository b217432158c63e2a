//! A test server with JSON replies and persistent connections, by default with OpenAI's API. Tests choose the reaction to each request.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A request that the server received.
#[derive(Clone, Debug)]
pub struct Received {
    pub path: String,
    pub authorization: Option<String>,
    pub body: Value,
    /// The number of earlier requests with the same body.
    pub before: usize,
    pub at: Instant,
}

impl Received {
    /// Returns the prompt, or the last message of a chat.
    pub fn prompt(&self) -> String {
        let prompt = self.body["prompt"].as_str().or_else(|| self.body["messages"].as_array()?.last()?["content"].as_str());
        prompt.unwrap_or_default().to_owned()
    }
}

/// The reaction to a request.
pub enum Reaction {
    /// Responds with this text and the finish reason `stop`.
    Text(String),
    /// Responds with this body.
    Body(Value),
    /// Responds with this status, these headers and this body.
    Status(u16, &'static str, &'static str),
    /// The same, with headers and a body created for the request.
    StatusFor(u16, String, String),
    /// Responds with a body that starts correctly and never ends.
    Endless,
    /// Responds with invalid JSON.
    Garbage,
    /// Closes the connection in the middle of a response with a `Content-Length`.
    Cut,
    /// Closes the connection in the middle of a chunked response.
    CutInChunks,
    /// Closes the connection without a response.
    Close,
    /// Reacts in another way after a delay.
    Later(Duration, Box<Reaction>),
}

type Behavior = dyn Fn(&Received) -> Reaction + Send + Sync;

#[derive(Default)]
struct State {
    received: Vec<Received>,
    seen: HashMap<String, usize>,
    pending: usize,
    max_pending: usize,
}

#[derive(Clone)]
pub struct Server {
    pub address: String,
    state: Arc<Mutex<State>>,
    behavior: Arc<Behavior>,
}

impl Server {
    pub fn new(behavior: impl Fn(&Received) -> Reaction + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = Self { address, state: Arc::default(), behavior: Arc::new(behavior) };
        let serving = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let server = serving.clone();
                // Ignore errors, because some clients disconnect.
                std::thread::spawn(move || while server.serve(stream.as_ref().unwrap()).unwrap_or(false) {});
            }
        });
        server
    }

    /// Returns all requests in order of arrival.
    pub fn received(&self) -> Vec<Received> {
        self.state.lock().unwrap().received.clone()
    }

    /// Returns the maximum number of concurrent requests.
    pub fn max_pending(&self) -> usize {
        self.state.lock().unwrap().max_pending
    }

    /// Handles one request. Returns whether the connection stays open.
    fn serve(&self, stream: &TcpStream) -> std::io::Result<bool> {
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while reader.read_line(&mut head)? > 2 {}
        let Some(path) = head.split_whitespace().nth(1) else { return Ok(false) };
        let header = |name: &str| {
            let found = head.lines().filter_map(|line| line.split_once(": ")).find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_owned())
        };
        // Requests without a body (GET) have no length, and an upload is not JSON.
        let mut body = vec![0; header("content-length").map_or(0, |length| length.parse().unwrap())];
        reader.read_exact(&mut body)?;
        let is_json = header("content-type").unwrap() == "application/json";
        assert!(is_json || head.starts_with("PUT "), "{head}");
        let received = {
            let mut state = self.state.lock().unwrap();
            state.pending += 1;
            state.max_pending = state.max_pending.max(state.pending);
            let times = state.seen.entry(String::from_utf8_lossy(&body).into_owned()).or_default();
            let before = std::mem::replace(times, *times + 1);
            let body = if is_json && !body.is_empty() { serde_json::from_slice(&body).unwrap() } else { Value::Null };
            let path = path.to_owned();
            let received = Received { path, authorization: header("authorization"), body, before, at: Instant::now() };
            state.received.push(received.clone());
            received
        };
        let reaction = after_delays((self.behavior)(&received));
        self.state.lock().unwrap().pending -= 1;
        perform(stream, &received, reaction)
    }
}

/// Waits for all delays, and returns the final reaction.
fn after_delays(reaction: Reaction) -> Reaction {
    match reaction {
        Reaction::Later(wait, next) => {
            std::thread::sleep(wait);
            after_delays(*next)
        }
        reaction => reaction,
    }
}

fn perform(mut stream: &TcpStream, received: &Received, reaction: Reaction) -> std::io::Result<bool> {
    let ok = |body: &Value| respond(stream, "200 OK", "", body.to_string().as_bytes());
    match reaction {
        Reaction::Text(text) => ok(&completion(received, &text, "stop")),
        Reaction::Body(body) => ok(&body),
        Reaction::Status(status, headers, body) => respond(stream, &format!("{status} Trouble"), headers, body.as_bytes()),
        Reaction::StatusFor(status, headers, body) => respond(stream, &format!("{status} Trouble"), &headers, body.as_bytes()),
        Reaction::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"choices\": \"")?;
            // Write until the client disconnects.
            while stream.write_all(&[b'x'; 1 << 16]).is_ok() {}
            close(stream, b"")
        }
        Reaction::Garbage => respond(stream, "200 OK", "", b"{\"choices\": [{\"te"),
        Reaction::Cut => close(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"choices\": [{\"te"),
        Reaction::CutInChunks => close(stream, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"cho\r\n"),
        Reaction::Close => close(stream, b""),
        Reaction::Later(..) => Ok(true),
    }
}

/// Returns a response body in the format of the request's path. Each word counts as one token.
pub fn completion(received: &Received, text: &str, finish: &str) -> Value {
    let choice = if received.path.ends_with("/chat/completions") {
        json!({"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish})
    } else {
        json!({"index": 0, "text": text, "finish_reason": finish})
    };
    json!({"object": "completion", "choices": [choice], "usage": {"completion_tokens": text.split_whitespace().count()}})
}

fn respond(mut stream: &TcpStream, status: &str, headers: &str, body: &[u8]) -> std::io::Result<bool> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat())?;
    Ok(true)
}

fn close(mut stream: &TcpStream, last: &[u8]) -> std::io::Result<bool> {
    stream.write_all(last)?;
    stream.shutdown(Shutdown::Both)?;
    Ok(false)
}
