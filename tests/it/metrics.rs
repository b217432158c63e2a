//! The names in `metrics.jsonl`: each is in the catalog, no two name the same quantity, and lines with old names are still read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value};

use rlvr::metrics::{RENAMED, catalog};

use crate::fixture::{metrics, stderr, succeed};

/// Trains the demonstration for a few steps with more settings, and returns its metrics.
fn train(out: &Path, steps: &str, sets: &[&str]) -> Vec<Value> {
    let mut arguments = vec!["train", "--steps", steps, "--out", out.to_str().unwrap(), "--set", "eval.limit=10", "--set", "eval.every=2"];
    sets.iter().for_each(|set| arguments.extend(["--set", set]));
    succeed(&arguments);
    metrics(out)
}

/// Returns the values of each key that every line has.
fn columns(lines: &[Value]) -> BTreeMap<&String, Vec<&Value>> {
    let mut columns: BTreeMap<&String, Vec<&Value>> = BTreeMap::new();
    lines.iter().flat_map(|line| line.as_object().unwrap()).for_each(|(key, value)| columns.entry(key).or_default().push(value));
    columns
}

fn check_keys(lines: &[Value]) {
    for key in lines.iter().flat_map(|line| line.as_object().unwrap().keys()) {
        assert!(catalog::find(key).is_some(), "{key} is not in src/metrics/catalog.rs");
    }
}

#[test]
fn metrics_name_each_quantity_once() {
    let folder = tempfile::tempdir().unwrap();
    let lines = train(&folder.path().join("demonstration"), "6", &[]);
    check_keys(&lines);
    let columns = columns(&lines);
    let is_constant = |values: &[&Value]| values.iter().all(|value| *value == values[0]);
    let changing: Vec<_> = columns.iter().filter(|(_, values)| values.len() == lines.len() && !is_constant(values)).collect();
    assert!(changing.len() > 10, "{changing:?}");
    for (number, (key, values)) in changing.iter().enumerate() {
        let same: Vec<_> = changing[number + 1..].iter().filter(|(_, others)| others == values).map(|(other, _)| other).collect();
        assert!(same.is_empty(), "{key} equals {same:?} at all steps: {values:?}");
    }
    // Rows with a fixed name that this run must have.
    let missing: Vec<&str> = catalog::METRICS
        .iter()
        .filter(|metric| metric.present.is_empty() || metric.present == "unless a critic warms up")
        .map(|metric| metric.key)
        .filter(|key| columns.get(&(*key).to_owned()).is_none_or(|values| values.len() < lines.len()))
        .collect();
    assert!(missing.is_empty(), "no step has {missing:?}");
}

/// A run with a critic, several rewards and KL in the reward has the metrics that the demonstration lacks.
#[test]
fn metrics_of_other_settings_are_in_the_catalog() {
    let folder = tempfile::tempdir().unwrap();
    let sets = ["algo=ppo", "reward.name=outcome + 0.5*format - 0.1*random(0.5)", "rollout.groups=4", "train.updates_per_rollout=2"];
    let lines = train(&folder.path().join("run"), "2", &sets);
    check_keys(&lines);
    let found: BTreeSet<&String> = lines[1].as_object().unwrap().keys().collect();
    let is_missing = |metric: &&catalog::Metric| {
        !found.contains(&metric.key.to_owned()) && (metric.key.starts_with("critic/") || metric.key.starts_with("reward/m"))
    };
    let missing: Vec<&str> = catalog::METRICS.iter().filter(is_missing).map(|metric| metric.key).collect();
    assert!(missing.is_empty(), "the run lacks {missing:?}");
    assert!(found.contains(&"reward/random/mean".to_owned()) && found.contains(&"reward/with_kl/mean".to_owned()), "{found:?}");
}

/// Gives the metrics of a line the names that earlier versions wrote.
fn with_old_names(line: &Value) -> Value {
    let mut line: Map<String, Value> = line.as_object().unwrap().clone();
    for (old, new) in RENAMED {
        if let Some(value) = new.and_then(|new| line.remove(new)) {
            line.insert((*old).to_owned(), value);
        }
    }
    Value::Object(line)
}

#[test]
fn train_resumes_a_run_with_old_metric_names() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let whole = train(&out, "4", &["checkpoint.every=2", "reward.name=2*outcome"]);
    let old: Vec<Value> = whole.iter().map(with_old_names).collect();
    assert!(old[0].get("critic/score/mean").is_some() && old[0].get("reward/mean").is_none(), "{}", old[0]);
    let text: String = old.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(out.join("metrics.jsonl"), text).unwrap();
    let messages = stderr(&succeed(&["train", "--resume", out.to_str().unwrap(), "--at", "2"]));
    assert!(messages.contains("resumed after step 2"), "{messages}");
    let resumed = metrics(&out);
    assert_eq!(resumed[..2], old[..2], "earlier lines stay as they are");
    let untimed = |line: &Value| {
        let mut line = line.as_object().unwrap().clone();
        line.retain(|key, _| !key.starts_with("perf/"));
        line
    };
    assert_eq!(resumed[2..].iter().map(untimed).collect::<Vec<_>>(), whole[2..].iter().map(untimed).collect::<Vec<_>>());
}
