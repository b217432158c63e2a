//! Records a run in MLflow by its REST API: parameters, metrics by step, the status, and the results as artifacts.
//!
//! The id of the MLflow run is in `mlflow.json` in the run's folder, so that a resumed run continues it. The server knows the last step that
//! it has, so a resumed run neither repeats steps nor leaves out those that were not delivered.

mod batch;
mod client;
pub(crate) mod server;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::event::Event;
use super::queue::{Queue, Tracker, Trouble};
use super::{End, RunInfo, TrackingSettings};
use crate::metrics::tensorboard::now_s;
use batch::{Batches, Params};
use client::{Client, Failure};
use server::Server;

/// The time between two requests, so that a fast run sends many steps in one.
const PAUSE: Duration = Duration::from_secs(1);
/// The files of a run's folder that become artifacts.
const ARTIFACTS: [&str; 3] = ["summary.json", "curves.svg", "config.toml"];

/// A run's record in MLflow.
pub(super) struct Mlflow {
    server: Server,
    settings: TrackingSettings,
    info: Arc<RunInfo>,
    queue: Arc<Queue>,
    session: Option<Session>,
}

/// The connection to the MLflow run.
struct Session {
    client: Client,
    run: RemoteRun,
    /// Steps up to this one are delivered already; `None` if none is.
    delivered: Option<u64>,
}

/// The MLflow run, as `mlflow.json` records it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct RemoteRun {
    server: String,
    experiment_id: String,
    run_id: String,
    /// The place of artifacts; `mlflow-artifacts:/PATH` if the server accepts uploads.
    artifact_uri: String,
}

impl Mlflow {
    pub(super) fn new(server: Server, settings: &TrackingSettings, info: Arc<RunInfo>, queue: &Arc<Queue>) -> Self {
        Self { server, settings: settings.clone(), info, queue: Arc::clone(queue), session: None }
    }

    /// Connects to the server with the first events: continues the recorded run if the server still has it, or else creates one.
    fn session(&mut self) -> Result<&Session, Trouble> {
        if self.session.is_none() {
            let client = Client::new(&self.server).map_err(Trouble::Temporary)?;
            let session = match self.recorded() {
                Some(run) => self.continue_run(client, run)?,
                None => self.create_run(client)?,
            };
            let RemoteRun { experiment_id, run_id, .. } = &session.run;
            let address = self.server.address();
            self.queue.say(format!("MLflow: this run is {address}/#/experiments/{experiment_id}/runs/{run_id}"));
            self.session = Some(session);
        }
        self.session.as_ref().context("there is no session").map_err(Trouble::Temporary)
    }

    /// Creates an MLflow run and writes its parameters, and the steps before a resumption.
    fn create_run(&self, client: Client) -> Result<Session, Trouble> {
        let experiment_id = experiment(&client, &self.settings.experiment)?;
        let tags: Vec<Value> = [
            ("mlflow.source.name", "rlvr".to_owned()),
            ("mlflow.source.type", "LOCAL".to_owned()),
            ("rlvr.version", env!("CARGO_PKG_VERSION").to_owned()),
            ("rlvr.folder", self.info.folder.display().to_string()),
        ]
        .into_iter()
        .map(|(key, value)| json!({"key": key, "value": value}))
        .collect();
        let body = json!({"experiment_id": experiment_id, "run_name": self.run_name(), "start_time": millis(now_s()), "tags": tags});
        let created = client.post("runs/create", &body)?;
        let field = |name: &str| created["run"]["info"][name].as_str().map(str::to_owned);
        let run_id = field("run_id").ok_or_else(|| Failure::lacks("runs/create", "run_id"))?;
        let artifact_uri = field("artifact_uri").unwrap_or_default();
        let run = RemoteRun { server: self.server.address().to_owned(), experiment_id, run_id, artifact_uri };
        // Recorded at once: if anything below fails, the next attempt continues this run and adds what it lacks.
        self.record(&run).map_err(Trouble::Temporary)?;
        for params in Params::of(&self.info.params).batches() {
            client.post("runs/log-batch", &json!({"run_id": run.run_id, "params": params}))?;
        }
        let session = Session { client, run, delivered: None };
        session.send(self.info.earlier.iter().flatten())?;
        Ok(session)
    }

    /// Continues a run that the server has: adds the steps that it lacks, and new or changed settings.
    fn continue_run(&self, client: Client, run: RemoteRun) -> Result<Session, Trouble> {
        let found = match client.get("runs/get", "run_id", &run.run_id) {
            Ok(found) if found["run"]["info"]["lifecycle_stage"] != "deleted" => found,
            Err(failure) if failure.status != Some(404) => return Err(failure.into()),
            // The run was deleted on the server.
            _ => return self.create_run(client),
        };
        let delivered = batch::last_step(&found["run"]["data"]["metrics"]);
        let id = &run.run_id;
        client.post("runs/update", &json!({"run_id": id, "status": "RUNNING"}))?;
        let params = Params::of(&self.info.params);
        let (new, changed) = params.compared_with(&found["run"]["data"]["params"]);
        for params in new.batches() {
            client.post("runs/log-batch", &json!({"run_id": id, "params": params}))?;
        }
        // MLflow refuses to change a parameter.
        for tags in changed.batches() {
            client.post("runs/log-batch", &json!({"run_id": id, "tags": tags}))?;
        }
        let mut session = Session { client, run, delivered };
        session.send(self.info.earlier.iter().flatten().filter(|event| delivered.is_none_or(|last| event.step > last)))?;
        // With other settings, the repeated steps have other values.
        if !changed.is_empty() {
            session.delivered = None;
        }
        Ok(session)
    }

    fn run_name(&self) -> String {
        let folder = || self.info.folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if self.settings.run_name.is_empty() { folder() } else { self.settings.run_name.clone() }
    }

    fn path(&self) -> PathBuf {
        self.info.folder.join("mlflow.json")
    }

    /// Reads the run that this folder is recorded in; `None` if there is none on this server. A new run ignores the file of a failed start.
    fn recorded(&self) -> Option<RemoteRun> {
        let text = std::fs::read_to_string(self.path()).ok()?;
        serde_json::from_str::<RemoteRun>(&text).ok().filter(|run| run.server == self.server.address())
    }

    fn record(&self, run: &RemoteRun) -> Result<()> {
        let (path, partial) = (self.path(), self.path().with_added_extension("partial"));
        let written = std::fs::write(&partial, serde_json::to_string_pretty(run)?).and_then(|()| std::fs::rename(&partial, &path));
        written.with_context(|| format!("cannot write {}", path.display()))
    }
}

impl Tracker for Mlflow {
    fn deliver(&mut self, events: &[Arc<Event>]) -> Result<usize, Trouble> {
        let session = self.session()?;
        let count = batch::in_one_request(events);
        let is_new = |event: &&Arc<Event>| session.delivered.is_none_or(|last| event.step > last);
        session.send(events[..count].iter().filter(is_new).map(|event| &**event))?;
        Ok(count)
    }

    fn finish(&mut self, end: End) -> Result<(), Trouble> {
        let info = Arc::clone(&self.info);
        let session = self.session()?;
        let status = match end {
            End::Finished => "FINISHED",
            End::Failed => "FAILED",
            End::Killed => "KILLED",
        };
        session.client.post("runs/update", &json!({"run_id": session.run.run_id, "status": status, "end_time": millis(now_s())}))?;
        // Without a proxy, the place is one that only clients with access to it can write to.
        let Some(place) = session.run.artifact_uri.strip_prefix("mlflow-artifacts:/") else { return Ok(()) };
        for name in ARTIFACTS {
            if let Ok(content) = std::fs::read(info.folder.join(name)) {
                session.client.put_artifact(&format!("{}/{name}", place.trim_start_matches('/')), content)?;
            }
        }
        Ok(())
    }

    fn pause(&self) -> Duration {
        PAUSE
    }
}

impl Session {
    fn send<'a>(&self, events: impl Iterator<Item = &'a Event>) -> Result<(), Trouble> {
        for metrics in Batches::of(events) {
            self.client.post("runs/log-batch", &json!({"run_id": self.run.run_id, "metrics": metrics}))?;
        }
        Ok(())
    }
}

/// Returns the id of the experiment with this name; creates it if there is none.
fn experiment(client: &Client, name: &str) -> Result<String, Trouble> {
    let found = match client.get("experiments/get-by-name", "experiment_name", name) {
        Ok(found) => found["experiment"]["experiment_id"].as_str().map(str::to_owned),
        Err(failure) if failure.status == Some(404) => {
            client.post("experiments/create", &json!({"name": name}))?["experiment_id"].as_str().map(str::to_owned)
        }
        Err(failure) => return Err(failure.into()),
    };
    Ok(found.ok_or_else(|| Failure::lacks("experiments/get-by-name", "experiment_id"))?)
}

/// Converts seconds to whole milliseconds.
fn millis(seconds: f64) -> i64 {
    (seconds * 1000.0) as i64
}
