//! The old names of metrics, so that records of earlier versions can be read. Everything that reads `metrics.jsonl` reads it through
//! [`with_current_names`], because the lines of a resumed run keep their old names.

use serde_json::{Map, Value};

/// Old keys, each with the key that replaced it; `None` if the quantity already had another name.
pub const RENAMED: &[(&str, Option<&str>)] = &[
    ("critic/score/mean", Some("reward/mean")),
    ("critic/score/max", Some("reward/max")),
    ("critic/score/min", Some("reward/min")),
    ("critic/rewards/mean", Some("reward/with_kl/mean")),
    ("train/boxed", Some("train/boxed_share")),
    ("reward/zero_std_groups", Some("reward/zero_std_share")),
    ("perf/time_per_step", Some("perf/step_s")),
    ("perf/throughput", Some("perf/response_tokens_per_s")),
    // The mean of the reward `outcome` is train/accuracy, and that of `format` is train/boxed_share.
    ("reward/outcome/mean", None),
    ("reward/format/mean", None),
    // Sums of the phases' times.
    ("perf/generate_s", None),
    ("perf/update_s", None),
    ("perf/critic_s", None),
];

/// Replaces the old names in a line of metrics. A value under its current name has precedence.
pub fn with_current_names(mut line: Map<String, Value>) -> Map<String, Value> {
    for (old, new) in RENAMED {
        if let (Some(value), Some(new)) = (line.remove(*old), new) {
            line.entry(*new).or_insert(value);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::metrics::catalog;

    fn check(line: &Value, expected: &Value) {
        assert_eq!(Value::Object(with_current_names(line.as_object().unwrap().clone())), *expected);
    }

    #[test]
    fn with_current_names_replaces_old_names_only() {
        check(
            &json!({"step": 3, "critic/score/mean": 0.5, "train/boxed": null, "reward/outcome/mean": 0.5, "actor/lr": 1e-6}),
            &json!({"step": 3, "reward/mean": 0.5, "train/boxed_share": null, "actor/lr": 1e-6}),
        );
        check(&json!({"perf/throughput": 1.0, "perf/response_tokens_per_s": 2.0}), &json!({"perf/response_tokens_per_s": 2.0}));
        let current = json!({"step": 1, "train/accuracy": 0.25, "val/tiny-greedy": 0.5});
        check(&current, &current);
    }

    #[test]
    fn renamed_metrics_lead_to_names_of_the_catalog() {
        for (old, new) in RENAMED {
            assert!(catalog::METRICS.iter().all(|metric| metric.key != *old), "{old} is still a metric");
            assert!(new.is_none_or(|new| catalog::METRICS.iter().any(|metric| metric.key == new)), "{old} leads to {new:?}");
        }
    }
}
