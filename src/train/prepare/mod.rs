//! Prepares a run. [`prepare()`] checks everything that can be checked without weights, [`Prepared::load`] reads the weights, and
//! [`Loaded::start`] creates the run folder or resumes the run in it. Training, plans, studies and library users all start here.
//!
//! Owns the order of these checks. Messages name settings, or flags of `rlvr train` where these are clearer, but this module does not read
//! the command line. Errors in the request are marked as [`Usage`](crate::usage::Usage).

mod examples;
mod layers;
mod load;
mod messages;
mod opening;
mod ranks;
mod resume;
mod sizes;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, anyhow, ensure};
use toml::Table;

use super::{Invocation, PromptSettings, Replay, ResumePoint, RunFolder, RunSettings};
use crate::checkpoint::ensure_absent;
use crate::data::{DataStore, OnProgress, example};
use crate::dist::World;
use crate::eval::{EvalSet, sets};
use crate::flow::Problem;
use crate::model::known_models;
use crate::output::{Level, Progress};
use crate::reward::label::{Relabeled, relabel};
use crate::reward::{self, Rewards};
use crate::source;
use crate::text::{self, ChatSettings};
use crate::usage::usage;
pub use load::Loaded;
pub use sizes::{MachineCheck, Sizes};

/// A request to prepare a run.
pub struct RunRequest<'a> {
    /// Whether to start a new run or to resume one.
    pub start: Start,
    /// The purpose of the preparation.
    pub need: PrepareFor,
    /// A folder with the published files, which replaces downloads; `None` for the recorded folder of a resumed run, or the cache.
    pub data_dir: Option<PathBuf>,
    /// The file to write the first update's gradient to, before clipping; `None` to write nothing.
    pub dump_gradients: Option<PathBuf>,
    /// The path of the `rlvr` program, which starts reward programs so that none outlives the run ([`reward::parent_guard`]); `None` to
    /// start them directly.
    pub guard: Option<&'a Path>,
    /// The ranks that compute the run together.
    pub world: World,
    /// Receives messages for the user, one line at a time.
    pub print: &'a dyn Fn(Level, &str),
    /// Receives the progress of downloads.
    pub on_progress: OnProgress,
    /// Shows the work in progress, during preparation and during the run.
    pub progress: Progress,
    /// Receives the final tables of the run.
    pub print_result: &'a dyn Fn(&str),
}

/// Where a run starts.
pub enum Start {
    /// At its first step, as a new run.
    New {
        /// Layers of settings on top of the defaults for the model and the example; later layers override earlier ones.
        layers: Vec<Table>,
        /// The run folder, which must not exist; `None` for a new one in `runs/`.
        out: Option<PathBuf>,
    },
    /// At a checkpoint of an existing run.
    Resume {
        /// The run folder.
        root: PathBuf,
        /// The step to resume after; `None` for the newest intact checkpoint.
        at: Option<u64>,
        /// Settings to change; only `train.steps` and `compute.*` are allowed.
        changes: Table,
    },
}

/// The purpose for which a run is prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrepareFor {
    /// To run it. All inputs must exist, and the folder of a resumed run is locked.
    Run,
    /// To check whether it can run. Weights are not read, and run folders stay unchanged.
    DryRun,
    /// To estimate its memory, disk and time. The name of a known model shape suffices, and unavailable default benchmarks are left out.
    Plan {
        /// True if a question of typical length replaces an unavailable default example.
        stand_in: bool,
    },
}

/// A run that has passed all checks that need no weights.
pub struct Prepared<'a> {
    /// The settings, complete except for the date of prompts.
    pub settings: RunSettings,
    /// Recorded rollouts to train on instead of sampling.
    pub replay: Option<Replay>,
    /// Where to resume the run; `None` for a new run.
    pub resumed: Option<ResumePoint>,
    /// The training examples, with the labels that responses are graded against; empty for a replay.
    pub problems: Vec<Problem>,
    /// The labels that replace the examples' own answers.
    pub labels: Vec<Relabeled>,
    /// The benchmarks to evaluate on.
    pub sets: Vec<EvalSet>,
    /// The settings of the chat template.
    pub chat: ChatSettings,
    /// The run folder.
    pub root: PathBuf,
    invocation: Invocation,
    request: RunRequest<'a>,
}

impl RunRequest<'_> {
    /// Creates a request for a new run with these layers of settings. It discards messages and progress.
    pub fn new(layers: Vec<Table>, out: Option<PathBuf>) -> Self {
        Self {
            start: Start::New { layers, out },
            need: PrepareFor::Run,
            data_dir: None,
            dump_gradients: None,
            guard: None,
            world: World::solo().clone(),
            print: &|_, _| (),
            on_progress: Arc::new(|_| ()),
            progress: Progress::hidden(),
            print_result: &|_| (),
        }
    }
}

/// Resolves settings, examples, benchmarks and the run folder, and checks all of them without weights.
///
/// Writes nothing, but locks and cleans up the folder of a run to resume if the purpose is [`PrepareFor::Run`].
///
/// # Errors
/// Returns the first problem found. Errors that the user can fix by changing the request are marked as usage errors.
pub fn prepare(request: RunRequest<'_>) -> Result<Prepared<'_>> {
    let (need, data_dir) = (request.need, request.data_dir.as_deref());
    let print = &|text: &str| (request.print)(Level::Info, text);
    request.progress.begin("preparing the run");
    let (settings, replay, invocation, existing) = match &request.start {
        Start::New { layers, .. } => {
            let (settings, replay) = usage(layers::resolve(layers))?;
            (settings, replay, Invocation::current(data_dir)?, None)
        }
        Start::Resume { root, at, changes } => {
            let resume::Recorded { folder, settings, invocation } = usage(resume::read(root, changes, data_dir, print))?;
            let replay = usage(layers::recording(&settings.rollout.replay))?;
            (settings, replay, invocation, Some((folder, *at)))
        }
    };
    let store = usage(DataStore::open(invocation.data_dir.as_deref()))?.on_progress(request.on_progress.clone());
    let resumed = existing.map(|(folder, at)| resume::choose_checkpoint(folder, &settings, at, &request)).transpose()?;
    usage(settings.validate())?;
    usage(settings.validate_for_processes(request.world.size()))?;
    if request.dump_gradients.is_some() && request.world.size() > 1 {
        return usage(Err(anyhow!("--dump-gradients needs a run of one process")));
    }
    let replay = usage(replay.map(|replay| replay.with_truncation(settings.rollout.truncated)).transpose())?;
    usage(ensure_inputs_exist(&settings, need))?;
    let mut problems = if replay.is_some() { Vec::new() } else { examples::problems(&settings, &store, need, print)? };
    let labels = usage(if replay.is_some() { Ok(Vec::new()) } else { relabel(&settings.reward, &mut problems) })?;
    let sets = examples::evaluated(&settings, &store, need, print)?;
    let chat = usage(chat(&settings.prompt, replay.is_none() || !sets.is_empty()))?;
    let root = match &request.start {
        Start::Resume { root, .. } => root.clone(),
        Start::New { out, .. } => {
            let root = out.clone().unwrap_or_else(|| RunFolder::unused_path(&settings));
            usage(ensure_absent(&root))?;
            request.world.from_first(root)?
        }
    };
    Ok(Prepared { settings, replay, resumed, problems, labels, sets, chat, root, invocation, request })
}

/// Checks the reward program and the model files without reading weights.
fn ensure_inputs_exist(settings: &RunSettings, need: PrepareFor) -> Result<()> {
    let is_plan = matches!(need, PrepareFor::Plan { .. });
    if !is_plan {
        reward::ensure_program(&settings.reward)?;
        for model in [&settings.model, &settings.reference].into_iter().filter(|model| !model.is_empty()) {
            source::check_folder(model, need == PrepareFor::DryRun)?;
        }
    }
    if is_plan && known_models::by_name(&settings.model).is_some() { Ok(()) } else { source::check_name(&settings.model) }
}

/// Checks settings and all names in them, without a download or a run folder. Returns the settings, and the benchmarks without their
/// problems.
///
/// # Errors
/// If a setting is invalid or a name is unknown. Returns the first such error.
pub fn check(layers: &[Table], store: &DataStore) -> Result<(RunSettings, Vec<EvalSet>)> {
    let (settings, replay) = layers::resolve(layers)?;
    settings.validate()?;
    source::check_name(&settings.model)?;
    if !settings.reference.is_empty() {
        source::check_name(&settings.reference)?;
    }
    let needs_answers = Rewards::new(&settings.reward, settings.rollout.max_new_tokens)?.needs_label() && settings.reward.label.is_empty();
    let examples = match &settings.example {
        _ if replay.is_some() => 1,
        example if example.starts_with("tiny/") => examples::examples(&settings, store, &|_| ())?.len(),
        example => example::check(example, needs_answers)?,
    };
    ensure!(
        examples == 1 || settings.reward.label.is_empty(),
        "reward.label is the answer of one example, but there are {examples} examples"
    );
    reward::ensure_program(&settings.reward)?;
    let mut sets = sets::check(&settings.eval.benchmarks, store)?;
    examples::decoded(&settings, &mut sets)?;
    chat(&settings.prompt, true)?;
    Ok((settings, sets))
}

/// Returns the chat settings. A resumed run keeps the date on which it started. `renders` is false if no prompt is rendered, as in a replay
/// without evaluation; then no template is needed.
fn chat(prompt: &PromptSettings, renders: bool) -> Result<ChatSettings> {
    let template = Some(Path::new(&prompt.chat_template)).filter(|path| !path.as_os_str().is_empty());
    let date = if prompt.date.is_empty() { text::today() } else { prompt.date.clone() };
    ChatSettings::read(template, Some(date), renders)
}

#[cfg(test)]
mod tests;
