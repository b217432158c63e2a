//! The run itself: its parts put together, and the line of a step. `run/updates` has a step's updates, `run/records` what is left on disk,
//! `run/resume` how a run goes on, `run/failure` what happens when any of it fails, `run/finite` which weights no run can go on with.

mod failure;
mod finite;
mod interruption;
mod records;
mod resume;
mod updates;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use serde_json::{Map, Value};

use super::course::Course;
use super::critic::Critic;
use super::folder::RunFolder;
use super::history::History;
use super::measures::Measures;
use super::plan::{self, Activations};
use super::reference::Reference;
use super::replay::Replay;
use super::resample;
use super::rollouts::{self, Sources};
use super::settings::RunSettings;
use super::story;
use super::update::PolicyScorer;
use super::watch::Watch;
use crate::checkpoint::Model;
use crate::checkpoint::state::Trained;
use crate::eval::EvalSet;
use crate::flow::{Prompt, Scored};
use crate::interrupt::Interrupt;
use crate::lanes::Lanes;
use crate::metrics::{Console, EventFile, JsonLines, Phase, PhaseTimes, Stopwatch};
use crate::model::gradients::parameters;
use crate::model::{Decoder, Gradients, Lora};
use crate::optim::AdamW;
use crate::reward::Rewards;
use crate::reward::label::Relabelled;
use crate::rollout::{Engine, Request};
use failure::{Batch, Standing};
use records::keep_labels;

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
    /// Says when the run is to stop, and how soon.
    pub interrupt: &'a Interrupt,
    /// This program, where it can stand before a program that rewards ([`reward::guard`](crate::reward::guard)).
    pub guard: Option<&'a Path>,
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
    /// The settings that the run began with; a step has its own, which `course` makes of these.
    settings: RunSettings,
    /// Tokens of a micro-batch, which are reduced after an out-of-memory error, and which activations are recomputed.
    activations: Activations,
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
    /// The last step's line of metrics, while its evaluation is still to be made.
    unfinished: Option<Map<String, Value>>,
    /// Asks for nothing: what must be finished heeds this one.
    unheard: Interrupt,
    /// Steps done.
    step: u64,
    /// How the policy stands to the records of that step.
    standing: Standing,
    /// What warns of a run that goes wrong.
    watch: Watch,
    /// The responses that were last trained on.
    batch: Option<Batch>,
    started: Instant,
    stopwatch: Stopwatch,
    /// Seconds that earlier parts of the run took.
    earlier_s: f64,
    /// Where they went, as far as it is recorded.
    earlier_times: PhaseTimes,
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
        let target = decoder.target();
        let lanes = Lanes::new(plan::lanes(&decoder.config, &settings, &target))?;
        let (prompts, max_new) = match &inputs.replay {
            Some(replay) => replay.lengths(),
            None => (inputs.prompts.iter().map(|prompt| prompt.ids.len()).collect(), settings.rollout.max_new),
        };
        let load = plan::step_load(&settings, prompts, max_new);
        let activations = Activations::of(&decoder.config, &settings, &load, &target);
        let lora = settings.lora.is_on().then(|| Lora::new(settings.lora.clone(), decoder, settings.seed)).transpose()?;
        let optimizer = AdamW::new(settings.optim.clone(), decoder.kernels(), &parameters(decoder, lora.as_ref()))?;
        let reference = Reference::new(&settings, given, decoder, lora.as_ref())?;
        let gradients = (0..lanes.count()).map(|_| Gradients::zeros(decoder, lora.as_ref())).collect::<Result<_>>()?;
        let critic = settings.has_critic().then(|| Critic::new(&settings, decoder, lanes.count())).transpose()?;
        let rewards = Rewards::new(&settings.reward, settings.rollout.max_new)?;
        let tells_times = tracing::enabled!(tracing::Level::INFO);
        let console = Console::new(settings.train.steps as u32, step as u32, tells_times);
        let history = History::new(&settings.eval);
        let watch = Watch::new(records::subject(&settings, &rewards, &inputs));
        Ok(Self {
            activations,
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
            unfinished: None,
            unheard: Interrupt::default(),
            step,
            standing: Standing::Recorded,
            watch,
            batch: None,
            started: Instant::now(),
            stopwatch: Stopwatch::start(),
            earlier_s: 0.0,
            earlier_times: PhaseTimes::default(),
        })
    }

    /// Steps to the end, or to a signal.
    ///
    /// # Errors
    /// Whatever fails, the error says up to which step the run is saved and how to go on.
    pub fn run(mut self) -> Result<Outcome> {
        self.steps().or_else(|error| self.interrupted(error)).map_err(|error| self.failed(error))
    }

    fn steps(&mut self) -> Result<Outcome> {
        self.stopwatch.skip();
        if self.step == 0 && self.history.evaluations.is_empty() {
            self.inputs.interrupt.begin("the evaluation of the base model");
            self.evaluate()?;
        }
        if let Some(line) = self.unfinished.clone() {
            // Its state says that the evaluation is to come: it is written again without that.
            self.complete(line, true)?;
            self.checkpoint()?;
        }
        while self.step < self.settings.train.steps {
            if let Some(signal) = self.inputs.interrupt.signal() {
                return self.stop(signal);
            }
            self.inputs.interrupt.begin(format!("step {}", self.step + 1));
            let line = self.advance()?;
            let (step, last) = (self.step, self.step == self.settings.train.steps);
            let due = |every: u64| last || (every > 0 && step.is_multiple_of(every));
            self.complete(line, due(self.settings.eval.every))?;
            self.ensure_updates()?;
            if due(self.settings.checkpoint.every) {
                self.checkpoint()?;
            }
        }
        self.console.finish();
        self.summarise()?;
        self.stopwatch.lap(Phase::Save);
        let times = self.earlier_times.plus(&self.stopwatch.total()).table(self.elapsed_s());
        story::tell(&self.settings, &self.folder, &self.history, &times)?;
        Ok(Outcome::Done)
    }

    /// What completes a step: its evaluation, where one is due, and its line of metrics.
    fn complete(&mut self, mut line: Map<String, Value>, evaluates: bool) -> Result<()> {
        if evaluates {
            self.inputs.interrupt.begin(format!("the evaluation after step {}", self.step));
            self.unfinished = Some(line.clone());
            line.extend(self.evaluate()?);
        }
        self.record_times(&mut line)?;
        self.metrics.write(&line)?;
        self.unfinished = None;
        self.standing = Standing::Recorded;
        self.stopwatch.lap(Phase::Save);
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<()> {
        self.standing = Standing::Saving;
        self.save()?;
        self.standing = Standing::Recorded;
        self.stopwatch.lap(Phase::Save);
        Ok(())
    }

    /// The settings of a step (from 1), which keeps them to its end.
    fn settings_at(&self, step: u64) -> RunSettings {
        let mut settings = self.course.at_step(&self.settings, step);
        if let Some(temperature) = self.inputs.replay.as_ref().and_then(|replay| replay.temperature(step)) {
            settings.rollout.temperature = temperature;
        }
        settings
    }

    /// One step: sample, score, update, record. Gives its line of metrics.
    fn advance(&mut self) -> Result<Map<String, Value>> {
        let step = self.step + 1;
        let _span = tracing::info_span!("step", step).entered();
        let settings = Arc::new(self.settings_at(step));
        let before = self.stopwatch.total();
        let (scored, further_batches) = self.sample(&settings, step)?;
        let scored = Arc::new(scored);
        self.batch = Some(Batch { step, settings: Arc::clone(&settings), scored: Arc::clone(&scored) });
        let updated = self.update(&settings, &scored)?;
        self.standing = Standing::Changing;
        self.reference.as_ref().map_or(Ok(()), |reference| reference.follow(&settings, step, &self.inputs.model.decoder))?;
        self.stopwatch.lap(Phase::Reference);
        // While a critic warms up, the policy is not asked.
        let terms = &updated.report.terms;
        if terms.tokens > 0.0 && terms.token_entropy.is_finite() {
            self.course.steer(&settings.loss, terms.per_token(terms.token_entropy));
        }
        let measures = Measures { further_batches, times: self.stopwatch.total().since(&before), updated };
        self.step = step;
        self.standing = Standing::Unrecorded;
        let line = self.record(&settings, &scored, &measures)?;
        self.stopwatch.lap(Phase::Save);
        Ok(line)
    }

    /// The step's scored responses, and how many further batches replaced groups without signal.
    fn sample(&mut self, settings: &RunSettings, step: u64) -> Result<(Vec<Scored>, usize)> {
        let _span = tracing::info_span!("rollouts").entered();
        if let Some(replay) = &self.inputs.replay {
            let scored = replay.step(step).to_vec();
            self.stopwatch.lap(Phase::Sample);
            return Ok((scored, 0));
        }
        let count = self.inputs.prompts.len();
        let examples = rollouts::examples(settings, count, step);
        let requests = rollouts::requests(settings, &self.inputs.prompts, &examples, step);
        let scored = self.respond(settings, step, &requests, &examples)?;
        resample::fill(settings, scored, |attempt, groups| {
            let examples = resample::examples(settings, count, step, attempt, groups);
            let requests = resample::requests(settings, &self.inputs.prompts, &examples, step, attempt, groups);
            self.respond(settings, step, &requests, &examples)
        })
    }

    /// Responses to requests, with their rewards.
    fn respond(&mut self, settings: &RunSettings, step: u64, requests: &[Request], examples: &[usize]) -> Result<Vec<Scored>> {
        let model = &self.inputs.model;
        let engine = Engine {
            decoder: &model.decoder,
            lanes: &self.lanes,
            settings: &settings.rollout.engine,
            end_tokens: &model.end_tokens,
            vocabulary: model.text.vocabulary(),
            interrupt: self.heeded(),
        };
        let completions = engine.generate(requests, &rollouts::sampling(settings), &|_| ())?;
        let rollouts = rollouts::decode(model, &self.inputs.prompts, examples, requests, completions)?;
        self.stopwatch.lap(Phase::Sample);
        let judged = self.within_memory(|run| {
            let scorer = PolicyScorer { updater: run.updater(settings), text: &run.inputs.model.text };
            let sources = Sources { scorer: &scorer, interrupt: run.heeded(), guard: run.inputs.guard };
            rollouts::judge(settings, &run.rewards, &sources, step, &rollouts)
        })?;
        self.stopwatch.lap(Phase::Reward);
        Ok(rollouts::scored(rollouts, judged))
    }
}

/// What the optimizer's tensors belong to.
fn trained<'a>(policy: &'a Decoder, lora: Option<&'a Lora>) -> Trained<'a> {
    lora.map_or(Trained::Weights(&policy.config), |lora| Trained::Adapters(&lora.adapters))
}
