//! One transformer block: attention and gated feed-forward, each after RMSNorm and added to the residual stream.

use candle_core::{Result, Tensor};

use super::config::ModelConfig;
use super::rotary::Rotary;
use super::weights::BlockWeights;
use crate::kernels::{Heads, Indices, Kernels, Segment, Target};

/// What a block needs besides its weights.
pub struct BlockContext<'a> {
    /// What computes.
    pub kernels: &'a dyn Kernels,
    /// Which rows see which; none where every row is a sequence of its own in the cache.
    pub segments: &'a [Segment],
    /// Where each row stands in its sequence.
    pub positions: Indices<'a>,
    /// Head counts and width.
    pub heads: Heads,
    /// RMSNorm's epsilon.
    pub norm_eps: f32,
    /// Cosines and sines.
    pub rotary: Rotary,
}

/// The activations that the backward pass reads.
pub struct Kept {
    input: Tensor,
    attention_inverse_rms: Tensor,
    attention_input: Tensor,
    qkv: Tensor,
    log_sum_exp: Tensor,
    attention: Tensor,
    middle: Tensor,
    mlp_inverse_rms: Tensor,
    mlp_input: Tensor,
    gate_up: Tensor,
    activated: Tensor,
}

/// Bytes for each token that a pass over one block holds while nothing is kept (`Decoder::hidden`): the stream, queries to values, attention,
/// and the feed-forward half with its input.
pub fn pass_bytes(config: &ModelConfig, target: &Target) -> usize {
    let attention = config.heads.row() + config.heads.query * config.heads.width;
    (2 * config.hidden + attention + 3 * config.feed_forward) * target.element_bytes + (1 + config.heads.query) * size_of::<f32>()
}

/// Bytes for each token that the backward pass of one block holds besides what was kept: the gradients of the feed-forward half, of its input,
/// of attention's output, of queries to values (in shares, and together) and of the block's input. All live to its end.
pub fn backward_bytes(config: &ModelConfig, target: &Target) -> usize {
    let attention = 2 * config.heads.row() + config.heads.query * config.heads.width;
    (3 * config.feed_forward + 2 * config.hidden + attention) * target.element_bytes
}

impl BlockWeights {
    /// `x [t, w]` to `(y [t, w], kept)`.
    pub fn forward(&self, x: &Tensor, context: &BlockContext) -> Result<(Tensor, Kept)> {
        let kept = self.keep(x, context)?;
        let y = kept.middle.copy()?;
        context.kernels.add_product_into(&y, &kept.activated, &self.down)?;
        Ok((y, kept))
    }

    /// What the backward pass reads, without the block's own result.
    pub fn keep(&self, x: &Tensor, context: &BlockContext) -> Result<Kept> {
        let kernels = context.kernels;
        let (attention_input, attention_inverse_rms) = kernels.rms_norm(x, &self.attention_norm, context.norm_eps)?;
        let qkv = self.rotated_qkv(&attention_input, context)?;
        let (attention, log_sum_exp) = kernels.attend_packed(&qkv, context.segments, context.heads)?;
        let middle = x.copy()?;
        kernels.add_product_into(&middle, &attention, &self.output)?;
        let (mlp_input, mlp_inverse_rms) = kernels.rms_norm(&middle, &self.mlp_norm, context.norm_eps)?;
        let gate_up = kernels.product(&mlp_input, &self.gate_up, None)?;
        let activated = kernels.swiglu(&gate_up)?;
        let input = x.clone();
        Ok(Kept {
            input,
            attention_inverse_rms,
            attention_input,
            qkv,
            log_sum_exp,
            attention,
            middle,
            mlp_inverse_rms,
            mlp_input,
            gate_up,
            activated,
        })
    }

    /// Turns `dy [t, w]` into the gradient of the block's input, in place, and adds to the weights' gradients.
    pub fn backward(&self, dy: &Tensor, kept: &Kept, context: &BlockContext, gradients: &BlockWeights) -> Result<()> {
        let (kernels, heads) = (context.kernels, context.heads);
        kernels.add_product_into(&gradients.down, &kept.activated.t()?, dy)?;
        let d_activated = kernels.product(dy, &self.down.t()?, None)?;
        let d_gate_up = kernels.swiglu_backward(&d_activated, &kept.gate_up)?;
        kernels.add_product_into(&gradients.gate_up, &kept.mlp_input.t()?, &d_gate_up)?;
        let d_mlp_input = kernels.product(&d_gate_up, &self.gate_up.t()?, None)?;
        kernels.rms_norm_backward_into(dy, &gradients.mlp_norm, &d_mlp_input, &kept.middle, &self.mlp_norm, &kept.mlp_inverse_rms)?;

        kernels.add_product_into(&gradients.output, &kept.attention.t()?, dy)?;
        let d_attention = kernels.product(dy, &self.output.t()?, None)?;
        let d_qkv = kernels.attend_packed_backward(&d_attention, &kept.attention, &kept.log_sum_exp, &kept.qkv, context.segments, heads)?;
        kernels.rotate_in_place(&d_qkv, heads, &context.rotary.cos, &context.rotary.sin, &context.positions, true)?;
        if let Some(bias) = &gradients.qkv_bias {
            kernels.add_column_sums_into(bias, &d_qkv)?;
        }
        kernels.add_product_into(&gradients.qkv, &kept.attention_input.t()?, &d_qkv)?;
        let d_input = kernels.product(&d_qkv, &self.qkv.t()?, None)?;
        kernels.rms_norm_backward_into(
            dy,
            &gradients.attention_norm,
            &d_input,
            &kept.input,
            &self.attention_norm,
            &kept.attention_inverse_rms,
        )
    }

    /// Queries, keys and values of normalised rows, turned to their positions: `[t, (q + 2 kv) d]`.
    pub fn rotated_qkv(&self, x: &Tensor, context: &BlockContext) -> Result<Tensor> {
        let qkv = context.kernels.product(x, &self.qkv, self.qkv_bias.as_ref())?;
        context.kernels.rotate_in_place(&qkv, context.heads, &context.rotary.cos, &context.rotary.sin, &context.positions, false)?;
        Ok(qkv)
    }

    /// The feed-forward half, added to `x [t, w]` in place.
    pub fn add_mlp(&self, x: &Tensor, context: &BlockContext) -> Result<()> {
        let kernels = context.kernels;
        let (input, _) = kernels.rms_norm(x, &self.mlp_norm, context.norm_eps)?;
        let activated = kernels.swiglu(&kernels.product(&input, &self.gate_up, None)?)?;
        kernels.add_product_into(x, &activated, &self.down)
    }
}
