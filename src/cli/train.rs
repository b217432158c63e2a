//! `rlvr train`: trains a model.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use toml::{Table, Value};

use super::arguments::{ComputeArgs, DataArgs, JsonArgs, download_progress};
use super::numbers::{setting, within};
use super::processes::ProcessesArgs;
use super::report::LiveReport;
use super::signals::{self, CtrlC};
use crate::config;
use crate::config::range::whole;
use crate::data::example;
use crate::dist::launch::Gpus;
use crate::dist::{self, World};
use crate::input;
use crate::interrupt::{Interrupt, Interrupted};
use crate::output::{self, Progress};
use crate::reward::parent_guard;
use crate::train::settings::table::MAX_COUNT;
use crate::train::{self, Outcome, PrepareFor, RunFolder, RunRequest, Start};
use crate::usage::usage;

/// `rlvr train`: the arguments that describe a run, which `rlvr plan` has too, and the form of the results.
#[derive(Debug, Args)]
#[command(mut_arg("processes", |arg| arg.conflicts_with_all(["dry_run", "help_settings"])))]
pub struct TrainCommand {
    #[command(flatten)]
    args: TrainArgs,
    #[command(flatten)]
    processes: ProcessesArgs,
    #[command(flatten)]
    json: JsonArgs,
}

#[derive(Debug, Args)]
pub struct TrainArgs {
    /// TOML file with settings; settings that it omits keep their defaults
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Override one setting, as in --set loss.entropy=0; may be repeated
    #[arg(long = "set", value_name = "A.B=C")]
    sets: Vec<String>,
    /// Model to train: tiny (embedded), a folder in Hugging Face format, or a hub name
    #[arg(long)]
    model: Option<String>,
    /// Training examples: pi1 (or any other pi_k of the paper), pi1,pi13, pi1..pi16, dsr-sub (all 1,209), dsr-sub/124 (its row 124),
    /// tiny/addition/334+556, tiny/train/256, or a .jsonl, .json, .toml or .parquet file
    #[arg(long)]
    example: Option<String>,
    /// Train on this question instead of --example; rewards that use no labels need no --answer
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["example", "replay"])]
    question: Option<String>,
    /// Gold answer to --question
    #[arg(long, value_name = "TEXT", requires = "question", allow_hyphen_values = true)]
    answer: Option<String>,
    /// Reward this answer, right or wrong, instead of the example's gold answer
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, conflicts_with_all = ["label_noise", "replay"])]
    label: Option<String>,
    /// Share of the examples that get a wrong label, the answer of another example
    #[arg(long, value_name = "SHARE", conflicts_with = "replay", allow_negative_numbers = true, value_parser = setting::<f64>("reward.label_noise"))]
    label_noise: Option<f64>,
    /// Seed that chooses the mislabeled examples and their labels
    #[arg(long, value_name = "N", conflicts_with = "replay", allow_negative_numbers = true, value_parser = setting::<u64>("reward.label_seed"))]
    label_seed: Option<u64>,
    #[arg(long, help = format!("Algorithm, a preset of settings: {}", crate::train::settings::algorithm::NAMES.join(", ")))]
    algo: Option<String>,
    /// Training steps (rollout batches); with --resume, the new total
    #[arg(long, allow_negative_numbers = true, value_parser = setting::<u64>("train.steps"))]
    steps: Option<u64>,
    /// Seed of all randomness in training
    #[arg(long, allow_negative_numbers = true, value_parser = setting::<u64>("seed"))]
    seed: Option<u64>,
    /// Train LoRA adapters of this rank on all projections instead of all weights; they need about ten times the learning rate
    #[arg(long, value_name = "RANK", allow_negative_numbers = true, value_parser = setting::<usize>("lora.rank"))]
    lora: Option<usize>,
    /// Reference model of the KL term (default: the initial policy)
    #[arg(long, value_name = "MODEL")]
    reference: Option<String>,
    /// Train on recorded rollouts (JSON Lines, as a run writes them) instead of sampling
    #[arg(long, value_name = "FILE", conflicts_with = "example")]
    replay: Option<String>,
    /// Write the unclipped gradient of the first update, with Hugging Face tensor names
    #[arg(long, value_name = "FILE.safetensors")]
    dump_gradients: Option<PathBuf>,
    /// dtype of exported weights: f32, bf16 or f16 (default: the dtype that the policy computes with)
    #[arg(long, value_name = "DTYPE")]
    export_dtype: Option<String>,
    /// Run folder to create (default: a new folder under runs/)
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    out: Option<PathBuf>,
    /// Resume the run in this folder from its newest intact checkpoint, with the run's data folder and device unless others are given
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "sets", "model", "reference", "example", "question", "replay", "algo", "seed", "lora", "export_dtype", "label", "label_noise", "label_seed"])]
    resume: Option<PathBuf>,
    /// With --resume: go back to this step and discard all later records; 0 restarts from the initial model
    #[arg(long, value_name = "STEP", requires = "resume", allow_negative_numbers = true, value_parser = within::<u64>(whole(0, MAX_COUNT)))]
    at: Option<u64>,
    /// Serve a report of the run on this machine while it goes, and write it to report.html in the run's folder at the end
    #[arg(long, conflicts_with_all = ["dry_run", "help_settings"])]
    report: bool,
    /// With --report: the port on 127.0.0.1 (default: one that is free)
    #[arg(long, value_name = "N", requires = "report")]
    port: Option<u16>,
    /// Check everything that needs no weights, print the settings, and exit
    #[arg(long)]
    dry_run: bool,
    /// Print every setting with its range, unit, default, meaning and the reason for the default, and exit
    #[arg(long)]
    pub(super) help_settings: bool,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    compute: ComputeArgs,
}

pub fn run(TrainCommand { args, processes, json }: TrainCommand) -> Result<ExitCode> {
    if let Some(code) = processes.start()? {
        return Ok(code);
    }
    let world = dist::launch::join(Gpus::Own)?;
    if args.help_settings {
        print_result!("{}", super::settings_help::text()?.trim_end());
        return Ok(ExitCode::SUCCESS);
    }
    let mut request = args.request(if args.dry_run { PrepareFor::DryRun } else { PrepareFor::Run })?;
    if !world.is_first() {
        request.progress = Progress::hidden();
    }
    let is_first = world.is_first();
    request.world = world;
    if json.is_on() {
        // The document replaces the tables.
        request.print_result = &|_| ();
    }
    let prepared = train::prepare(request)?;
    prepared.messages()?.iter().for_each(|(level, line)| output::print(*level, line, &[]));
    if args.dry_run {
        prepared.examples_as_read().iter().for_each(|example| output::print_message(example));
        // Not an error: the settings are valid, and another machine may have enough memory.
        let refusal = prepared.check_machine()?.refusal;
        refusal.iter().for_each(|refusal| output::print_warning(&format!("this machine would refuse the run: {refusal:#}")));
        let settings = toml::to_string(&prepared.settings)?;
        json.print(|| Ok(serde_json::to_value(&prepared.settings)?), || print_result!("{}", settings.trim_end()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let interrupt = Arc::new(Interrupt::default());
    let loaded = prepared.load(&interrupt)?;
    signals::listen(&interrupt, CtrlC::Finishes)?;
    let root = loaded.root.clone();
    let live_report = (args.report && is_first).then(|| LiveReport::start(&root, args.port)).transpose()?;
    let outcome = match loaded.start().map_err(|error| error.downcast::<Interrupted>()) {
        Ok(run) => run.run()?,
        Err(Ok(Interrupted { signal })) => {
            message!("interrupted before the run continued; {} is unchanged", root.display());
            Outcome::Interrupted { signal }
        }
        Err(Err(error)) => return Err(error),
    };
    if let Some(report) = live_report {
        report.finish();
    }
    if is_first {
        json.print(|| summary(&root), || ())?;
    }
    Ok(match outcome {
        Outcome::Done => ExitCode::SUCCESS,
        Outcome::Interrupted { signal } => ExitCode::from(128 + signal as u8),
    })
}

/// Reads the `summary.json` of a run; null if the run was interrupted before its first evaluation.
fn summary(root: &Path) -> Result<serde_json::Value> {
    let path = RunFolder::open(root)?.0.summary();
    let Some(bytes) = input::read_if_exists(&path, input::TEXT_BYTES)? else { return Ok(serde_json::Value::Null) };
    serde_json::from_slice(&bytes).with_context(|| format!("{} is corrupt", path.display()))
}

impl TrainArgs {
    /// Converts the arguments into a request for `train::prepare`.
    pub(super) fn request(&self, need: PrepareFor) -> Result<RunRequest<'static>> {
        let start = match &self.resume {
            Some(root) => {
                let mut changes = self.compute.layer()?;
                if let Some(steps) = self.steps {
                    changes.extend(config::group("train", [("steps", Value::Integer(steps as i64))]));
                }
                Start::Resume { root: root.clone(), at: self.at, changes }
            }
            None => Start::New { layers: usage(self.layers())?, out: self.out.clone() },
        };
        Ok(RunRequest {
            start,
            need,
            data_dir: self.data.data_dir.clone(),
            dump_gradients: self.dump_gradients.clone(),
            guard: parent_guard::this_program(),
            world: World::solo().clone(),
            print: &|level, text| output::print(level, text, &[]),
            on_progress: download_progress(),
            progress: Progress::new(),
            print_result: &output::print_result,
        })
    }

    /// True if `--example` is given.
    pub(super) fn has_example(&self) -> bool {
        self.example.is_some()
    }

    /// Returns the layers of settings in order of increasing precedence: the file, each `--set`, then the other flags.
    fn layers(&self) -> Result<Vec<Table>> {
        let mut layers = config::layers(self.config.as_deref(), &self.sets)?;
        layers.extend(self.replay.as_ref().map(|path| config::group("rollout", [("replay", Value::String(path.clone()))])));
        let inline = self.question.as_deref().map(|question| example::inline(question, self.answer.as_deref()));
        let example = self.example.clone().or(inline);
        let texts = [("model", &self.model), ("reference", &self.reference), ("example", &example), ("algo", &self.algo)];
        let texts = texts.into_iter().filter_map(|(key, text)| Some((key.to_owned(), Value::String(text.clone()?))));
        layers.push(texts.chain(self.seed.map(|seed| ("seed".to_owned(), Value::Integer(seed as i64)))).collect());
        let flags = [
            ("reward", "label", self.label.clone().map(Value::String)),
            ("reward", "label_noise", self.label_noise.map(Value::Float)),
            ("reward", "label_seed", self.label_seed.map(|seed| Value::Integer(seed as i64))),
            ("checkpoint", "dtype", self.export_dtype.clone().map(Value::String)),
            ("lora", "rank", self.lora.map(|rank| Value::Integer(rank as i64))),
            ("train", "steps", self.steps.map(|steps| Value::Integer(steps as i64))),
        ];
        layers.extend(flags.into_iter().filter_map(|(group, key, value)| Some(config::group(group, [(key, value?)]))));
        layers.push(self.compute.layer()?);
        Ok(layers)
    }
}
