//! Serves a report on this machine while a run goes. The server has its own thread and listens on 127.0.0.1 only. An open page asks for the
//! newest version every few seconds and replaces what has changed.

mod answer;
mod fingerprint;
mod pages;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse, Response};

use super::subject::Subject;
use answer::{Asked, answer};
use pages::Pages;

/// How often the server looks whether it should end.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// A page that asked for its version within this time is still open; pages ask every 3 seconds.
const OPEN_WITHIN: Duration = Duration::from_secs(8);
/// How long an ending server waits for open pages to get its final state.
const LONGEST_GOODBYE: Duration = Duration::from_secs(8);
/// How long an answer in progress may delay the end of the server.
const LONGEST_ANSWER: Duration = Duration::from_secs(2);

/// A running server. It ends when it is dropped.
#[derive(Debug)]
pub struct ReportServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    port: u16,
    pages: Mutex<Pages>,
    phase: AtomicU8,
    seen: Mutex<Seen>,
}

/// What open pages have asked for.
#[derive(Debug, Default)]
struct Seen {
    /// The time of the last question for the page or its version.
    asked: Option<Instant>,
    /// True if a page was served since the server began to end.
    has_final: bool,
}

/// The phases of a server.
const SERVING: u8 = 0;
/// The subject has ended, and open pages may get its final state.
const ENDING: u8 = 1;
const STOPPED: u8 = 2;

impl ReportServer {
    /// Starts to serve the report at 127.0.0.1 and `port`; 0 lets the system choose a port.
    ///
    /// # Errors
    /// If the port is in use or not permitted, or a thread cannot be started.
    pub fn start(subject: Subject, port: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .with_context(|| format!("cannot serve the report at 127.0.0.1:{port}: choose another --port, or leave it out"))?;
        let address = listener.local_addr().context("cannot read the server's port")?;
        listener.set_nonblocking(true).context("cannot configure the server's port")?;
        let pages = Mutex::new(Pages::new(subject)?);
        let shared = Arc::new(Shared { port: address.port(), pages, phase: AtomicU8::new(SERVING), seen: Mutex::default() });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the server")?;
        let of_thread = shared.clone();
        let thread = std::thread::Builder::new().name("report-server".to_owned()).spawn(move || {
            runtime.block_on(serve(listener, of_thread)).unwrap_or_else(|error| message!("the report is no longer served: {error:#}"));
        });
        Ok(Self { address, shared, thread: Some(thread.context("cannot start the server")?) })
    }

    /// Returns the address to open in a browser.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Ends the server after its subject has ended. If a page is open, first waits a few seconds, so that the page shows the final state.
    pub fn finish(self) {
        self.shared.phase.store(ENDING, Ordering::SeqCst);
        let started = Instant::now();
        while started.elapsed() < LONGEST_GOODBYE && self.shared.has_waiting_page() {
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}

impl Drop for ReportServer {
    fn drop(&mut self) {
        self.shared.phase.store(STOPPED, Ordering::SeqCst);
        // A server that has panicked has printed why.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Shared {
    /// True if a page is open that has not got the final state.
    fn has_waiting_page(&self) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        !seen.has_final && seen.asked.is_some_and(|asked| asked.elapsed() < OPEN_WITHIN)
    }

    /// Notes what an open page asks for.
    fn note(&self, path: &str, is_ending: bool) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(path, "/" | pages::VERSION) {
            seen.asked = Some(Instant::now());
        }
        seen.has_final |= path == "/" && is_ending;
    }
}

/// Serves until the phase is [`STOPPED`]. Answers in progress then have a short time to end.
async fn serve(listener: TcpListener, shared: Arc<Shared>) -> Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener).context("cannot use the server's port")?;
    let router = Router::new().fallback(handle).with_state(shared.clone());
    let server = axum::serve(listener, router).with_graceful_shutdown(until_stopped(shared.clone()));
    let server = tokio::spawn(async move { server.await });
    until_stopped(shared).await;
    match tokio::time::timeout(LONGEST_ANSWER, server).await {
        Ok(Ok(ended)) => ended.context("the server failed"),
        // Some connection is still open, and is closed with the runtime.
        _ => Ok(()),
    }
}

async fn until_stopped(shared: Arc<Shared>) {
    while shared.phase.load(Ordering::SeqCst) != STOPPED {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let is_ending = shared.phase.load(Ordering::SeqCst) != SERVING;
    let hosts: Vec<&str> = request.headers().get_all(HOST).iter().map(|host| host.to_str().unwrap_or_default()).collect();
    let (uri, method) = (request.uri(), request.method().as_str());
    let asked = Asked { method, path: uri.path(), query: uri.query().unwrap_or_default(), hosts: &hosts };
    let found = answer(&mut shared.pages.lock().unwrap_or_else(PoisonError::into_inner), &asked, shared.port, is_ending);
    if found.status == 200 && method == "GET" {
        shared.note(uri.path(), is_ending);
    }
    let headers = [
        (CONTENT_TYPE, found.content_type),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        // The page itself has the rest of its policy. A `meta` element cannot forbid frames.
        (CONTENT_SECURITY_POLICY, "frame-ancestors 'none'"),
    ];
    let status = axum::http::StatusCode::from_u16(found.status).unwrap_or_default();
    (status, headers, found.body).into_response()
}
