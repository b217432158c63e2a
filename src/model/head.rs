//! The output head: log-probabilities, entropies and their gradients in one pass over chunks of response tokens, so that no tensor has the
//! shape `[tokens, vocabulary]`.

use anyhow::Result;
use candle_core::{DType, Tensor};

use super::config::ModelConfig;
use super::decoder::Decoder;
use super::packed::Packed;
use super::weights::Weights;
use crate::kernels::{RowScores, Target};

/// Number of logits in a chunk on the CPU: 8 MiB, to stay in the CPU cache. With any vocabulary, a chunk has at least 64 and at most 512
/// rows.
const CHUNK_ELEMENTS: usize = 1 << 21;
/// Maximum number of rows in a chunk on a GPU, if they fit in a tenth of its memory. At this size products reach full speed, and few chunks
/// mean few updates of the output embedding's gradient and few round trips to the host.
const GPU_CHUNK_ROWS: usize = 8192;
/// Minimum number of rows in a chunk on a GPU. Stock operations always use this number, because they need several copies of a chunk.
const MIN_GPU_CHUNK_ROWS: usize = 2048;

/// Scores of response tokens, in the order of [`Packed::targets`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// `logprobs[j]` is the log-probability of `targets[j]`, in nats, at the sampling temperature.
    pub logprobs: Vec<f32>,
    /// `entropies[j]` is the entropy of the distribution that predicts `targets[j]`, in nats, at the same temperature.
    pub entropies: Vec<f32>,
}

/// Derivatives of the loss with respect to the log-probabilities and entropies of a chunk of response tokens.
pub struct TokenGradients {
    /// dL/d(log-probability) of each token.
    pub d_logprobs: Vec<f32>,
    /// dL/d(entropy) of each token.
    pub d_entropies: Vec<f32>,
}

/// Returns the number of rows in a chunk. On a GPU it depends on total rather than free memory, because chunks determine the order of sums,
/// which must be the same in a resumed run.
fn chunk_rows(config: &ModelConfig, target: &Target) -> usize {
    if !target.is_gpu {
        return (CHUNK_ELEMENTS / config.vocabulary).clamp(64, 512);
    }
    let room = if target.is_stock { 0 } else { target.total.unwrap_or(0) / 10 };
    let mut rows = GPU_CHUNK_ROWS;
    while rows > MIN_GPU_CHUNK_ROWS && (rows * row_bytes(config, target)) as u64 > room {
        rows /= 2;
    }
    rows
}

/// Returns the bytes per row of a chunk: its logits, their gradient if it has another dtype, its row of the residual stream, the normalized
/// row, and the gradients of both rows.
fn row_bytes(config: &ModelConfig, target: &Target) -> usize {
    let gradient = if target.element_bytes == size_of::<f32>() { 0 } else { target.element_bytes };
    config.vocabulary * (size_of::<f32>() + gradient) + 4 * config.hidden * target.element_bytes
}

/// Returns the peak bytes of a pass over the head.
pub fn head_bytes(config: &ModelConfig, target: &Target) -> usize {
    chunk_rows(config, target) * row_bytes(config, target)
}

impl Decoder {
    /// Computes the logits `[rows, v]`, in f32, of some rows of the residual stream after the last block, `hidden [t, w]`.
    ///
    /// # Errors
    /// If a kernel fails, for example because the device is out of memory.
    pub fn logits(&self, hidden: &Tensor, rows: &[u32]) -> Result<Tensor> {
        let kernels = self.kernels();
        let x = kernels.gather(hidden, &kernels.indices(rows)?)?;
        let (normed, _) = kernels.rms_norm(&x, &self.weights.norm, self.config.norm_eps)?;
        Ok(kernels.logits(&normed, self.weights.output_embedding())?)
    }

    /// Scores all response tokens of a packed batch.
    ///
    /// # Errors
    /// If a token is outside the vocabulary, a sequence exceeds the context length, or a kernel fails.
    pub fn score(&self, packed: &Packed, temperature: f32) -> Result<Scores> {
        self.score_hidden(&self.hidden(packed)?, packed, temperature)
    }

    /// Scores all response tokens of a packed batch, given its residual stream after the last block, `hidden [t, w]`.
    ///
    /// # Errors
    /// If a kernel fails, for example because the device is out of memory.
    pub fn score_hidden(&self, hidden: &Tensor, packed: &Packed, temperature: f32) -> Result<Scores> {
        let mut scores = Scores::default();
        for (rows, targets) in self.chunks(packed) {
            let logits = self.apply_sampling_mask(self.logits(hidden, rows)?, packed, scores.logprobs.len())?;
            let chunk = self.kernels().head_scores_in_place(&logits, targets, temperature)?;
            scores.append(&chunk);
        }
        Ok(scores)
    }

    /// Scores all response tokens and computes the head's gradients in one pass. `objective(first, scores)` returns the derivatives of the
    /// loss for each chunk, where `first` is the index of its first target. Adds the gradients of the head and the final norm to
    /// `gradients`, unless `None`. Returns the scores and the gradient of `hidden [t, w]`.
    ///
    /// # Errors
    /// If a kernel fails, for example because the device is out of memory.
    pub fn head_forward_backward(
        &self,
        hidden: &Tensor,
        packed: &Packed,
        temperature: f32,
        gradients: Option<&Weights>,
        mut objective: impl FnMut(usize, &RowScores) -> TokenGradients,
    ) -> Result<(Scores, Tensor)> {
        let kernels = self.kernels();
        let d_hidden = hidden.zeros_like()?;
        let norm_gradient = match gradients {
            Some(gradients) => gradients.norm.clone(),
            None => Tensor::zeros(self.config.hidden, DType::F32, kernels.device())?,
        };
        let mut scores = Scores::default();
        for (rows, targets) in self.chunks(packed) {
            let x = kernels.gather(hidden, &kernels.indices(rows)?)?;
            let (normed, inverse_rms) = kernels.rms_norm(&x, &self.weights.norm, self.config.norm_eps)?;
            let logits = kernels.logits(&normed, self.weights.output_embedding())?;
            let logits = self.apply_sampling_mask(logits, packed, scores.logprobs.len())?;
            let chunk = kernels.head_scores_in_place(&logits, targets, temperature)?;
            let TokenGradients { d_logprobs, d_entropies } = objective(scores.logprobs.len(), &chunk);
            let d_logits = kernels.head_backward(logits, targets, temperature, &chunk, &d_logprobs, &d_entropies)?;
            scores.append(&chunk);

            if let Some(gradients) = gradients {
                kernels.add_product_into(gradients.output_embedding(), &d_logits.t()?, &normed)?;
            }
            let d_normed = kernels.product(&d_logits, self.weights.output_embedding(), None)?;
            let dx = x.zeros_like()?;
            kernels.rms_norm_backward_into(&dx, &norm_gradient, &d_normed, &x, &self.weights.norm, &inverse_rms)?;
            kernels.scatter_add_into(&d_hidden, rows, &dx)?;
        }
        Ok((scores, d_hidden))
    }

    /// Applies the batch's sampling masks, if any, to the logits of `packed.targets[first..]`, so that scores and gradients are those of
    /// the renormalized distribution.
    fn apply_sampling_mask(&self, logits: Tensor, packed: &Packed, first: usize) -> Result<Tensor> {
        if packed.mask.is_whole() {
            return Ok(logits);
        }
        let mask = packed.mask.part(first..first + logits.dim(0)?);
        Ok(self.kernels().mask_logits(logits, &mask)?)
    }

    /// Divides the rows that predict response tokens into chunks, each with its targets.
    pub(super) fn chunks<'a>(&self, packed: &'a Packed) -> impl Iterator<Item = (&'a [u32], &'a [u32])> + use<'a> {
        let size = chunk_rows(&self.config, &self.target());
        packed.rows.chunks(size).zip(packed.targets.chunks(size))
    }
}

impl Scores {
    fn append(&mut self, chunk: &RowScores) {
        self.logprobs.extend_from_slice(&chunk.logprobs);
        self.entropies.extend_from_slice(&chunk.entropies);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{Backend, ComputeSettings};
    use crate::model::known_models;

    #[test]
    fn chunk_rows_grows_with_total_gpu_memory() {
        let config = known_models::by_name("qwen2.5-math-1.5b").unwrap().read().unwrap();
        let check = |kernels: Backend, gib: u64, expected: usize| {
            let compute = ComputeSettings { kernels, ..ComputeSettings::default() }.on(Some(0)).unwrap();
            let target = Target { free: Some(0), ..compute.target(Some(gib << 30)) };
            assert_eq!(chunk_rows(&config, &target), expected, "{gib} GiB");
            // Logits in f32, their gradient in bf16, and four rows of the residual stream.
            assert_eq!(head_bytes(&config, &target), expected * (151_936 * 6 + 4 * 1536 * 2));
        };
        check(Backend::Fused, 139, 8192);
        check(Backend::Fused, 78, 8192);
        check(Backend::Fused, 40, 4096);
        check(Backend::Fused, 8, 2048);
        check(Backend::Stock, 139, 2048);
        assert_eq!(chunk_rows(&config, &Target::cpu()), 64);
    }
}
