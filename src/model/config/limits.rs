//! Upper limits for the sizes in a `config.json`. They are far above every published model, and far below sizes that overflow or cannot be
//! allocated.

use anyhow::{Result, ensure};

use super::ModelConfig;

/// The maximum of each size.
const MAX_SIZES: [(&str, u64); 9] = [
    ("hidden_size", 1 << 20),
    ("intermediate_size", 1 << 24),
    ("num_hidden_layers", 10_000),
    ("num_attention_heads", 1 << 14),
    ("num_key_value_heads", 1 << 14),
    ("head_dim", 1 << 12),
    ("vocab_size", 1 << 26),
    // Rotary angles are products in f32, as in transformers. From 2^24 on, adjacent positions can have the same angle.
    ("max_position_embeddings", 1 << 24),
    ("sliding_window", u32::MAX as u64),
];

/// The maximum number of parameters.
const MAX_PARAMETERS: usize = 10_000_000_000_000;

/// Returns `size`, or an error if it is above its limit.
pub(super) fn check_size(name: &str, size: u64) -> Result<usize> {
    let max = MAX_SIZES.iter().find(|(known, _)| *known == name).map_or(u64::from(u32::MAX), |(_, max)| *max);
    ensure!(size <= max, "{name} in config.json is {size}, expected at most {max}");
    Ok(usize::try_from(size)?)
}

/// Rejects models that no machine can hold. The number of parameters cannot overflow: if every size is within its limit, it fits in 62
/// bits.
pub(super) fn check_parameters(config: &ModelConfig) -> Result<()> {
    let parameters = config.parameter_count();
    let ModelConfig { hidden, feed_forward, layers, vocabulary, .. } = config;
    ensure!(
        parameters <= MAX_PARAMETERS,
        "config.json describes a model of {parameters} parameters, expected at most {MAX_PARAMETERS} (vocab_size {vocabulary}, hidden_size \
         {hidden}, intermediate_size {feed_forward}, num_hidden_layers {layers})"
    );
    Ok(())
}
