//! A complete training run through the library: trains the embedded model on one example and reads the metrics back.
//!
//! Run it with `cargo run --release --example one_example`; append `-- FOLDER` to choose the run folder.

use std::path::{Path, PathBuf};

use anyhow::Result;
use rlvr::config;
use rlvr::interrupt::Interrupt;
use rlvr::metrics::jsonl;
use rlvr::train::{self, RunRequest};
use serde_json::Value;

/// Trains in a new folder. Returns the run's metrics, one line per step.
///
/// # Errors
/// If the folder already exists, the run cannot be prepared or fails, or its metrics cannot be read.
pub fn train(root: &Path) -> Result<Vec<Value>> {
    // Settings as for `--set`; all others keep their defaults. The first two are defaults, too.
    let overrides = ["model=tiny", "example=tiny/addition/334+556", "train.steps=10", "eval.benchmarks="].map(String::from);
    let layers = config::layers(None, &overrides)?;
    // Checks everything that needs no weights: settings, example, folder.
    let prepared = train::prepare(RunRequest::new(layers, Some(root.to_owned())))?;
    println!("{}", prepared.headline());
    // Loads the model, creates the folder and trains. Another thread could stop the run with `interrupt`.
    let interrupt = Interrupt::default();
    prepared.load(&interrupt)?.start()?.run()?;
    jsonl::read(&root.join("metrics.jsonl"))
}

fn main() -> Result<()> {
    let root = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("runs/one_example"), PathBuf::from);
    for line in train(&root)? {
        // The mean reward (here the share of right responses) and the policy's mean entropy.
        let [step, reward, entropy] = ["step", "train/accuracy", "actor/entropy"].map(|name| &line[name]);
        println!("step {step}: reward {reward}, entropy {entropy} nats per token");
    }
    Ok(())
}
