//! Checks that all ranks of a run start from the same: a rank that differs would compute other bits, or wait for the others forever.

use anyhow::Result;
use sha2::{Digest, Sha256};
use toml::Table;

use super::{Loaded, Prepared};
use crate::config;
use crate::config::range::format_value;
use crate::flow::Prompt;
use crate::kernels::{Kernels, processor_features};
use crate::usage::usage;
use crate::version;

impl Prepared<'_> {
    /// Compares the program, the machines, the settings and the step to resume after over all ranks, before any work that they share.
    /// `computed_on` describes this rank's device.
    ///
    /// # Errors
    /// If a rank differs from rank 0. The message names the rank and the difference.
    pub(super) fn ensure_same_settings_on_all_ranks(&self, computed_on: &str) -> Result<()> {
        let world = &self.request.world;
        if world.size() == 1 {
            return Ok(());
        }
        let mut values = vec![
            ("the program", version::short()),
            ("the device", computed_on.to_owned()),
            ("a processor with", processor_features()),
            ("the step to resume after", self.resumed.as_ref().map_or(0, |point| point.from).to_string()),
        ];
        let settings: Vec<(String, String)> = config::flatten(&Table::try_from(&self.settings)?)
            .into_iter()
            .map(|(name, value)| (format!("the setting {name}"), format_value(value)))
            .collect();
        values.extend(settings.iter().map(|(name, value)| (name.as_str(), value.clone())));
        usage(world.ensure_equal(&values))
    }
}

impl Loaded<'_> {
    /// Compares over all ranks what they have read: the weights, the prompts with their labels, and the benchmarks.
    ///
    /// # Errors
    /// If a rank differs from rank 0. The message names the rank and the difference.
    pub(super) fn ensure_same_inputs_on_all_ranks(&self) -> Result<()> {
        let world = &self.inputs.world;
        if world.size() == 1 {
            return Ok(());
        }
        let decoder = &self.inputs.model.decoder;
        let weights = checksum(weights(decoder.kernels(), &decoder.weights.entries())?);
        let prompt = |prompt: &Prompt| format!("{:?} {} {}", prompt.ids, prompt.problem.answer, prompt.problem.id).into_bytes();
        let sets = self.inputs.sets.iter().flat_map(|set| format!("{} {} {}", set.name, set.data_sha256, set.problems.len()).into_bytes());
        usage(world.ensure_equal(&[
            ("the date in prompts", self.settings.prompt.date.clone()),
            ("the weights with the checksum", weights),
            ("the examples with the checksum", checksum(self.inputs.prompts.iter().flat_map(prompt))),
            ("the benchmarks with the checksum", checksum(sets)),
        ]))
    }
}

/// Returns bytes that differ if a weight does: the sum of squares of each tensor, which a device computes in place.
fn weights(kernels: &dyn Kernels, tensors: &[(String, &candle_core::Tensor)]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for (_, tensor) in tensors {
        let squares = kernels.sum_of_squares(&kernels.cast(tensor, candle_core::DType::F32)?)?;
        bytes.extend(squares.to_le_bytes());
    }
    Ok(bytes)
}

fn checksum(bytes: impl IntoIterator<Item = u8>) -> String {
    let digest = Sha256::digest(bytes.into_iter().collect::<Vec<u8>>());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
