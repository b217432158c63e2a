//! Parameters and metrics in MLflow's form, split so that each request stays within the server's limits: 1000 metrics or 100 parameters per
//! request, and the lengths of names and values.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::millis;
use crate::metrics::tensorboard::values::Param;
use crate::metrics::tracking::event::{Content, Event};

const MAX_METRICS: usize = 1000;
const MAX_PARAMS: usize = 100;
/// The maximum length of a name, in characters.
const MAX_NAME: usize = 250;
/// The maximum length of a parameter's value, in characters.
const MAX_VALUE: usize = 6000;

/// The metrics of events, in requests of at most 1000.
pub(super) struct Batches(std::vec::IntoIter<Vec<Value>>);

impl Batches {
    pub(super) fn of<'a>(events: impl Iterator<Item = &'a Event>) -> Self {
        let metrics: Vec<Value> = events.flat_map(metrics).collect();
        let batches: Vec<Vec<Value>> = metrics.chunks(MAX_METRICS).map(<[Value]>::to_vec).collect();
        Self(batches.into_iter())
    }
}

impl Iterator for Batches {
    type Item = Vec<Value>;

    fn next(&mut self) -> Option<Vec<Value>> {
        self.0.next()
    }
}

/// Returns the number of first events whose metrics fit into one request, at least 1.
pub(super) fn in_one_request(events: &[Arc<Event>]) -> usize {
    let mut metrics = 0;
    let fits = |event: &&Arc<Event>| {
        metrics += if let Content::Scalars(scalars) = &event.content { scalars.len() } else { 0 };
        metrics <= MAX_METRICS
    };
    events.iter().take_while(fits).count().max(1)
}

/// Pairs of a key and a value, for parameters or tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    pub(super) fn of(params: &[(String, Param)]) -> Self {
        let text = |param: &Param| match param {
            Param::Number(number) => number.to_string(),
            Param::Boolean(boolean) => boolean.to_string(),
            Param::Text(text) => text.chars().take(MAX_VALUE).collect(),
        };
        Self(params.iter().map(|(name, param)| (allowed(name), text(param))).collect())
    }

    /// Compares with the parameters of a run on the server. Returns those that it lacks, and tags for those that differ.
    pub(super) fn compared_with(&self, on_server: &Value) -> (Self, Self) {
        let pair = |param: &Value| Some((param["key"].as_str()?.to_owned(), param["value"].as_str()?.to_owned()));
        let before: BTreeMap<String, String> = on_server.as_array().into_iter().flatten().filter_map(pair).collect();
        let (mut new, mut changed) = (Self::default(), Self::default());
        for (name, value) in &self.0 {
            match before.get(name) {
                None => new.0.push((name.clone(), value.clone())),
                Some(before) if before != value => changed.0.push((allowed(&format!("changed.{name}")), value.clone())),
                Some(_) => {}
            }
        }
        (new, changed)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns requests of at most 100 pairs.
    pub(super) fn batches(&self) -> Vec<Vec<Value>> {
        let json = |(key, value): &(String, String)| json!({"key": key, "value": value});
        self.0.chunks(MAX_PARAMS).map(|params| params.iter().map(json).collect()).collect()
    }
}

/// Returns the last step of a run's latest metrics; `None` if it has none.
pub(super) fn last_step(latest: &Value) -> Option<u64> {
    let step = |metric: &Value| metric["step"].as_u64().or_else(|| metric["step"].as_str()?.parse().ok());
    // A metric at step 0 may have no `step`, because the server leaves out zeros.
    latest.as_array().into_iter().flatten().map(|metric| step(metric).unwrap_or(0)).max()
}

fn metrics(event: &Event) -> Vec<Value> {
    let Content::Scalars(scalars) = &event.content else { return Vec::new() };
    let metric = |(name, number): &(String, f64)| {
        // JSON has no such numbers; the server reads these strings.
        let number = match *number {
            f64::INFINITY => json!("Infinity"),
            f64::NEG_INFINITY => json!("-Infinity"),
            number if number.is_nan() => json!("NaN"),
            number => json!(number),
        };
        json!({"key": allowed(name), "value": number, "timestamp": millis(event.wall_time_s), "step": event.step})
    };
    scalars.iter().map(metric).collect()
}

/// Replaces characters that MLflow does not allow in names, and cuts long names.
fn allowed(name: &str) -> String {
    let is_allowed = |c: char| c.is_alphanumeric() || "_-. /".contains(c);
    name.chars().map(|c| if is_allowed(c) { c } else { '_' }).take(MAX_NAME).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(step: u64, count: usize) -> Event {
        let scalars = (0..count).map(|number| (format!("val/{number}"), number as f64)).collect();
        Event { step, wall_time_s: 12.5, content: Content::Scalars(scalars) }
    }

    #[test]
    fn batches_have_at_most_1000_metrics() {
        let check = |events: &[Event], expected: &[usize]| {
            assert_eq!(Batches::of(events.iter()).map(|batch| batch.len()).collect::<Vec<_>>(), expected);
        };
        check(&[], &[]);
        check(&[event(1, 600), event(2, 400)], &[1000]);
        check(&[event(1, 600), event(2, 401), event(3, 1)], &[1000, 2]);
        let text = Event { content: Content::Text("a".into(), "b".into()), ..event(1, 0) };
        check(&[text], &[]);
    }

    #[test]
    fn in_one_request_counts_events_up_to_1000_metrics() {
        let check = |counts: &[usize], expected: usize| {
            let events: Vec<Arc<Event>> = counts.iter().map(|count| Arc::new(event(1, *count))).collect();
            assert_eq!(in_one_request(&events), expected, "{counts:?}");
        };
        check(&[600, 400, 1], 2);
        check(&[1001, 1], 1);
        check(&[1, 2], 2);
    }

    #[test]
    fn batches_write_numbers_that_are_not_finite_as_strings() {
        let scalars = [("a b", 0.25), ("c(d)", f64::NAN), ("e", f64::INFINITY)].map(|(name, number)| (name.to_owned(), number));
        let event = Event { step: 3, wall_time_s: 1.5, content: Content::Scalars(scalars.to_vec()) };
        let found: Vec<Value> = Batches::of([&event].into_iter()).flatten().collect();
        let expected = |key: &str, value: Value| json!({"key": key, "value": value, "timestamp": 1500, "step": 3});
        assert_eq!(found, [expected("a b", json!(0.25)), expected("c_d_", json!("NaN")), expected("e", json!("Infinity"))]);
    }

    #[test]
    fn params_compared_with_the_server_are_new_or_changed() {
        let params =
            [("seed", Param::Number(0.0)), ("lr", Param::Number(1e-6)), ("a", Param::Boolean(true)), ("b", Param::Text("x".into()))];
        let params = Params::of(&params.map(|(name, param)| (name.to_owned(), param)));
        let server = json!([{"key": "seed", "value": "0"}, {"key": "lr", "value": "0.001"}, {"key": "b", "value": "x"}]);
        let (new, changed) = params.compared_with(&server);
        assert_eq!(new.0, [("a".to_owned(), "true".to_owned())]);
        assert_eq!(changed.0, [("changed.lr".to_owned(), "0.000001".to_owned())]);
        assert_eq!(params.compared_with(&Value::Null).0, params);
        assert_eq!(Params((0..250).map(|n| (n.to_string(), String::new())).collect()).batches().iter().map(Vec::len).sum::<usize>(), 250);
    }

    #[test]
    fn last_step_is_the_largest() {
        let check = |latest: Value, expected: Option<u64>| assert_eq!(last_step(&latest), expected, "{latest}");
        check(Value::Null, None);
        check(json!([]), None);
        check(json!([{"key": "val/a"}]), Some(0));
        check(json!([{"step": 3}, {"step": "12"}, {"step": 7}]), Some(12));
    }
}
