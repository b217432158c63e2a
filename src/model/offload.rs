//! Scoring with weights offloaded to host memory, for a KL reference that does not fit in the device's memory. Copies blocks to the device
//! one after another.

use anyhow::Result;
use candle_core::Tensor;

use super::decoder::Decoder;
use super::head::Scores;
use super::packed::Packed;
use super::weights::Weights;
use crate::kernels::on_host;
use crate::output::Progress;

/// Maximum number of rows whose residual streams are on the device at once. Each block is copied once for all of these rows.
const ROWS_AT_ONCE: usize = 1 << 18;

impl Decoder {
    /// Returns the same model with its weights in host memory. Only [`Decoder::score_all`] can compute with it.
    ///
    /// # Errors
    /// If a tensor cannot be copied.
    pub fn offload_to_host(&self) -> Result<Self> {
        Ok(self.with(self.weights.map(&self.config, |tensor| Ok(on_host(tensor)?))?))
    }

    /// Scores several packed batches like [`Decoder::score`]. Copies weights in host memory to the device block by block. Counts the work in
    /// `progress`: a part for each batch, or for each batch in each block and in the head if the weights are copied.
    ///
    /// # Errors
    /// If a token is outside the vocabulary, a sequence exceeds the context length, or a kernel fails.
    pub fn score_all(&self, batches: &[Packed], temperature: f32, progress: &Progress) -> Result<Vec<Scores>> {
        if !self.weights.norm.device().same_device(self.kernels().device()) {
            return self.score_streamed(batches, temperature, progress);
        }
        progress.expect(batches.len());
        let score = |batch| {
            let scores = self.score(batch, temperature)?;
            progress.add();
            Ok(scores)
        };
        batches.iter().map(score).collect()
    }

    fn score_streamed(&self, batches: &[Packed], temperature: f32, progress: &Progress) -> Result<Vec<Scores>> {
        progress.expect(batches.len() * (self.weights.blocks.len() + 1));
        let on_device = |tensor: &Tensor| tensor.to_device(self.kernels().device());
        let (blocks, Weights { embedding, norm, head, .. }) = (&self.weights.blocks, &self.weights);
        let head = head.as_ref().map(on_device).transpose()?;
        let without_blocks = self.with(Weights { embedding: on_device(embedding)?, blocks: Vec::new(), norm: on_device(norm)?, head });
        let (mut scores, mut rest) = (Vec::with_capacity(batches.len()), batches);
        while !rest.is_empty() {
            let mut rows = 0;
            let fits = rest.iter().take_while(|batch| {
                rows += batch.tokens.len();
                rows <= ROWS_AT_ONCE
            });
            let (now, later) = rest.split_at(fits.count().max(1));
            for (batch, hidden) in now.iter().zip(without_blocks.hidden_streamed(blocks, now, progress)?) {
                scores.push(without_blocks.score_hidden(&hidden, batch, temperature)?);
                progress.add();
            }
            rest = later;
        }
        Ok(scores)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ModelConfig, init};

    #[test]
    fn score_streamed_equals_scoring_with_resident_weights() -> Result<()> {
        let config = ModelConfig::parse(
            r#"{"model_type": "qwen2", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
            "vocab_size": 20, "max_position_embeddings": 32, "rms_norm_eps": 1e-6, "rope_theta": 1e4}"#,
        )?;
        let weights = init::random(&config, 3, 0.02)?;
        let decoder = Decoder::new(config, weights)?;
        let batch = |prompt: &[u32], response: &[u32]| Packed::of_responses(vec![(prompt, vec![response])]);
        let batches = [batch(&[1, 2, 3], &[4, 5]), batch(&[6], &[7, 8, 9, 10])];
        let progress = Progress::hidden();
        let streamed = decoder.score_streamed(&batches, 0.6, &progress)?;
        assert_eq!(progress.counts(), (6, 6), "two batches in two blocks and in the head");
        assert_eq!(streamed, decoder.score_all(&batches, 0.6, &progress)?);
        assert_eq!(progress.counts(), (2, 2));
        Ok(())
    }
}
