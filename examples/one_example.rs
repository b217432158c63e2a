//! A whole training from the library: the embedded base learns from one example, and its metrics are read back.
//!
//! Run with `cargo run --release --example one_example`, or with a folder for the run behind `--`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use rlvr::config;
use rlvr::interrupt::Interrupt;
use rlvr::metrics::jsonl;
use rlvr::train::{self, Request};
use serde_json::Value;

/// Trains in a new folder. Gives the run's metrics, one line a step.
pub fn train(root: &Path) -> Result<Vec<Value>> {
    // Settings over the defaults, as `--set` has them. The first two are the defaults.
    let asked = ["model=tiny", "example=tiny/addition/334+556", "train.steps=10", "eval.benchmarks="].map(String::from);
    let layers = config::layers(None, &asked)?;
    // Checks all that can be checked without weights: settings, example, folder.
    let prepared = train::prepare(Request::new(layers, Some(root.to_owned())))?;
    println!("{}", prepared.headline());
    // Reads the model, makes the folder, and trains. Another thread could ask `interrupt` to stop the run.
    let interrupt = Interrupt::default();
    prepared.load(&interrupt)?.start()?.run()?;
    jsonl::read(&root.join("metrics.jsonl"))
}

fn main() -> Result<()> {
    let root = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("runs/one_example"), PathBuf::from);
    for line in train(&root)? {
        // The share of right responses, and how sure the policy is of its tokens.
        let [step, reward, entropy] = ["step", "critic/score/mean", "actor/entropy"].map(|name| &line[name]);
        println!("step {step}: reward {reward}, entropy {entropy} nats a token");
    }
    Ok(())
}
