//! `rlvr pretrain`: trains a small base model, like the embedded one, from scratch.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;
use toml::{Table, Value};

use super::arguments::JsonArgs;
use super::numbers::setting;
use crate::checkpoint::{Model, ensure_absent, write_file, write_folder_with_manifest};
use crate::config;
use crate::data::DataStore;
use crate::dist::World;
use crate::eval::{EvalSettings, Evaluator, LocalModel, sets};
use crate::interrupt::Interrupt;
use crate::metrics::{percent, table};
use crate::model::export::{Format, WeightDtype};
use crate::output::Progress;
use crate::rollout::limits::EngineSettings;
use crate::tiny::answer_style;
use crate::tiny::pretrain::{PretrainSettings, Pretraining};
use crate::usage::usage;
use crate::workers::Workers;

#[derive(Debug, Args)]
pub struct PretrainArgs {
    /// TOML file with settings: model shape, optimizer, and the corpus with its subjects and shares of answer styles
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Override one setting, as in --set mixture.repeats=0; may be repeated
    #[arg(long = "set", value_name = "A.B=C")]
    sets: Vec<String>,
    /// Seed of the initial weights and the corpus
    #[arg(long, allow_negative_numbers = true, value_parser = setting::<u64>("seed"))]
    seed: Option<u64>,
    /// Number of optimizer steps
    #[arg(long, allow_negative_numbers = true, value_parser = setting::<u64>("train.steps"))]
    steps: Option<u64>,
    /// Model folder to create
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    json: JsonArgs,
}

pub fn run(args: PretrainArgs) -> Result<()> {
    let settings = usage(settings(&args))?;
    usage(ensure_absent(&args.out))?;
    let started = Instant::now();
    let mut pretraining = Pretraining::new(settings.clone())?;
    message!("{} parameters, {} steps of {} documents", pretraining.decoder().config.parameter_count(), settings.steps, settings.batch);
    let progress = Progress::with_lines();
    progress.begin("pre-training step");
    progress.expect(settings.steps as usize);
    let mut losses = Vec::new();
    for step in 1..=settings.steps {
        let loss = pretraining.step()?;
        ensure!(loss.is_finite(), "the loss is not finite at step {step}: lower optim.lr");
        losses.push(loss);
        progress.add();
    }
    progress.finish();
    let elapsed_s = started.elapsed().as_secs_f64();
    let model = pretraining.into_model("the new base")?;
    write_folder_with_manifest(&args.out, |path| {
        model.write(path, Format::of(WeightDtype::Bf16))?;
        write_file(&path.join("pretrain.toml"), toml::to_string(&settings)?.as_bytes())?;
        let record = json!({"losses": losses, "elapsed_s": elapsed_s});
        write_file(&path.join("pretrain.json"), record.to_string().as_bytes())
    })?;
    message!("wrote {} in {elapsed_s:.0} s; results on validation problems:", args.out.display());
    // Evaluates the weights as written, in bf16.
    let model = Model::from_folder("the new base", &args.out)?;
    report(&model, &args, elapsed_s)
}

fn settings(args: &PretrainArgs) -> Result<PretrainSettings> {
    let mut layers = config::layers(args.config.as_deref(), &args.sets)?;
    let flags = [("seed", args.seed), ("steps", args.steps)];
    layers.push(Table::from_iter(flags.into_iter().filter_map(|(key, value)| Some((key.to_owned(), Value::Integer(value? as i64))))));
    let settings: PretrainSettings = config::resolve(&PretrainSettings::default(), &layers)?;
    settings.mixture.validate()?;
    Ok(settings)
}

/// Evaluates the new base model on the validation problems, and prints its accuracy and the share of each answer style.
fn report(model: &Model, args: &PretrainArgs, elapsed_s: f64) -> Result<()> {
    let workers = Workers::new(model.decoder.default_workers())?;
    let sets = sets::by_name("tiny-validation", 0, &DataStore::open(None)?, answer_style::style_name)?;
    let settings = EvalSettings { max_new_tokens: 80, ..EvalSettings::default() };
    let engine = EngineSettings::default();
    let (revision, date, interrupt) = ("new".into(), String::new(), &Interrupt::default());
    let progress = Progress::new();
    let generator = LocalModel { model, revision, date, workers: &workers, engine: &engine, interrupt, progress: &progress };
    let evaluator = Evaluator { generator: &generator, settings: &settings, store: None, world: World::solo() };
    let (mut rows, mut records) = (Vec::new(), Vec::new());
    for pass in evaluator.evaluate(&sets, &progress)? {
        records.push(json!({"pass": pass.name, "score": pass.score}));
        let styles: Vec<String> = pass.score.styles.iter().map(|(style, share)| format!("{style} {}", percent(*share))).collect();
        rows.push(vec![pass.name, percent(pass.score.mean()), percent(pass.score.boxed), styles.join(", ")]);
    }
    let document = || Ok(json!({"out": args.out, "elapsed_s": elapsed_s, "passes": records}));
    args.json.print(document, || print_result!("{}", table(&["pass", "accuracy", "boxed", "answer styles"], &rows)))
}
