//! One way into a run. [`prepare`] checks all that can be checked without weights, [`Prepared::load`] reads them, and [`Loaded::start`] makes the
//! run's folder or goes on in it. Trainings, plans and studies come through here, and so does code that trains from the library.
//!
//! Owns the order of these checks and their messages, which name settings, or flags of `rlvr train` where these say it better; must never read a
//! command line. Errors in what was asked are marked as [`Usage`](crate::usage::Usage).

mod examples;
mod layers;
mod load;
mod recorded;
mod sizes;
mod words;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, ensure};
use toml::Table;

use super::{Launch, PromptSettings, Replay, Resumption, RunFolder, RunSettings};
use crate::checkpoint::ensure_free;
use crate::data::{Library, OnTransfer, example};
use crate::eval::{EvalSet, sets};
use crate::flow::Problem;
use crate::model::shapes;
use crate::reward::label::{Relabelled, relabel};
use crate::reward::{self, Rewards};
use crate::source;
use crate::text::{self, ChatSettings};
use crate::usage::usage;
pub use load::Loaded;
pub use sizes::{Fit, Sizes};

/// What is asked of a run.
pub struct Request<'a> {
    /// A new run, or one that goes on.
    pub start: Start,
    /// What it is prepared for.
    pub need: Need,
    /// A folder with the published files, in place of downloads.
    pub data_dir: Option<PathBuf>,
    /// Where the gradient of the first update is written, unclipped.
    pub dump_gradients: Option<PathBuf>,
    /// The program `rlvr`, where it can stand before a program that rewards ([`reward::guard`]).
    pub guard: Option<&'a Path>,
    /// Receives messages for the user, one line at a time.
    pub tell: &'a dyn Fn(&str),
    /// Receives the progress of downloads.
    pub on_transfer: OnTransfer,
}

/// Where a run begins.
pub enum Start {
    /// At its first step.
    New {
        /// Settings over the defaults that fit the model and the example; the last layer is on top.
        layers: Vec<Table>,
        /// The run's folder, which must not exist; none takes a new one under `runs/`.
        out: Option<PathBuf>,
    },
    /// Where an earlier part of it stopped.
    Resume {
        /// The run's folder.
        root: PathBuf,
        /// After which step; none takes the newest checkpoint that is whole.
        at: Option<u64>,
        /// What changes: `train.steps` and the settings of `compute` may.
        changes: Table,
    },
}

/// What a run is prepared for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// To be run: all of it must be there, and the folder of a run that goes on is taken.
    Run,
    /// To know whether it can be run: a model's files are looked at instead of read, and nothing in a run's folder changes.
    Trial,
    /// To know its sizes: a shape that is known by name will do for a model, and default sets that cannot be had are left out.
    Sizes {
        /// Whether a question of the usual length takes the place of a default example that cannot be had.
        stand_in: bool,
    },
}

/// A run that was checked as far as it can be without weights.
pub struct Prepared<'a> {
    /// The settings, complete but for the date of prompts.
    pub settings: RunSettings,
    /// Recorded rollouts that take the place of sampling.
    pub replay: Option<Replay>,
    /// Where a run goes on; none for a new one.
    pub resumed: Option<Resumption>,
    /// The training examples, with the labels that responses are held to; none with a recording.
    pub problems: Vec<Problem>,
    /// Which labels are not the examples' own.
    pub labels: Vec<Relabelled>,
    /// What is evaluated.
    pub sets: Vec<EvalSet>,
    /// What is asked of the model's chat template.
    pub chat: ChatSettings,
    /// The run's folder.
    pub root: PathBuf,
    launch: Launch,
    request: Request<'a>,
}

impl Request<'_> {
    /// A new run of settings in layers, of which nothing is told.
    pub fn new(layers: Vec<Table>, out: Option<PathBuf>) -> Self {
        Self {
            start: Start::New { layers, out },
            need: Need::Run,
            data_dir: None,
            dump_gradients: None,
            guard: None,
            tell: &|_| (),
            on_transfer: Arc::new(|_| ()),
        }
    }
}

/// Resolves settings, examples, sets and folder, and checks all of it without weights. Nothing is written, but in the folder of a run that goes
/// on: there, what a killed process left half done is put in order.
///
/// # Errors
/// The first thing that is wrong; what the user can mend by asking otherwise is marked as usage.
pub fn prepare(request: Request<'_>) -> Result<Prepared<'_>> {
    let (need, tell, data_dir) = (request.need, request.tell, request.data_dir.as_deref());
    let (settings, replay, launch, begun) = match &request.start {
        Start::New { layers, .. } => {
            let (settings, replay) = usage(layers::resolve(layers))?;
            (settings, replay, Launch::here(data_dir)?, None)
        }
        Start::Resume { root, at, changes } => {
            let recorded::Recorded { folder, settings, launch } = usage(recorded::read(root, changes, data_dir, tell))?;
            let replay = usage(layers::recording(&settings.rollout.replay))?;
            (settings, replay, launch, Some((folder, *at)))
        }
    };
    let library = usage(Library::open(launch.data_dir.as_deref()))?.on_transfer(request.on_transfer.clone());
    let resumed = begun.map(|(folder, at)| recorded::choose(folder, &settings, at, need, tell)).transpose()?;
    usage(settings.validate())?;
    let replay = usage(replay.map(|replay| replay.under(settings.rollout.truncated)).transpose())?;
    usage(ensure_parts(&settings, need))?;
    let mut problems = if replay.is_some() { Vec::new() } else { examples::problems(&settings, &library, need, tell)? };
    let labels = usage(if replay.is_some() { Ok(Vec::new()) } else { relabel(&settings.reward, &mut problems) })?;
    let sets = examples::evaluated(&settings, &library, need, tell)?;
    let chat = usage(chat(&settings.prompt, replay.is_none() || !sets.is_empty()))?;
    let root = match &request.start {
        Start::Resume { root, .. } => root.clone(),
        Start::New { out, .. } => {
            let root = out.clone().unwrap_or_else(|| RunFolder::free(&settings));
            usage(ensure_free(&root))?;
            root
        }
    };
    Ok(Prepared { settings, replay, resumed, problems, labels, sets, chat, root, launch, request })
}

/// The program behind a reward and the models, looked at without weights.
fn ensure_parts(settings: &RunSettings, need: Need) -> Result<()> {
    let only_sizes = matches!(need, Need::Sizes { .. });
    if !only_sizes {
        reward::ensure_program(&settings.reward)?;
        for model in [&settings.model, &settings.reference].into_iter().filter(|model| !model.is_empty()) {
            source::check_folder(model, need == Need::Trial)?;
        }
    }
    if only_sizes && shapes::by_name(&settings.model).is_some() { Ok(()) } else { source::recognise(&settings.model) }
}

/// Checks settings and every name in them, without a download and without a run's folder. Gives the settings, and the sets without their
/// problems.
///
/// # Errors
/// The first setting that is wrong, the first name that nothing has.
pub fn check(layers: &[Table], library: &Library) -> Result<(RunSettings, Vec<EvalSet>)> {
    let (settings, replay) = layers::resolve(layers)?;
    settings.validate()?;
    source::recognise(&settings.model)?;
    if !settings.reference.is_empty() {
        source::recognise(&settings.reference)?;
    }
    let needs_answers = Rewards::new(&settings.reward, settings.rollout.max_new)?.needs_label() && settings.reward.label.is_empty();
    let examples = match &settings.example {
        _ if replay.is_some() => 1,
        example if example.starts_with("tiny/") => examples::examples(&settings, library, &|_| ())?.len(),
        example => example::check(example, needs_answers)?,
    };
    ensure!(examples == 1 || settings.reward.label.is_empty(), "reward.label is the answer of one example, and there are {examples}");
    reward::ensure_program(&settings.reward)?;
    let mut sets = sets::check(&settings.eval.benchmarks, library)?;
    examples::decoded(&settings, &mut sets)?;
    chat(&settings.prompt, true)?;
    Ok((settings, sets))
}

/// The day on which a run begins is its day, however often it is resumed. Recorded rollouts need no template, unless sets are evaluated.
fn chat(prompt: &PromptSettings, renders: bool) -> Result<ChatSettings> {
    let template = Some(Path::new(&prompt.chat_template)).filter(|path| !path.as_os_str().is_empty());
    let date = if prompt.date.is_empty() { text::today() } else { prompt.date.clone() };
    ChatSettings::read(template, Some(date), renders)
}

#[cfg(test)]
mod tests;
