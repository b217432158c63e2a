//! One transformer block: attention and a gated feed-forward network, each applied after RMSNorm and added to the residual stream.
//!
//! Axis legend: t = token, w = hidden width, f = feed-forward width, q = query heads, kv = key/value heads, d = head dimension.

use candle_core::{Result, Tensor};

use super::config::ModelConfig;
use super::rotary::Rotary;
use super::weights::BlockWeights;
use crate::kernels::{Heads, Indices, Kernels, LayerCache, Rotation, Segment, Target};

/// The inputs of a block other than its weights and the residual stream.
pub struct BlockContext<'a> {
    /// The operations that compute the block.
    pub kernels: &'a dyn Kernels,
    /// Which rows attend to which in a packed batch. Empty if every row is the newest token of a cached sequence.
    pub segments: &'a [Segment],
    /// The position of each row in its sequence, `[t]`.
    pub positions: Indices<'a>,
    /// Number of query heads, number of key/value heads, and head dimension.
    pub heads: Heads,
    /// Epsilon of RMSNorm.
    pub norm_eps: f32,
    /// Rotary cosines and sines that cover `positions`.
    pub rotary: Rotary,
}

/// All activations that the backward pass of a block reads.
pub struct SavedActivations {
    input: Tensor,
    attention: SavedAttention<Tensor>,
    middle: Tensor,
    mlp: SavedMlp,
}

/// The activations that are expensive to recompute: outputs of matrix products and of attention. Norms and SwiGLU are cheap to recompute
/// from them (selective activation checkpointing, Korthikanti et al. 2022).
pub struct SelectedActivations {
    input: Tensor,
    qkv: Tensor,
    log_sum_exp: Tensor,
    attention: Tensor,
    middle: Tensor,
    gate_up: Tensor,
}

/// Activations of the attention half. `S` is the extra output of attention: `log_sum_exp [t, q]` for packed rows, `()` for cached
/// sequences.
struct SavedAttention<S> {
    inverse_rms: Tensor,
    input: Tensor,
    qkv: Tensor,
    log_sum_exp: S,
    output: Tensor,
}

/// Activations of the feed-forward half.
struct SavedMlp {
    inverse_rms: Tensor,
    input: Tensor,
    gate_up: Tensor,
    activated: Tensor,
}

impl SavedActivations {
    /// Drops the activations that can be recomputed without a matrix product or attention.
    pub fn select(self) -> SelectedActivations {
        let Self { input, attention: SavedAttention { qkv, log_sum_exp, output, .. }, middle, mlp: SavedMlp { gate_up, .. } } = self;
        SelectedActivations { input, qkv, log_sum_exp, attention: output, middle, gate_up }
    }
}

/// Returns the bytes per token of a block's [`SelectedActivations`]. The log-sum-exp is in f32.
pub fn selected_bytes(config: &ModelConfig, target: &Target) -> usize {
    let attention = config.heads.row() + config.heads.query * config.heads.width;
    (2 * config.hidden + attention + 2 * config.feed_forward) * target.element_bytes + config.heads.query * size_of::<f32>()
}

/// Returns the bytes per token that [`SavedActivations`] needs beyond [`SelectedActivations`]: two norms with their f32 statistics, and the
/// output of SwiGLU.
pub fn recomputed_bytes(config: &ModelConfig, target: &Target) -> usize {
    (2 * config.hidden + config.feed_forward) * target.element_bytes + 2 * size_of::<f32>()
}

/// Returns the peak bytes per token of one block in a forward pass that saves no activations (`Decoder::hidden`): the residual stream,
/// queries, keys and values, the output of attention, and the feed-forward half with its input.
pub fn forward_bytes(config: &ModelConfig, target: &Target) -> usize {
    let attention = config.heads.row() + config.heads.query * config.heads.width;
    (2 * config.hidden + attention + 3 * config.feed_forward) * target.element_bytes + (1 + config.heads.query) * size_of::<f32>()
}

/// Returns the peak bytes per token of gradients in the backward pass of one block, without its [`SavedActivations`]: the larger of its two
/// halves. The feed-forward half has its own gradients and that of its input. The attention half has the gradients of attention's output,
/// of queries, keys and values (separate and combined), and of their input.
pub fn backward_bytes(config: &ModelConfig, target: &Target) -> usize {
    let attention = 2 * config.heads.row() + config.heads.query * config.heads.width;
    ((3 * config.feed_forward).max(attention) + config.hidden) * target.element_bytes
}

impl BlockContext<'_> {
    fn rotation(&self) -> Rotation<'_> {
        Rotation { cos: &self.rotary.cos, sin: &self.rotary.sin, positions: &self.positions }
    }

    /// Applies the rotary embedding to queries and keys in `qkv [t, (q + 2 kv) d]`, in place, then computes attention over a packed batch.
    /// Returns the output `[t, q d]` and `log_sum_exp [t, q]`.
    ///
    /// # Errors
    /// If a kernel fails, for example because the device is out of memory.
    pub fn attend_packed(&self, qkv: &Tensor) -> Result<(Tensor, Tensor)> {
        self.kernels.rotate_in_place(qkv, self.heads, &self.rotation())?;
        self.kernels.attend_packed(qkv, self.segments, self.heads)
    }

    /// Applies the rotary embedding to queries and keys in `qkv [t, (q + 2 kv) d]`, in place, and writes keys and values to the cache at
    /// `slots [t]`. The caller then computes attention, over the cache or over the rows.
    ///
    /// # Errors
    /// If a kernel fails.
    pub fn rotate_and_store(&self, qkv: &Tensor, cache: &LayerCache, slots: &Indices) -> Result<()> {
        self.kernels.rotate_and_store_in_place(qkv, self.heads, &self.rotation(), cache, slots)
    }
}

impl BlockWeights {
    /// Applies the block to the residual stream `x [t, w]`, in place, and saves no activations. `attend` rotates queries and keys and
    /// returns the output of attention `[t, q d]`, with any extra output.
    ///
    /// # Errors
    /// If `attend` or a kernel fails.
    pub fn forward_in_place<S>(
        &self,
        x: &Tensor,
        context: &BlockContext,
        attend: impl FnOnce(&Tensor) -> Result<(Tensor, S)>,
    ) -> Result<()> {
        let attention = self.attention(x, context, attend)?;
        context.kernels.add_product_into(x, &attention.output, &self.output)?;
        // Free the memory of attention before the feed-forward half allocates its own.
        drop(attention);
        let mlp = self.mlp(x, context)?;
        context.kernels.add_product_into(x, &mlp.activated, &self.down)
    }

    /// Applies the block to the residual stream `x [t, w]` of a packed batch. Returns its output `y [t, w]` and the saved activations.
    ///
    /// # Errors
    /// If a kernel fails, for example because the device is out of memory.
    pub fn forward(&self, x: &Tensor, context: &BlockContext) -> Result<(Tensor, SavedActivations)> {
        let saved = self.save_activations(x, context)?;
        let y = context.kernels.add_product(&saved.middle, &saved.mlp.activated, &self.down)?;
        Ok((y, saved))
    }

    /// Computes the activations that the backward pass needs from the block's input `x [t, w]`, without the block's output.
    ///
    /// # Errors
    /// If a kernel fails, for example because the device is out of memory.
    pub fn save_activations(&self, x: &Tensor, context: &BlockContext) -> Result<SavedActivations> {
        let attention = self.attention(x, context, |qkv| context.attend_packed(qkv))?;
        let middle = context.kernels.add_product(x, &attention.output, &self.output)?;
        let mlp = self.mlp(&middle, context)?;
        Ok(SavedActivations { input: x.clone(), attention, middle, mlp })
    }

    /// Recomputes the activations that [`SavedActivations::select`] dropped.
    ///
    /// # Errors
    /// If a kernel fails, for example because the device is out of memory.
    pub fn recompute(&self, selected: SelectedActivations, context: &BlockContext) -> Result<SavedActivations> {
        let SelectedActivations { input, qkv, log_sum_exp, attention, middle, gate_up } = selected;
        let norm = |x: &Tensor, weight: &Tensor| context.kernels.rms_norm(x, weight, context.norm_eps);
        let (attention_input, inverse_rms) = norm(&input, &self.attention_norm)?;
        let attention = SavedAttention { inverse_rms, input: attention_input, qkv, log_sum_exp, output: attention };
        let (mlp_input, inverse_rms) = norm(&middle, &self.mlp_norm)?;
        let activated = context.kernels.swiglu(&gate_up)?;
        Ok(SavedActivations { input, attention, middle, mlp: SavedMlp { inverse_rms, input: mlp_input, gate_up, activated } })
    }

    /// Computes the attention half of `x [t, w]`, except for the output projection.
    fn attention<S>(
        &self,
        x: &Tensor,
        context: &BlockContext,
        attend: impl FnOnce(&Tensor) -> Result<(Tensor, S)>,
    ) -> Result<SavedAttention<S>> {
        let kernels = context.kernels;
        let (input, inverse_rms) = kernels.rms_norm(x, &self.attention_norm, context.norm_eps)?;
        let qkv = kernels.product(&input, &self.qkv, self.qkv_bias.as_ref())?;
        let (output, log_sum_exp) = attend(&qkv)?;
        Ok(SavedAttention { inverse_rms, input, qkv, log_sum_exp, output })
    }

    /// Computes the feed-forward half of `x [t, w]`, except for the down projection.
    fn mlp(&self, x: &Tensor, context: &BlockContext) -> Result<SavedMlp> {
        let kernels = context.kernels;
        let (input, inverse_rms) = kernels.rms_norm(x, &self.mlp_norm, context.norm_eps)?;
        let gate_up = kernels.product(&input, &self.gate_up, None)?;
        let activated = kernels.swiglu(&gate_up)?;
        Ok(SavedMlp { inverse_rms, input, gate_up, activated })
    }

    /// Turns `dy [t, w]`, the gradient of the block's output, into the gradient of its input, in place. Adds the gradients of the weights
    /// to `gradients`.
    ///
    /// # Errors
    /// If a kernel fails, for example because the device is out of memory.
    pub fn backward(&self, dy: &Tensor, saved: &SavedActivations, context: &BlockContext, gradients: &BlockWeights) -> Result<()> {
        self.mlp_backward(dy, saved, context.kernels, gradients)?;
        self.attention_backward(dy, saved, context, gradients)
    }

    /// Turns `dy [t, w]`, the gradient of the feed-forward half's output, into the gradient of its input, in place.
    fn mlp_backward(&self, dy: &Tensor, saved: &SavedActivations, kernels: &dyn Kernels, gradients: &BlockWeights) -> Result<()> {
        let SavedActivations { middle, mlp, .. } = saved;
        kernels.add_product_into(&gradients.down, &mlp.activated.t()?, dy)?;
        let d_activated = kernels.product(dy, &self.down.t()?, None)?;
        let d_gate_up = kernels.swiglu_backward(&d_activated, &mlp.gate_up)?;
        kernels.add_product_into(&gradients.gate_up, &mlp.input.t()?, &d_gate_up)?;
        let d_mlp_input = kernels.product(&d_gate_up, &self.gate_up.t()?, None)?;
        kernels.rms_norm_backward_into(dy, &gradients.mlp_norm, &d_mlp_input, middle, &self.mlp_norm, &mlp.inverse_rms)
    }

    /// Turns `dy [t, w]`, the gradient of the attention half's output, into the gradient of its input, in place.
    fn attention_backward(&self, dy: &Tensor, saved: &SavedActivations, context: &BlockContext, gradients: &BlockWeights) -> Result<()> {
        let BlockContext { kernels, heads, .. } = context;
        let SavedAttention { inverse_rms, input: attention_input, qkv, log_sum_exp, output } = &saved.attention;
        kernels.add_product_into(&gradients.output, &output.t()?, dy)?;
        let d_output = kernels.product(dy, &self.output.t()?, None)?;
        let d_qkv = kernels.attend_packed_backward(&d_output, output, log_sum_exp, qkv, context.segments, *heads)?;
        kernels.rotate_back_in_place(&d_qkv, *heads, &context.rotation(), gradients.qkv_bias.as_ref())?;
        kernels.add_product_into(&gradients.qkv, &attention_input.t()?, &d_qkv)?;
        let d_attention_input = kernels.product(&d_qkv, &self.qkv.t()?, None)?;
        kernels.rms_norm_backward_into(dy, &gradients.attention_norm, &d_attention_input, &saved.input, &self.attention_norm, inverse_rms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Cpu;
    use crate::model::config::FAMILIES;
    use crate::model::rotary::RotaryTables;
    use crate::model::{Packed, init};

    fn bytes(tensors: &[&Tensor]) -> usize {
        tensors.iter().map(|tensor| tensor.elem_count() * tensor.dtype().size_in_bytes()).sum()
    }

    fn saved_tensors(saved: &SavedActivations) -> Vec<&Tensor> {
        let SavedActivations { input, attention, middle, mlp } = saved;
        let SavedAttention { inverse_rms: first, input: attention_input, qkv, log_sum_exp, output } = attention;
        let SavedMlp { inverse_rms: second, input: mlp_input, gate_up, activated } = mlp;
        vec![input, middle, first, attention_input, qkv, log_sum_exp, output, second, mlp_input, gate_up, activated]
    }

    /// The byte counts match the tensors, and `recompute` restores the same values from the selected activations.
    #[test]
    fn selected_bytes_and_recomputed_bytes_match_the_tensors() -> anyhow::Result<()> {
        for family in &FAMILIES {
            let config = ModelConfig::parse(&format!(
                r#"{{"model_type": "{}", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4,
                "num_key_value_heads": 2, "head_dim": 6, "vocab_size": 20, "max_position_embeddings": 32, "rms_norm_eps": 1e-6,
                "rope_theta": 1e4}}"#,
                family.model_type
            ))?;
            let weights = init::random(&config, 3, 0.02)?;
            let packed = Packed::of_responses([(&[1u32, 2, 3][..], vec![&[4u32, 5][..], &[6, 7, 8]])]);
            let context = BlockContext {
                kernels: &Cpu,
                segments: &packed.segments,
                positions: Cpu.indices(&packed.positions)?,
                heads: config.heads,
                norm_eps: config.norm_eps,
                rotary: RotaryTables::new(&config, Cpu.device())?.covering(&config, packed.len())?,
            };
            let x = Cpu.gather(&weights.embedding, &Cpu.indices(&packed.tokens)?)?;
            let (block, target, rows) = (&weights.blocks[0], Target::cpu(), packed.len());
            let saved = block.save_activations(&x, &context)?;
            let all = bytes(&saved_tensors(&saved));
            let before: Vec<Tensor> = saved_tensors(&saved).into_iter().cloned().collect();
            let selected = saved.select();
            let SelectedActivations { input, qkv, log_sum_exp, attention, middle, gate_up } = &selected;
            let size = bytes(&[input, qkv, log_sum_exp, attention, middle, gate_up]);
            assert_eq!(size, rows * selected_bytes(&config, &target), "{}", family.model_type);
            assert_eq!(all - size, rows * recomputed_bytes(&config, &target), "{}", family.model_type);
            let values = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
            for (again, before) in saved_tensors(&block.recompute(selected, &context)?).into_iter().zip(&before) {
                assert_eq!(values(again)?, values(before)?, "{}", family.model_type);
            }
        }
        Ok(())
    }
}
