//! The run itself.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use candle_core::Tensor;
use serde_json::{Map, Value, json};

use super::advantages::{advantages, penalties};
use super::course::Course;
use super::critic::{self, Critic, CriticReport};
use super::folder::{RunFolder, write_gzip_lines};
use super::history::{Evaluation, History};
use super::measures::{self, CriticMeasures, Measures, Updated, mean};
use super::plan;
use super::reference::Reference;
use super::replay::Replay;
use super::resample;
use super::rollouts;
use super::scorer::PolicyScorer;
use super::settings::RunSettings;
use super::story;
use super::update::{Sample, UpdateReport, Updater, apply};
use crate::checkpoint::state::{self, Progress, Trained};
use crate::checkpoint::{Model, adapter, write_file, write_folder};
use crate::eval::{EvalSet, Evaluator, LocalModel};
use crate::flow::{Prompt, Scored};
use crate::kernels::is_out_of_memory;
use crate::lanes::Lanes;
use crate::metrics::jsonl::{self, JsonLines};
use crate::metrics::{Console, EventFile, StepLine};
use crate::model::gradients::parameters;
use crate::model::{Decoder, Gradients, Lora};
use crate::optim::AdamW;
use crate::reward::Rewards;
use crate::reward::label::Relabelled;
use crate::rollout::{Engine, Request};

/// Micro-batches are not made smaller than this when memory is used up.
const LEAST_MICRO_BATCH: usize = 256;

/// What a run is made of besides its settings.
pub struct RunInputs<'a> {
    /// The policy, as it starts.
    pub model: Model,
    /// What the KL term holds to; none is the policy as it starts.
    pub reference: Option<Decoder>,
    /// The training examples as prompts, with the labels that responses are held to.
    pub prompts: Vec<Prompt>,
    /// Which labels are not the examples' own.
    pub labels: Vec<Relabelled>,
    /// Recorded rollouts that take the place of sampling.
    pub replay: Option<Replay>,
    /// Where the gradient of the next update is written, unclipped.
    pub dump_gradients: Option<PathBuf>,
    /// What is evaluated.
    pub sets: Vec<EvalSet>,
    /// Which weights `model` starts from.
    pub revision: String,
    /// Set to a signal's number when the run is to stop after the step it is in.
    pub interrupt: &'a AtomicUsize,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps were done.
    Done,
    /// A signal stopped it; everything is saved.
    Interrupted {
        /// The signal's number.
        signal: usize,
    },
}

/// A run in progress.
pub struct Run<'a> {
    settings: RunSettings,
    /// The settings of the step in progress.
    now: RunSettings,
    course: Course,
    folder: RunFolder,
    inputs: RunInputs<'a>,
    lora: Option<Lora>,
    reference: Option<Reference>,
    critic: Option<Critic>,
    rewards: Rewards,
    optimizer: AdamW,
    gradients: Vec<Gradients>,
    lanes: Lanes,
    history: History,
    metrics: JsonLines,
    events: EventFile,
    console: Console,
    /// Steps done.
    step: u64,
    started: Instant,
    /// Seconds that earlier parts of the run took.
    earlier_s: f64,
}

impl<'a> Run<'a> {
    /// A new run in a new folder.
    pub fn start(settings: RunSettings, root: &Path, inputs: RunInputs<'a>) -> Result<Self> {
        let folder = RunFolder::create(root, &settings)?;
        keep_labels(&folder, &inputs.labels)?;
        let metrics = JsonLines::create(&folder.metrics())?;
        let events = EventFile::create(folder.root())?;
        Self::assemble(settings, folder, inputs, metrics, events, 0)
    }

    /// A run that goes on from its last checkpoint. `inputs.model` is the model that the run started from.
    pub fn resume(settings: RunSettings, folder: RunFolder, inputs: RunInputs<'a>) -> Result<Self> {
        let Some(step) = folder.resumable_steps()?.last().copied() else {
            bail!("{} has no checkpoint to resume from; remove the folder and start again", folder.root().display());
        };
        folder.record(&settings)?;
        keep_labels(&folder, &inputs.labels)?;
        let metrics = JsonLines::resume(&folder.metrics(), step)?;
        let events = EventFile::resume(folder.root(), step + 1)?;
        let mut run = Self::assemble(settings, folder, inputs, metrics, events, step)?;
        let checkpoint = run.folder.checkpoint(step);
        let decoder = &run.inputs.model.decoder;
        if run.lora.is_none() {
            let weights = crate::model::folder::load(&checkpoint, &decoder.config)?;
            decoder.weights.set(&weights)?;
            run.optimizer.set_masters(&weights.entries())?;
        }
        let (trained, parameters) = (trained(decoder, run.lora.as_ref()), parameters(decoder, run.lora.as_ref()));
        let progress = state::load(&checkpoint.join("state"), &mut run.optimizer, &trained, &parameters)?;
        run.lora.as_ref().map_or(Ok(()), |lora| lora.merge(decoder))?;
        run.course.load(&checkpoint.join("state"), &run.settings.loss)?;
        if let Some(reference) = run.reference.as_ref().filter(|_| run.settings.reference_moves()) {
            reference.load(&checkpoint.join("state"))?;
        }
        run.critic.as_mut().map_or(Ok(()), |critic| critic.load(&checkpoint.join("state")))?;
        run.earlier_s = progress.elapsed_s;
        run.folder.forget_after(step)?;
        for line in jsonl::read::<Value>(&run.folder.metrics())? {
            let read = |key: &str| line.get(key).and_then(Value::as_f64);
            if let (Some(step), Some(accuracy)) = (read("step"), read("train/accuracy")) {
                run.history.train_accuracy.push((step as u32, accuracy as f32));
            }
        }
        for evaluated in run.folder.evaluated_steps()?.into_iter().filter(|evaluated| *evaluated <= step) {
            run.history.evaluations.push(Evaluation::read(&run.folder.eval(evaluated), evaluated)?);
        }
        run.console.note(&format!("resumed after step {step}"));
        Ok(run)
    }

    fn assemble(
        settings: RunSettings,
        folder: RunFolder,
        mut inputs: RunInputs<'a>,
        metrics: JsonLines,
        events: EventFile,
        step: u64,
    ) -> Result<Self> {
        let given = inputs.reference.take();
        let decoder = &inputs.model.decoder;
        let lanes = Lanes::new(plan::lanes(&decoder.config, &settings, &decoder.target()))?;
        let lora = settings.lora.is_on().then(|| Lora::new(settings.lora.clone(), decoder, settings.seed)).transpose()?;
        let optimizer = AdamW::new(settings.optim.clone(), decoder.kernels(), &parameters(decoder, lora.as_ref()))?;
        let reference = Reference::new(&settings, given, decoder, lora.as_ref())?;
        let gradients = (0..lanes.count()).map(|_| Gradients::zeros(decoder, lora.as_ref())).collect::<Result<_>>()?;
        let critic = settings.has_critic().then(|| Critic::new(&settings, decoder, lanes.count())).transpose()?;
        let rewards = Rewards::new(&settings.reward, settings.rollout.max_new)?;
        let console = Console::new(settings.train.steps as u32, step as u32);
        let history = History::new(&settings.eval);
        Ok(Self {
            now: settings.clone(),
            course: Course::new(&settings),
            settings,
            folder,
            inputs,
            lora,
            reference,
            critic,
            rewards,
            optimizer,
            gradients,
            lanes,
            history,
            metrics,
            events,
            console,
            step,
            started: Instant::now(),
            earlier_s: 0.0,
        })
    }

    /// Steps to the end, or to a signal.
    pub fn run(mut self) -> Result<Outcome> {
        if self.step == 0 && self.history.evaluations.is_empty() {
            self.evaluate()?;
        }
        while self.step < self.settings.train.steps {
            let mut line = self.advance()?;
            let (step, last) = (self.step, self.step == self.settings.train.steps);
            let due = |every: u64| last || (every > 0 && step.is_multiple_of(every));
            if due(self.settings.eval.every) {
                line.extend(self.evaluate()?);
            }
            self.metrics.write(&line)?;
            let signal = self.inputs.interrupt.load(Ordering::Relaxed);
            if due(self.settings.checkpoint.every) || signal != 0 {
                self.save()?;
            }
            if signal != 0 && !last {
                self.console.finish();
                eprintln!("interrupted after step {step}; everything is saved: continue with --resume {}", self.folder.root().display());
                return Ok(Outcome::Interrupted { signal });
            }
        }
        self.console.finish();
        story::tell(&self.settings, &self.folder, &self.history)?;
        Ok(Outcome::Done)
    }

    /// One step: sample, score, update, record. Gives its line of metrics.
    fn advance(&mut self) -> Result<Map<String, Value>> {
        let step = self.step + 1;
        let _span = tracing::info_span!("step", step).entered();
        let began = Instant::now();
        self.now = self.course.at_step(&self.settings, step);
        if let Some(temperature) = self.inputs.replay.as_ref().and_then(|replay| replay.temperature(step)) {
            self.now.rollout.temperature = temperature;
        }
        let (scored, further_batches) = self.sample(step).map_err(|error| self.saved(error))?;
        let sampled = Instant::now();
        let updated = self
            .update(&scored)
            .with_context(|| format!("step {step} failed; the run up to step {} is in {}", step - 1, self.folder.root().display()))?;
        self.reference.as_ref().map_or(Ok(()), |reference| reference.follow(&self.settings, step, &self.inputs.model.decoder))?;
        // While a critic warms up, the policy is not asked.
        let terms = &updated.report.terms;
        if terms.tokens > 0.0 {
            self.course.steer(&self.settings.loss, terms.per_token(terms.token_entropy));
        }
        let (generate_s, update_s) = ((sampled - began).as_secs_f64(), sampled.elapsed().as_secs_f64());
        let measures = Measures { further_batches, generate_s, update_s, updated };
        self.step = step;
        self.record(&scored, &measures)
    }

    /// The step's scored responses, and how many further batches replaced groups without signal.
    fn sample(&mut self, step: u64) -> Result<(Vec<Scored>, usize)> {
        let _span = tracing::info_span!("rollouts").entered();
        if let Some(replay) = &self.inputs.replay {
            return Ok((replay.step(step).to_vec(), 0));
        }
        let (settings, count) = (self.settings.clone(), self.inputs.prompts.len());
        let examples = rollouts::examples(&settings, count, step);
        let requests = rollouts::requests(&settings, &self.inputs.prompts, &examples, step);
        let scored = self.respond(step, &requests, &examples)?;
        resample::fill(&settings, scored, |attempt, groups| {
            let examples = resample::examples(&settings, count, step, attempt, groups);
            let requests = resample::requests(&settings, &self.inputs.prompts, &examples, step, attempt, groups);
            self.respond(step, &requests, &examples)
        })
    }

    /// Responses to requests, with their rewards.
    fn respond(&mut self, step: u64, requests: &[Request], examples: &[usize]) -> Result<Vec<Scored>> {
        let model = &self.inputs.model;
        let engine = Engine {
            decoder: &model.decoder,
            lanes: &self.lanes,
            settings: &self.settings.rollout.engine,
            end_tokens: &model.end_tokens,
            vocabulary: model.text.vocabulary(),
        };
        let completions = engine.generate(requests, &rollouts::sampling(&self.now), &|_| ())?;
        let rollouts = rollouts::decode(model, &self.inputs.prompts, examples, requests, completions)?;
        self.within_memory(|run| {
            let scorer = PolicyScorer { updater: run.updater(), text: &run.inputs.model.text };
            rollouts::score(&run.settings, &run.rewards, &scorer, step, rollouts.clone())
        })
    }

    /// What fails before the update leaves the policy as the last step made it: it is saved, so that the run can go on once the cause is mended.
    fn saved(&mut self, error: anyhow::Error) -> anyhow::Error {
        let (step, root) = (self.step, self.folder.root().display().to_string());
        self.console.finish();
        match self.save() {
            Ok(()) => error.context(format!(
                "step {} failed; the run up to step {step} is saved: mend what follows (settings are in {root}/config.toml), then continue with --resume {root}",
                step + 1
            )),
            Err(unsaved) => {
                error.context(format!("step {} failed, and the run up to step {step} could not be saved ({unsaved:#})", step + 1))
            }
        }
    }

    /// The step's updates of critic and policy.
    fn update(&mut self, scored: &[Scored]) -> Result<Updated> {
        let _span = tracing::info_span!("update").entered();
        let mut samples: Vec<Sample> = scored.iter().map(|scored| Sample { scored, advantages: Vec::new(), old: None }).collect();
        if self.inputs.replay.is_some() {
            samples.iter_mut().for_each(|sample| sample.old = Some(sample.scored.rollout.completion.logprobs.clone()));
        } else if self.needs_old_logprobs() {
            let old = self.within_memory(|run| run.updater().logprobs(&samples))?;
            samples.iter_mut().zip(old).for_each(|(sample, old)| sample.old = Some(old));
        }
        let penalties = self.penalties(&samples)?;
        let penalty = penalties.iter().flatten().flatten().map(|penalty| f64::from(*penalty)).sum::<f64>() / scored.len().max(1) as f64;
        let (advantages, critic) = match self.learn_values(&samples, &critic::token_rewards(scored, penalties.as_deref()))? {
            Some((advantages, measures)) => (advantages, Some(measures)),
            None => (advantages(&self.settings, scored, penalties.as_deref()), None),
        };
        if self.step < self.settings.critic.warmup_steps {
            return Ok(Updated { report: UpdateReport::default(), critic, penalty });
        }
        samples.iter_mut().zip(advantages).for_each(|(sample, advantages)| sample.advantages = advantages);
        let mut reports = Vec::new();
        let size = samples.len() / self.settings.updates_per_epoch();
        for mini_batch in (0..self.settings.train.epochs).flat_map(|_| samples.chunks(size)) {
            let report = self.within_memory(|run| run.updater().gradient(mini_batch, &run.gradients))?;
            if let Some(path) = self.inputs.dump_gradients.take() {
                let gradients = self.gradients[0].entries();
                let gradients: Vec<Option<&Tensor>> = gradients.into_iter().map(|(_, tensor)| Some(tensor)).collect();
                trained(&self.inputs.model.decoder, self.lora.as_ref()).write(&path, &gradients)?;
            }
            let (policy, lora) = (&self.inputs.model.decoder, self.lora.as_ref());
            reports.push(apply(&self.settings, policy, lora, report, &self.gradients, &mut self.optimizer)?);
        }
        Ok(Updated { report: UpdateReport::mean(&reports), critic, penalty })
    }

    /// Whether a pass before the first update is worth its time. For ratios: where the policy learns by several updates. For KL in the reward: on
    /// a GPU, where the sampler's log-probabilities are off the trainer's by rounding, which whitening would make large.
    fn needs_old_logprobs(&self) -> bool {
        let (settings, kernels) = (&self.settings, self.inputs.model.decoder.kernels());
        let warms_up = self.step < settings.critic.warmup_steps;
        let for_ratios = settings.train.updates_per_rollout > 1 && settings.loss.policy != 0.0 && !warms_up;
        for_ratios || (settings.reward.kl != 0.0 && !kernels.device().is_cpu())
    }

    /// What KL in the reward takes from each token; none where its coefficient is 0. The policy's log-probabilities are the old ones where
    /// there is a pass for them, else the sampler's, which on the CPU are the same to the bit.
    fn penalties(&mut self, samples: &[Sample]) -> Result<Option<Vec<Vec<f32>>>> {
        if self.settings.reward.kl == 0.0 {
            return Ok(None);
        }
        let reference = self.within_memory(|run| run.updater().reference_logprobs(samples))?;
        let policy = |sample: &'_ Sample<'_>| sample.old.clone().unwrap_or_else(|| sample.scored.rollout.completion.logprobs.clone());
        let policy: Vec<Vec<f32>> = samples.iter().map(policy).collect();
        Ok(Some(penalties(&self.settings, &policy, &reference)))
    }

    /// The advantages of a step by its critic, if there is one, from the rewards of all tokens. The critic learns then: with one update in the
    /// very pass that gives the values, with several against the values from before them, mini-batch by mini-batch.
    fn learn_values(&mut self, samples: &[Sample], rewards: &[Vec<f32>]) -> Result<Option<(Vec<Vec<f32>>, CriticMeasures)>> {
        if self.critic.is_none() {
            return Ok(None);
        }
        let _span = tracing::info_span!("critic").entered();
        let began = Instant::now();
        let mut report = CriticReport::default();
        let mut known = None;
        if self.settings.train.updates_per_rollout > 1 {
            let values = self.within_memory(|run| run.critic()?.values(&run.updater(), samples))?;
            known = Some(critic::estimates(&self.settings.advantage, rewards, &values));
        }
        let mut estimates = known.clone().unwrap_or_default();
        let size = samples.len() / self.settings.updates_per_epoch();
        for (number, samples) in (0..self.settings.train.epochs).flat_map(|_| samples.chunks(size).enumerate()) {
            let range = number * size..number * size + samples.len();
            let of_known = known.as_ref().map(|known| &known[range.clone()]);
            let (terms, of_these) =
                self.within_memory(|run| run.critic()?.gradient(&run.updater(), samples, &rewards[range.clone()], of_known))?;
            if known.is_none() {
                estimates.extend(of_these);
            }
            self.critic.as_mut().map_or(Ok(()), |critic| critic.apply(&terms, &mut report))?;
        }
        let advantages = critic::advantages(&self.settings.advantage, &estimates);
        report.observe(&estimates, &advantages);
        Ok(Some((advantages, CriticMeasures { report, elapsed_s: began.elapsed().as_secs_f64() })))
    }

    fn critic(&self) -> Result<&Critic> {
        self.critic.as_ref().context("this run has no critic")
    }

    fn updater(&self) -> Updater<'_> {
        let reference = self.reference.as_ref().map(|reference| &reference.decoder);
        Updater { settings: &self.now, lanes: &self.lanes, policy: &self.inputs.model.decoder, reference }
    }

    /// Does the work again with micro-batches of half the size where a device's memory is used up: the gradient does not depend on it. Later
    /// steps begin with that size.
    fn within_memory<T>(&mut self, work: impl Fn(&Self) -> Result<T>) -> Result<T> {
        loop {
            let tokens = self.settings.train.micro_batch_tokens;
            match work(self) {
                Err(error) if is_out_of_memory(&error) && tokens > LEAST_MICRO_BATCH => {
                    let kernels = self.inputs.model.decoder.kernels();
                    self.gradients.iter().try_for_each(|gradients| gradients.clear(kernels))?;
                    self.critic.as_ref().map_or(Ok(()), Critic::clear)?;
                    self.settings.train.micro_batch_tokens = tokens / 2;
                    self.now.train.micro_batch_tokens = tokens / 2;
                    self.console.note(&format!(
                        "the device's memory is used up: from this step on, micro-batches have {} tokens instead of {tokens}",
                        tokens / 2
                    ));
                }
                done => return done,
            }
        }
    }

    fn record(&mut self, scored: &[Scored], measures: &Measures) -> Result<Map<String, Value>> {
        let metrics = measures::metrics(&self.now, scored, measures);
        let terms = &measures.updated.report.terms;
        let accuracy = mean(scored, |scored| f32::from(scored.correct));
        let was_saturated = self.history.saturation_step().is_some();
        self.history.train_accuracy.push((self.step as u32, accuracy as f32));
        let mut line = Map::from_iter([("step".to_owned(), json!(self.step))]);
        line.extend(metrics.iter().map(|(name, value)| ((*name).to_owned(), json!(value))));
        let rewards = rollouts::reward_means(scored);
        line.extend(rewards.iter().map(|(name, value)| (name.clone(), json!(value))));
        let named = metrics.iter().copied().chain(rewards.iter().map(|(name, value)| (name.as_str(), *value)));
        self.events.write(self.step, named.map(|(name, value)| (name, value as f32)))?;
        let with_tokens = self.settings.eval.every > 0 && self.step.is_multiple_of(self.settings.eval.every);
        write_gzip_lines(
            &self.folder.rollouts(self.step),
            scored.iter().map(|scored| rollouts::line(&self.now, self.step, scored, with_tokens)),
        )?;
        self.console.step(&StepLine {
            step: self.step as u32,
            train_accuracy: accuracy as f32,
            reward: mean(scored, |scored| scored.reward) as f32,
            entropy: terms.per_token(terms.token_entropy) as f32,
            response_length: mean(scored, |scored| scored.rollout.completion.ids.len() as f32) as f32,
            loss: terms.loss(&self.now.loss) as f32,
            groups: self.settings.rollout.groups,
            groups_with_signal: self
                .settings
                .compares_in_groups()
                .then(|| self.settings.rollout.groups - resample::without_signal(scored, self.settings.rollout.group_size).len()),
        });
        if !was_saturated && let Some(step) = self.history.saturation_step() {
            let window = self.settings.eval.saturation_window;
            self.console.note(&format!("train accuracy reached 99% (mean of {window} steps) at step {step}: saturated"));
            line.insert("saturation_step".to_owned(), json!(step));
        }
        Ok(line)
    }

    /// Evaluates the policy as it is, records it, and keeps it if it is the best. Gives the accuracies as metrics, by name.
    fn evaluate(&mut self) -> Result<Map<String, Value>> {
        if self.inputs.sets.is_empty() {
            return Ok(Map::new());
        }
        let answerer = LocalModel {
            model: &self.inputs.model,
            revision: format!("{}, step {}", self.inputs.revision, self.step),
            date: self.settings.prompt.date.clone(),
            lanes: &self.lanes,
            engine: &self.settings.rollout.engine,
        };
        let evaluator = Evaluator { answerer: &answerer, settings: &self.settings.eval, store: None };
        let passes = evaluator.evaluate(&self.inputs.sets, &|| ())?;
        let evaluation = Evaluation::of(self.step, &passes);
        evaluation.record(&self.folder, &passes)?;
        tracing::info!(step = self.step, greedy = evaluation.accuracy(true), sampled = evaluation.accuracy(false), "evaluated");
        let accuracies: Vec<(String, f64)> = evaluation.scores.iter().map(|(name, score)| (format!("val/{name}"), score.mean())).collect();
        self.events.write(self.step, accuracies.iter().map(|(name, value)| (name.as_str(), *value as f32)))?;
        self.history.evaluations.push(evaluation);
        self.console.note(&story::evaluation_line(&self.history));
        if self.history.best().is_some_and(|best| best.step == self.step) && self.step > 0 {
            write_folder(&self.folder.best(), |path| {
                self.export(path)?;
                write_file(&path.join("step"), self.step.to_string().as_bytes())
            })?;
        }
        self.summarise()?;
        Ok(accuracies.into_iter().map(|(name, value)| (name, json!(value))).collect())
    }

    fn save(&mut self) -> Result<()> {
        let progress = Progress { step: self.step, updates: self.optimizer.count, elapsed_s: self.elapsed_s() };
        let (decoder, lora) = (&self.inputs.model.decoder, self.lora.as_ref());
        let parameters = parameters(decoder, lora);
        let exact = lora.is_some() || self.settings.checkpoint.rounds(&decoder.target());
        write_folder(&self.folder.checkpoint(self.step), |path| {
            self.export(path)?;
            std::fs::create_dir(path.join("state"))?;
            if let Some(reference) = self.reference.as_ref().filter(|_| self.settings.reference_moves()) {
                reference.save(&path.join("state"))?;
            }
            self.course.save(&path.join("state"), &self.settings.loss)?;
            self.critic.as_ref().map_or(Ok(()), |critic| critic.save(&path.join("state")))?;
            state::save(&path.join("state"), &progress, &self.optimizer, &trained(decoder, lora), &parameters, exact)
        })?;
        tracing::info!(step = self.step, folder = %self.folder.checkpoint(self.step).display(), "checkpoint written");
        let resumable = self.folder.resumable_steps()?;
        for old in &resumable[..resumable.len().saturating_sub(self.settings.checkpoint.keep_last)] {
            let path = self.folder.checkpoint(*old).join("state");
            std::fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        self.summarise()
    }

    /// Writes the policy as a model of its own, and the adapters that made it beside.
    fn export(&self, folder: &Path) -> Result<()> {
        self.inputs.model.write(folder, self.settings.checkpoint.format(&self.inputs.model.decoder.target()))?;
        self.lora.as_ref().map_or(Ok(()), |lora| adapter::write(&folder.join("adapter"), lora, &self.inputs.model.name))
    }

    fn summarise(&self) -> Result<()> {
        let summary = self.history.summary(self.step, self.elapsed_s());
        write_file(&self.folder.summary(), serde_json::to_string_pretty(&summary)?.as_bytes())?;
        write_file(&self.folder.picture(), story::picture(&self.settings, &self.history).as_bytes())
    }

    fn elapsed_s(&self) -> f64 {
        self.earlier_s + self.started.elapsed().as_secs_f64()
    }
}

/// Records the labels that are not the examples' own; those of a run that goes on must be the recorded ones.
fn keep_labels(folder: &RunFolder, labels: &[Relabelled]) -> Result<()> {
    let path = folder.labels();
    if path.exists() {
        let recorded: Vec<Relabelled> = jsonl::read(&path)?;
        ensure!(recorded == labels, "{}: the examples give other labels now; they have changed since the run began", path.display());
    } else if !labels.is_empty() {
        let mut lines = JsonLines::create(&path)?;
        labels.iter().try_for_each(|label| lines.write(label))?;
    }
    Ok(())
}

/// What the optimizer's tensors belong to.
fn trained<'a>(policy: &'a Decoder, lora: Option<&'a Lora>) -> Trained<'a> {
    lora.map_or(Trained::Weights(&policy.config), |lora| Trained::Adapters(&lora.adapters))
}
