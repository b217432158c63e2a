//! `rlvr plan`

use std::sync::Arc;

use anyhow::{Context, Error, Result};
use clap::Args;

use super::numbers::within;
use super::source::{self, Shape};
use super::train::{self, Need, Prepared, TrainArgs};
use super::usage;
use crate::checkpoint::disk::free_bytes;
use crate::config::range::above_to;
use crate::flow::Problem;
use crate::kernels::{Kernels, Target};
use crate::model::shapes;
use crate::rollout::limits::Load;
use crate::text::Text;
use crate::train::RunSettings;
use crate::train::plan::{Plan, Work, machine};

/// Characters of English and mathematics in a token, about: where no tokenizer is at hand.
const CHARACTERS_PER_TOKEN: usize = 3;

#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Plan for a GPU with so much memory, instead of for this machine
    #[arg(long, value_name = "GIB", allow_negative_numbers = true, value_parser = within::<f64>(above_to(0.0, 1e6)))]
    gpu_memory: Option<f64>,
    #[command(flatten)]
    train: TrainArgs,
}

pub fn run(args: PlanArgs) -> Result<()> {
    if args.train.help_settings {
        say!("{}", super::settings_help::page()?.trim_end());
        return Ok(());
    }
    let prepared = train::prepare(&args.train, Need::Sizes)?;
    say!("{}\n", train::plan(&prepared.settings, &prepared.problems, prepared.replay.as_ref(), &prepared.sets));
    let model = &prepared.settings.model;
    let shape = usage(source::shape(model, &prepared.chat)?.with_context(|| {
        let known = shapes::names();
        format!(
            "the shape of {model} is not known before it is downloaded; known are tiny, {known}, folders, and what is in the hub's cache"
        )
    }))?;
    let (work, settings) = (work(&prepared, &shape)?, planned(&prepared));
    let disk = free_bytes(&prepared.root);
    if let Some(gib) = args.gpu_memory {
        let compute = usage(settings.compute.on(Some(0)))?;
        let memory = Some((gib * f64::from(1 << 30)) as u64);
        let plan = usage(Plan::of(&shape.config, &settings, &work, compute.target(memory)))?;
        say!("{}", plan.long(memory, disk, None).trim_end());
        return usage(plan.check(memory, None));
    }
    let kernels = source::open(&settings.compute, &settings.model)?;
    let (target, memory) = here(&*kernels);
    let plan = usage(Plan::of(&shape.config, &settings, &work, target))?;
    say!("{}", plan.long(memory, disk, Some(plan.rates(&*kernels)?)).trim_end());
    if let Err(refusal) = plan.check(memory, disk) {
        say!("\n{refusal:#}");
    }
    Ok(())
}

/// Says in a line what a run will need, and gives the reason where it cannot fit here. A model whose shape is not here yet is let pass.
pub fn check(prepared: &Prepared, kernels: &dyn Kernels) -> Result<Option<Error>> {
    let shape = source::shape(&prepared.settings.model, &prepared.chat)?;
    train::tell_formats(prepared, shape.as_ref().and_then(|shape| shape.text.as_ref()))?;
    let Some(shape) = shape else { return Ok(None) };
    let (work, settings) = (work(prepared, &shape)?, planned(prepared));
    let (target, memory) = here(kernels);
    let plan = usage(Plan::of(&shape.config, &settings, &work, target))?;
    let disk = free_bytes(&prepared.root);
    tell!("{}", plan.short(memory, disk));
    Ok(plan.check(memory, disk).err())
}

/// Where a run would compute, and the bytes that it may take there.
fn here(kernels: &dyn Kernels) -> (Target, Option<u64>) {
    let target = Target::of(kernels);
    (target, target.free.or_else(machine::available_bytes))
}

/// The settings that are planned with: recorded responses are as long as they are.
fn planned(prepared: &Prepared) -> RunSettings {
    let mut settings = prepared.settings.clone();
    settings.rollout.max_new = prepared.replay.as_ref().map_or(settings.rollout.max_new, |replay| replay.lengths().1);
    settings
}

fn work(prepared: &Prepared, shape: &Shape) -> Result<Work> {
    let Prepared { settings, replay, resumed, problems, sets, .. } = prepared;
    let tokens = |problem: &Problem, instruction: &str| match &shape.text {
        Some(text) => exact(text, problem, instruction),
        None => Ok((problem.question.len() + instruction.len()).div_ceil(CHARACTERS_PER_TOKEN) + 20),
    };
    let prompts = match replay {
        Some(replay) => replay.lengths().0,
        None => {
            problems.iter().map(|problem| tokens(problem, settings.prompt.instruction_for(&problem.question))).collect::<Result<_>>()?
        }
    };
    let mut evaluations = Vec::new();
    for set in sets {
        let prompts = set.problems.iter().map(|problem| tokens(problem, "")).collect::<Result<Vec<_>>>()?;
        // What does not fit the window is not answered.
        let room = shape.config.window.saturating_sub(settings.eval.max_new);
        let prompts: Vec<usize> = prompts.into_iter().filter(|tokens| *tokens <= room).collect();
        let load = |samples: usize| Load { requests: prompts.len() * samples, prompts: prompts.clone(), max_new: settings.eval.max_new };
        evaluations.extend(set.decodings.iter().map(|decoding| load(decoding.samples)).filter(|load| load.requests > 0));
    }
    let done = resumed.as_ref().map_or(0, |resumption| resumption.from);
    let vocabulary = shape.text.as_ref().map_or(shape.config.vocabulary, Text::vocabulary);
    Ok(Work { prompts, evaluations, vocabulary, exact: shape.text.is_some() || replay.is_some(), done })
}

fn exact(text: &Text, problem: &Problem, instruction: &str) -> Result<usize> {
    Ok(text.prompt(Arc::new(problem.clone()), instruction)?.ids.len())
}
