//! `rlvr init`

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value};

use super::usage;
use crate::checkpoint::{Model, ensure_free, write_file, write_folder};
use crate::model::export::Format;
use crate::model::folder::WeightDtype;
use crate::model::{Decoder, ModelConfig, initial};
use crate::text::FILE_NAMES;
use crate::tiny::embedded;

#[derive(Debug, Args)]
pub struct InitArgs {
    /// tiny: the embedded base as a folder; or a folder whose configuration and tokenizer a model with random weights is to have
    #[arg(long)]
    like: String,
    /// The new folder
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Change a field of config.json, such as num_hidden_layers=2 (random weights only)
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    sets: Vec<String>,
    /// Seed of the random weights
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// dtype of the random weights
    #[arg(long, value_enum, default_value = "bf16")]
    dtype: DtypeArg,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DtypeArg {
    F32,
    Bf16,
    F16,
}

pub fn run(args: InitArgs) -> Result<()> {
    usage(check(&args))?;
    if args.like == embedded::NAME {
        write_folder(&args.out, |path| embedded::FILES.iter().try_for_each(|(name, bytes)| write_file(&path.join(name), bytes)))?;
    } else {
        let model = random(&args)?;
        write_folder(&args.out, |path| model.write(path, Format::of(dtype(args.dtype))))?;
        eprintln!("{} parameters, random", model.decoder.config.parameters());
    }
    eprintln!("wrote {}", args.out.display());
    Ok(())
}

fn check(args: &InitArgs) -> Result<()> {
    ensure_free(&args.out)?;
    let known = args.like == embedded::NAME || Path::new(&args.like).is_dir();
    ensure!(known, "--like {}: give tiny, or a folder with config.json and tokenizer.json", args.like);
    ensure!(args.like != embedded::NAME || args.sets.is_empty(), "the embedded base is written as it is; --set goes with random weights");
    Ok(())
}

fn random(args: &InitArgs) -> Result<Model> {
    let folder = Path::new(&args.like);
    let path = folder.join("config.json");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut fields: Map<String, Value> = serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))?;
    for set in &args.sets {
        let (field, value) = set.split_once('=').with_context(|| format!("\"{set}\" is no setting; write it as FIELD=VALUE"))?;
        fields.insert(field.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned())));
    }
    let config = ModelConfig::parse(&serde_json::to_string(&fields)?)?;
    let scale = fields.get("initializer_range").and_then(Value::as_f64).unwrap_or(0.02) as f32;
    let weights = initial::random(&config, args.seed, scale)?;
    let mut companions = Vec::new();
    for name in FILE_NAMES.into_iter().chain(["generation_config.json"]).filter(|name| folder.join(name).exists()) {
        companions.push((name.to_owned(), std::fs::read(folder.join(name)).with_context(|| format!("cannot read {name}"))?));
    }
    Model::from_parts(&args.like, Decoder::new(config, weights)?, companions)
}

fn dtype(arg: DtypeArg) -> WeightDtype {
    match arg {
        DtypeArg::F32 => WeightDtype::F32,
        DtypeArg::Bf16 => WeightDtype::Bf16,
        DtypeArg::F16 => WeightDtype::F16,
    }
}
