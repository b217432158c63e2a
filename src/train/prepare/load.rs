//! Loads the weights of a prepared run: reads the policy, builds the prompts, validates a recording against the policy, and reads the
//! reference.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::{MachineCheck, PrepareFor, Prepared, RunRequest};
use crate::checkpoint::Model;
use crate::eval::sets;
use crate::flow::{Problem, Prompt};
use crate::interrupt::Interrupt;
use crate::kernels::Kernels;
use crate::model::decoder::ActivationCheckpointing;
use crate::model::{Decoder, parameters};
use crate::output::Level;
use crate::source;
use crate::text::ChatSettings;
use crate::train::shards::Shards;
use crate::train::update::Packing;
use crate::train::{Invocation, Replay, ResumePoint, Run, RunInputs, RunSettings};
use crate::usage::usage;
use crate::workers::Workers;

/// A run whose inputs are in memory. Nothing is written yet.
pub struct Loaded<'a> {
    /// The complete settings.
    pub settings: RunSettings,
    /// The inputs of the run besides its settings.
    pub inputs: RunInputs<'a>,
    /// The run folder.
    pub root: PathBuf,
    pub(super) resumed: Option<ResumePoint>,
    pub(super) invocation: Invocation,
}

impl<'a> Prepared<'a> {
    /// Reads the model, possibly after a download, and performs the checks that need it. The started run stops if `interrupt` requests it;
    /// loading does not.
    ///
    /// # Errors
    /// If the run was not prepared for [`PrepareFor::Run`] or does not fit on this machine, the model cannot be read, or the prompts, the
    /// recording or the reference do not suit it.
    pub fn load(self, interrupt: &'a Interrupt) -> Result<Loaded<'a>> {
        ensure!(self.request.need == PrepareFor::Run, "a run prepared for {:?} cannot be loaded", self.request.need);
        let MachineCheck { kernels, computed_on, refusal } = self.check_machine()?;
        usage(refusal.map_or(Ok(()), Err))?;
        self.ensure_same_settings_on_all_ranks(&computed_on)?;
        let (world, members) = source::share(&self.request.world, &*kernels)?;
        members.iter().for_each(|line| (self.request.print)(Level::Info, line));
        let Self { mut settings, replay, resumed, problems, labels, sets, chat, root, invocation, request } = self;
        let progress = request.progress.clone();
        let model = source::load(&settings.model, &chat, &kernels, &progress, &request.on_progress)?;
        usage(settings.validate_for(&model.decoder.config))?;
        if model.text.prints_date() {
            settings.prompt.date = chat.date.unwrap_or_default();
        }
        progress.begin("preparing the run");
        let prompts = prompts(&settings, &model, problems)?;
        let replay = replay.map(|replay| validated(replay, &settings, &model, resumed.is_none(), &request));
        let replay = usage(replay.transpose()).with_context(|| settings.rollout.replay.clone())?;
        usage(sets::ensure_prompt_fits(settings.eval.max_new_tokens, model.decoder.config.context_length, &sets))?;
        let reference = usage(reference(&settings, &model, &kernels, &request))?;
        interrupt.begin(if resumed.is_none() && !sets.is_empty() { "the evaluation of the base model" } else { "the next step" });
        let revision = source::revision(&settings.model, &progress)?;
        progress.begin("preparing the run");
        let RunRequest { dump_gradients, guard, print_result, .. } = request;
        let inputs = RunInputs {
            revision,
            model,
            reference,
            prompts,
            labels,
            replay,
            dump_gradients,
            world,
            sets,
            interrupt,
            guard,
            progress,
            print_result,
        };
        Ok(Loaded { settings, inputs, root, resumed, invocation: Invocation { computed_on, ..invocation } })
    }
}

impl<'a> Loaded<'a> {
    /// Creates the run folder, or resumes the run in it.
    ///
    /// # Errors
    /// [`FolderInUse`](crate::checkpoint::lock::FolderInUse) if the folder of a new run exists by now.
    /// [`Interrupted`](crate::interrupt::Interrupted) if a stop is requested while lost evaluations are repeated. Other errors if the
    /// checkpoint cannot be loaded or a file cannot be written.
    pub fn start(self) -> Result<Run<'a>> {
        let world = self.inputs.world.clone();
        // Before rank 0 writes anything, every rank has checked and loaded everything.
        self.ensure_same_inputs_on_all_ranks()?;
        let run = match &self.resumed {
            Some(resumption) => Run::resume(self.settings, resumption, self.inputs)?,
            None => Run::start(self.settings, &self.root, self.inputs)?,
        };
        if world.is_first() {
            self.invocation.write(&self.root)?;
        }
        Ok(run)
    }
}

/// Builds the prompts of the examples.
fn prompts(settings: &RunSettings, model: &Model, problems: Vec<Problem>) -> Result<Vec<Prompt>> {
    let context_length = model.decoder.config.context_length;
    let prompt = |problem: Problem| {
        let instruction = settings.prompt.instruction_for(&problem.question).to_owned();
        let prompt = model.text.prompt(Arc::new(problem), &instruction)?;
        let (tokens, max_new_tokens) = (prompt.ids.len(), settings.rollout.max_new_tokens);
        ensure!(tokens > 0, "the prompt of {} is empty", prompt.problem.id);
        model.check_tokens(prompt.ids.iter()).with_context(|| format!("the prompt of {}", prompt.problem.id))?;
        ensure!(
            tokens + max_new_tokens <= context_length,
            "the prompt of {} has {tokens} tokens; with rollout.max_new_tokens = {max_new_tokens} it exceeds the model's context length of {context_length}: set rollout.max_new_tokens to at most {}",
            prompt.problem.id,
            context_length.saturating_sub(tokens)
        );
        Ok(prompt)
    };
    problems.into_iter().map(prompt).collect()
}

/// Cuts a recording's padding and checks the recording against the policy. If the run is new, also compares log-probabilities.
fn validated(mut replay: Replay, settings: &RunSettings, policy: &Model, is_new: bool, request: &RunRequest) -> Result<Replay> {
    let (path, RunRequest { print, world, .. }) = (&settings.rollout.replay, request);
    let cut = replay.cut_padding(&policy.end_tokens)?;
    if cut > 0 {
        print(Level::Info, &format!("{path}: {cut} responses were padded after their first end token and were cut there"));
    }
    replay.check(policy.decoder.config.vocabulary, policy.decoder.config.context_length)?;
    if is_new {
        let temperature = replay.temperature(1).unwrap_or(settings.rollout.temperature);
        let workers = Workers::new(world.workers_of_rank(policy.decoder.default_workers()))?;
        let shards = (settings.train.shards > 0).then(|| Shards::new(world, settings.train.shards)).transpose()?;
        let packing = Packing {
            workers: &workers,
            micro_batch_tokens: settings.train.micro_batch_tokens,
            checkpointing: ActivationCheckpointing::None,
            interrupt: &Interrupt::default(),
            progress: None,
            shards,
        };
        let gap = replay.gap(&packing, &policy.decoder, temperature)?;
        let found = replay.check_gap(gap, settings.rollout.replay_gap, temperature)?;
        found.iter().for_each(|message| print(Level::Warning, &format!("{path}: {message}")));
    }
    Ok(replay)
}

/// Reads the reference; `None` if it is the initial policy, or if there is no KL term.
fn reference(settings: &RunSettings, policy: &Model, kernels: &Arc<dyn Kernels>, request: &RunRequest) -> Result<Option<Decoder>> {
    if settings.reference.is_empty() {
        return Ok(None);
    }
    if !settings.has_reference() {
        (request.print)(Level::Warning, &format!("loss.kl and reward.kl are 0, so the reference {} is not used", settings.reference));
        return Ok(None);
    }
    let RunRequest { progress, on_progress, .. } = request;
    let reference = source::load(&settings.reference, &ChatSettings::default(), kernels, progress, on_progress)?.decoder;
    let (found, expected) = (reference.config.vocabulary, policy.decoder.config.vocabulary);
    ensure!(
        found == expected,
        "the reference {} has a vocabulary of {found} tokens, but the policy's has {expected}: choose a reference with the policy's vocabulary",
        settings.reference
    );
    let (context_length, needed) = (reference.config.context_length, policy.decoder.config.context_length);
    ensure!(
        context_length >= needed,
        "the reference {} has a context length of {context_length} tokens, but the policy's is {needed}: choose a reference that can score all sequences",
        settings.reference
    );
    ensure!(
        !settings.reference_moves() || parameters::shapes(&reference.config) == parameters::shapes(&policy.decoder.config),
        "the reference {} differs in shape from the policy, so it cannot be synchronized with it: set train.reference_every and train.reference_decay to 0",
        settings.reference
    );
    Ok(Some(reference))
}
