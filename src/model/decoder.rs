//! The decoder: forward and backward passes over packed batches for training, scoring and prefill, and decoding over the key/value cache.
//!
//! Axis legend: t = token, n = sequence, w = hidden width.

use std::sync::Arc;

use anyhow::{Result, ensure};
use candle_core::Tensor;

use super::block::{BlockContext, SavedActivations, SelectedActivations, recomputed_bytes, selected_bytes};
use super::config::ModelConfig;
use super::packed::Packed;
use super::parameters::{Parameter, Role};
use super::rotary::RotaryTables;
use super::weights::{BlockWeights, Weights};
use crate::kernels::pass::Step;
use crate::kernels::{BLOCK, Cpu, Indices, Kernels, LayerCache, Segment, Target};
use crate::output::Progress;
use crate::workers::Workers;

mod decoding;

use decoding::Decoding;

/// Activation checkpointing: which activations the forward pass saves, and which ones the backward pass recomputes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActivationCheckpointing {
    /// The caller chooses by the available memory. [`Decoder::forward`] treats it as `None`.
    Auto,
    /// Saves only the input of each block and runs the block again in the backward pass: 8 instead of 6 FLOP per parameter and token.
    Full,
    /// Saves the outputs of matrix products and attention, and recomputes norms and SwiGLU.
    Selective,
    /// Saves all activations and recomputes nothing.
    None,
}

/// A model: configuration, weights, rotary tables, and the kernels that compute it.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// The model's shape and constants.
    pub config: ModelConfig,
    /// The weights. Clones of the decoder share them.
    pub weights: Weights,
    kernels: Arc<dyn Kernels>,
    rotary: RotaryTables,
}

/// The activations that [`Decoder::forward`] saved, block by block.
pub struct Activations {
    blocks: Vec<SavedBlock>,
}

enum SavedBlock {
    All(Box<SavedActivations>),
    Selected(Box<SelectedActivations>),
    Input(Tensor),
}

/// The key/value cache of all layers.
#[derive(Clone, Debug)]
pub struct Cache {
    layers: Vec<LayerCache>,
    blocks: usize,
}

/// Returns the peak bytes per token of activations in a training step: those that the forward pass saves, and those of the one block that
/// the backward pass recomputes at a time.
pub fn activation_bytes(config: &ModelConfig, target: &Target, checkpointing: ActivationCheckpointing) -> usize {
    let (selected, recomputed) = (selected_bytes(config, target), recomputed_bytes(config, target));
    match checkpointing {
        ActivationCheckpointing::Full => config.layers * config.hidden * target.element_bytes + selected + recomputed,
        ActivationCheckpointing::Selective => config.layers * selected + recomputed,
        ActivationCheckpointing::Auto | ActivationCheckpointing::None => config.layers * (selected + recomputed),
    }
}

impl Cache {
    /// Returns the bytes of one cache block, summed over all layers.
    pub fn block_bytes(config: &ModelConfig, target: &Target) -> usize {
        config.layers * 2 * config.heads.key_value * config.heads.width * BLOCK * target.element_bytes
    }
}

impl Decoder {
    /// Creates a decoder on the CPU from a configuration and its weights.
    ///
    /// # Errors
    /// If the rotary tables cannot be created.
    pub fn new(config: ModelConfig, weights: Weights) -> Result<Self> {
        let rotary = RotaryTables::new(&config, Cpu.device())?;
        Ok(Self { config, weights, kernels: Arc::new(Cpu), rotary })
    }

    /// Returns the same model on other kernels, with weights converted to their device and dtype.
    ///
    /// # Errors
    /// If a tensor cannot be copied or converted, for example because the device is out of memory.
    pub fn on(&self, kernels: Arc<dyn Kernels>) -> Result<Self> {
        let weights = self.weights.map(&self.config, |tensor| Ok(kernels.cast(tensor, kernels.dtype())?))?;
        let rotary = RotaryTables::new(&self.config, kernels.device())?;
        Ok(Self { config: self.config.clone(), weights, kernels, rotary })
    }

    /// Returns the kernels that compute the model.
    pub fn kernels(&self) -> &dyn Kernels {
        &*self.kernels
    }

    /// Returns a shared handle to the kernels, for a wrapper to own.
    pub fn shared_kernels(&self) -> Arc<dyn Kernels> {
        self.kernels.clone()
    }

    /// Returns a decoder with its own copy of the weights.
    ///
    /// # Errors
    /// If the device has no memory for the copy.
    pub fn deep_copy(&self) -> Result<Self> {
        Ok(self.with(self.weights.map(&self.config, |tensor| Ok(tensor.copy()?))?))
    }

    /// Returns the same model with other weights.
    pub(super) fn with(&self, weights: Weights) -> Self {
        Self { weights, ..self.clone() }
    }

    /// Returns the same model with its own copy of the projections. The copy shares all other weights.
    ///
    /// # Errors
    /// If the device has no memory for the copy.
    pub fn with_copied_projections(&self) -> Result<Self> {
        let own = |row: &Parameter, tensor: &Tensor| if row.role == Role::Projection { Ok(tensor.copy()?) } else { Ok(tensor.clone()) };
        Ok(self.with(self.weights.map_rows(&self.config, own)?))
    }

    fn context<'a>(&'a self, segments: &'a [Segment], positions: &'a [u32]) -> Result<BlockContext<'a>> {
        let longest = positions.iter().max().map_or(0, |last| *last as usize + 1);
        let rotary = self.rotary.covering(&self.config, longest)?;
        let positions = self.kernels.indices(positions)?;
        Ok(BlockContext { kernels: &*self.kernels, segments, positions, heads: self.config.heads, norm_eps: self.config.norm_eps, rotary })
    }

    /// Looks up token embeddings `[t, w]`, the input of the first block.
    fn embed(&self, tokens: &[u32]) -> Result<Tensor> {
        Ok(self.kernels.gather(&self.weights.embedding, &self.kernels.indices(tokens)?)?)
    }

    /// Returns the properties of device and dtype that determine memory use, including the memory that is free now.
    pub fn target(&self) -> Target {
        Target::of(self.kernels())
    }

    /// Returns the default number of workers: 1 on a GPU, [`Workers::default_count`] on the CPU.
    pub fn default_workers(&self) -> usize {
        if self.kernels.device().is_cpu() { Workers::default_count(self.config.parameter_count()) } else { 1 }
    }

    /// Computes the residual stream after the last block, `[t, w]`, and saves no activations.
    ///
    /// # Errors
    /// If a token is outside the vocabulary, a sequence exceeds the context length, or a kernel fails.
    pub fn hidden(&self, packed: &Packed) -> Result<Tensor> {
        self.check(packed)?;
        let context = self.context(&packed.segments, &packed.positions)?;
        let x = self.embed(&packed.tokens)?;
        self.weights.blocks.iter().try_for_each(|block| block.forward_in_place(&x, &context, |qkv| context.attend_packed(qkv)))?;
        Ok(x)
    }

    /// Computes the residual stream after the last block, `[t, w]`, of each batch, with blocks in host memory. Copies each block to the
    /// device once for all batches. `self` has the embedding, final norm and head on the device. `progress` counts each batch in each block.
    pub(super) fn hidden_streamed(&self, blocks: &[BlockWeights], batches: &[Packed], progress: &Progress) -> Result<Vec<Tensor>> {
        let streams = batches.iter().map(|batch| self.check(batch).and_then(|()| self.embed(&batch.tokens))).collect::<Result<Vec<_>>>()?;
        for block in blocks {
            let block = block.map(|tensor| tensor.to_device(self.kernels.device()))?;
            for (batch, x) in batches.iter().zip(&streams) {
                let context = self.context(&batch.segments, &batch.positions)?;
                block.forward_in_place(x, &context, |qkv| context.attend_packed(qkv))?;
                progress.add();
            }
        }
        Ok(streams)
    }

    /// Computes the same as [`Decoder::hidden`] and saves activations for [`Decoder::backward`].
    ///
    /// # Errors
    /// If a token is outside the vocabulary, a sequence exceeds the context length, or a kernel fails.
    pub fn forward(&self, packed: &Packed, checkpointing: ActivationCheckpointing) -> Result<(Tensor, Activations)> {
        self.check(packed)?;
        let context = self.context(&packed.segments, &packed.positions)?;
        let mut x = self.embed(&packed.tokens)?;
        let mut blocks = Vec::with_capacity(self.weights.blocks.len());
        for block in &self.weights.blocks {
            let (y, saved) = block.forward(&x, &context)?;
            blocks.push(match checkpointing {
                ActivationCheckpointing::Full => SavedBlock::Input(x),
                ActivationCheckpointing::Selective => SavedBlock::Selected(Box::new(saved.select())),
                ActivationCheckpointing::Auto | ActivationCheckpointing::None => SavedBlock::All(Box::new(saved)),
            });
            x = y;
        }
        Ok((x, Activations { blocks }))
    }

    /// Adds the gradients of embedding and blocks to `gradients`. `d_hidden [t, w]` is the gradient of the residual stream after the last
    /// block and is overwritten.
    ///
    /// # Errors
    /// If a kernel fails, for example because the device is out of memory.
    pub fn backward(&self, packed: &Packed, saved: Activations, d_hidden: Tensor, gradients: &Weights) -> Result<()> {
        self.backward_blocks(packed, saved, &d_hidden, &gradients.blocks, |_| Ok(()))?;
        Ok(self.kernels.scatter_add_into(&gradients.embedding, &packed.tokens, &d_hidden)?)
    }

    /// Runs [`Decoder::backward`] through the blocks, from the last to the first. Turns `d_hidden [t, w]` into the gradient of the first
    /// block's input, in place, and calls `done(layer)` after each block. If `done` uses and clears the gradients of its block, all
    /// elements of `gradients` may share the same tensors.
    ///
    /// # Errors
    /// If a kernel or `done` fails.
    pub fn backward_blocks(
        &self,
        packed: &Packed,
        saved: Activations,
        d_hidden: &Tensor,
        gradients: &[BlockWeights],
        mut done: impl FnMut(usize) -> Result<()>,
    ) -> Result<()> {
        let context = self.context(&packed.segments, &packed.positions)?;
        let layers = self.weights.blocks.iter().zip(saved.blocks).zip(gradients).enumerate();
        for (layer, ((block, saved), gradients)) in layers.rev() {
            let saved = match saved {
                SavedBlock::All(saved) => saved,
                SavedBlock::Selected(selected) => Box::new(block.recompute(*selected, &context)?),
                SavedBlock::Input(input) => Box::new(block.save_activations(&input, &context)?),
            };
            block.backward(d_hidden, &saved, &context, gradients)?;
            done(layer)?;
        }
        Ok(())
    }

    /// Allocates a cache of `blocks` blocks of 16 tokens.
    ///
    /// # Errors
    /// If the device has no memory for it ([`OutOfMemory`](crate::kernels::OutOfMemory)).
    pub fn cache(&self, blocks: usize) -> Result<Cache> {
        let layers = (0..self.config.layers).map(|_| self.kernels.cache(blocks, self.config.heads));
        Ok(Cache { layers: layers.collect::<candle_core::Result<_>>()?, blocks })
    }

    /// Computes the same as [`Decoder::hidden`] and writes the keys and values of each row to the cache at `slots [t]`.
    ///
    /// # Errors
    /// If a token is outside the vocabulary, a sequence exceeds the context length, or a kernel fails.
    pub fn prefill(&self, packed: &Packed, cache: &Cache, slots: &[u32]) -> Result<Tensor> {
        self.check(packed)?;
        let (context, slots) = (self.context(&packed.segments, &packed.positions)?, self.kernels.indices(slots)?);
        let x = self.embed(&packed.tokens)?;
        for (block, layer) in self.weights.blocks.iter().zip(&cache.layers) {
            block.forward_in_place(&x, &context, |qkv| {
                context.rotate_and_store(qkv, layer, &slots)?;
                self.kernels.attend_packed(qkv, &packed.segments, self.config.heads)
            })?;
        }
        Ok(x)
    }

    /// Computes one new token per sequence. For sequence `i`, `tokens[i]` is at position `counts[i] - 1`, its keys and values are cached at
    /// `slots[i]`, and `tables[i]` lists the cache blocks of the sequence. Returns the residual stream after the last block, `[n, w]`.
    ///
    /// # Errors
    /// If a kernel fails, for example because the device is out of memory.
    pub fn decode(&self, tokens: &Indices, counts: &[usize], tables: &[&[u32]], slots: &[u32], cache: &Cache) -> Result<Tensor> {
        let longest = counts.iter().copied().max().unwrap_or(0);
        let pass = Decoding { decoder: self, cache, rotary: self.rotary.covering(&self.config, longest)? };
        Ok(self.kernels.run_pass(&Step { tokens, slots, blocks: tables, counts }, &pass)?)
    }

    fn check(&self, packed: &Packed) -> Result<()> {
        let (context_length, vocabulary) = (self.config.context_length, self.config.vocabulary);
        if let Some(position) = packed.positions.iter().max() {
            ensure!(
                (*position as usize) < context_length,
                "a sequence of {} tokens exceeds the model's context length of {context_length}",
                position + 1
            );
        }
        if let Some(token) = packed.tokens.iter().find(|token| **token as usize >= vocabulary) {
            anyhow::bail!("token {token} is beyond the model's vocabulary of {vocabulary}");
        }
        Ok(())
    }
}

impl Cache {
    /// Returns the number of cache blocks.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Copies cache blocks in every layer. `pairs` has block numbers, `(from, to)`.
    ///
    /// # Errors
    /// If a kernel fails.
    pub fn copy_blocks(&self, pairs: &[(u32, u32)], decoder: &Decoder) -> Result<()> {
        self.layers.iter().try_for_each(|layer| Ok(decoder.kernels.copy_blocks(layer, pairs, decoder.config.heads)?))
    }
}
