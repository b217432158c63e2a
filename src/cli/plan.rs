//! `rlvr plan`: estimates what a run needs.

use anyhow::{Context, Result};
use clap::Args;

use super::numbers::within;
use super::train::TrainArgs;
use crate::checkpoint::disk::free_bytes;
use crate::config::range::above_to;
use crate::model::known_models;
use crate::source;
use crate::train::plan::machine;
use crate::train::{self, PrepareFor};
use crate::usage::usage;

#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Plan for a GPU with this much memory instead of for this machine
    #[arg(long, value_name = "GIB", allow_negative_numbers = true, value_parser = within::<f64>(above_to(0.0, 1e6)))]
    gpu_memory: Option<f64>,
    #[command(flatten)]
    train: TrainArgs,
}

pub fn run(args: PlanArgs) -> Result<()> {
    if args.train.help_settings {
        print_result!("{}", super::settings_help::page()?.trim_end());
        return Ok(());
    }
    let prepared = train::prepare(args.train.request(PrepareFor::Plan { stand_in: !args.train.has_example() })?)?;
    print_result!("{}\n", prepared.headline());
    let sizes = prepared.sizes()?.with_context(|| {
        let (model, known) = (&prepared.settings.model, known_models::names());
        format!("the shape of {model} is unknown until it is downloaded; use tiny, {known}, a model folder, or a model in the hub's cache")
    });
    let (sizes, disk) = (usage(sizes)?, free_bytes(&prepared.root));
    if let Some(gib) = args.gpu_memory {
        let compute = usage(sizes.settings.compute.on(Some(0)))?;
        let memory = Some((gib * f64::from(1 << 30)) as u64);
        let plan = sizes.plan(compute.target(memory))?;
        print_result!("{}", plan.details(memory, disk, None).trim_end());
        return usage(plan.check(memory, None));
    }
    let kernels = source::open(&sizes.settings.compute, &sizes.settings.model)?;
    let (target, memory) = machine::device_memory(&*kernels);
    let plan = sizes.plan(target)?;
    print_result!("{}", plan.details(memory, disk, Some(plan.rates(&*kernels)?)).trim_end());
    if let Err(refusal) = plan.check(memory, disk) {
        print_result!("\n{refusal:#}");
    }
    Ok(())
}
