//! The bounded queue between a run and one tracker's thread. The run never waits for it, except for a bounded time at the end.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Error;

use super::End;
use super::event::{Content, Event};

/// The maximum number of events in a queue: enough for several minutes of the fastest runs while a server is away.
pub(super) const CAPACITY: usize = 8192;
/// The longest wait between two attempts to reach a server.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Delivers events to another program.
pub(super) trait Tracker {
    /// Delivers the first events of a nonempty list, at least one. Returns their number.
    fn deliver(&mut self, events: &[Arc<Event>]) -> Result<usize, Trouble>;

    /// Reports the end of the run, after all events are delivered.
    fn finish(&mut self, end: End) -> Result<(), Trouble>;

    /// Returns the time between two deliveries.
    fn pause(&self) -> Duration;
}

/// Why a tracker did not deliver events.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It may work later.
    Temporary(Error),
    /// These events were refused, and will be refused again.
    Refused(Error),
}

/// The queue of one tracker.
pub(super) struct Queue {
    /// The tracker's name in messages.
    name: String,
    /// True if the tracker takes all events; false if it takes only scalars.
    pub(super) takes_everything: bool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Events that are not delivered yet.
    events: VecDeque<Arc<Event>>,
    /// The number of events that will not be delivered.
    dropped: u64,
    /// Set when the run has ended.
    end: Option<End>,
    /// True if the thread must not send anything more.
    is_abandoned: bool,
    /// True if the thread has ended.
    is_done: bool,
    /// True if a problem was reported.
    has_warned: bool,
    messages: Vec<String>,
}

impl Queue {
    pub(super) fn new(name: String, takes_everything: bool) -> Self {
        Self { name, takes_everything, state: Mutex::default(), changed: Condvar::new() }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Adds an event. Drops it if the queue is full.
    pub(super) fn push(&self, event: &Arc<Event>) {
        if !self.takes_everything && !matches!(event.content, Content::Scalars(_)) {
            return;
        }
        let mut state = self.lock();
        if state.events.len() < CAPACITY && !state.is_done {
            state.events.push_back(Arc::clone(event));
        } else {
            state.dropped += 1;
        }
        drop(state);
        self.changed.notify_all();
    }

    pub(super) fn take_messages(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().messages)
    }

    /// Adds a message for people.
    pub(super) fn say(&self, text: String) {
        self.lock().messages.push(text);
    }

    pub(super) fn end(&self, end: End) {
        self.lock().end = Some(end);
        self.changed.notify_all();
    }

    pub(super) fn abandon(&self) {
        self.lock().is_abandoned = true;
        self.changed.notify_all();
    }

    /// Waits until the thread has ended, up to a deadline. Returns a message if events were not delivered.
    pub(super) fn wait_until(&self, deadline: Instant) -> Option<String> {
        let mut state = self.lock();
        while !state.is_done {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let lost = state.dropped + state.events.len() as u64;
        let hangs = if state.is_done { "" } else { ", and it did not answer in time" };
        (lost > 0 || !state.is_done).then(|| {
            let records = if lost == 1 { "record was" } else { "records were" };
            format!("{}: {lost} {records} not delivered{hangs}; metrics.jsonl has every step", self.name)
        })
    }

    /// Delivers events until the run ends.
    pub(super) fn serve(&self, mut tracker: Box<dyn Tracker>) {
        let mut pause = tracker.pause();
        while let Some((events, end)) = self.next(pause) {
            let delivered = if events.is_empty() { Ok(0) } else { tracker.deliver(&events) };
            let has_ended = end.is_some();
            match delivered {
                Ok(count) => {
                    self.lock().events.drain(..count);
                    pause = if count < events.len() { Duration::ZERO } else { tracker.pause() };
                    if let Some(end) = end.filter(|_| count == events.len()) {
                        if let Err(Trouble::Temporary(error) | Trouble::Refused(error)) = tracker.finish(end) {
                            self.warn(&error);
                        }
                        break;
                    }
                }
                Err(Trouble::Refused(error)) => {
                    let mut state = self.lock();
                    state.events.drain(..events.len());
                    state.dropped += events.len() as u64;
                    drop(state);
                    self.warn(&error);
                    pause = longer(pause);
                }
                Err(Trouble::Temporary(error)) => {
                    self.warn(&error);
                    if has_ended {
                        break;
                    }
                    pause = longer(pause);
                }
            }
        }
        self.lock().is_done = true;
        self.changed.notify_all();
    }

    /// Waits for events and for the end of `pause`, or for the end of the run. Returns the events, which stay in the queue; `None` if the
    /// queue is abandoned.
    fn next(&self, pause: Duration) -> Option<(Vec<Arc<Event>>, Option<End>)> {
        let earliest = Instant::now() + pause;
        let mut state = self.lock();
        loop {
            if state.is_abandoned {
                return None;
            }
            let left = earliest.saturating_duration_since(Instant::now());
            if state.end.is_some() || (!state.events.is_empty() && left.is_zero()) {
                return Some((state.events.iter().cloned().collect(), state.end));
            }
            state = if state.events.is_empty() {
                self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }

    /// Reports a problem, unless one was already reported.
    fn warn(&self, error: &Error) {
        tracing::info!(tracker = self.name, "{error:#}");
        let mut state = self.lock();
        if !state.has_warned {
            state.has_warned = true;
            state.messages.push(format!("warning: {}: {error:#}. The run continues; metrics.jsonl has every step", self.name));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the wait after another failure.
fn longer(pause: Duration) -> Duration {
    (pause * 2).clamp(Duration::from_secs(1), MAX_PAUSE)
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("name", &self.name).finish_non_exhaustive()
    }
}
