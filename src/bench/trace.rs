//! Converts a recorded step to a Chrome trace. Each thread has one row of operations and one of phases.

use serde_json::{Value, json};

use crate::kernels::profiler::Span;

/// The part of a step whose phases are inferred from its operations. Every other part is one phase.
pub const GRADIENT: &str = "gradient";

/// Returns complete events of the Chrome trace format, with times in microseconds. Row 2 i has the operations of thread i, row 2 i + 1 its
/// phases.
pub fn events(spans: &[Span]) -> Vec<Value> {
    let threads = spans.iter().map(|span| span.thread + 1).max().unwrap_or(0);
    let mut events = Vec::new();
    for thread in 0..threads {
        let own: Vec<&Span> = spans.iter().filter(|span| span.thread == thread).collect();
        events.extend(own.iter().map(|span| event(span.operation, "operation", 2 * thread, span.begin_s, span.end_s)));
        events.extend(phases(&own).into_iter().map(|(name, begin_s, end_s)| event(name, "phase", 2 * thread + 1, begin_s, end_s)));
    }
    events
}

fn event(name: &str, category: &str, row: usize, begin_s: f64, end_s: f64) -> Value {
    json!({"name": name, "cat": category, "ph": "X", "ts": begin_s * 1e6, "dur": (end_s - begin_s) * 1e6, "pid": 0, "tid": row})
}

/// Consecutive operations of the same phase: name, start and end in seconds.
///
/// The gradient of a micro-batch starts with the forward pass. The head starts at the first logits. The backward pass starts at the first
/// operation after a chunk of the head that does not start another chunk, and ends with the gradient of the embedding.
fn phases(spans: &[&Span]) -> Vec<(&'static str, f64, f64)> {
    let mut phases: Vec<(&'static str, f64, f64)> = Vec::new();
    let (mut gradient, mut last) = ("forward", "");
    for span in spans {
        let phase = if span.part == GRADIENT && span.operation == "add_into" {
            "sum over workers"
        } else if span.part == GRADIENT {
            gradient = match (gradient, last, span.operation) {
                ("forward", _, "logits") => "head",
                ("head", "scatter_add_into", operation) if !matches!(operation, "gather" | "indices") => "backward",
                ("backward", "scatter_add_into", _) => "forward",
                (same, ..) => same,
            };
            // `indices` may come between the end of a chunk or micro-batch and the operation that identifies the next phase.
            if span.operation != "indices" {
                last = span.operation;
            }
            gradient
        } else {
            (gradient, last) = ("forward", "");
            span.part
        };
        match phases.last_mut() {
            Some((name, _, end_s)) if *name == phase => *end_s = span.end_s,
            _ => phases.push((phase, span.begin_s, span.end_s)),
        }
    }
    phases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_follow_from_operations() {
        let operations = [
            ("rollouts", "gather"),
            ("rollouts", "sample"),
            ("reference", "logits"),
            (GRADIENT, "gather"),
            (GRADIENT, "attend_packed"),
            (GRADIENT, "logits"),
            (GRADIENT, "scatter_add_into"),
            (GRADIENT, "indices"),
            (GRADIENT, "gather"),
            (GRADIENT, "logits"),
            (GRADIENT, "scatter_add_into"),
            (GRADIENT, "swiglu_backward"),
            (GRADIENT, "indices"),
            (GRADIENT, "scatter_add_into"),
            (GRADIENT, "gather"),
            (GRADIENT, "logits"),
            (GRADIENT, "add_into"),
            ("optimizer", "adamw_in_place"),
        ];
        let span = |(i, (part, operation)): (usize, &(&'static str, &'static str))| {
            let begin_s = i as f64;
            Span { operation, part, thread: 0, begin_s, end_s: begin_s + 0.5 }
        };
        let spans: Vec<Span> = operations.iter().enumerate().map(span).collect();
        let found: Vec<_> = phases(&spans.iter().collect::<Vec<_>>()).into_iter().map(|(name, begin_s, _)| (name, begin_s)).collect();
        let expected = [
            ("rollouts", 0.0),
            ("reference", 2.0),
            ("forward", 3.0),
            ("head", 5.0),
            ("backward", 11.0),
            ("forward", 14.0),
            ("head", 15.0),
            ("sum over workers", 16.0),
            ("optimizer", 17.0),
        ];
        assert_eq!(found, expected);
        let events = events(&spans);
        assert_eq!(events.len(), spans.len() + expected.len());
        assert!(events.iter().all(|event| event["ph"] == "X" && event["dur"].as_f64() > Some(0.0)));
    }
}
