//! The numbers of `metrics.jsonl` as columns.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use crate::input::Lines;
use crate::metrics::with_current_names;

/// The numbers of a run by step. All columns are as long as `steps`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricColumns {
    /// The steps, in increasing order.
    pub steps: Vec<u64>,
    columns: BTreeMap<String, Vec<f64>>,
}

impl MetricColumns {
    /// Reads `metrics.jsonl`. Skips lines that are not records, such as one that is being written, and adds a sentence about them to
    /// `missing`. A step that occurs twice keeps its last line.
    pub fn read(path: &Path, missing: &mut Vec<String>) -> Self {
        let mut records: BTreeMap<u64, Map<String, Value>> = BTreeMap::new();
        let mut skipped = Vec::new();
        let lines = Lines::open(path).map(|lines| lines.collect::<Vec<_>>()).unwrap_or_else(|error| vec![Err(error)]);
        for line in lines {
            match line.map(|line| (parse(&line.text), line.number)) {
                Ok((Some((step, record)), _)) => drop(records.insert(step, record)),
                Ok((None, number)) => skipped.push(number.to_string()),
                Err(error) => missing.push(format!("{error:#}")),
            }
        }
        if !skipped.is_empty() {
            missing.push(format!("{} has lines that are not records, which are left out: {}", path.display(), skipped.join(", ")));
        }
        Self::of(&records)
    }

    fn of(records: &BTreeMap<u64, Map<String, Value>>) -> Self {
        let mut columns: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for (row, record) in records.values().enumerate() {
            for (key, value) in record {
                // The file has null for a number that is not finite.
                let Some(number) = value.as_f64().or_else(|| value.is_null().then_some(f64::NAN)) else { continue };
                let column = columns.entry(key.clone()).or_insert_with(|| vec![f64::NAN; records.len()]);
                column[row] = number;
            }
        }
        columns.remove("step");
        Self { steps: records.keys().copied().collect(), columns }
    }

    /// Returns a column; NaN where a step has no number. `None` if no step has the key.
    pub fn column(&self, key: &str) -> Option<&[f64]> {
        self.columns.get(key).map(Vec::as_slice)
    }

    /// Returns all columns in the order of their keys.
    pub fn columns(&self) -> impl Iterator<Item = (&str, &[f64])> {
        self.columns.iter().map(|(key, column)| (key.as_str(), column.as_slice()))
    }

    /// Returns `(step, value)` for the steps that have a finite number under a key.
    pub fn points(&self, key: &str) -> Vec<(u64, f64)> {
        let values = self.column(key).unwrap_or_default().iter().copied();
        self.steps.iter().copied().zip(values).filter(|(_, value)| value.is_finite()).collect()
    }

    /// Returns the last step.
    pub fn last_step(&self) -> Option<u64> {
        self.steps.last().copied()
    }
}

fn parse(line: &str) -> Option<(u64, Map<String, Value>)> {
    let record: Map<String, Value> = serde_json::from_str(line).ok()?;
    let step = record.get("step")?.as_u64()?;
    Some((step, with_current_names(record)))
}
