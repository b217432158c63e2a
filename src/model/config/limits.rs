//! The largest numbers that a `config.json` may have: far above every published model, far below what overflows or cannot be allocated.

use anyhow::{Result, ensure};

use super::ModelConfig;

/// The largest value of each size.
const LARGEST: [(&str, u64); 9] = [
    ("hidden_size", 1 << 20),
    ("intermediate_size", 1 << 24),
    ("num_hidden_layers", 10_000),
    ("num_attention_heads", 1 << 14),
    ("num_key_value_heads", 1 << 14),
    ("head_dim", 1 << 12),
    ("vocab_size", 1 << 26),
    // The rotary angles multiply positions in f32, as transformers does; from 2^24 on neighbours would share one.
    ("max_position_embeddings", 1 << 24),
    ("sliding_window", u32::MAX as u64),
];

/// The most parameters of a model.
const PARAMETERS: usize = 10_000_000_000_000;

/// Refuses a size beyond its limit.
pub(super) fn check_size(name: &str, size: u64) -> Result<usize> {
    let largest = LARGEST.iter().find(|(known, _)| *known == name).map_or(u64::from(u32::MAX), |(_, largest)| *largest);
    ensure!(size <= largest, "{name} in config.json is {size}, expected at most {largest}");
    Ok(usize::try_from(size)?)
}

/// Refuses sizes whose products no machine can hold. Below the limits of each size their sum has 62 bits at most.
pub(super) fn check_parameters(config: &ModelConfig) -> Result<()> {
    let parameters = config.parameters();
    let ModelConfig { hidden, feed_forward, layers, vocabulary, .. } = config;
    ensure!(
        parameters <= PARAMETERS,
        "config.json describes a model of {parameters} parameters, expected at most {PARAMETERS} (vocab_size {vocabulary}, hidden_size \
         {hidden}, intermediate_size {feed_forward}, num_hidden_layers {layers})"
    );
    Ok(())
}
