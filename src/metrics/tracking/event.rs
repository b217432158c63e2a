//! What a run reports to its trackers.

use serde_json::{Map, Value};

use crate::metrics::tensorboard::now_s;

/// Something that a run reports to its trackers.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The step that it belongs to; 0 is the base model.
    pub step: u64,
    /// The time in seconds since 1970.
    pub wall_time_s: f64,
    /// What it reports.
    pub content: Content,
}

/// What an event reports.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// The metrics of a step by name; NaN for one that is not finite.
    Scalars(Vec<(String, f64)>),
    /// The values of all responses of a step, under a name.
    Histogram(&'static str, Vec<f32>),
    /// Markdown under a name.
    Text(String, String),
}

impl Event {
    /// Makes an event that happens now.
    pub fn now(step: u64, content: Content) -> Self {
        Self { step, wall_time_s: now_s(), content }
    }

    /// Makes the event of a line of metrics; `None` if the line has no step. Numbers that are not finite are `null` in the line, and NaN in
    /// the event.
    pub fn of_line(line: &Map<String, Value>) -> Option<Self> {
        let number = |(key, value): (&String, &Value)| match value {
            Value::Null => Some((key.clone(), f64::NAN)),
            value => Some((key.clone(), value.as_f64()?)),
        };
        let scalars = line.iter().filter(|(key, _)| *key != "step").filter_map(number).collect();
        Some(Self::now(line.get("step")?.as_u64()?, Content::Scalars(scalars)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_line_takes_every_number_except_the_step() {
        let read = |line: Value| Event::of_line(line.as_object().unwrap());
        let event = read(json!({"step": 3, "actor/lr": 1e-6, "saturation_step": 2, "note": "text"})).unwrap();
        assert_eq!(event.step, 3);
        assert_eq!(event.content, Content::Scalars(vec![("actor/lr".to_owned(), 1e-6), ("saturation_step".to_owned(), 2.0)]));
        let Content::Scalars(values) = read(json!({"step": 1, "actor/grad_norm": null})).unwrap().content else { panic!("scalars") };
        assert!(values[0].1.is_nan());
        assert_eq!(read(json!({"actor/lr": 1.0})), None);
    }
}
