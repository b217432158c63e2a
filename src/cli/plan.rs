//! `rlvr plan`: estimates what a run needs, here, on a card that is named, or on every known card.

use anyhow::{Context, Result, anyhow};
use clap::Args;
use serde_json::json;

use super::numbers::within;
use super::train::TrainArgs;
use crate::checkpoint::disk::free_bytes;
use crate::config::range::{above_to, whole};
use crate::kernels::{Backend, Compute, ComputeSettings, Kernels};
use crate::model::known_models;
use crate::output;
use crate::source;
use crate::train::plan::cards::Card;
use crate::train::plan::json::TimeSource;
use crate::train::plan::{Links, Plan, Ranks, Times, machine, survey};
use crate::train::prepare::Sizes;
use crate::train::{self, PrepareFor};
use crate::usage::usage;

/// The usual number of GPUs in a machine for training.
const GPUS_PER_HOST: usize = 8;

#[derive(Debug, Args)]
pub struct PlanArgs {
    #[arg(long, value_name = "NAME", value_parser = Card::by_name, help = format!("Plan for this GPU instead of for this machine: {}", names()))]
    gpu: Option<&'static Card>,
    /// Plan for a GPU with this much memory instead of for this machine; without times
    #[arg(long, value_name = "GIB", allow_negative_numbers = true, conflicts_with = "gpu", value_parser = within::<f64>(above_to(0.0, 1e6)))]
    gpu_memory: Option<f64>,
    /// Plan for every known GPU: whether the run fits, which settings make it fit without changing the experiment, and the estimated time
    #[arg(long, conflicts_with_all = ["gpu", "gpu_memory"])]
    cards: bool,
    /// Plan for N processes that share the run: memory of each, the time of exchanging gradients, and the efficiency
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = within::<usize>(whole(1, 4096)))]
    processes: Option<usize>,
    /// Processes on each machine (default: 8 with GPUs, otherwise all)
    #[arg(long, value_name = "N", requires = "processes", allow_negative_numbers = true, value_parser = within::<usize>(whole(1, 4096)))]
    per_host: Option<usize>,
    /// Speed of the exchange between processes in GB/s, in each direction (default: 315 between GPUs of a machine, 35 between machines with
    /// GPUs, 1 without GPUs)
    #[arg(long, value_name = "GB", requires = "processes", allow_negative_numbers = true, value_parser = within::<f64>(above_to(0.0, 1e6)))]
    link: Option<f64>,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    train: TrainArgs,
}

fn names() -> String {
    crate::train::plan::cards::CARDS.map(|card| card.name).join(", ")
}

pub fn run(args: PlanArgs) -> Result<()> {
    if args.train.help_settings {
        print_result!("{}", super::settings_help::text()?.trim_end());
        return Ok(());
    }
    let prepared = train::prepare(args.train.request(PrepareFor::Plan { stand_in: !args.train.has_example() })?)?;
    if !args.json {
        output::print_folded_result(&format!("{}\n", prepared.headline()));
    }
    let sizes = prepared.sizes()?.with_context(|| {
        let (model, known) = (&prepared.settings.model, known_models::names());
        format!("the shape of {model} is unknown until it is downloaded; use tiny, {known}, a model folder, or a model in the hub's cache")
    });
    let mut sizes = usage(sizes)?;
    let is_elsewhere = args.cards || args.gpu.is_some() || args.gpu_memory.is_some();
    let here = if is_elsewhere { None } else { Some(source::open(&sizes.settings.compute, &sizes.settings.model)?) };
    divide(&mut sizes, &args, here.as_ref().is_none_or(|kernels| !kernels.device().is_cpu()))?;
    match (args.gpu, args.gpu_memory) {
        _ if args.cards => print_survey(&sizes, args.json),
        (Some(card), _) => plan_for_card(&sizes, card, args.json),
        (None, Some(gib)) => {
            let memory = Some((gib * f64::from(1 << 30)) as u64);
            let plan = sizes.plan(usage(sizes.settings.compute.on(Some(0)))?.target(memory))?;
            print(&plan, args.json, (memory, None), &[], TimeSource::CardModel, &plan.details(memory, None, None));
            plan.check(memory, None)
        }
        (None, None) => here.map_or(Ok(()), |kernels| plan_here(&sizes, &*kernels, free_bytes(&prepared.root), args.json)),
    }
}

/// Divides the run among the requested processes, by default as many on a machine as usual.
fn divide(sizes: &mut Sizes, args: &PlanArgs, on_gpus: bool) -> Result<()> {
    let Some(count) = args.processes.filter(|count| *count > 1) else { return Ok(()) };
    let on_host = args.per_host.unwrap_or(if on_gpus { GPUS_PER_HOST } else { count });
    let had_shards = sizes.settings.train.shards > 0;
    sizes.divide(Ranks::new(count, on_host.min(count)), Links { bytes_per_s: args.link.map(|gb| gb * 1e9) })?;
    if !had_shards {
        let set = format!("--set train.shards={}", sizes.settings.train.shards);
        message!("planned with {set}, which {count} processes need: start the run with it");
    }
    Ok(())
}

fn plan_here(sizes: &Sizes, kernels: &dyn Kernels, disk: Option<u64>, as_json: bool) -> Result<()> {
    let (target, memory) = machine::device_memory(kernels, sizes.work.ranks.on_host);
    let plan = sizes.plan(target)?;
    let rates = plan.rates(kernels)?;
    let times: Vec<Times> = plan.means().into_iter().map(|mean| plan.times(rates, mean)).collect();
    print(&plan, as_json, (memory, disk), &times, TimeSource::MeasuredRates, &plan.details(memory, disk, Some(rates)));
    plan.check(memory, disk)
}

fn plan_for_card(sizes: &Sizes, card: &Card, as_json: bool) -> Result<()> {
    let memory = Some(card.usable_bytes());
    let plan = sizes.plan(compute_on_a_card(&sizes.settings.compute)?.target(memory))?;
    let times: Vec<Times> = plan.means().into_iter().filter_map(|mean| plan.times_on(card, mean)).collect();
    print(&plan, as_json, (memory, None), &times, TimeSource::CardModel, &plan.details_on(card));
    card.fault().map_or(Ok(()), |fault| Err(anyhow!(fault)))?;
    plan.check(memory, None)
}

fn print_survey(sizes: &Sizes, as_json: bool) -> Result<()> {
    let compute = compute_on_a_card(&sizes.settings.compute)?;
    let target = |card: &Card| compute.target(Some(card.usable_bytes()));
    let plans = usage(survey::survey(&sizes.config, &sizes.settings, &sizes.work, target))?;
    if as_json {
        print_result!("{}", json!({"model": sizes.settings.model, "cards": survey::json(&plans)}));
    } else {
        output::print_folded_result(&survey::table(&plans, sizes.settings.lora.is_on()));
    }
    Ok(())
}

/// Resolves the settings for a card that is not here. Plans the fused kernels unless others are requested.
fn compute_on_a_card(settings: &ComputeSettings) -> Result<Compute> {
    let kernels = if settings.kernels == Backend::Auto { Backend::Fused } else { settings.kernels };
    usage(ComputeSettings { kernels, ..settings.clone() }.on(Some(0)))
}

fn print(plan: &Plan, as_json: bool, free: (Option<u64>, Option<u64>), times: &[Times], source: TimeSource, text: &str) {
    if as_json {
        print_result!("{}", plan.json(free.0, free.1, times, source));
    } else {
        output::print_folded_result(text.trim_end());
    }
}
