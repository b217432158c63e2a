//! Writes the files of a run: a step's records, evaluations, checkpoints and the summary.

use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::{Map, Value, json};

use super::{Run, RunInputs, trained};
use crate::checkpoint::model::write_adapter;
use crate::checkpoint::state::{self, Progress};
use crate::checkpoint::{manifest, stream_file, write_file, write_folder_with_manifest};
use crate::eval::{Evaluator, LocalModel, Pass};
use crate::flow::ScoredRollout;
use crate::metrics::tracking::{Content, Event};
use crate::metrics::{Phase, StepLine, jsonl};
use crate::model::gradients::parameters;
use crate::reward::Rewards;
use crate::reward::label::Relabeled;
use crate::train::folder::{RunFolder, write_gzip_lines};
use crate::train::history::Evaluation;
use crate::train::invocation::resume_command;
use crate::train::measures::{self, Measures, mean};
use crate::train::monitor::{RunTraits, StepMetrics};
use crate::train::resumption::crash_recovery;
use crate::train::resumption::records::Records;
use crate::train::settings::RunSettings;
use crate::train::{dynamic_sampling, rollouts, run_summary};

impl Run<'_> {
    /// Writes a step's rollouts and events, and prints the step. Returns its metrics line, which still lacks evaluation and times.
    pub(super) fn record(&mut self, settings: &RunSettings, scored: &[ScoredRollout], measures: &Measures) -> Result<Map<String, Value>> {
        let metrics = measures::metrics(settings, &self.rewards, scored, measures);
        let terms = &measures.updated.report.terms;
        let accuracy = mean(scored, |scored| f32::from(scored.correct));
        let was_saturated = self.history.saturation_step().is_some();
        self.history.train_accuracy.push((self.step as u32, accuracy as f32));
        let mut line = Map::from_iter([("step".to_owned(), json!(self.step))]);
        line.extend(metrics.iter().map(|(name, value)| (name.clone(), json!(value))));
        let warnings = self.report_warnings(&line, measures.updated.skipped.as_deref());
        line.extend(warnings.iter().map(|(name, value)| (name.clone(), json!(value))));
        self.track_rollouts(settings, scored);
        let with_tokens = settings.eval.every > 0 && self.step.is_multiple_of(settings.eval.every);
        if self.inputs.world.is_first() {
            let lines = scored.iter().map(|scored| rollouts::line(settings, self.step, scored, with_tokens));
            write_gzip_lines(&self.folder.rollouts(self.step), lines)?;
        }
        self.console.step(&StepLine {
            step: self.step as u32,
            train_accuracy: accuracy as f32,
            reward: mean(scored, |scored| scored.reward) as f32,
            entropy: terms.per_token(terms.token_entropy) as f32,
            response_length: mean(scored, |scored| scored.rollout.completion.ids.len() as f32) as f32,
            loss: terms.loss(&settings.loss) as f32,
            groups: settings.rollout.groups,
            groups_with_signal: settings
                .compares_in_groups()
                .then(|| settings.rollout.groups - dynamic_sampling::without_signal(scored, settings.rollout.group_size).len()),
            times: self.stopwatch.total(),
        });
        if !was_saturated && let Some(step) = self.history.saturation_step() {
            let window = settings.eval.saturation_window;
            self.console.note(&format!("train accuracy reached 99% (mean of {window} steps) at step {step}: saturated"));
            line.insert("saturation_step".to_owned(), json!(step));
        }
        Ok(line)
    }

    /// Adds to a metrics line the elapsed time and the seconds spent in each phase since the previous line.
    pub(super) fn record_times(&mut self, line: &mut Map<String, Value>) {
        self.stopwatch.lap(Phase::Save);
        self.stopwatch.record(line);
        line.insert("perf/elapsed_s".to_owned(), json!(self.elapsed_s()));
    }

    /// Evaluates the current policy, records the result, and saves the policy if it is the best. Returns the accuracies as metrics
    /// (`val/PASS`).
    pub(super) fn evaluate(&mut self) -> Result<Map<String, Value>> {
        if self.inputs.sets.is_empty() {
            return Ok(Map::new());
        }
        let before_s = self.stopwatch.total().sum();
        let measured = self.measure();
        self.stopwatch.lap(Phase::Evaluate);
        let (evaluation, passes) = measured?;
        self.track_evaluation(&passes);
        tracing::info!(step = self.step, greedy = evaluation.accuracy(true), sampled = evaluation.accuracy(false), "evaluated");
        let accuracies: Vec<(String, f64)> = evaluation.scores.iter().map(|(name, score)| (format!("val/{name}"), score.mean())).collect();
        if self.step == 0 {
            // The base model has no line of metrics.
            self.tracking.record(Event::now(0, Content::Scalars(accuracies.clone())));
        }
        self.history.evaluations.push(evaluation);
        self.console.note(&run_summary::evaluation_line(&self.history));
        if self.history.best().is_some_and(|best| best.step == self.step) && self.step > 0 {
            self.ensure_state()?;
            self.save_best()?;
        }
        self.write_summary()?;
        self.stopwatch.lap(Phase::Save);
        self.console.evaluated(self.stopwatch.total().sum() - before_s);
        Ok(accuracies.into_iter().map(|(name, value)| (name, json!(value))).collect())
    }

    /// Saves the policy as the best one.
    fn save_best(&self) -> Result<()> {
        if !self.inputs.world.is_first() {
            return Ok(());
        }
        self.console.progress().begin("saving the best model");
        write_folder_with_manifest(&self.folder.best(), |path| {
            self.export(path)?;
            write_file(&path.join("step"), self.step.to_string().as_bytes())
        })?;
        self.folder.delete_set_aside(&self.folder.best())
    }

    /// Answers all benchmarks with the current policy, and records the graded answers.
    pub(super) fn measure(&self) -> Result<(Evaluation, Vec<Pass>)> {
        let generator = LocalModel {
            model: &self.inputs.model,
            revision: format!("{}, step {}", self.inputs.revision, self.step),
            date: self.settings.prompt.date.clone(),
            workers: &self.workers,
            engine: &self.settings.rollout.engine,
            interrupt: self.inputs.interrupt,
            progress: self.console.progress(),
        };
        let evaluator = Evaluator { generator: &generator, settings: &self.settings.eval, store: None, world: &self.inputs.world };
        let passes = evaluator.evaluate(&self.inputs.sets, self.console.progress())?;
        let evaluation = Evaluation::of(self.step, &passes);
        if self.inputs.world.is_first() {
            evaluation.record(&self.folder, &passes)?;
        }
        Ok((evaluation, passes))
    }

    /// Prints the warnings that start at this step. Returns the active ones as metrics: their number, and 1 for each.
    fn report_warnings(&mut self, line: &Map<String, Value>, skipped: Option<&str>) -> Vec<(String, f64)> {
        let step = self.step;
        let warnings = self.monitor.observe(step, StepMetrics::from_record(line));
        if let Some(reason) = skipped {
            self.console.warn(&format!("step {step}: an update was skipped: {reason}"));
        }
        for warning in &warnings {
            let back = self.good_state(step).map_or_else(String::new, |good| {
                let resume = resume_command(&self.folder.root().to_string_lossy());
                format!(" To go back to the last good state, that of step {good}: {resume} --at {good}")
            });
            self.console.warn(&format!("step {step}: {}.{back}", warning.text));
            tracing::info!(step, cause = warning.key, "warned");
        }
        let active: Vec<&str> = self.monitor.active().collect();
        let count = ("watch/warnings".to_owned(), active.len() as f64);
        std::iter::once(count).chain(active.into_iter().map(|key| (format!("watch/{key}"), 1.0))).collect()
    }

    /// Returns the step of the newest good state before `sampled`, the last step that was sampled; `None` if there is none. A state is good
    /// if no warning was active at its step or at the next one, the first to sample from it.
    pub(super) fn good_state(&self, sampled: u64) -> Option<u64> {
        let is_good = |step: &u64| *step < sampled && self.monitor.had_no_warning_at(*step) && self.monitor.had_no_warning_at(step + 1);
        self.folder.resumable_steps().ok()?.into_iter().rfind(is_good)
    }

    /// Writes a checkpoint of the last completed step, and then deletes what the settings no longer keep of older ones. All ranks call it
    /// together: rank 0 writes, and the others send it their optimizer states, tensor by tensor.
    pub(super) fn save(&mut self) -> Result<()> {
        self.ensure_state()?;
        self.console.progress().begin("saving a checkpoint");
        let progress = Progress { step: self.step, updates: self.optimizer.count, elapsed_s: self.elapsed_s(), exact_weights: None };
        let (decoder, lora) = (&self.inputs.model.decoder, self.lora.as_ref());
        let parameters = parameters(decoder, lora);
        if !self.inputs.world.is_first() {
            // In the order in which rank 0 asks for them below.
            self.critic.as_ref().map_or(Ok(()), |critic| critic.optimizer.send_states())?;
            return self.optimizer.send_states();
        }
        let exact = self.saves_exact_weights();
        // A checkpoint must not reach the disk before the records that it depends on.
        self.folder.sync_records()?;
        let evaluated = self.history.evaluations.iter().map(|evaluation| evaluation.step).collect();
        let records = Records::of(&self.folder, self.step, evaluated, self.history.missing.clone())?;
        let checkpoint = self.folder.checkpoint(self.step);
        write_folder_with_manifest(&checkpoint, |path| {
            self.export(path)?;
            let state = path.join("state");
            std::fs::create_dir(&state)?;
            if let Some(reference) = self.reference.as_ref().filter(|_| self.settings.reference_moves()) {
                reference.save(&state)?;
            }
            self.schedules.save(&state, &self.settings.loss)?;
            self.unfinished.as_ref().map_or(Ok(()), |line| crash_recovery::save_line(&state, line))?;
            self.critic.as_ref().map_or(Ok(()), |critic| critic.save(&state))?;
            records.save(&state)?;
            state::save(&state, &progress, &self.optimizer, &trained(decoder, lora), &parameters, exact)?;
            manifest::write(&state)
        })?;
        self.folder.delete_set_aside(&checkpoint)?;
        tracing::info!(step = self.step, folder = %self.folder.checkpoint(self.step).display(), "checkpoint written");
        // The summary must not name a checkpoint that is then deleted.
        self.write_summary()?;
        self.delete_old_checkpoints()
    }

    /// Deletes the states and checkpoints that the settings `checkpoint.keep_last` and `checkpoint.keep_spaced` no longer keep. A process
    /// that is killed meanwhile leaves a run that resumes from the newest checkpoint and deletes the rest the next time.
    fn delete_old_checkpoints(&self) -> Result<()> {
        let named = self.history.summary(self.step, self.elapsed_s()).named_steps();
        let deletions = self.folder.checkpoints()?.deletions(&self.settings.checkpoint, self.step, self.good_state(self.step), &named);
        deletions.states.iter().try_for_each(|step| self.folder.delete_state(*step))?;
        deletions.checkpoints.iter().try_for_each(|step| self.folder.delete_checkpoint(*step))
    }

    /// True if the state must store the exact trained parameters, because the exported model has merged or rounded ones.
    pub(super) fn saves_exact_weights(&self) -> bool {
        self.lora.is_some() || self.settings.checkpoint.rounds(&self.inputs.model.decoder.target())
    }

    /// Exports the policy as a complete model, with its adapters, if any, in `adapter/`.
    pub(super) fn export(&self, folder: &Path) -> Result<()> {
        self.inputs.model.write(folder, self.settings.checkpoint.format(&self.inputs.model.decoder.target()))?;
        self.lora.as_ref().map_or(Ok(()), |lora| write_adapter(&folder.join("adapter"), lora, &self.inputs.model.name))
    }

    /// Writes `summary.json` and the picture.
    pub(super) fn write_summary(&self) -> Result<()> {
        if !self.inputs.world.is_first() {
            return Ok(());
        }
        let summary = self.history.summary(self.step, self.elapsed_s());
        write_file(&self.folder.summary(), serde_json::to_string_pretty(&summary)?.as_bytes())?;
        write_file(&self.folder.picture(), run_summary::picture(&self.settings, &self.history).as_bytes())
    }

    /// Returns the seconds of training, including those before the run was resumed.
    pub(super) fn elapsed_s(&self) -> f64 {
        self.earlier_s + self.started.elapsed().as_secs_f64()
    }
}

/// Returns the facts about the run that the monitor depends on.
pub(super) fn run_traits(settings: &RunSettings, rewards: &Rewards, inputs: &RunInputs) -> RunTraits {
    let loss = &settings.loss;
    RunTraits {
        max_entropy: (inputs.model.text.vocabulary() as f64).ln(),
        max_new_tokens: settings.rollout.max_new_tokens,
        independent_samples: if inputs.prompts.len() > 1 {
            settings.rollout.groups
        } else {
            settings.rollout.groups * settings.rollout.group_size
        },
        reads_boxes: rewards.reads_boxes(),
        learns_from_reward: loss.policy != 0.0,
        has_entropy_term: loss.entropy != 0.0,
    }
}

/// Records the labels that replace the examples' own answers. Fails if a run was recorded with other labels.
pub(super) fn record_labels(folder: &RunFolder, labels: &[Relabeled]) -> Result<()> {
    let path = folder.labels();
    if path.exists() {
        let recorded: Vec<Relabeled> = jsonl::read(&path)?;
        ensure!(
            recorded == labels,
            "the labels in {} differ from the examples' current labels: restore the example file that the run started with",
            path.display()
        );
    } else if !labels.is_empty() {
        stream_file(&path, |out| {
            labels.iter().try_for_each(|label| {
                serde_json::to_writer(&mut *out, label)?;
                Ok(out.write_all(b"\n")?)
            })
        })?;
    }
    Ok(())
}
