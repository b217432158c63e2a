//! `rlvr train`

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use toml::{Table, Value};

use super::arguments::{ComputeArgs, DataArgs, transfers};
use super::numbers::setting;
use super::signals::{self, CtrlC};
use crate::config;
use crate::data::example;
use crate::interrupt::{Interrupt, Interrupted};
use crate::output;
use crate::reward::guard;
use crate::train::{self, Need, Outcome, Request, Start};
use crate::usage::usage;

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
    #[arg(long, help = format!("The algorithm, a preset of settings: {}", crate::train::settings::algorithm::NAMES.join(", ")))]
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

pub fn run(args: TrainArgs) -> Result<ExitCode> {
    if args.help_settings {
        say!("{}", super::settings_help::page()?.trim_end());
        return Ok(ExitCode::SUCCESS);
    }
    let prepared = train::prepare(args.request(if args.dry_run { Need::Trial } else { Need::Run })?)?;
    prepared.told()?.iter().for_each(|line| output::line(line));
    if args.dry_run {
        // The settings are sound; another machine may have the room.
        prepared.fit()?.refusal.iter().for_each(|refusal| tell!("here it would be refused: {refusal:#}"));
        say!("{}", toml::to_string(&prepared.settings)?.trim_end());
        return Ok(ExitCode::SUCCESS);
    }
    let interrupt = Arc::new(Interrupt::default());
    let loaded = prepared.load(&interrupt)?;
    signals::listen(&interrupt, CtrlC::Finishes)?;
    let root = loaded.root.clone();
    let outcome = match loaded.start().map_err(|error| error.downcast::<Interrupted>()) {
        Ok(run) => run.run()?,
        Err(Ok(Interrupted { signal })) => {
            tell!("interrupted before the run went on; {} is as it was", root.display());
            Outcome::Interrupted { signal }
        }
        Err(Err(error)) => return Err(error),
    };
    Ok(match outcome {
        Outcome::Done => ExitCode::SUCCESS,
        Outcome::Interrupted { signal } => ExitCode::from(128 + signal as u8),
    })
}

impl TrainArgs {
    /// What the arguments ask for.
    pub(super) fn request(&self, need: Need) -> Result<Request<'static>> {
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
        Ok(Request {
            start,
            need,
            data_dir: self.data.data_dir.clone(),
            dump_gradients: self.dump_gradients.clone(),
            guard: guard::this_program(),
            tell: &output::line,
            on_transfer: transfers(),
        })
    }

    /// Whether `--example` says what to train on.
    pub(super) fn names_example(&self) -> bool {
        self.example.is_some()
    }

    /// The file, `--set`, then the flags that have names of their own.
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
