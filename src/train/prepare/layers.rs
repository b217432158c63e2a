//! Resolves layers of settings: the defaults for the model and the example, then the algorithm's preset, then the user's layers.

use std::path::Path;

use anyhow::{Result, ensure};
use toml::{Table, Value};

use crate::config;
use crate::tiny::embedded;
use crate::train::{Replay, RunSettings, algorithm};
use crate::verify::Grader;

/// Resolves layers of settings; later layers override earlier ones. If they name a recording, also returns the recording, whose sizes
/// become defaults.
///
/// # Errors
/// If a layer has an unknown setting or an invalid value, or contradicts the recording, or if the recording cannot be read.
pub(super) fn resolve(layers: &[Table]) -> Result<(RunSettings, Option<Replay>)> {
    let chosen = |key: &str| layers.iter().rev().find_map(|layer| layer.get(key)?.as_str());
    let model = match (chosen("model"), chosen("example")) {
        (Some(model), _) => model.to_owned(),
        (None, Some(example)) if is_published(example) => RunSettings::published().model,
        _ => embedded::NAME.to_owned(),
    };
    let defaults = defaults(&model, chosen("example"));
    let path = layers.iter().rev().find_map(|layer| layer.get("rollout")?.get("replay")?.as_str()).unwrap_or_default();
    let Some(replay) = recording(path)? else {
        return Ok((algorithm::resolve(&defaults, layers)?, None));
    };
    let settings = algorithm::resolve(&defaults, &[&replay_defaults(&replay)[..], layers].concat())?;
    let (groups, size) = (settings.rollout.groups, settings.rollout.group_size);
    ensure!(
        (groups, size) == (replay.groups, replay.group_size),
        "rollout.groups and rollout.group_size are {groups} and {size}, but the recording has {} groups of {}: leave both settings out",
        replay.groups,
        replay.group_size
    );
    let (ours, theirs) = (settings.rollout.temperature, replay.temperature(1).unwrap_or(settings.rollout.temperature));
    ensure!(
        ours == theirs,
        "rollout.temperature is {ours}, but the recorded log-probabilities are at temperature {theirs}: set it to {theirs}"
    );
    Ok((settings, Some(replay)))
}

/// Returns the defaults for a model and an example. By default, the paper's examples are graded as in the published run, so that results
/// are comparable. All others use our strict grader, which rejects fewer correct answers.
fn defaults(model: &str, example: Option<&str>) -> RunSettings {
    let mut defaults = RunSettings::defaults_for(model);
    if !is_published(example.unwrap_or(&defaults.example)) {
        (defaults.reward.grader, defaults.eval.grader) = (Grader::Strict, Grader::Strict);
    }
    defaults
}

/// Reads the recording at `path`; `None` if `path` is empty.
pub(super) fn recording(path: &str) -> Result<Option<Replay>> {
    (!path.is_empty()).then(|| Replay::read(Path::new(path))).transpose()
}

/// Returns the defaults of a replay: the recorded numbers of steps, groups and responses, and no evaluation.
fn replay_defaults(replay: &Replay) -> [Table; 5] {
    let count = |count: usize| Value::Integer(count as i64);
    // Responses that were sampled under masks are trained on under the same masks.
    let truncated = replay.has_sampling_masks().then(|| config::group("rollout", [("truncated", Value::String("renormalise".to_owned()))]));
    [
        truncated.unwrap_or_default(),
        Table::from_iter([("example".to_owned(), Value::String("recorded".to_owned()))]),
        config::group("rollout", [("groups", count(replay.groups)), ("group_size", count(replay.group_size))]),
        config::group("train", [("steps", count(replay.len()))]),
        config::group("eval", [("benchmarks", Value::String(String::new()))]),
    ]
}

/// True if all names in `example` are the paper's examples, which the paper's model trains on by default.
fn is_published(example: &str) -> bool {
    let is_pi = |name: &str| name.strip_prefix("pi").is_some_and(|rank| rank.parse::<u32>().is_ok());
    example.split(',').all(|name| name == "dsr-sub" || name.starts_with("dsr-sub/") || name.split("..").all(is_pi))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_grade_only_the_papers_examples_as_published() {
        let check = |model: &str, example: Option<&str>, expected: (Grader, Grader)| {
            let defaults = defaults(model, example);
            assert_eq!((defaults.reward.grader, defaults.eval.grader), expected, "{model} {example:?}");
        };
        let published = (Grader::Deepscaler, Grader::Qwen);
        check("Qwen/Qwen2.5-Math-1.5B", None, published);
        check("some/folder", Some("pi1,pi13"), published);
        check("some/folder", Some("dsr-sub"), published);
        check("some/folder", Some("mine.jsonl"), (Grader::Strict, Grader::Strict));
        check("tiny", None, (Grader::Strict, Grader::Strict));
        check("tiny", Some("pi1"), (Grader::Strict, Grader::Strict));
    }
}
