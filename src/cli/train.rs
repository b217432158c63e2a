//! `rlvr train`

mod inputs;
mod layers;
mod resume;
mod words;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;

use super::numbers::setting;
use super::signals::{self, CtrlC};
use super::source::{self, ComputeArgs, DataArgs};
use super::usage;
use crate::checkpoint::ensure_free;
use crate::checkpoint::lock::Held;
use crate::eval::{EvalSet, sets};
use crate::flow::Problem;
use crate::interrupt::{Interrupt, Interrupted};
use crate::model::shapes;
use crate::reward;
use crate::reward::label::{Relabelled, relabel};
use crate::text::ChatSettings;
use crate::tiny::ways;
use crate::train::algorithm;
use crate::train::history::BY_MEAN;
use crate::train::{Launch, Outcome, Replay, Resumption, Run, RunInputs, RunSettings};
pub use inputs::{chat, examples};
use inputs::{fitting, prompts, reference};
use layers::recording;
pub use layers::settings;
use words::{free_folder, notes, tell_labels};
pub use words::{plan, tell_formats};

#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Settings in TOML; what it leaves out keeps its default
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, over the file's: --set loss.entropy=0
    #[arg(long = "set", value_name = "A.B=C")]
    sets: Vec<String>,
    /// tiny (embedded), a folder in Hugging Face layout, or a hub name
    #[arg(long)]
    model: Option<String>,
    /// What to train on: pi1 (and any pi_k of the paper), pi1,pi13, pi1..pi16, dsr-sub (all 1,209), dsr-sub/124 (one row of it),
    /// tiny/addition/334+556, tiny/train/256, or a .jsonl, .json, .toml or .parquet file
    #[arg(long)]
    example: Option<String>,
    /// A problem of your own to train on, in place of --example; rewards without labels need no --answer
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["example", "replay"])]
    question: Option<String>,
    /// Its answer
    #[arg(long, value_name = "TEXT", requires = "question", allow_hyphen_values = true)]
    answer: Option<String>,
    /// Reward this answer instead of the example's own, right or wrong
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, conflicts_with_all = ["label_noise", "replay"])]
    label: Option<String>,
    /// Give this share of the examples a wrong label: the answer of another example
    #[arg(long, value_name = "SHARE", conflicts_with = "replay", allow_negative_numbers = true, value_parser = setting::<f64>("reward.label_noise"))]
    label_noise: Option<f64>,
    /// Seed of the choice of these examples and their labels
    #[arg(long, value_name = "N", conflicts_with = "replay", allow_negative_numbers = true, value_parser = setting::<u64>("reward.label_seed"))]
    label_seed: Option<u64>,
    #[arg(long, help = format!("The algorithm, a preset of settings: {}", algorithm::NAMES.join(", ")))]
    algo: Option<String>,
    /// Steps (rollout batches); with --resume, extends the run to so many
    #[arg(long, allow_negative_numbers = true, value_parser = setting::<u64>("train.steps"))]
    steps: Option<u64>,
    /// Seed of every draw in training
    #[arg(long, allow_negative_numbers = true, value_parser = setting::<u64>("seed"))]
    seed: Option<u64>,
    /// Train adapters of this rank beside all projections (LoRA) instead of all weights; they want a learning rate about ten times as high
    #[arg(long, value_name = "RANK", allow_negative_numbers = true, value_parser = setting::<usize>("lora.rank"))]
    lora: Option<usize>,
    /// The model that the KL term holds to (default: the policy as it starts)
    #[arg(long, value_name = "MODEL")]
    reference: Option<String>,
    /// Train on recorded rollouts instead of sampling: JSON lines as a run records them
    #[arg(long, value_name = "FILE", conflicts_with = "example")]
    replay: Option<String>,
    /// Write the gradient of the first update, unclipped, under Hugging Face's names
    #[arg(long, value_name = "FILE.safetensors")]
    dump_gradients: Option<PathBuf>,
    /// dtype of the exported weights: f32, bf16 or f16 (default: the one that the policy computes with)
    #[arg(long, value_name = "DTYPE")]
    export_dtype: Option<String>,
    /// The run's folder; must not exist (default: a new one under runs/)
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    out: Option<PathBuf>,
    /// Continue the run in this folder from its newest checkpoint that is whole; data folder and device are those it began with
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "sets", "model", "reference", "example", "question", "replay", "algo", "seed", "lora", "export_dtype", "label", "label_noise", "label_seed"])]
    resume: Option<PathBuf>,
    /// With --resume: go back to this step, and drop what was recorded after it; 0 starts again from the model that the run began with
    #[arg(long, value_name = "STEP", requires = "resume")]
    at: Option<u64>,
    /// Check everything that can be checked without weights, print the settings, and stop
    #[arg(long)]
    dry_run: bool,
    /// Print every setting with its range, its default and what it does, and stop
    #[arg(long)]
    pub(super) help_settings: bool,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// A run that was checked as far as it can be without weights.
pub struct Prepared {
    pub settings: RunSettings,
    pub replay: Option<Replay>,
    pub resumed: Option<Resumption>,
    pub launch: Launch,
    pub problems: Vec<Problem>,
    pub labels: Vec<Relabelled>,
    pub sets: Vec<EvalSet>,
    pub chat: ChatSettings,
    pub root: PathBuf,
}

pub fn run(args: TrainArgs) -> Result<ExitCode> {
    if args.help_settings {
        say!("{}", super::settings_help::page()?.trim_end());
        return Ok(ExitCode::SUCCESS);
    }
    let prepared = prepare(&args, Need::Everything)?;
    tell!("{}", plan(&prepared.settings, &prepared.problems, prepared.replay.as_ref(), &prepared.sets));
    tell!("{}", algorithm::by_name(&prepared.settings.algo)?.expansion(&prepared.settings)?);
    notes(&prepared.settings).iter().for_each(|note| tell!("{note}"));
    tell_labels(&prepared);
    let kernels = source::open(&prepared.settings.compute, &prepared.settings.model)?;
    let launch = resume::computed_on(&prepared)?;
    let refusal = super::plan::check(&prepared, &*kernels)?;
    let Prepared { mut settings, replay, resumed, problems, labels, sets, chat, root, launch: _ } = prepared;
    if args.dry_run {
        // The settings are sound; another machine may have the room.
        refusal.iter().for_each(|refusal| tell!("here it would be refused: {refusal:#}"));
        say!("{}", toml::to_string(&settings)?.trim_end());
        return Ok(ExitCode::SUCCESS);
    }
    refusal.map_or(Ok(()), |refusal| usage(Err(refusal)))?;

    let model = source::load_with(&settings.model, &chat, &kernels)?;
    usage(settings.validate_for(&model.decoder.config))?;
    if model.text.prints_date() {
        settings.prompt.date = chat.date.unwrap_or_default();
    }
    let prompts = prompts(&settings, &model, problems)?;
    let replay = usage(replay.map(|replay| fitting(replay, &settings, &model, resumed.is_none())).transpose())
        .with_context(|| settings.rollout.replay.clone())?;
    let (max_new, window) = (settings.eval.max_new, model.decoder.config.window);
    usage(room_to_answer(max_new, window, &sets))?;
    let reference = usage(reference(&settings, &model, &kernels))?;
    let interrupt = Arc::new(Interrupt::default());
    interrupt.begin(if resumed.is_none() && !sets.is_empty() { "the evaluation of the base model" } else { "the next step" });
    signals::listen(&interrupt, CtrlC::Finishes)?;
    let revision = source::revision(&settings.model)?;
    let (dump_gradients, interrupt, guard) = (args.dump_gradients, &*interrupt, reward::guard::this_program());
    let inputs = RunInputs { revision, model, reference, prompts, labels, replay, dump_gradients, sets, interrupt, guard };
    let run = match resumed {
        Some(resumption) => Run::resume(settings, &resumption, inputs),
        None => Run::start(settings, &root, inputs),
    };
    let run = match run.map_err(|error| error.downcast::<Interrupted>()) {
        Ok(run) => run,
        Err(Ok(Interrupted { signal })) => {
            tell!("interrupted before the run went on; {} is as it was", root.display());
            return Ok(ExitCode::from(128 + signal as u8));
        }
        // Another process took the folder since it was looked at.
        Err(Err(error)) if error.is::<Held>() => return usage(Err(error)),
        Err(Err(error)) => return Err(error),
    };
    launch.write(&root)?;
    match run.run()? {
        Outcome::Done => Ok(ExitCode::SUCCESS),
        Outcome::Interrupted { signal } => Ok(ExitCode::from(128 + signal as u8)),
    }
}

/// What is asked of the preparation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A run: all of it must be there.
    Everything,
    /// A plan: known shapes will do, and examples or sets that nobody named and that cannot be had are stood in for.
    Sizes,
}

/// Settings, examples and sets, and a folder that is free.
pub fn prepare(args: &TrainArgs, need: Need) -> Result<Prepared> {
    let recorded = args.resume.as_deref().map(|root| usage(resume::recorded(root, args))).transpose()?;
    let (mut settings, replay, launch, folder) = match recorded {
        Some(resume::Recorded { folder, settings, launch }) => {
            let replay = usage(recording(&settings.rollout.replay))?;
            (settings, replay, launch, Some(folder))
        }
        None => {
            let (settings, replay) = usage(settings(args))?;
            (settings, replay, Launch::here(args.data.data_dir.as_deref())?, None)
        }
    };
    let library = usage(source::library(launch.data_dir.as_deref()))?;
    let resumed = folder.map(|folder| resume::choose(folder, &settings, args, need)).transpose()?;
    settings.compute = args.compute.over(&settings.compute);
    usage(settings.validate())?;
    let replay = usage(replay.map(|replay| replay.under(settings.rollout.truncated)).transpose())?;
    if need == Need::Everything {
        usage(reward::ensure_program(&settings.reward))?;
        for model in [&settings.model, &settings.reference].into_iter().filter(|model| !model.is_empty()) {
            usage(source::check_folder(model, args.dry_run))?;
        }
    }
    if need == Need::Everything || shapes::by_name(&settings.model).is_none() {
        usage(source::recognise(&settings.model))?;
    }
    let defaults = RunSettings::defaults_for(&settings.model);
    let mut problems = match examples(&settings, &library) {
        _ if replay.is_some() => Vec::new(),
        Err(error) if need == Need::Sizes && args.example.is_none() && settings.example == defaults.example => {
            tell!("{error:#}\nplanned with a question of 480 characters in its place");
            let id = settings.example.clone();
            vec![Problem { id, question: "?".repeat(480), answer: "?".into(), ..Problem::default() }]
        }
        examples => usage(examples)?,
    };
    let labels = if replay.is_some() { Vec::new() } else { usage(relabel(&settings.reward, &mut problems))? };
    let mut sets = match sets::by_name(&settings.eval.benchmarks, settings.eval.limit, &library, way) {
        Err(error) if need == Need::Sizes && settings.eval.benchmarks == defaults.eval.benchmarks => {
            tell!("{error:#}\nplanned without evaluation");
            Vec::new()
        }
        sets => usage(sets)?,
    };
    usage(sets::decode(&mut sets, &settings.eval.decoding))?;
    if let Some(expected) = unknown_pass(&settings.eval.best_by, &sets) {
        return usage(Err(anyhow!("eval.best_by is {}, which is not evaluated; {expected}", settings.eval.best_by)));
    }
    let chat = usage(chat(&settings.prompt, replay.is_none() || !sets.is_empty()))?;
    let root = args.resume.clone().or_else(|| args.out.clone()).unwrap_or_else(|| free_folder(&settings));
    if resumed.is_none() {
        usage(ensure_free(&root))?;
    }
    Ok(Prepared { settings, replay, resumed, problems, labels, sets, chat, root, launch })
}

/// What the best checkpoint can be chosen by, where `chosen` is none of it.
pub(super) fn unknown_pass(chosen: &str, sets: &[EvalSet]) -> Option<String> {
    let passes = sets.iter().flat_map(|set| set.decodings.iter().map(|decoding| set.pass_name(*decoding)));
    let is_one_each = sets.len() > 1 && sets.iter().all(|set| set.decodings.len() == 1);
    let mean = is_one_each.then(|| BY_MEAN.to_owned());
    let known: Vec<String> = sets.iter().map(|set| set.name.clone()).chain(passes).chain(mean).collect();
    let is_known = chosen.is_empty() || known.iter().any(|name| name == chosen);
    (!is_known).then(|| if known.is_empty() { "eval.benchmarks is empty".to_owned() } else { format!("known are {}", known.join(", ")) })
}

/// An evaluation that leaves no room for its prompts would count every problem as wrong.
pub fn room_to_answer(max_new: usize, window: usize, sets: &[EvalSet]) -> Result<()> {
    ensure!(
        max_new < window || sets.is_empty(),
        "responses of up to {max_new} tokens leave no room for a prompt in the model's window of {window}: lower eval.max_new (--max-new of eval)"
    );
    Ok(())
}

pub fn way(response: &str) -> &'static str {
    ways::classify(response).name()
}
