//! The training run: assembles its parts and runs its steps. `run/updates` performs a step's updates, `run/records` writes to disk,
//! `run/resume` resumes a run, `run/interruption` stops it at a signal, `run/failure` handles errors, `run/finite` rejects weights that have
//! diverged, and `run/tracking` reports to trackers.

mod failure;
mod finite;
mod interruption;
mod records;
mod resume;
mod samples;
mod tracking;
mod updates;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use serde_json::{Map, Value};

use super::critic::Critic;
use super::dynamic_sampling;
use super::ending;
use super::folder::RunFolder;
use super::history::History;
use super::measures::Measures;
use super::monitor::Monitor;
use super::plan::{self, ActivationPlan, Ranks};
use super::reference::Reference;
use super::replay::Replay;
use super::rollouts::{self, Sources};
use super::schedules::Schedules;
use super::settings::RunSettings;
use super::update::PolicyScorer;
use crate::checkpoint::Model;
use crate::checkpoint::state::TrainedParameters;
use crate::dist::World;
use crate::eval::EvalSet;
use crate::flow::{Prompt, ScoredRollout};
use crate::interrupt::Interrupt;
use crate::metrics::{Console, JsonLines, Phase, PhaseTimes, Schedule, Stopwatch, Tracking};
use crate::model::gradients::parameters;
use crate::model::{Decoder, Gradients, Lora};
use crate::optim::AdamW;
use crate::output::{self, Progress};
use crate::reward::Rewards;
use crate::reward::label::Relabeled;
use crate::rollout::{Engine, Event, Request};
use crate::workers::Workers;
use failure::{Batch, PolicyState};
use records::record_labels;

/// The inputs of a run besides its settings.
pub struct RunInputs<'a> {
    /// The initial policy.
    pub model: Model,
    /// The reference of the KL term; `None` uses the initial policy.
    pub reference: Option<Decoder>,
    /// The training examples as prompts, with the labels that responses are graded against.
    pub prompts: Vec<Prompt>,
    /// The labels that replace the examples' own answers.
    pub labels: Vec<Relabeled>,
    /// Recorded rollouts to train on instead of sampling.
    pub replay: Option<Replay>,
    /// The file to write the next update's gradient to, before clipping; `None` to write nothing.
    pub dump_gradients: Option<PathBuf>,
    /// The benchmarks to evaluate on.
    pub sets: Vec<EvalSet>,
    /// The revision of the weights that `model` starts from.
    pub revision: String,
    /// The ranks that compute the run together.
    pub world: World,
    /// Reports whether a stop was requested.
    pub interrupt: &'a Interrupt,
    /// The path of the `rlvr` program, which starts reward programs so that none outlives the run
    /// ([`reward::parent_guard`](crate::reward::parent_guard)); `None` to start them directly.
    pub guard: Option<&'a Path>,
    /// Shows the work in progress.
    pub progress: Progress,
    /// Receives the final tables.
    pub print_result: &'a dyn Fn(&str),
}

/// The width of the final tables if stdout is not a terminal.
const RESULT_COLUMNS: usize = 80;

/// How a run ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are complete.
    Done,
    /// A signal stopped it; all complete steps are saved.
    Interrupted {
        /// The signal's number.
        signal: usize,
    },
}

/// A run in progress.
pub struct Run<'a> {
    /// The settings of the run; `schedules` derives each step's settings from them.
    settings: RunSettings,
    /// Micro-batch size in tokens, which out-of-memory retries halve, and activation checkpointing.
    activations: ActivationPlan,
    schedules: Schedules,
    folder: RunFolder,
    inputs: RunInputs<'a>,
    lora: Option<Lora>,
    reference: Option<Reference>,
    critic: Option<Critic>,
    rewards: Rewards,
    optimizer: AdamW,
    gradients: Vec<Gradients>,
    workers: Workers,
    history: History,
    /// `metrics.jsonl`; `None` if another rank writes it.
    metrics: Option<JsonLines>,
    tracking: Tracking,
    console: Console,
    /// The last step's metrics line while its evaluation is pending.
    unfinished: Option<Map<String, Value>>,
    /// An interrupt that never requests a stop, for work that must finish.
    no_interrupt: Interrupt,
    /// The number of completed steps.
    step: u64,
    /// Whether the policy matches the records of the last completed step.
    policy_state: PolicyState,
    /// Warns when the run diverges or cannot learn.
    monitor: Monitor,
    /// The responses of the last update.
    batch: Option<Batch>,
    started: Instant,
    stopwatch: Stopwatch,
    /// Seconds of training before the run was resumed.
    earlier_s: f64,
    /// The recorded phases of those seconds.
    earlier_times: PhaseTimes,
}

impl<'a> Run<'a> {
    /// Starts a new run in a new folder.
    ///
    /// # Errors
    /// If the folder exists or cannot be written, tensors cannot be allocated, or the settings do not suit the model.
    pub fn start(settings: RunSettings, root: &Path, inputs: RunInputs<'a>) -> Result<Self> {
        if !inputs.world.is_first() {
            return Self::assemble(settings, RunFolder::of_other(root), inputs, None, 0);
        }
        let folder = RunFolder::create(root, &settings)?;
        record_labels(&folder, &inputs.labels)?;
        let metrics = JsonLines::create(&folder.metrics())?;
        let mut run = Self::assemble(settings, folder, inputs, Some(metrics), 0)?;
        run.start_tracking(None)?;
        Ok(run)
    }

    fn assemble(
        settings: RunSettings,
        folder: RunFolder,
        mut inputs: RunInputs<'a>,
        metrics: Option<JsonLines>,
        step: u64,
    ) -> Result<Self> {
        let loaded_reference = inputs.reference.take();
        let decoder = &inputs.model.decoder;
        let target = decoder.target();
        let workers = Workers::new(plan::workers_of_rank(&decoder.config, &settings, &target, Ranks::of(&inputs.world))?)?;
        let (prompts, max_new_tokens) = match &inputs.replay {
            Some(replay) => replay.lengths(),
            None => (inputs.prompts.iter().map(|prompt| prompt.ids.len()).collect(), settings.rollout.max_new_tokens),
        };
        let load = plan::step_load(&settings, prompts, max_new_tokens);
        let activations = ActivationPlan::of(&decoder.config, &settings, &load, &target);
        let lora = settings.lora.is_on().then(|| Lora::new(settings.lora.clone(), decoder, settings.seed)).transpose()?;
        let optimizer = AdamW::new(settings.optim.clone(), decoder.kernels(), &parameters(decoder, lora.as_ref()), &inputs.world)?;
        let reference = Reference::new(&settings, loaded_reference, decoder, lora.as_ref())?;
        let sets = plan::gradient_sets(&settings, workers.count(), inputs.world.size());
        let gradients = (0..sets).map(|_| Gradients::zeros(decoder, lora.as_ref())).collect::<Result<_>>()?;
        let critic = settings.has_critic().then(|| Critic::new(&settings, decoder, sets, &inputs.world)).transpose()?;
        let rewards = Rewards::new(&settings.reward, settings.rollout.max_new_tokens)?;
        let shows_times = tracing::enabled!(tracing::Level::INFO);
        let schedule = Schedule {
            steps: settings.train.steps,
            evaluation_every: (!inputs.sets.is_empty()).then_some(settings.eval.every),
            checkpoint_every: settings.checkpoint.every,
        };
        let console = match inputs.world.is_first() {
            true => Console::new(inputs.progress.clone(), schedule, step, shows_times),
            false => Console::hidden(schedule, step),
        };
        let history = History::new(&settings.eval);
        let monitor = Monitor::new(records::run_traits(&settings, &rewards, &inputs));
        Ok(Self {
            activations,
            schedules: Schedules::new(&settings),
            settings,
            folder,
            inputs,
            lora,
            reference,
            critic,
            rewards,
            optimizer,
            gradients,
            workers,
            history,
            metrics,
            tracking: Tracking::default(),
            console,
            unfinished: None,
            no_interrupt: Interrupt::default(),
            step,
            policy_state: PolicyState::Recorded,
            monitor,
            batch: None,
            started: Instant::now(),
            stopwatch: Stopwatch::start(),
            earlier_s: 0.0,
            earlier_times: PhaseTimes::default(),
        })
    }

    /// Runs the remaining steps, unless a signal stops the run.
    ///
    /// # Errors
    /// If a step, an evaluation or a write fails. The message says what is saved and how to continue.
    pub fn run(mut self) -> Result<Outcome> {
        let outcome = self.run_steps().or_else(|error| self.interrupted(error)).map_err(|error| self.failed(error));
        self.end_tracking(&outcome);
        outcome
    }

    fn run_steps(&mut self) -> Result<Outcome> {
        self.stopwatch.skip();
        if self.step == 0 && self.history.evaluations.is_empty() {
            self.inputs.interrupt.begin("the evaluation of the base model");
            self.evaluate()?;
        }
        if let Some(line) = self.unfinished.clone() {
            // Save again: the checkpoint on disk still marks the evaluation as pending.
            self.finish_step(line, true)?;
            self.checkpoint()?;
        }
        while self.step < self.settings.train.steps {
            // If several ranks received signals, the highest number counts.
            let signal = self.inputs.world.max(self.inputs.interrupt.signal().unwrap_or(0) as u64)? as usize;
            if signal != 0 {
                return self.stop(signal);
            }
            self.inputs.interrupt.begin(format!("step {}", self.step + 1));
            let line = self.run_step()?;
            let (step, last) = (self.step, self.step == self.settings.train.steps);
            let due = |every: u64| last || (every > 0 && step.is_multiple_of(every));
            self.finish_step(line, due(self.settings.eval.every))?;
            self.ensure_updates()?;
            if due(self.settings.checkpoint.every) {
                self.checkpoint()?;
            }
        }
        self.console.finish();
        self.write_summary()?;
        self.stopwatch.lap(Phase::Save);
        if !self.inputs.world.is_first() {
            return Ok(Outcome::Done);
        }
        let times = self.earlier_times.plus(&self.stopwatch.total()).table(self.elapsed_s());
        let columns = output::stdout_columns().unwrap_or(RESULT_COLUMNS);
        (self.inputs.print_result)(&format!("\n{}", ending::tables(&self.history, &times, columns)));
        ending::print(&self.settings, &self.folder, &self.history);
        Ok(Outcome::Done)
    }

    /// Finishes a step: evaluates the policy if `evaluates`, and writes the step's metrics line.
    fn finish_step(&mut self, mut line: Map<String, Value>, evaluates: bool) -> Result<()> {
        if evaluates {
            self.inputs.interrupt.begin(format!("the evaluation after step {}", self.step));
            self.unfinished = Some(line.clone());
            line.extend(self.evaluate()?);
        }
        self.record_times(&mut line);
        self.metrics.as_mut().map_or(Ok(()), |metrics| metrics.write(&line))?;
        self.track_line(&line);
        self.unfinished = None;
        self.policy_state = PolicyState::Recorded;
        self.stopwatch.lap(Phase::Save);
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<()> {
        let before_s = self.stopwatch.total().sum();
        self.policy_state = PolicyState::Saving;
        self.save()?;
        self.policy_state = PolicyState::Recorded;
        self.stopwatch.lap(Phase::Save);
        self.console.saved(self.stopwatch.total().sum() - before_s);
        Ok(())
    }

    /// Returns the settings of a step, counted from 1.
    fn settings_at(&self, step: u64) -> RunSettings {
        let mut settings = self.schedules.at_step(&self.settings, step);
        if let Some(temperature) = self.inputs.replay.as_ref().and_then(|replay| replay.temperature(step)) {
            settings.rollout.temperature = temperature;
        }
        settings
    }

    /// Runs one step (sample, score, update, record) and returns its metrics line.
    fn run_step(&mut self) -> Result<Map<String, Value>> {
        let step = self.step + 1;
        let _span = tracing::info_span!("step", step).entered();
        let settings = Arc::new(self.settings_at(step));
        let before = self.stopwatch.total();
        let (scored, further_batches) = self.sample(&settings, step)?;
        let scored = Arc::new(scored);
        self.batch = Some(Batch { step, settings: Arc::clone(&settings), scored: Arc::clone(&scored) });
        let updated = self.update(&settings, &scored)?;
        self.policy_state = PolicyState::Updating;
        self.reference.as_ref().map_or(Ok(()), |reference| reference.follow(&settings, step, &self.inputs.model.decoder))?;
        self.stopwatch.lap(Phase::Reference);
        // The policy is not updated while a critic warms up.
        let terms = &updated.report.terms;
        if terms.tokens > 0.0 && terms.token_entropy.is_finite() {
            self.schedules.adapt_entropy(&settings.loss, terms.per_token(terms.token_entropy));
        }
        let measures = Measures { further_batches, times: self.stopwatch.total().since(&before), updated };
        self.step = step;
        self.policy_state = PolicyState::Unrecorded;
        let line = self.record(&settings, &scored, &measures)?;
        self.stopwatch.lap(Phase::Save);
        Ok(line)
    }

    /// Returns the scored responses of a step, and the number of attempts to replace groups without signal.
    fn sample(&mut self, settings: &RunSettings, step: u64) -> Result<(Vec<ScoredRollout>, usize)> {
        let _span = tracing::info_span!("rollouts").entered();
        if let Some(replay) = &self.inputs.replay {
            let scored = replay.step(step).to_vec();
            self.stopwatch.lap(Phase::Sample);
            return Ok((scored, 0));
        }
        let count = self.inputs.prompts.len();
        let examples = rollouts::examples(settings, count, step);
        let requests = rollouts::requests(settings, &self.inputs.prompts, &examples, step);
        let scored = self.sample_and_grade(settings, step, &requests, &examples)?;
        dynamic_sampling::replace_groups(settings, scored, |attempt, groups| {
            let examples = dynamic_sampling::examples(settings, count, step, attempt, groups);
            let requests = dynamic_sampling::requests(settings, &self.inputs.prompts, &examples, step, attempt, groups);
            self.sample_and_grade(settings, step, &requests, &examples)
        })
    }

    /// Samples responses to the requests, then grades and rewards them.
    fn sample_and_grade(
        &mut self,
        settings: &RunSettings,
        step: u64,
        requests: &[Request],
        examples: &[usize],
    ) -> Result<Vec<ScoredRollout>> {
        let model = &self.inputs.model;
        let engine = Engine {
            decoder: &model.decoder,
            workers: &self.workers,
            settings: &settings.rollout.engine,
            end_tokens: &model.end_tokens,
            vocabulary: model.text.vocabulary(),
            interrupt: self.active_interrupt(),
        };
        let progress = self.console.progress();
        let world = &self.inputs.world;
        let own: Vec<Request> = world.share(requests.len()).map(|index| requests[index].clone()).collect();
        progress.begin("rollouts");
        progress.expect(own.len());
        let observe = |event: Event| match event {
            Event::Token { .. } => progress.add_token(),
            Event::Finished { .. } => progress.add(),
        };
        let completions = world.agree(engine.generate(&own, &rollouts::sampling(settings), &observe))?;
        let completions = world.collect(requests.len(), completions)?;
        progress.begin("grading responses");
        let rollouts = rollouts::decode(model, &self.inputs.prompts, examples, requests, completions)?;
        self.stopwatch.lap(Phase::Sample);
        let graded = self.retry_on_out_of_memory(|run| {
            let scorer = PolicyScorer { updater: run.updater(settings), text: &run.inputs.model.text };
            let sources = Sources { scorer: &scorer, interrupt: run.active_interrupt(), guard: run.inputs.guard, world: &run.inputs.world };
            rollouts::grade(settings, &run.rewards, &sources, step, &rollouts)
        })?;
        self.stopwatch.lap(Phase::Reward);
        Ok(rollouts::scored(rollouts, graded))
    }
}

/// Returns the parameters that the optimizer trains: all weights, or the adapters.
fn trained<'a>(policy: &'a Decoder, lora: Option<&'a Lora>) -> TrainedParameters<'a> {
    lora.map_or(TrainedParameters::Weights(&policy.config), |lora| TrainedParameters::Adapters(&lora.adapters))
}
