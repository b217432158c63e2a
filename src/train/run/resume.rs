//! Resumes a run: repeats lost evaluations, loads the chosen checkpoint, and only then deletes later records.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use super::records::record_labels;
use super::{Run, RunInputs, trained};
use crate::checkpoint::{manifest, state, write_file, write_folder_with_manifest};
use crate::metrics::jsonl::{self, JsonLines};
use crate::metrics::{Phase, PhaseTimes, with_current_names};
use crate::model::gradients::parameters;
use crate::model::import;
use crate::train::history::Evaluation;
use crate::train::invocation::resume_command;
use crate::train::monitor::StepMetrics;
use crate::train::resumption::{ResumePoint, crash_recovery};
use crate::train::settings::RunSettings;

impl<'a> Run<'a> {
    /// Resumes a run after step `resumption.from`. `inputs.model` is the model that the run started from.
    ///
    /// Deletes the records of later steps once the checkpoint is loaded.
    ///
    /// # Errors
    /// If the folder's labels differ from `inputs.labels`, a lost evaluation cannot be repeated, the checkpoint cannot be loaded, or a file
    /// cannot be read or written.
    pub fn resume(settings: RunSettings, resumption: &ResumePoint, inputs: RunInputs<'a>) -> Result<Self> {
        let (folder, step) = (resumption.folder.clone(), resumption.from);
        let (world, path) = (inputs.world.clone(), folder.metrics());
        let metrics = if world.is_first() {
            record_labels(&folder, &inputs.labels)?;
            Some(if path.exists() { JsonLines::append(&path)? } else { JsonLines::create(&path)? })
        } else {
            None
        };
        let mut run = Self::assemble(settings, folder, inputs, metrics, step)?;
        run.repeat_evaluations(resumption)?;
        if step > 0 {
            run.load(step).with_context(|| {
                let resume = resume_command(&run.folder.root().to_string_lossy());
                format!("cannot load the checkpoint of step {step}; choose another one with {resume} --at STEP")
            })?;
        }
        // Nothing is deleted before this point, so a failed resume can be retried.
        if world.is_first() {
            for (skipped, _) in &resumption.skipped_checkpoints {
                run.folder.set_aside(&run.folder.checkpoint(*skipped))?;
            }
            run.folder.delete_after(step)?;
            run.metrics = Some(JsonLines::resume(&run.folder.metrics(), run.recorded_steps())?);
            run.folder.write_settings(&run.settings)?;
        }
        world.wait_for_all()?;
        let lines = run.restore_history(resumption)?;
        if world.is_first() {
            run.repair_best()?;
            run.start_tracking(Some(lines))?;
        }
        run.console.note(&format!("resumed after step {step}"));
        Ok(run)
    }

    /// Returns the last step whose metrics line is complete.
    fn recorded_steps(&self) -> u64 {
        self.step - u64::from(self.unfinished.is_some())
    }

    /// Repeats lost evaluations. The policy then has the weights of the last one.
    fn repeat_evaluations(&mut self, resumption: &ResumePoint) -> Result<()> {
        for (step, _) in &resumption.evaluations_to_repeat {
            let (decoder, shown) = (&self.inputs.model.decoder, self.console.progress());
            if *step > 0 {
                shown.begin(format!("loading the model of step {step}"));
                decoder.weights.set(&import::load(&self.folder.checkpoint(*step), &decoder.config, shown)?, decoder.kernels())?;
            }
            self.step = *step;
            self.measure()?;
            self.stopwatch.lap(Phase::Evaluate);
        }
        self.step = resumption.from;
        Ok(())
    }

    /// Loads the policy, the optimizer and all other state from the checkpoint of `step`.
    fn load(&mut self, step: u64) -> Result<()> {
        let checkpoint = self.folder.checkpoint(step);
        let state = checkpoint.join("state");
        let exact = self.saves_exact_weights();
        let (decoder, shown) = (&self.inputs.model.decoder, self.console.progress());
        if self.lora.is_none() {
            shown.begin(format!("loading the model of step {step}"));
            let weights = import::load(&checkpoint, &decoder.config, shown)?;
            decoder.weights.set(&weights, decoder.kernels())?;
            self.optimizer.set_masters(decoder.kernels(), &weights.entries())?;
        }
        let (trained, parameters) = (trained(decoder, self.lora.as_ref()), parameters(decoder, self.lora.as_ref()));
        shown.begin("loading the optimizer");
        let progress = state::load(&state, decoder.kernels(), &mut self.optimizer, &trained, &parameters, exact, shown)?;
        self.lora.as_ref().map_or(Ok(()), |lora| lora.merge(decoder))?;
        self.schedules.load(&state, &self.settings.loss)?;
        if let Some(reference) = self.reference.as_ref().filter(|_| self.settings.reference_moves()) {
            shown.begin("loading the reference");
            reference.load(&state, shown)?;
        }
        if let Some(critic) = &mut self.critic {
            shown.begin("loading the critic");
            critic.load(&state, shown)?;
        }
        self.earlier_s = progress.elapsed_s;
        self.unfinished = crash_recovery::read_line(&state)?.map(with_current_names);
        Ok(())
    }

    /// Restores the history from the run's records. Returns the lines of metrics with current names.
    fn restore_history(&mut self, resumption: &ResumePoint) -> Result<Vec<Map<String, Value>>> {
        let lines = jsonl::read::<Map<String, Value>>(&self.folder.metrics())?;
        let lines: Vec<Map<String, Value>> = lines.into_iter().map(with_current_names).collect();
        for line in lines.iter().chain(&self.unfinished) {
            let read = |key: &str| line.get(key).and_then(Value::as_f64);
            let Some(step) = read("step") else { continue };
            if let Some(accuracy) = read("train/accuracy") {
                self.history.train_accuracy.push((step as u32, accuracy as f32));
            }
            // Restore the monitor's state; its warnings were already printed.
            self.monitor.observe(step as u64, StepMetrics::from_record(line));
            self.earlier_times = self.earlier_times.plus(&PhaseTimes::from_record(line));
        }
        // An evaluation after the last recorded step belongs to the unfinished step, which is evaluated again.
        let last = self.recorded_steps();
        for step in self.folder.evaluated_steps()?.into_iter().filter(|step| *step <= last) {
            let folder = self.folder.eval(step);
            if manifest::first_corruption(&folder)?.is_none() {
                self.history.evaluations.push(Evaluation::read(&folder, step)?);
            }
        }
        self.history.missing.clone_from(&resumption.missing);
        let evaluations = self.history.evaluations.len();
        if evaluations > 0 {
            self.console.expect_evaluation(self.earlier_times.of(Phase::Evaluate) / evaluations as f64);
        }
        Ok(lines)
    }

    /// Restores a corrupt or missing best checkpoint from the checkpoint of its step.
    fn repair_best(&self) -> Result<()> {
        let path = self.folder.best();
        let Some(best) = self.history.best().map(|evaluation| evaluation.step).filter(|step| *step > 0) else { return Ok(()) };
        let fault = if path.exists() { manifest::first_corruption(&path)? } else { Some(format!("{} is missing", path.display())) };
        let Some(fault) = fault else { return Ok(()) };
        let source = self.folder.checkpoint(best);
        if source.join("config.json").exists() && manifest::first_corruption(&source)?.is_none() {
            write_folder_with_manifest(&path, |to| {
                copy_model(&source, to)?;
                write_file(&to.join("step"), best.to_string().as_bytes())
            })?;
            self.console.note(&format!("{fault}: restored from {}", source.display()));
        } else if path.exists() {
            self.folder.set_aside(&path)?;
            self.console.note(&format!("{fault}: renamed to best.broken until there is a new best checkpoint"));
        }
        Ok(())
    }
}

/// Copies a model's folder, including adapters, without `state/` and manifests.
fn copy_model(from: &Path, to: &Path) -> Result<()> {
    for entry in std::fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        let target = to.join(&name);
        if path.is_dir() && name != "state" {
            std::fs::create_dir(&target).with_context(|| format!("cannot create {}", target.display()))?;
            copy_model(&path, &target)?;
        } else if path.is_file() && name != manifest::FILE {
            std::fs::copy(&path, &target).with_context(|| format!("cannot write {}", target.display()))?;
        }
    }
    Ok(())
}
