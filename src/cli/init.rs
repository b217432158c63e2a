//! `rlvr init`: writes a model folder.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value};

use super::numbers::setting;
use crate::checkpoint::disk::{ensure_room, format_bytes};
use crate::checkpoint::model::{check, sidecar_files, write_parts};
use crate::checkpoint::{ensure_absent, write_file, write_folder};
use crate::config::nearest;
use crate::input;
use crate::model::checkpoint_tensors::CheckpointTensor;
use crate::model::export::{self, Format, MAX_SHARD_BYTES, WeightDtype};
use crate::model::{ModelConfig, init, known_models};
use crate::output::Progress;
use crate::tiny::embedded;
use crate::usage::usage;

#[derive(Debug, Args)]
pub struct InitArgs {
    /// Model to write: tiny for the embedded base; for random weights a shape (qwen2.5-math-1.5b, qwen2.5-math-7b, llama-3.2-3b-instruct,
    /// deepseek-r1-distill-qwen-1.5b) or a folder with a config.json
    #[arg(long, value_name = "NAME|DIR")]
    like: String,
    /// Folder to create
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Override a field of config.json, as in --set num_hidden_layers=2 (random weights only)
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    sets: Vec<String>,
    /// Folder to copy the tokenizer from (default: the folder of --like, or the embedded tokenizer)
    #[arg(long, value_name = "DIR")]
    tokenizer: Option<PathBuf>,
    /// Seed of the random weights
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = setting::<u64>("seed"))]
    seed: u64,
    /// dtype of the random weights
    #[arg(long, value_enum, default_value = "bf16")]
    dtype: DtypeArg,
    /// Maximum size of a weight file in bytes
    #[arg(long, value_name = "BYTES", default_value_t = MAX_SHARD_BYTES, allow_negative_numbers = true, value_parser = setting::<u64>("checkpoint.max_shard_bytes"))]
    max_shard_bytes: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DtypeArg {
    F32,
    Bf16,
    F16,
}

/// Fields that the decoder reads. `--set` accepts them in addition to those of the given config.json.
const FIELDS: [&str; 29] = [
    "attention_bias",
    "attention_dropout",
    "bos_token_id",
    "dtype",
    "eos_token_id",
    "head_dim",
    "hidden_act",
    "hidden_size",
    "initializer_range",
    "intermediate_size",
    "layer_types",
    "max_position_embeddings",
    "max_window_layers",
    "mlp_bias",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "pad_token_id",
    "partial_rotary_factor",
    "pretraining_tp",
    "rms_norm_eps",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "sliding_window",
    "tie_word_embeddings",
    "use_cache",
    "use_sliding_window",
    "vocab_size",
];

/// What `init` writes, except the weights.
struct ModelSpec {
    config: ModelConfig,
    /// Tokenizer files and the generation config, as (file name, content).
    sidecar_files: Vec<(String, Vec<u8>)>,
    /// Standard deviation of the random weights.
    scale: f32,
}

pub fn run(args: InitArgs) -> Result<()> {
    usage(ensure_absent(&args.out))?;
    if args.like == embedded::NAME {
        let plain = args.sets.is_empty() && args.tokenizer.is_none();
        usage(plain.then_some(()).context("--set and --tokenizer apply to random weights only; remove them to write the embedded base"))?;
        write_folder(&args.out, |path| embedded::FILES.iter().try_for_each(|(name, bytes)| write_file(&path.join(name), bytes)))?;
        message!("wrote {}", args.out.display());
        return Ok(());
    }
    let (started, format) = (Instant::now(), Format { dtype: dtype(args.dtype), max_shard_bytes: args.max_shard_bytes });
    let ModelSpec { config, sidecar_files, scale } = usage(model_spec(&args))?;
    let files = export::files(&config, format)?;
    let bytes: u64 = files.iter().map(export::WeightFile::tensor_bytes).sum();
    usage(ensure_room(&args.out, bytes + sidecar_files.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>()))?;
    let values = init::values(&config, args.seed, scale);
    let progress = Progress::new();
    progress.begin("writing random weights");
    progress.expect_bytes(bytes);
    let counted = |number: usize, part: &CheckpointTensor, first: usize, target: &mut [f32]| {
        values(number, part, first, target)?;
        progress.add_parts(target.len() * format.dtype.size());
        Ok(())
    };
    write_folder(&args.out, |path| write_parts(path, &config, &sidecar_files, format, &counted))?;
    progress.finish();
    let (parameters, seconds) = (config.parameter_count(), started.elapsed().as_secs_f64());
    let files = if files.len() == 1 { "one file".to_owned() } else { format!("{} files", files.len()) };
    message!("wrote {}: {parameters} random parameters, {} in {files}, {seconds:.1} s", args.out.display(), format_bytes(bytes));
    Ok(())
}

/// Resolves `--like`, `--set` and `--tokenizer`.
fn model_spec(args: &InitArgs) -> Result<ModelSpec> {
    let folder = Path::new(&args.like);
    let text = match known_models::by_name(&args.like) {
        Some(shape) => shape.config.to_owned(),
        None if folder.is_dir() => {
            let path = folder.join("config.json");
            input::read_text(&path, input::TEXT_BYTES)?
        }
        None => {
            bail!(
                "unknown shape {:?}; expected one of {}, {}, or a folder with a config.json",
                args.like,
                embedded::NAME,
                known_models::names()
            )
        }
    };
    let mut fields: Map<String, Value> =
        serde_json::from_str(&input::json(&text)).with_context(|| format!("config.json of {} is not JSON", args.like))?;
    let known: BTreeSet<String> = fields.keys().cloned().chain(FIELDS.map(str::to_owned)).collect();
    for set in &args.sets {
        let (field, value) = set.split_once('=').with_context(|| format!("\"{set}\" is not an assignment: write FIELD=VALUE"))?;
        if !known.contains(field) {
            let near = nearest(field, known.iter().map(String::as_str)).map_or(String::new(), |near| format!(" (did you mean {near}?)"));
            let known = known.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            bail!("--set {set}: unknown field {field:?} of config.json; expected one of {known}{near}");
        }
        fields.insert(field.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned())));
    }
    let scale = fields.get("initializer_range").and_then(Value::as_f64).unwrap_or(0.02) as f32;
    let config = ModelConfig::parse(&serde_json::to_string(&fields)?)?;
    let sidecar_files = tokenizer_files(args)?;
    check(&config, &sidecar_files)?;
    Ok(ModelSpec { config, sidecar_files, scale })
}

/// Returns the files to write next to the weights. A known shape has no tokenizer and gets the embedded one, so that `score` and `sample`
/// run. The ids of the embedded tokenizer are valid in every model with at least as large a vocabulary.
fn tokenizer_files(args: &InitArgs) -> Result<Vec<(String, Vec<u8>)>> {
    let has_tokenizer = |folder: &Path| folder.join("tokenizer.json").exists();
    if let Some(folder) = &args.tokenizer {
        ensure!(has_tokenizer(folder), "--tokenizer {} has no tokenizer.json: choose another folder", folder.display());
        return sidecar_files(folder);
    }
    if has_tokenizer(Path::new(&args.like)) {
        return sidecar_files(Path::new(&args.like));
    }
    message!("{} has no tokenizer, so the embedded model's is used: choose another with --tokenizer DIR", args.like);
    let sidecar_files = embedded::FILES.iter().filter(|(name, _)| !matches!(*name, "config.json" | "model.safetensors"));
    Ok(sidecar_files.map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect())
}

fn dtype(arg: DtypeArg) -> WeightDtype {
    match arg {
        DtypeArg::F32 => WeightDtype::F32,
        DtypeArg::Bf16 => WeightDtype::Bf16,
        DtypeArg::F16 => WeightDtype::F16,
    }
}
