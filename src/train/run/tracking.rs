//! Reports a run to its trackers: the settings, the metrics of each step, the rewards and lengths of all responses, samples of responses,
//! and the end.

use anyhow::{Error, Result};
use serde_json::{Map, Value};
use toml::Table;

use super::{Outcome, Run, samples};
use crate::config;
use crate::eval::Pass;
use crate::flow::ScoredRollout;
use crate::metrics::Tracking;
use crate::metrics::tensorboard::values::Param;
use crate::metrics::tracking::{Content, End, Event, RunInfo};
use crate::train::settings::RunSettings;

impl Run<'_> {
    /// Starts the trackers. `earlier` has the lines of metrics that a resumed run continues; `None` for a new run.
    pub(super) fn start_tracking(&mut self, earlier: Option<Vec<Map<String, Value>>>) -> Result<()> {
        let base = self.history.evaluations.iter().find(|evaluation| evaluation.step == 0).map(|base| {
            let accuracies = base.scores.iter().map(|(name, score)| (format!("val/{name}"), score.mean()));
            Event::now(0, Content::Scalars(accuracies.collect()))
        });
        let earlier = earlier.map(|lines| base.into_iter().chain(lines.iter().filter_map(Event::of_line)).collect());
        let info = RunInfo { folder: self.folder.root().to_owned(), params: params(&self.settings)?, next_step: self.step + 1, earlier };
        self.tracking = Tracking::start(&self.settings.tracking, info);
        Ok(())
    }

    /// Reports a line of metrics, and prints messages that arrived from trackers.
    pub(super) fn track_line(&mut self, line: &Map<String, Value>) {
        if let Some(event) = Event::of_line(line) {
            self.tracking.record(event);
        }
        self.tracking.messages().iter().for_each(|message| self.console.note(message));
    }

    /// Reports the rewards and lengths of a step's responses, and some of the responses at the steps that are evaluated.
    pub(super) fn track_rollouts(&self, settings: &RunSettings, scored: &[ScoredRollout]) {
        if !self.tracking.shows_texts() {
            return;
        }
        let lengths = scored.iter().map(|scored| scored.rollout.completion.ids.len() as f32).collect();
        let rewards = scored.iter().map(|scored| scored.reward).collect();
        self.track(Content::Histogram("reward/distribution", rewards));
        self.track(Content::Histogram("response_length/distribution", lengths));
        let every = settings.eval.every;
        if self.step == settings.train.steps || (every > 0 && self.step.is_multiple_of(every)) {
            self.track(Content::Text("responses/training".to_owned(), samples::of_training(scored)));
        }
    }

    /// Reports some of the responses of an evaluation.
    pub(super) fn track_evaluation(&self, passes: &[Pass]) {
        for pass in passes.iter().filter(|_| self.tracking.shows_texts()) {
            self.track(Content::Text(format!("responses/{}", pass.name), samples::of_evaluation(&self.inputs.sets, pass)));
        }
    }

    /// Ends the trackers and prints their last messages.
    pub(super) fn end_tracking(&mut self, outcome: &Result<Outcome, Error>) {
        let end = match outcome {
            Ok(Outcome::Done) => End::Finished,
            Ok(Outcome::Interrupted { .. }) => End::Killed,
            Err(_) => End::Failed,
        };
        std::mem::take(&mut self.tracking).finish(end).iter().for_each(|message| message!("{message}"));
    }

    fn track(&self, content: Content) {
        self.tracking.record(Event::now(self.step, content));
    }
}

/// Returns the settings by path, except those of trackers.
fn params(settings: &RunSettings) -> Result<Vec<(String, Param)>> {
    let table = Table::try_from(settings)?;
    let param = |value: &toml::Value| match value {
        toml::Value::Integer(number) => Param::Number(*number as f64),
        toml::Value::Float(number) => Param::Number(*number),
        toml::Value::Boolean(boolean) => Param::Boolean(*boolean),
        toml::Value::String(text) => Param::Text(text.clone()),
        other => Param::Text(other.to_string()),
    };
    let all = config::flatten(&table).into_iter().filter(|(path, _)| !path.starts_with("tracking."));
    Ok(all.map(|(path, value)| (path, param(value))).collect())
}
