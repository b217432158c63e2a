//! Tests the queue with trackers that fail, refuse and hang, and TensorBoard's files of a new and a resumed run.
#![allow(clippy::unwrap_used, reason = "a test may stop")]

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use anyhow::anyhow;

use super::queue::{CAPACITY, Trouble};
use super::*;

type Reaction = dyn FnMut(&[Arc<Event>]) -> Result<usize, Trouble> + Send;

/// A tracker whose reactions a test chooses. It sends the steps that it delivers, and the end.
struct Scripted {
    reaction: Box<Reaction>,
    delivered: Sender<String>,
}

impl Tracker for Scripted {
    fn deliver(&mut self, events: &[Arc<Event>]) -> Result<usize, Trouble> {
        let count = (self.reaction)(events)?;
        events[..count].iter().for_each(|event| self.delivered.send(event.step.to_string()).unwrap());
        Ok(count)
    }

    fn finish(&mut self, end: End) -> Result<(), Trouble> {
        self.delivered.send(format!("{end:?}")).unwrap();
        Ok(())
    }

    fn pause(&self) -> Duration {
        Duration::ZERO
    }
}

fn start(reaction: impl FnMut(&[Arc<Event>]) -> Result<usize, Trouble> + Send + 'static) -> (Tracking, Receiver<String>) {
    let (delivered, received) = channel();
    let mut tracking = Tracking::default();
    let scripted = Scripted { reaction: Box::new(reaction), delivered };
    tracking.spawn(Queue::new("Test".to_owned(), false), move |_| Box::new(scripted));
    (tracking, received)
}

fn scalars(step: u64) -> Event {
    Event::now(step, Content::Scalars(vec![("train/accuracy".to_owned(), 0.5)]))
}

#[test]
fn tracking_delivers_in_order_and_ends() {
    let (tracking, received) = start(|events| Ok(events.len().min(2)));
    (1..=5).for_each(|step| tracking.record(scalars(step)));
    tracking.record(Event::now(5, Content::Text("responses".into(), "not for this tracker".into())));
    assert_eq!(tracking.finish(End::Killed), [""; 0]);
    assert_eq!(received.iter().collect::<Vec<_>>(), ["1", "2", "3", "4", "5", "Killed"]);
}

#[test]
fn tracking_drops_refused_events_with_one_warning() {
    let (tracking, received) = start(|events| {
        let refuses = events.iter().any(|event| event.step < 3);
        if refuses { Err(Trouble::Refused(anyhow!("bad\nname"))) } else { Ok(events.len()) }
    });
    (1..=2).for_each(|step| tracking.record(scalars(step)));
    let messages = tracking.finish(End::Finished);
    assert_eq!(received.iter().collect::<Vec<_>>(), ["Finished"]);
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert_eq!(messages[0], "warning: Test: bad\nname. The run continues; metrics.jsonl has every step");
    assert_eq!(messages[1], "Test: 2 records were not delivered; metrics.jsonl has every step");
}

#[test]
fn tracking_counts_what_an_unreachable_server_did_not_take() {
    let (tracking, received) = start(|_| Err(Trouble::Temporary(anyhow!("connection refused"))));
    (1..=3).for_each(|step| tracking.record(scalars(step)));
    let messages = tracking.finish(End::Finished);
    assert_eq!(received.iter().count(), 0, "the end is not reported either");
    assert!(messages[0].contains("connection refused") && messages[1].contains("3 records were not delivered"), "{messages:?}");
}

/// A tracker that hangs takes nothing more than the queue's capacity, and the end does not wait for it.
#[test]
fn tracking_abandons_a_tracker_that_hangs() {
    let (release, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let (tracking, received) = start(move |events| {
        let _ = wait.lock().unwrap().recv();
        Ok(events.len())
    });
    let count = CAPACITY as u64 + 7;
    (1..=count).for_each(|step| tracking.record(scalars(step)));
    let queue = Arc::clone(&tracking.queues[0]);
    queue.end(End::Finished);
    let message = queue.wait_until(Instant::now()).unwrap();
    assert_eq!(message, format!("Test: {count} records were not delivered, and it did not answer in time; metrics.jsonl has every step"));
    drop(tracking);
    release.send(()).unwrap();
    // The thread ends after the delivery that was in progress.
    assert!(received.iter().all(|step| step != "Finished"));
}

#[test]
fn tracking_starts_without_trackers_if_all_are_off() {
    let folder = tempfile::tempdir().unwrap();
    let settings = TrackingSettings { tensorboard: false, mlflow: "off".into(), ..TrackingSettings::default() };
    let info = RunInfo { folder: folder.path().to_owned(), params: Vec::new(), next_step: 1, earlier: None };
    let tracking = Tracking::start(&settings, info);
    assert!(!tracking.shows_texts());
    tracking.record(scalars(1));
    assert_eq!(tracking.finish(End::Finished), [""; 0]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn tracking_warns_once_if_tensorboard_cannot_write() {
    let settings = TrackingSettings { mlflow: "off".into(), ..TrackingSettings::default() };
    let info = RunInfo { folder: "no/folder".into(), params: Vec::new(), next_step: 1, earlier: None };
    let tracking = Tracking::start(&settings, info);
    tracking.record(scalars(1));
    let messages = tracking.finish(End::Finished);
    assert!(messages.len() == 2 && messages[0].starts_with("warning: TensorBoard: cannot read no/folder"), "{messages:?}");
    assert_eq!(messages[1], "TensorBoard: 1 record was not delivered; metrics.jsonl has every step");
}
