//! One transformer block: attention and gated feed-forward, each after RMSNorm and added to the residual stream.

use candle_core::{Result, Tensor};

use super::config::ModelConfig;
use super::rotary::Rotary;
use super::weights::BlockWeights;
use crate::kernels::{Heads, Indices, Kernels, LayerCache, Rotation, Segment, Target};

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
    attention: KeptAttention<Tensor>,
    middle: Tensor,
    mlp: KeptMlp,
}

/// The outputs of products and attention. Norms and SwiGLU are cheap to recompute from these (selective activation recomputation, Korthikanti et
/// al. 2022).
pub struct Selected {
    input: Tensor,
    qkv: Tensor,
    log_sum_exp: Tensor,
    attention: Tensor,
    middle: Tensor,
    gate_up: Tensor,
}

/// Those of the attention half; `S` is what attention itself leaves: `log_sum_exp [t, q]` of packed rows, nothing of cached ones.
struct KeptAttention<S> {
    inverse_rms: Tensor,
    input: Tensor,
    qkv: Tensor,
    log_sum_exp: S,
    output: Tensor,
}

/// Those of the feed-forward half.
struct KeptMlp {
    inverse_rms: Tensor,
    input: Tensor,
    gate_up: Tensor,
    activated: Tensor,
}

impl Kept {
    /// Keeps only what cannot be recomputed without a product or attention.
    pub fn select(self) -> Selected {
        let Self { input, attention: KeptAttention { qkv, log_sum_exp, output, .. }, middle, mlp: KeptMlp { gate_up, .. } } = self;
        Selected { input, qkv, log_sum_exp, attention: output, middle, gate_up }
    }
}

/// Bytes per token of a block's `Selected`; the log-sum-exp is in f32.
pub fn selected_bytes(config: &ModelConfig, target: &Target) -> usize {
    let attention = config.heads.row() + config.heads.query * config.heads.width;
    (2 * config.hidden + attention + 2 * config.feed_forward) * target.element_bytes + config.heads.query * size_of::<f32>()
}

/// Bytes per token that `Kept` has beyond `Selected`: two norms with their f32 statistics, and SwiGLU.
pub fn cheap_bytes(config: &ModelConfig, target: &Target) -> usize {
    (2 * config.hidden + config.feed_forward) * target.element_bytes + 2 * size_of::<f32>()
}

/// Bytes for each token that a pass over one block holds while nothing is kept (`Decoder::hidden`): the stream, queries to values, attention,
/// and the feed-forward half with its input.
pub fn pass_bytes(config: &ModelConfig, target: &Target) -> usize {
    let attention = config.heads.row() + config.heads.query * config.heads.width;
    (2 * config.hidden + attention + 3 * config.feed_forward) * target.element_bytes + (1 + config.heads.query) * size_of::<f32>()
}

/// Bytes per token that the backward pass of one block holds besides its `Kept`, in whichever half needs more: the gradients of the feed-forward
/// half and of its input; or the gradients of attention's output, of queries, keys and values (separate and combined), and of their input.
pub fn backward_bytes(config: &ModelConfig, target: &Target) -> usize {
    let attention = 2 * config.heads.row() + config.heads.query * config.heads.width;
    ((3 * config.feed_forward).max(attention) + config.hidden) * target.element_bytes
}

impl BlockContext<'_> {
    fn rotation(&self) -> Rotation<'_> {
        Rotation { cos: &self.rotary.cos, sin: &self.rotary.sin, positions: &self.positions }
    }

    /// Rotates the queries and keys of a packed batch in place and applies attention. Returns the output and its `log_sum_exp`.
    pub fn attend_packed(&self, qkv: &Tensor) -> Result<(Tensor, Tensor)> {
        self.kernels.rotate_in_place(qkv, self.heads, &self.rotation())?;
        self.kernels.attend_packed(qkv, self.segments, self.heads)
    }

    /// Rotates queries and keys in place, and writes keys and values to the cache at `slots [t]`. Attention over the cache or the rows comes
    /// next.
    pub fn rotate_and_store(&self, qkv: &Tensor, cache: &LayerCache, slots: &Indices) -> Result<()> {
        self.kernels.rotate_and_store_in_place(qkv, self.heads, &self.rotation(), cache, slots)
    }
}

impl BlockWeights {
    /// Applies the block to the residual stream `x [t, w]`, in place. `attend` rotates the queries and keys and computes attention `[t, q d]`.
    pub fn pass<S>(&self, x: &Tensor, context: &BlockContext, attend: impl FnOnce(&Tensor) -> Result<(Tensor, S)>) -> Result<()> {
        let attention = self.attention(x, context, attend)?;
        context.kernels.add_product_into(x, &attention.output, &self.output)?;
        // What attention leaves is freed before the feed-forward half begins.
        drop(attention);
        let mlp = self.mlp(x, context)?;
        context.kernels.add_product_into(x, &mlp.activated, &self.down)
    }

    /// `x [t, w]` to `(y [t, w], kept)`, over packed rows.
    pub fn forward(&self, x: &Tensor, context: &BlockContext) -> Result<(Tensor, Kept)> {
        let kept = self.keep(x, context)?;
        let y = context.kernels.add_product(&kept.middle, &kept.mlp.activated, &self.down)?;
        Ok((y, kept))
    }

    /// What the backward pass reads, without the block's own result.
    pub fn keep(&self, x: &Tensor, context: &BlockContext) -> Result<Kept> {
        let attention = self.attention(x, context, |qkv| context.attend_packed(qkv))?;
        let middle = context.kernels.add_product(x, &attention.output, &self.output)?;
        let mlp = self.mlp(&middle, context)?;
        Ok(Kept { input: x.clone(), attention, middle, mlp })
    }

    /// Recomputes the rest of what the backward pass reads from the selected activations.
    pub fn complete(&self, selected: Selected, context: &BlockContext) -> Result<Kept> {
        let Selected { input, qkv, log_sum_exp, attention, middle, gate_up } = selected;
        let norm = |x: &Tensor, weight: &Tensor| context.kernels.rms_norm(x, weight, context.norm_eps);
        let (attention_input, inverse_rms) = norm(&input, &self.attention_norm)?;
        let attention = KeptAttention { inverse_rms, input: attention_input, qkv, log_sum_exp, output: attention };
        let (mlp_input, inverse_rms) = norm(&middle, &self.mlp_norm)?;
        let activated = context.kernels.swiglu(&gate_up)?;
        Ok(Kept { input, attention, middle, mlp: KeptMlp { inverse_rms, input: mlp_input, gate_up, activated } })
    }

    /// The attention half for `x [t, w]`, up to its last projection.
    fn attention<S>(
        &self,
        x: &Tensor,
        context: &BlockContext,
        attend: impl FnOnce(&Tensor) -> Result<(Tensor, S)>,
    ) -> Result<KeptAttention<S>> {
        let kernels = context.kernels;
        let (input, inverse_rms) = kernels.rms_norm(x, &self.attention_norm, context.norm_eps)?;
        let qkv = kernels.product(&input, &self.qkv, self.qkv_bias.as_ref())?;
        let (output, log_sum_exp) = attend(&qkv)?;
        Ok(KeptAttention { inverse_rms, input, qkv, log_sum_exp, output })
    }

    /// The feed-forward half of `x [t, w]`, up to its last projection.
    fn mlp(&self, x: &Tensor, context: &BlockContext) -> Result<KeptMlp> {
        let kernels = context.kernels;
        let (input, inverse_rms) = kernels.rms_norm(x, &self.mlp_norm, context.norm_eps)?;
        let gate_up = kernels.product(&input, &self.gate_up, None)?;
        let activated = kernels.swiglu(&gate_up)?;
        Ok(KeptMlp { inverse_rms, input, gate_up, activated })
    }

    /// Turns `dy [t, w]` into the gradient of the block's input, in place, and adds to the weights' gradients.
    pub fn backward(&self, dy: &Tensor, kept: &Kept, context: &BlockContext, gradients: &BlockWeights) -> Result<()> {
        self.mlp_backward(dy, kept, context.kernels, gradients)?;
        self.attention_backward(dy, kept, context, gradients)
    }

    /// Turns `dy [t, w]` into the gradient of the feed-forward half's input, in place.
    fn mlp_backward(&self, dy: &Tensor, kept: &Kept, kernels: &dyn Kernels, gradients: &BlockWeights) -> Result<()> {
        let Kept { middle, mlp, .. } = kept;
        kernels.add_product_into(&gradients.down, &mlp.activated.t()?, dy)?;
        let d_activated = kernels.product(dy, &self.down.t()?, None)?;
        let d_gate_up = kernels.swiglu_backward(&d_activated, &mlp.gate_up)?;
        kernels.add_product_into(&gradients.gate_up, &mlp.input.t()?, &d_gate_up)?;
        let d_mlp_input = kernels.product(&d_gate_up, &self.gate_up.t()?, None)?;
        kernels.rms_norm_backward_into(dy, &gradients.mlp_norm, &d_mlp_input, middle, &self.mlp_norm, &mlp.inverse_rms)
    }

    /// Turns the gradient of the attention half's output into that of its input, in place.
    fn attention_backward(&self, dy: &Tensor, kept: &Kept, context: &BlockContext, gradients: &BlockWeights) -> Result<()> {
        let BlockContext { kernels, heads, .. } = context;
        let KeptAttention { inverse_rms, input: attention_input, qkv, log_sum_exp, output } = &kept.attention;
        kernels.add_product_into(&gradients.output, &output.t()?, dy)?;
        let d_output = kernels.product(dy, &self.output.t()?, None)?;
        let d_qkv = kernels.attend_packed_backward(&d_output, output, log_sum_exp, qkv, context.segments, *heads)?;
        kernels.rotate_back_in_place(&d_qkv, *heads, &context.rotation(), gradients.qkv_bias.as_ref())?;
        kernels.add_product_into(&gradients.qkv, &attention_input.t()?, &d_qkv)?;
        let d_attention_input = kernels.product(&d_qkv, &self.qkv.t()?, None)?;
        kernels.rms_norm_backward_into(dy, &gradients.attention_norm, &d_attention_input, &kept.input, &self.attention_norm, inverse_rms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Cpu;
    use crate::model::config::FAMILIES;
    use crate::model::rotary::RotaryTables;
    use crate::model::{Packed, initial};

    fn bytes(tensors: &[&Tensor]) -> usize {
        tensors.iter().map(|tensor| tensor.elem_count() * tensor.dtype().size_in_bytes()).sum()
    }

    fn of_kept(kept: &Kept) -> Vec<&Tensor> {
        let Kept { input, attention, middle, mlp } = kept;
        let KeptAttention { inverse_rms: first, input: attention_input, qkv, log_sum_exp, output } = attention;
        let KeptMlp { inverse_rms: second, input: mlp_input, gate_up, activated } = mlp;
        vec![input, middle, first, attention_input, qkv, log_sum_exp, output, second, mlp_input, gate_up, activated]
    }

    /// The plan's byte counts match the tensors, and the selected activations suffice to recompute the rest.
    #[test]
    fn activation_bytes_are_those_of_what_is_kept() -> anyhow::Result<()> {
        for family in &FAMILIES {
            let config = ModelConfig::parse(&format!(
                r#"{{"model_type": "{}", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4,
                "num_key_value_heads": 2, "head_dim": 6, "vocab_size": 20, "max_position_embeddings": 32, "rms_norm_eps": 1e-6,
                "rope_theta": 1e4}}"#,
                family.model_type
            ))?;
            let weights = initial::random(&config, 3, 0.02)?;
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
            let kept = block.keep(&x, &context)?;
            let all = bytes(&of_kept(&kept));
            let before: Vec<Tensor> = of_kept(&kept).into_iter().cloned().collect();
            let selected = kept.select();
            let Selected { input, qkv, log_sum_exp, attention, middle, gate_up } = &selected;
            let least = bytes(&[input, qkv, log_sum_exp, attention, middle, gate_up]);
            assert_eq!(least, rows * selected_bytes(&config, &target), "{}", family.model_type);
            assert_eq!(all - least, rows * cheap_bytes(&config, &target), "{}", family.model_type);
            let values = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
            for (again, before) in of_kept(&block.complete(selected, &context)?).into_iter().zip(&before) {
                assert_eq!(values(again)?, values(before)?, "{}", family.model_type);
            }
        }
        Ok(())
    }
}
