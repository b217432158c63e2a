//! The decoder: packed passes to train, score and prefill, and single-token passes against the cache.

use std::sync::Arc;

use anyhow::{Result, ensure};
use candle_core::Tensor;

use super::block::{BlockContext, Kept, Selected, cheap_bytes, selected_bytes};
use super::config::ModelConfig;
use super::packed::Packed;
use super::parameters::{Parameter, Role};
use super::rotary::RotaryTables;
use super::weights::{BlockWeights, Weights};
use crate::kernels::pass::Step;
use crate::kernels::{BLOCK, Cpu, Indices, Kernels, LayerCache, Segment, Target};
use crate::lanes::Lanes;

mod decoding;

use decoding::Decoding;

/// Which activations the forward pass keeps for the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recompute {
    /// Decide by memory.
    Auto,
    /// Keep each block's input only and run the block again: 8 instead of 6 FLOP per parameter and token.
    All,
    /// Keep the outputs of products and attention, and recompute norms and SwiGLU.
    Selective,
    /// Keep everything.
    None,
}

/// A model: its shape, its rotary tables, its weights, and what computes with them.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// The shape.
    pub config: ModelConfig,
    /// The weights; clones share them.
    pub weights: Weights,
    kernels: Arc<dyn Kernels>,
    rotary: RotaryTables,
}

/// The activations of one packed forward pass.
pub struct Trace {
    blocks: Vec<Stored>,
}

enum Stored {
    Everything(Box<Kept>),
    Selected(Box<Selected>),
    Input(Tensor),
}

/// The key/value cache of every layer.
#[derive(Clone, Debug)]
pub struct Cache {
    layers: Vec<LayerCache>,
    blocks: usize,
}

/// Bytes per token of the activations that a forward pass keeps, including those that one block recomputes at a time.
pub fn kept_bytes(config: &ModelConfig, target: &Target, recompute: Recompute) -> usize {
    let (selected, cheap) = (selected_bytes(config, target), cheap_bytes(config, target));
    match recompute {
        Recompute::All => config.layers * config.hidden * target.element_bytes + selected + cheap,
        Recompute::Selective => config.layers * selected + cheap,
        Recompute::Auto | Recompute::None => config.layers * (selected + cheap),
    }
}

impl Cache {
    /// Bytes of one block in all layers.
    pub fn block_bytes(config: &ModelConfig, target: &Target) -> usize {
        config.layers * 2 * config.heads.key_value * config.heads.width * BLOCK * target.element_bytes
    }
}

impl Decoder {
    /// A decoder on the CPU, from a shape and its weights.
    pub fn new(config: ModelConfig, weights: Weights) -> Result<Self> {
        let rotary = RotaryTables::new(&config, Cpu.device())?;
        Ok(Self { config, weights, kernels: Arc::new(Cpu), rotary })
    }

    /// The same model computed by other kernels, on their device and in their dtype.
    pub fn on(&self, kernels: Arc<dyn Kernels>) -> Result<Self> {
        let weights = self.weights.map(&self.config, |tensor| Ok(kernels.cast(tensor, kernels.dtype())?))?;
        let rotary = RotaryTables::new(&self.config, kernels.device())?;
        Ok(Self { config: self.config.clone(), weights, kernels, rotary })
    }

    /// What computes.
    pub fn kernels(&self) -> &dyn Kernels {
        &*self.kernels
    }

    /// The same, for who wraps it.
    pub fn shared_kernels(&self) -> Arc<dyn Kernels> {
        self.kernels.clone()
    }

    /// A decoder with its own copy of the weights.
    pub fn deep_copy(&self) -> Result<Self> {
        Ok(self.with(self.weights.map(&self.config, |tensor| Ok(tensor.copy()?))?))
    }

    /// The same with other weights.
    pub(super) fn with(&self, weights: Weights) -> Self {
        Self { weights, ..self.clone() }
    }

    /// The same model with projections of its own, sharing all else.
    pub fn with_own_projections(&self) -> Result<Self> {
        let own = |row: &Parameter, tensor: &Tensor| if row.role == Role::Projection { Ok(tensor.copy()?) } else { Ok(tensor.clone()) };
        Ok(self.with(self.weights.map_rows(&self.config, own)?))
    }

    fn context<'a>(&'a self, segments: &'a [Segment], positions: &'a [u32]) -> Result<BlockContext<'a>> {
        let longest = positions.iter().max().map_or(0, |last| *last as usize + 1);
        let rotary = self.rotary.covering(&self.config, longest)?;
        let positions = self.kernels.indices(positions)?;
        Ok(BlockContext { kernels: &*self.kernels, segments, positions, heads: self.config.heads, norm_eps: self.config.norm_eps, rotary })
    }

    /// The rows of the embedding that a pass begins with.
    fn embed(&self, tokens: &[u32]) -> Result<Tensor> {
        Ok(self.kernels.gather(&self.weights.embedding, &self.kernels.indices(tokens)?)?)
    }

    /// What memory depends on, where the model is now.
    pub fn target(&self) -> Target {
        Target::of(self.kernels())
    }

    /// Workers side by side that suit the model where it is: a GPU works for one at a time.
    pub fn usual_lanes(&self) -> usize {
        if self.kernels.device().is_cpu() { Lanes::usual(self.config.parameters()) } else { 1 }
    }

    /// The residual stream after the last block, `[t, w]`; nothing is kept.
    pub fn hidden(&self, packed: &Packed) -> Result<Tensor> {
        self.check(packed)?;
        let context = self.context(&packed.segments, &packed.positions)?;
        let x = self.embed(&packed.tokens)?;
        self.weights.blocks.iter().try_for_each(|block| block.pass(&x, &context, |qkv| context.attend_packed(qkv)))?;
        Ok(x)
    }

    /// The residual streams after the last block where the weights lie in the host's memory: each block's come to the device once for all
    /// batches. `self` has the weights at both ends on the device, `blocks` are those between.
    pub(super) fn hidden_streamed(&self, blocks: &[BlockWeights], batches: &[Packed]) -> Result<Vec<Tensor>> {
        let streams = batches.iter().map(|batch| self.check(batch).and_then(|()| self.embed(&batch.tokens))).collect::<Result<Vec<_>>>()?;
        for block in blocks {
            let block = block.map(|tensor| tensor.to_device(self.kernels.device()))?;
            for (batch, x) in batches.iter().zip(&streams) {
                let context = self.context(&batch.segments, &batch.positions)?;
                block.pass(x, &context, |qkv| context.attend_packed(qkv))?;
            }
        }
        Ok(streams)
    }

    /// As `hidden`, but keeps what `backward` needs; `Auto` keeps everything.
    pub fn forward(&self, packed: &Packed, recompute: Recompute) -> Result<(Tensor, Trace)> {
        self.check(packed)?;
        let context = self.context(&packed.segments, &packed.positions)?;
        let mut x = self.embed(&packed.tokens)?;
        let mut blocks = Vec::with_capacity(self.weights.blocks.len());
        for block in &self.weights.blocks {
            let (y, kept) = block.forward(&x, &context)?;
            blocks.push(match recompute {
                Recompute::All => Stored::Input(x),
                Recompute::Selective => Stored::Selected(Box::new(kept.select())),
                Recompute::Auto | Recompute::None => Stored::Everything(Box::new(kept)),
            });
            x = y;
        }
        Ok((x, Trace { blocks }))
    }

    /// Adds the gradients of all weights below the head to `gradients`, given `d_hidden [t, w]` (overwritten).
    pub fn backward(&self, packed: &Packed, trace: Trace, d_hidden: Tensor, gradients: &Weights) -> Result<()> {
        self.backward_blocks(packed, trace, &d_hidden, &gradients.blocks, |_| Ok(()))?;
        Ok(self.kernels.scatter_add_into(&gradients.embedding, &packed.tokens, &d_hidden)?)
    }

    /// The same between embedding and head, from the last block to the first: `d_hidden [t, w]` becomes the gradient of the blocks' input.
    /// Where `done(layer)` takes a block's gradients and clears them, one block's tensors serve all of `gradients`.
    pub fn backward_blocks(
        &self,
        packed: &Packed,
        trace: Trace,
        d_hidden: &Tensor,
        gradients: &[BlockWeights],
        mut done: impl FnMut(usize) -> Result<()>,
    ) -> Result<()> {
        let context = self.context(&packed.segments, &packed.positions)?;
        let layers = self.weights.blocks.iter().zip(trace.blocks).zip(gradients).enumerate();
        for (layer, ((block, stored), gradients)) in layers.rev() {
            let kept = match stored {
                Stored::Everything(kept) => kept,
                Stored::Selected(selected) => Box::new(block.complete(*selected, &context)?),
                Stored::Input(input) => Box::new(block.keep(&input, &context)?),
            };
            block.backward(d_hidden, &kept, &context, gradients)?;
            done(layer)?;
        }
        Ok(())
    }

    /// A cache of `blocks` blocks of 16 tokens.
    pub fn cache(&self, blocks: usize) -> Result<Cache> {
        let layers = (0..self.config.layers).map(|_| self.kernels.cache(blocks, self.config.heads));
        Ok(Cache { layers: layers.collect::<candle_core::Result<_>>()?, blocks })
    }

    /// As `hidden`, writing the keys and values of every row to the cache at `slots`.
    pub fn prefill(&self, packed: &Packed, cache: &Cache, slots: &[u32]) -> Result<Tensor> {
        self.check(packed)?;
        let (context, slots) = (self.context(&packed.segments, &packed.positions)?, self.kernels.indices(slots)?);
        let x = self.embed(&packed.tokens)?;
        for (block, layer) in self.weights.blocks.iter().zip(&cache.layers) {
            block.pass(&x, &context, |qkv| {
                context.rotate_and_store(qkv, layer, &slots)?;
                self.kernels.attend_packed(qkv, &packed.segments, self.config.heads)
            })?;
        }
        Ok(x)
    }

    /// One new token per sequence: `tokens[n]` goes to position `counts[n] - 1`, cached at `slots[n]`; `tables[n]` lists the blocks that
    /// hold the sequence. Gives the residual stream after the last block, `[n, w]`.
    pub fn decode(&self, tokens: &Indices, counts: &[usize], tables: &[&[u32]], slots: &[u32], cache: &Cache) -> Result<Tensor> {
        let longest = counts.iter().copied().max().unwrap_or(0);
        let pass = Decoding { decoder: self, cache, rotary: self.rotary.covering(&self.config, longest)? };
        Ok(self.kernels.run_pass(&Step { tokens, slots, blocks: tables, counts }, &pass)?)
    }

    fn check(&self, packed: &Packed) -> Result<()> {
        let (window, vocabulary) = (self.config.window, self.config.vocabulary);
        if let Some(position) = packed.positions.iter().max() {
            ensure!((*position as usize) < window, "a sequence of {} tokens does not fit the model's window of {window}", position + 1);
        }
        if let Some(token) = packed.tokens.iter().find(|token| **token as usize >= vocabulary) {
            anyhow::bail!("token {token} is beyond the model's vocabulary of {vocabulary}");
        }
        Ok(())
    }
}

impl Cache {
    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Copies whole blocks, `(from, to)`, in every layer.
    pub fn copy_blocks(&self, pairs: &[(u32, u32)], decoder: &Decoder) -> Result<()> {
        self.layers.iter().try_for_each(|layer| Ok(decoder.kernels.copy_blocks(layer, pairs, decoder.config.heads)?))
    }
}
