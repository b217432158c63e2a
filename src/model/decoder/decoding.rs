//! Computes one new token for each cached sequence, layer by layer.

use candle_core::{Result, Tensor, TensorId};

use super::{Cache, Decoder};
use crate::kernels::Kernels;
use crate::kernels::pass::{Pass, Rows};
use crate::model::block::BlockContext;
use crate::model::rotary::Rotary;

/// A single-token forward pass of a decoder over cached sequences.
pub struct Decoding<'a> {
    /// The model that computes the pass.
    pub decoder: &'a Decoder,
    /// The key/value cache, updated in place.
    pub cache: &'a Cache,
    /// Rotary tables that cover every position of the pass.
    pub rotary: Rotary,
}

impl Pass for Decoding<'_> {
    fn layers(&self) -> usize {
        self.cache.layers.len()
    }

    fn begin(&self, kernels: &dyn Kernels, rows: &Rows) -> Result<Tensor> {
        kernels.gather(&self.decoder.weights.embedding, &rows.tokens)
    }

    fn layer(&self, layer: usize, x: &Tensor, kernels: &dyn Kernels, rows: &Rows) -> Result<()> {
        let (config, cache) = (&self.decoder.config, &self.cache.layers[layer]);
        let positions = rows.positions.clone();
        let context =
            BlockContext { kernels, segments: &[], positions, heads: config.heads, norm_eps: config.norm_eps, rotary: self.rotary.clone() };
        self.decoder.weights.blocks[layer].forward_in_place(x, &context, |qkv| {
            context.rotate_and_store(qkv, cache, &rows.slots)?;
            Ok((kernels.attend_cached(qkv, cache, &rows.tables, config.heads)?, ()))
        })
    }

    fn tensors(&self) -> Vec<TensorId> {
        let weights = self.decoder.weights.blocks.iter().flat_map(|block| block.entries().into_iter().map(|(_, tensor)| tensor.id()));
        let cache = self.cache.layers.iter().flat_map(|layer| [layer.keys.id(), layer.values.id()]);
        let others = [&self.decoder.weights.embedding, &self.rotary.cos, &self.rotary.sin].map(Tensor::id);
        weights.chain(cache).chain(others).collect()
    }
}

#[cfg(all(test, feature = "cuda"))]
mod tests {
    use std::sync::Arc;

    use candle_core::DType;

    use super::*;
    use crate::kernels::fused::cuda::Gpu;
    use crate::kernels::fused::cuda::counts::{Counts, emulated_counts};
    use crate::kernels::{Fused, HookedKernels, OperationHooks};
    use crate::model::{ModelConfig, init};

    #[derive(Debug)]
    struct NoHooks;
    impl OperationHooks for NoHooks {}

    const LAYERS: u64 = 3;

    fn decoder() -> anyhow::Result<Decoder> {
        let config = ModelConfig::parse(&format!(
            r#"{{"model_type": "qwen2", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": {LAYERS}, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 61, "max_position_embeddings": 200, "rms_norm_eps": 1e-6,
            "rope_theta": 1e4, "tie_word_embeddings": true}}"#,
        ))?;
        Decoder::new(config.clone(), init::random(&config, 1, 0.3)?)
    }

    /// Counts the calls to the emulated GPU in a pass over two sequences: operation by operation, with reused memory, and recorded as a
    /// graph.
    #[test]
    fn decode_on_a_gpu_makes_few_launches_and_one_allocation() -> anyhow::Result<()> {
        if crate::kernels::tests::emulated_gpu().is_none() {
            return Ok(());
        }
        let kernels = Arc::new(Fused::new(Arc::new(Gpu::new(0, true)?), DType::F32)?);
        let hooked = decoder()?.on(Arc::new(HookedKernels::new(kernels.clone(), Arc::new(NoHooks))))?;
        let decoder = decoder()?.on(kernels.clone())?;
        let cache = decoder.cache(8)?;
        let pass = |decoder: &Decoder, count: usize| -> anyhow::Result<(Counts, Vec<f32>)> {
            let tokens = kernels.indices(&[5, 6])?;
            let counts = || emulated_counts().expect("the GPU is emulated");
            let begin = counts();
            let x = decoder.decode(&tokens, &[count, count], &[&[1], &[2]], &[15 + count as u32, 31 + count as u32], &cache)?;
            let end = counts();
            Ok((end - begin, crate::kernels::on_host(&x)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?))
        };
        let launched = Counts { launches: 1 + 5 * LAYERS, products: 4 * LAYERS, allocations: 0, graphs: 0 };
        // The residual stream, the tensors of each layer, and four index lists.
        let plain = Counts { allocations: 1 + 8 * LAYERS + 4, ..launched };
        // The index lists, the residual stream, the tensors of one layer, and the result.
        let first = Counts { allocations: 1 + 1 + 8 + 1, ..launched };
        let recorded = Counts { launches: 0, products: 0, allocations: 1, graphs: 1 };
        for (count, expected) in [(1, first), (2, recorded), (3, recorded)] {
            let (found, bits) = pass(&decoder, count)?;
            assert_eq!(found, expected, "pass {count}");
            assert_eq!(pass(&hooked, count)?, (plain, bits), "pass {count}, operation by operation");
        }
        Ok(())
    }
}
