//! Weights to start from: random, as the published architectures are initialised. An element is a function of the seed and of its place, so a
//! model can be made in memory, or straight into a file, piece by piece and on all cores, and is the same.

use anyhow::Result;
use rayon::prelude::*;

use super::config::ModelConfig;
use super::parameters::{Parameter, Role, parameters};
use super::parts::Part;
use super::weights::Weights;
use crate::draw::{Purpose, Stream};
use crate::kernels::cpu;

/// Elements that one thread draws at once.
const CHUNK_ELEMENTS: usize = 1 << 16;

/// Normal weights of standard deviation `scale`, norms 1, biases 0; each tensor is an addressed stream of its own.
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

/// The same weights for `export`, which never holds them.
pub fn values(config: &ModelConfig, seed: u64, scale: f32) -> impl Fn(usize, &Part, usize, &mut [f32]) -> Result<()> + Sync + use<> {
    let tensor = |(number, row): (usize, &Parameter)| (Initial { role: row.role, seed, number: number as u64, scale }, row.width());
    let tensors: Vec<(Initial, usize)> = parameters(config).iter().enumerate().map(tensor).collect();
    move |number: usize, part: &Part, first: usize, target: &mut [f32]| {
        let ((tensor, width), (_, columns)) = (&tensors[number], part.rows_and_columns());
        if !part.transposed && part.columns.len() == *width {
            tensor.fill(first * columns, target);
            return Ok(());
        }
        // A piece of a fused or transposed tensor: the columns of ours that it takes, row for row.
        let (rows, start) = (target.len() / columns, part.columns.start);
        let (our_rows, our_columns, start) = if part.transposed { (columns, rows, start + first) } else { (rows, columns, start) };
        let mut ours = vec![0.0; target.len()];
        ours.chunks_exact_mut(our_columns).take(our_rows).enumerate().for_each(|(row, ours)| tensor.fill(row * width + start, ours));
        let piece = Part { columns: 0..our_columns, ..part.clone() };
        piece.take(0, &ours, our_columns, target);
        Ok(())
    }
}

/// How one of our tensors begins.
struct Initial {
    role: Role,
    seed: u64,
    /// Its number among the model's tensors.
    number: u64,
    scale: f32,
}

impl Initial {
    /// Elements `first..`, of the tensor laid out row by row.
    fn fill(&self, first: usize, values: &mut [f32]) {
        match self.role {
            Role::Norm => values.fill(1.0),
            Role::Bias => values.fill(0.0),
            Role::Embedding | Role::Projection | Role::Head => {
                // A normal number takes two words.
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
    fn a_model_made_into_a_file_is_the_one_made_in_memory() {
        for (family, tied) in [("qwen2", true), ("llama", false)] {
            let config = ModelConfig::parse(&format!(
                r#"{{"model_type": "{family}", "hidden_size": 36, "intermediate_size": 50, "num_hidden_layers": 2, "num_attention_heads": 4,
                "num_key_value_heads": 2, "head_dim": 10, "vocab_size": 3001, "max_position_embeddings": 64, "rms_norm_eps": 1e-6,
                "rope_theta": 1e4, "tie_word_embeddings": {tied}}}"#
            ))
            .unwrap();
            let file = &files(&config, Format::of(WeightDtype::F32)).unwrap()[0];
            let (mut in_memory, mut straight) = (Vec::new(), Vec::new());
            file.write(&mut in_memory, &values_of(&random(&config, 3, 0.02).unwrap())).unwrap();
            file.write(&mut straight, &values(&config, 3, 0.02)).unwrap();
            assert!(in_memory == straight, "{family}");
        }
    }
}
