//! Random initial weights, distributed as in the published architectures. Each element depends only on the seed and its position, so a
//! model generated in memory equals one written to a file piece by piece, on any number of cores.

use anyhow::Result;
use rayon::prelude::*;

use super::checkpoint_tensors::CheckpointTensor;
use super::config::ModelConfig;
use super::parameters::{Parameter, Role, parameters};
use super::weights::Weights;
use crate::kernels::cpu;
use crate::rng::{Purpose, Stream};

/// Number of elements that one thread generates at a time.
const CHUNK_ELEMENTS: usize = 1 << 16;

/// Generates weights: normal with standard deviation `scale` for matrices, 1 for norms, 0 for biases. Each tensor has its own random
/// stream.
///
/// # Errors
/// If a tensor cannot be created.
pub fn random(config: &ModelConfig, seed: u64, scale: f32) -> Result<Weights> {
    let mut number = 0;
    Weights::build(config, |row| {
        let tensor = Initial { role: row.role, seed, number, scale };
        number += 1;
        let mut values = vec![0.0; row.shape.elem_count()];
        let chunks = values.par_chunks_mut(CHUNK_ELEMENTS).enumerate();
        chunks.for_each(|(chunk, values)| tensor.fill(chunk * CHUNK_ELEMENTS, values));
        Ok(cpu::tensor(values, &row.shape)?)
    })
}

/// Returns a source ([`export::Values`](super::export::Values)) that generates the same weights as [`random`] piece by piece, so that
/// exporting them needs little memory.
pub fn values(
    config: &ModelConfig,
    seed: u64,
    scale: f32,
) -> impl Fn(usize, &CheckpointTensor, usize, &mut [f32]) -> Result<()> + Sync + use<> {
    let tensor = |(number, row): (usize, &Parameter)| (Initial { role: row.role, seed, number: number as u64, scale }, row.width());
    let tensors: Vec<(Initial, usize)> = parameters(config).iter().enumerate().map(tensor).collect();
    move |number: usize, part: &CheckpointTensor, first: usize, target: &mut [f32]| {
        let ((tensor, width), (_, columns)) = (&tensors[number], part.rows_and_columns());
        if !part.transposed && part.columns.len() == *width {
            tensor.fill(first * columns, target);
            return Ok(());
        }
        // For a piece of a fused or transposed tensor, generate the matching columns of our tensor, row by row, and copy them.
        let (rows, start) = (target.len() / columns, part.columns.start);
        let (our_rows, our_columns, start) = if part.transposed { (columns, rows, start + first) } else { (rows, columns, start) };
        let mut ours = vec![0.0; target.len()];
        ours.chunks_exact_mut(our_columns).take(our_rows).enumerate().for_each(|(row, ours)| tensor.fill(row * width + start, ours));
        let piece = CheckpointTensor { columns: 0..our_columns, ..part.clone() };
        piece.export_rows(0, &ours, our_columns, target);
        Ok(())
    }
}

/// How to initialize one of our tensors.
struct Initial {
    role: Role,
    seed: u64,
    /// The tensor's index in the table of `parameters`, which selects its random stream.
    number: u64,
    scale: f32,
}

impl Initial {
    /// Fills `values` with the tensor's elements from `first` on, in row-major order.
    fn fill(&self, first: usize, values: &mut [f32]) {
        match self.role {
            Role::Norm => values.fill(1.0),
            Role::Bias => values.fill(0.0),
            Role::Embedding | Role::Projection | Role::Head => {
                // A normal number consumes two words of the stream.
                let mut stream = Stream::new(self.seed, Purpose::Initial, self.number).at(2 * first as u64);
                values.iter_mut().for_each(|value| *value = stream.normal() * self.scale);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::export::{Format, WeightDtype, files, values_of};

    #[test]
    fn values_written_to_a_file_equal_random_weights_in_memory() {
        for (family, tied) in [("qwen2", true), ("llama", false)] {
            let config = ModelConfig::parse(&format!(
                r#"{{"model_type": "{family}", "hidden_size": 36, "intermediate_size": 50, "num_hidden_layers": 2, "num_attention_heads": 4,
                "num_key_value_heads": 2, "head_dim": 10, "vocab_size": 3001, "max_position_embeddings": 64, "rms_norm_eps": 1e-6,
                "rope_theta": 1e4, "tie_word_embeddings": {tied}}}"#
            ))
            .unwrap();
            let file = &files(&config, Format::of(WeightDtype::F32)).unwrap()[0];
            let (mut in_memory, mut piecewise) = (Vec::new(), Vec::new());
            file.write(&mut in_memory, &values_of(&random(&config, 3, 0.02).unwrap())).unwrap();
            file.write(&mut piecewise, &values(&config, 3, 0.02)).unwrap();
            assert!(in_memory == piecewise, "{family}");
        }
    }
}
