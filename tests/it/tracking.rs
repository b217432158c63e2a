//! Trackers: an MLflow server that answers, one that refuses, and one that hangs, none of which changes the run.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;

use serde_json::{Value, json};

use crate::endpoint::server::{Reaction, Received, Server};
use crate::fixture::{command, metrics, signal, stderr, steps_of, text, wait_for, weights};

/// Returns the arguments of a short run that is recorded in MLflow at `address`.
fn arguments<'a>(out: &'a Path, sets: &[&'a str]) -> Vec<&'a str> {
    let short = ["train", "--steps", "3", "--set", "eval.limit=10", "--set", "rollout.groups=2", "--out", out.to_str().unwrap()];
    short.into_iter().chain(sets.iter().flat_map(|set| ["--set", *set])).collect()
}

/// Answers like an MLflow server with one experiment and one run, which has these steps already.
fn mlflow(steps: &'static [u64]) -> Server {
    Server::new(move |request: &Received| {
        let path = request.path.split('?').next().unwrap().trim_start_matches("/api/2.0/mlflow/");
        let latest: Vec<Value> = steps.iter().map(|step| json!({"key": "train/accuracy", "step": step})).collect();
        match path {
            "experiments/get-by-name" => Reaction::Status(404, "", r#"{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"}"#),
            "experiments/create" => Reaction::Body(json!({"experiment_id": "7"})),
            "runs/create" => {
                Reaction::Body(json!({"run": {"info": {"run_id": "abc", "artifact_uri": "mlflow-artifacts:/7/abc/artifacts"}}}))
            }
            "runs/get" => Reaction::Body(json!({"run": {"info": {"run_id": "abc"}, "data": {"metrics": latest}}})),
            _ => Reaction::Body(json!({})),
        }
    })
}

fn bodies<'a>(received: &'a [Received], end: &str) -> Vec<&'a Value> {
    received.iter().filter(|request| request.path.ends_with(end)).map(|request| &request.body).collect()
}

/// Returns the metrics that the server received, by step and name.
fn received_metrics(received: &[Received]) -> BTreeMap<(u64, String), f64> {
    let all = bodies(received, "runs/log-batch").into_iter().flat_map(|body| body["metrics"].as_array().into_iter().flatten());
    let entry = |metric: &Value| {
        let (step, key) = (metric["step"].as_u64().unwrap(), metric["key"].as_str().unwrap().to_owned());
        ((step, key), metric["value"].as_f64().unwrap())
    };
    all.map(entry).collect()
}

/// Returns the metrics of a run's lines, by step and name.
fn recorded_metrics(run: &Path) -> BTreeMap<(u64, String), f64> {
    let lines = metrics(run);
    let entries = lines.iter().flat_map(|line| {
        let step = line["step"].as_u64().unwrap();
        line.as_object()
            .unwrap()
            .iter()
            .filter(|(key, _)| *key != "step")
            .map(move |(key, value)| ((step, key.clone()), value.as_f64().unwrap()))
    });
    entries.collect()
}

#[test]
fn train_records_the_run_in_mlflow() {
    let (folder, server) = (tempfile::tempdir().unwrap(), mlflow(&[]));
    let out = folder.path().join("run");
    let address = format!("tracking.mlflow={}", server.address);
    let mut command = command(&arguments(&out, &[&address, "tracking.experiment=one example"]));
    let output = command.env("MLFLOW_TRACKING_TOKEN", "secret").output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("/#/experiments/7/runs/abc") && !stderr(&output).contains("secret"), "{}", stderr(&output));
    let received = server.received();
    assert!(received.iter().all(|request| request.authorization.as_deref() == Some("Bearer secret")));
    assert_eq!(bodies(&received, "experiments/create"), [&json!({"name": "one example"})]);
    assert_eq!(bodies(&received, "runs/create")[0]["run_name"], "run");
    let batches = bodies(&received, "runs/log-batch");
    let params: Vec<&Value> = batches.iter().flat_map(|body| body["params"].as_array().into_iter().flatten()).collect();
    assert!(params.contains(&&json!({"key": "rollout.groups", "value": "2"})), "{params:?}");
    assert!(batches.iter().all(|body| body["params"].as_array().is_none_or(|params| params.len() <= 100)));
    let mut found = received_metrics(&received);
    assert_eq!(found.iter().filter(|((step, key), _)| *step == 0 && key.starts_with("val/")).count(), 2, "the base model");
    found.retain(|(step, _), _| *step > 0);
    assert_eq!(found, recorded_metrics(&out));
    let ends: Vec<&str> = bodies(&received, "runs/update").iter().map(|body| body["status"].as_str().unwrap()).collect();
    assert_eq!(ends, ["FINISHED"]);
    let artifact = |name: &str| received.iter().any(|request| request.path.ends_with(&format!("/7/abc/artifacts/{name}")));
    assert!(artifact("summary.json") && artifact("curves.svg") && artifact("config.toml"), "{received:?}");
    assert!(!text(&out.join("config.toml")).contains("secret"));
}

/// A resumed run continues its MLflow run with the steps that the server lacks: here those after the first.
#[test]
fn train_resumes_the_run_in_mlflow() {
    let (folder, server) = (tempfile::tempdir().unwrap(), mlflow(&[0, 1]));
    let out = folder.path().join("run");
    let address = format!("tracking.mlflow={}", server.address);
    let output = command(&arguments(&out, &[&address])).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let before = server.received().len();
    let output = command(&["train", "--resume", out.to_str().unwrap(), "--steps", "5"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let received = server.received()[before..].to_vec();
    assert!(bodies(&received, "runs/create").is_empty());
    let mut expected = recorded_metrics(&out);
    expected.retain(|(step, _), _| *step > 1);
    assert_eq!(received_metrics(&received), expected);
    let statuses: Vec<&str> = bodies(&received, "runs/update").iter().map(|body| body["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["RUNNING", "FINISHED"]);
}

#[test]
fn train_reports_a_stopped_run_to_mlflow_as_killed() {
    let (folder, server) = (tempfile::tempdir().unwrap(), mlflow(&[]));
    let out = folder.path().join("run");
    let address = format!("tracking.mlflow={}", server.address);
    let mut arguments = arguments(&out, &[&address]);
    arguments[2] = "100000";
    let mut child = command(&arguments).spawn().unwrap();
    wait_for("the first step", || steps_of(&out) > 0);
    signal(&child, "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(143));
    let received = server.received();
    let ends: Vec<&str> = bodies(&received, "runs/update").iter().map(|body| body["status"].as_str().unwrap()).collect();
    assert_eq!(ends, ["KILLED"]);
}

/// Servers that refuse, hang or do not exist change neither the run nor its exit code.
#[test]
fn train_does_not_depend_on_its_trackers() {
    let folder = tempfile::tempdir().unwrap();
    let alone = folder.path().join("alone");
    let output = command(&arguments(&alone, &["tracking.tensorboard=false"])).output().unwrap();
    assert!(output.status.success() && !stderr(&output).contains("MLflow"), "{}", stderr(&output));
    let refuses = Server::new(|_| Reaction::Status(401, "", r#"{"message": "who are \u001b[31myou?"}"#));
    // Accepts connections and never answers.
    let hangs = TcpListener::bind("127.0.0.1:0").unwrap();
    let hangs = format!("http://{}", hangs.local_addr().unwrap());
    let absent = "http://127.0.0.1:9".to_owned();
    for (name, address, expected) in [
        ("refuses", &refuses.address, &["status 401: who are \\u{1b}[31myou?", "4 records were not delivered"]),
        ("hangs", &hangs, &["4 records were not delivered", "it did not answer in time"]),
        ("absent", &absent, &["warning: MLflow at http://127.0.0.1:9", "4 records were not delivered"]),
    ] {
        let out = folder.path().join(name);
        let output = command(&arguments(&out, &[])).env("MLFLOW_TRACKING_URI", address).output().unwrap();
        let messages = stderr(&output);
        assert!(output.status.success(), "{messages}");
        for part in expected {
            assert_eq!(messages.matches(part).count(), 1, "{part} in {messages}");
        }
        assert!(weights(&out, 3) == weights(&alone, 3), "{name} changed the weights");
    }
}
