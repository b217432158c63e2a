//! Shows a run's numbers in other programs while it trains: TensorBoard and MLflow. Each tracker has a thread and a bounded queue of its
//! own (`queue`), so a tracker that is dead, slow or hangs neither delays nor stops the run: records that it does not take are dropped and
//! counted. The authoritative record is `metrics.jsonl`.

mod event;
mod mlflow;
mod queue;
mod tensorboard;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use event::{Content, Event};
pub use mlflow::server::check_address;

use super::tensorboard::values::Param;
use mlflow::Mlflow;
use mlflow::server::{Environment, Server};
use queue::{Queue, Tracker};
use tensorboard::TensorBoard;

/// The maximum time that the end of a run waits for its trackers.
const GRACE: Duration = Duration::from_secs(5);

/// The `tracking.*` settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrackingSettings {
    /// True to write TensorBoard event files to the run's folder.
    pub tensorboard: bool,
    /// The address of an MLflow server; `off` for none; empty for the one in `MLFLOW_TRACKING_URI`, if any.
    pub mlflow: String,
    /// The name of the MLflow experiment.
    pub experiment: String,
    /// The name of the MLflow run; empty for the name of the run's folder.
    pub run_name: String,
}

impl Default for TrackingSettings {
    fn default() -> Self {
        Self { tensorboard: true, mlflow: String::new(), experiment: "rlvr".to_owned(), run_name: String::new() }
    }
}

/// The facts about a run that trackers show.
#[derive(Clone, Debug)]
pub struct RunInfo {
    /// The run's folder. MLflow's tracker keeps the id of its run there, and uploads `summary.json`, `curves.svg` and `config.toml`.
    pub folder: PathBuf,
    /// The settings by path.
    pub params: Vec<(String, Param)>,
    /// The first step that will run, counted from 1.
    pub next_step: u64,
    /// The metrics of earlier steps if the run was resumed; `None` for a new run.
    pub earlier: Option<Vec<Event>>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All steps are complete.
    Finished,
    /// An error stopped it.
    Failed,
    /// A signal stopped it.
    Killed,
}

/// The trackers of a run.
#[derive(Debug, Default)]
pub struct Tracking {
    queues: Vec<Arc<Queue>>,
    /// Messages from before the trackers started.
    messages: Vec<String>,
}

impl Tracking {
    /// Starts the trackers that the settings and the environment select. Reports problems in [`messages`](Self::messages), because a run
    /// does not depend on trackers.
    pub fn start(settings: &TrackingSettings, info: RunInfo) -> Self {
        let (mut tracking, info) = (Self::default(), Arc::new(info));
        match Server::of(&settings.mlflow, &Environment::of_process()) {
            Ok(None) => {}
            Ok(Some(server)) => {
                let name = format!("MLflow at {}", server.address());
                let (settings, info) = (settings.clone(), Arc::clone(&info));
                tracking.spawn(Queue::new(name, false), move |queue| Box::new(Mlflow::new(server, &settings, info, queue)));
            }
            Err(error) => tracking.messages.push(format!("warning: this run is not tracked in MLflow: {error:#}")),
        }
        if settings.tensorboard {
            tracking.spawn(Queue::new("TensorBoard".to_owned(), true), move |_| Box::new(TensorBoard::new(info)));
        }
        tracking
    }

    /// Records an event for all trackers. Returns at once.
    pub fn record(&self, event: Event) {
        let event = Arc::new(event);
        self.queues.iter().for_each(|queue| queue.push(&event));
    }

    /// Returns true if any tracker shows texts.
    pub fn shows_texts(&self) -> bool {
        self.queues.iter().any(|queue| queue.takes_everything)
    }

    /// Returns the messages for people that arrived since the last call. A tracker's problems cause one warning.
    pub fn messages(&mut self) -> Vec<String> {
        let arrived = self.queues.iter().flat_map(|queue| queue.take_messages());
        self.messages.drain(..).chain(arrived).collect()
    }

    /// Ends all trackers. Waits up to five seconds, in total, until they have delivered what they hold, then abandons them. Returns the last
    /// messages for people, with the number of records that were not delivered.
    pub fn finish(mut self, end: End) -> Vec<String> {
        let deadline = Instant::now() + GRACE;
        self.queues.iter().for_each(|queue| queue.end(end));
        let results: Vec<Option<String>> = self.queues.iter().map(|queue| queue.wait_until(deadline)).collect();
        self.messages().into_iter().chain(results.into_iter().flatten()).collect()
    }

    fn spawn(&mut self, queue: Queue, tracker: impl FnOnce(&Arc<Queue>) -> Box<dyn Tracker> + Send + 'static) {
        let queue = Arc::new(queue);
        let worker = Arc::clone(&queue);
        let spawned = thread::Builder::new().name("tracker".to_owned()).spawn(move || worker.serve(tracker(&worker)));
        match spawned {
            Ok(_) => self.queues.push(queue),
            Err(error) => self.messages.push(format!("warning: {} is off: cannot start a thread: {error}", queue.name())),
        }
    }
}

impl Drop for Tracking {
    /// Tells the threads to stop, without waiting for them.
    fn drop(&mut self) {
        self.queues.iter().for_each(|queue| queue.abandon());
    }
}

#[cfg(test)]
mod tests;
