//! Settings in layers: the defaults that fit the model and the example, the algorithm's preset, then what was asked.

use std::path::Path;

use anyhow::{Result, ensure};
use toml::{Table, Value};

use crate::config;
use crate::tiny::embedded;
use crate::train::{Replay, RunSettings, algorithm};
use crate::verify::Grader;

/// The settings that layers come to, the last one on top; and the recording, where they name one, whose numbers are defaults too.
///
/// # Errors
/// When a layer has an unknown setting or a value outside its range, or says something else than the recording.
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
    let settings = algorithm::resolve(&defaults, &[&recorded(&replay)[..], layers].concat())?;
    let (groups, size) = (settings.rollout.groups, settings.rollout.group_size);
    ensure!(
        (groups, size) == (replay.groups, replay.group_size),
        "rollout.groups and rollout.group_size are {groups} and {size}; the recording has {} groups of {}: leave them out",
        replay.groups,
        replay.group_size
    );
    let (ours, theirs) = (settings.rollout.temperature, replay.temperature(1).unwrap_or(settings.rollout.temperature));
    ensure!(ours == theirs, "rollout.temperature is {ours}; the recorded log-probabilities are of {theirs}: set it to that");
    Ok((settings, Some(replay)))
}

/// The defaults that fit the model and the example. One of the paper's examples is graded as the published run was, so that its figures can be
/// compared; any other example by our own grader, which rejects fewer right answers.
fn defaults(model: &str, example: Option<&str>) -> RunSettings {
    let mut defaults = RunSettings::defaults_for(model);
    if !is_published(example.unwrap_or(&defaults.example)) {
        (defaults.reward.grader, defaults.eval.grader) = (Grader::Strict, Grader::Strict);
    }
    defaults
}

/// A recording, where its path is not empty.
pub(super) fn recording(path: &str) -> Result<Option<Replay>> {
    (!path.is_empty()).then(|| Replay::read(Path::new(path))).transpose()
}

/// The defaults of a replay: as many steps and groups as were recorded, and no evaluation.
fn recorded(replay: &Replay) -> [Table; 5] {
    let count = |count: usize| Value::Integer(count as i64);
    // A recording with kept tokens is trained on as it was drawn.
    let truncated = replay.records_kept().then(|| config::group("rollout", [("truncated", Value::String("renormalise".to_owned()))]));
    [
        truncated.unwrap_or_default(),
        Table::from_iter([("example".to_owned(), Value::String("recorded".to_owned()))]),
        config::group("rollout", [("groups", count(replay.groups)), ("group_size", count(replay.group_size))]),
        config::group("train", [("steps", count(replay.len()))]),
        config::group("eval", [("benchmarks", Value::String(String::new()))]),
    ]
}

/// Whether a name is one of the paper's examples, which its model goes with.
fn is_published(example: &str) -> bool {
    let is_pi = |name: &str| name.strip_prefix("pi").is_some_and(|rank| rank.parse::<u32>().is_ok());
    example.split(',').all(|name| name == "dsr-sub" || name.starts_with("dsr-sub/") || name.split("..").all(is_pi))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_papers_examples_are_graded_as_published() {
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
