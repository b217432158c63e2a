//! A server that imitates the hub: metadata by HEAD, small files identified by git SHA-1 behind a relative redirect, and large files
//! identified by SHA-256 at a second address. Tests can inject every kind of failure.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest, Sha256};

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// The fault that occurs for every request with a matching path.
#[derive(Clone)]
pub enum Fault {
    /// Responds to HEAD and GET with this status.
    Status(u16),
    /// Responds to GET with this status; HEAD works.
    StatusOfContents(u16),
    /// Closes the connection after this many bytes of a response with `Content-Length`.
    CutAfter(usize),
    /// Closes the connection after this many bytes of a chunked response.
    CutInChunks(usize),
    /// Closes the connection after this many bytes of a response without a length, as if it were complete.
    EndsAfter(usize),
    /// Sends other contents of the same length.
    Corrupt,
    /// Accepts the connection and does not respond for a minute.
    Silent,
    /// Sends this many bytes, then stalls with the connection open.
    StallsAfter(usize),
    /// Sends everything, with a pause in the middle.
    Slow(Duration),
    /// Responds without ETag and commit, unlike a hub.
    Plain,
}

/// A request that the server received.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub authorization: Option<String>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    fault: Option<(&'static str, Fault)>,
    /// The token that requests must carry; `None` if access is public.
    token: Option<&'static str>,
    requests: Vec<Request>,
}

#[derive(Clone)]
pub struct Server {
    pub address: String,
    contents_address: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    /// Serves a folder's files as `some/model`.
    pub fn of_folder(folder: &Path) -> Self {
        let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (hub, contents) = (bind(), bind());
        let address = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let files = entries.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap()));
        let state = State { files: files.collect(), ..State::default() };
        let server = Self { address: address(&hub), contents_address: address(&contents), state: Arc::new(Mutex::new(state)) };
        for listener in [hub, contents] {
            let server = server.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let server = server.clone();
                    // Ignore errors, because some tests disconnect on purpose.
                    std::thread::spawn(move || server.answer(&stream.unwrap()));
                }
            });
        }
        server
    }

    /// Injects `fault` into every request with `path` in its path.
    pub fn fails(&self, path: &'static str, fault: Fault) {
        self.state.lock().unwrap().fault = Some((path, fault));
    }

    /// Removes the injected fault.
    pub fn works(&self) {
        self.state.lock().unwrap().fault = None;
    }

    /// Requires this token from now on.
    pub fn wants_token(&self, token: &'static str) {
        self.state.lock().unwrap().token = Some(token);
    }

    /// Removes a file from the server.
    pub fn removes(&self, file: &str) {
        self.state.lock().unwrap().files.remove(file).unwrap();
    }

    /// Returns the requests received since the last call.
    pub fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }

    fn answer(&self, stream: &TcpStream) -> std::io::Result<()> {
        let mut head = String::new();
        let mut reader = BufReader::new(stream.try_clone()?);
        while reader.read_line(&mut head)? > 2 {}
        let mut words = head.split_whitespace();
        let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(()) };
        let header = |name: &str| {
            let found = head.lines().filter_map(|line| line.split_once(": ")).find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_owned())
        };
        let authorization = header("authorization");
        let (fault, refused) = {
            let mut state = self.state.lock().unwrap();
            let request = Request { method: method.to_owned(), path: path.to_owned(), authorization: authorization.clone() };
            state.requests.push(request);
            let on_contents = path.starts_with("/contents/");
            let refused = state.token.filter(|_| !on_contents).and_then(|token| match authorization {
                Some(given) if given == format!("Bearer {token}") => None,
                Some(given) if given == "Bearer of-somebody-else" => Some(403),
                _ => Some(401),
            });
            (state.fault.clone().filter(|(part, _)| path.contains(part)).map(|(_, fault)| fault), refused)
        };
        if let Some(status) = refused {
            return respond(stream, &format!("{status} Refused"), &[], b"");
        }
        self.route(stream, method, path, fault, header("if-none-match"))
    }

    fn route(&self, stream: &TcpStream, method: &str, path: &str, fault: Option<Fault>, known: Option<String>) -> std::io::Result<()> {
        let files = self.state.lock().unwrap().files.clone();
        match &fault {
            Some(Fault::Status(status)) => return respond(stream, &format!("{status} Failed"), &[], b"trouble"),
            Some(Fault::StatusOfContents(status)) if method == "GET" => {
                return respond(stream, &format!("{status} Failed"), &[], b"<html>trouble</html>");
            }
            Some(Fault::Silent) => std::thread::sleep(Duration::from_secs(60)),
            _ => {}
        }
        if let Some(rest) = path.strip_prefix("/some/model/resolve/") {
            let (revision, name) = rest.split_once('/').unwrap_or((rest, ""));
            let commit = format!("X-Repo-Commit: {COMMIT}");
            if !["main", "v1", COMMIT].contains(&revision) {
                return respond(stream, "404 Not Found", &["X-Error-Code: RevisionNotFound"], b"");
            }
            let Some(content) = files.get(name) else {
                return respond(stream, "404 Not Found", &["X-Error-Code: EntryNotFound", &commit], b"");
            };
            if matches!(fault, Some(Fault::Plain)) {
                return respond(stream, "200 OK", &[], b"");
            }
            if is_large(name) {
                let (hash, size) = (hexadecimal(&Sha256::digest(content)), content.len());
                let headers = [
                    format!("Location: {}/contents/{name}", self.contents_address),
                    format!("X-Linked-Etag: \"{hash}\""),
                    format!("X-Linked-Size: {size}"),
                    commit,
                ];
                return respond(stream, "302 Found", &headers.each_ref().map(String::as_str), b"");
            }
            return respond(stream, "307 Temporary Redirect", &[&format!("Location: /api/resolve-cache/{name}"), &commit], b"");
        }
        if let Some(name) = path.strip_prefix("/api/resolve-cache/").or_else(|| path.strip_prefix("/contents/")) {
            let content = &files[name];
            let hash = Sha1::new().chain_update(format!("blob {}\0", content.len())).chain_update(content).finalize();
            let etag = format!("\"{}\"", hexadecimal(&hash));
            let headers = [format!("ETag: {etag}"), format!("X-Repo-Commit: {COMMIT}")];
            let headers = headers.each_ref().map(String::as_str);
            if known.is_some_and(|known| known == etag) {
                return respond(stream, "304 Not Modified", &headers, b"");
            }
            return match method {
                "HEAD" => head(stream, &headers, content.len()),
                _ => contents(stream, &headers, content, fault),
            };
        }
        match path {
            "/api/models/some/model" => respond(stream, "200 OK", &[], b"{}"),
            "/api/models/some/model/revision/main" | "/api/models/some/model/revision/v1" => respond(stream, "200 OK", &[], b"{}"),
            _ => respond(stream, "404 Not Found", &[], b""),
        }
    }
}

/// True for files that the hub stores with Git LFS.
fn is_large(name: &str) -> bool {
    name.ends_with(".safetensors") || name == "tokenizer.json"
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn start(mut stream: &TcpStream, status: &str, headers: &[&str], length: &str) -> std::io::Result<()> {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    stream.write_all(format!("HTTP/1.1 {status}\r\n{headers}{length}Connection: close\r\n\r\n").as_bytes())
}

fn respond(mut stream: &TcpStream, status: &str, headers: &[&str], body: &[u8]) -> std::io::Result<()> {
    start(stream, status, headers, &format!("Content-Length: {}\r\n", body.len()))?;
    stream.write_all(body)
}

fn head(stream: &TcpStream, headers: &[&str], length: usize) -> std::io::Result<()> {
    start(stream, "200 OK", headers, &format!("Content-Length: {length}\r\n"))
}

fn contents(mut stream: &TcpStream, headers: &[&str], content: &[u8], fault: Option<Fault>) -> std::io::Result<()> {
    let length = format!("Content-Length: {}\r\n", content.len());
    match fault {
        Some(Fault::CutAfter(bytes)) => {
            start(stream, "200 OK", headers, &length)?;
            stream.write_all(&content[..bytes])
        }
        Some(Fault::CutInChunks(bytes)) => {
            start(stream, "200 OK", headers, "Transfer-Encoding: chunked\r\n")?;
            stream.write_all(format!("{bytes:x}\r\n").as_bytes())?;
            stream.write_all(&content[..bytes])?;
            stream.write_all(b"\r\n")
        }
        Some(Fault::EndsAfter(bytes)) => {
            start(stream, "200 OK", headers, "")?;
            stream.write_all(&content[..bytes])
        }
        Some(Fault::StallsAfter(bytes)) => {
            start(stream, "200 OK", headers, &length)?;
            stream.write_all(&content[..bytes])?;
            std::thread::sleep(Duration::from_secs(60));
            Ok(())
        }
        Some(Fault::Corrupt) => {
            start(stream, "200 OK", headers, &length)?;
            stream.write_all(&content.iter().map(|byte| byte ^ 1).collect::<Vec<_>>())
        }
        Some(Fault::Slow(wait)) => {
            start(stream, "200 OK", headers, &length)?;
            let (first, rest) = content.split_at(content.len() / 2);
            stream.write_all(first)?;
            std::thread::sleep(wait);
            stream.write_all(rest)
        }
        _ => {
            start(stream, "200 OK", headers, &length)?;
            stream.write_all(content)
        }
    }
}
