//! Pre-trains the embedded base model from scratch, with the same decoder and optimizer as reinforcement learning.
//!
//! The documents of the first phase are mostly careful, and those of the second follow the mixture, because the model must learn the steps
//! before they become rare. The loss is divided by a constant, not by the number of tokens in the batch, because a mean over tokens would
//! give less weight to the tokens of batches with long (careful) documents.

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokenizers::Tokenizer;

use super::corpus::Corpus;
use super::mixture::Mixture;
use super::tokenizer;
use crate::checkpoint::Model;
use crate::dist::World;
use crate::kernels::{Cpu, RowScores};
use crate::model::decoder::ActivationCheckpointing;
use crate::model::head::TokenGradients;
use crate::model::{Decoder, ModelConfig, Packed, Weights, init};
use crate::optim::{AdamW, OptimSettings, Schedule};
use crate::workers::Workers;

/// The settings of pre-training, as `rlvr pretrain --config FILE` reads them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PretrainSettings {
    /// The seed of the initial weights and the corpus.
    pub seed: u64,
    /// The number of optimizer steps.
    pub steps: u64,
    /// The number of documents per step.
    pub batch: usize,
    /// The share of the steps, from the start, that read mostly careful documents.
    pub careful_phase: f64,
    /// The share of careful documents in that phase.
    pub careful_share: f64,
    /// The weight of a prompt token in the loss; a response token has weight 1.
    pub prompt_weight: f32,
    /// The loss is the weighted sum over a batch, divided by this many tokens per document.
    pub tokens_per_document: f32,
    /// The number of worker threads, each with its own micro-batch. Determines the order in which gradients are summed.
    pub workers: usize,
    /// The model's shape.
    pub shape: Shape,
    /// The optimizer's settings.
    pub optim: OptimSettings,
    /// The composition of the corpus.
    pub mixture: Mixture,
}

/// The shape of the embedded model, which has Qwen2's architecture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shape {
    /// The width of the residual stream (`hidden_size`).
    pub hidden: usize,
    /// The number of blocks.
    pub layers: usize,
    /// The number of query heads.
    pub heads: usize,
    /// The number of key/value heads.
    pub key_value_heads: usize,
    /// The width of the feed-forward layer (`intermediate_size`).
    pub feed_forward: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Self { hidden: 64, layers: 4, heads: 4, key_value_heads: 2, feed_forward: 192 }
    }
}

impl Default for PretrainSettings {
    fn default() -> Self {
        let optim = OptimSettings {
            lr: 6e-3,
            warmup_steps: 100,
            schedule: Schedule::Linear,
            beta2: 0.98,
            weight_decay: 0.05,
            ..OptimSettings::default()
        };
        Self {
            seed: 0,
            steps: 4200,
            batch: 64,
            careful_phase: 0.62,
            careful_share: 0.9,
            prompt_weight: 0.1,
            tokens_per_document: 40.0,
            workers: 2,
            shape: Shape::default(),
            optim,
            mixture: Mixture::default(),
        }
    }
}

/// A pre-training run.
pub struct Pretraining {
    settings: PretrainSettings,
    tokenizer: Tokenizer,
    /// The corpus of the first phase.
    careful: Corpus,
    /// The corpus of the second phase.
    mixed: Corpus,
    decoder: Decoder,
    optimizer: AdamW,
    workers: Workers,
    /// The gradients of each worker.
    gradients: Vec<Weights>,
    /// The number of completed steps.
    step: u64,
}

impl Pretraining {
    /// Trains the tokenizer and initializes the weights at random.
    ///
    /// # Errors
    /// If a setting is out of range, or `shape.hidden` is not a multiple of `shape.heads`.
    pub fn new(settings: PretrainSettings) -> Result<Self> {
        settings.mixture.validate()?;
        ensure!(
            settings.batch > 0 && settings.steps > 0,
            "batch is {} and steps is {}; both must be at least 1",
            settings.batch,
            settings.steps
        );
        let tokenizer = tokenizer::train(&settings.mixture)?;
        let config = ModelConfig::parse(&config_json(&settings.shape, &tokenizer)?)?;
        let weights = init::random(&config, settings.seed, 0.02)?;
        let workers = Workers::new(settings.workers.max(1))?;
        let decoder = Decoder::new(config.clone(), weights)?;
        let gradients = (0..workers.count()).map(|_| Weights::zeros(&config, &Cpu)).collect::<Result<_>>()?;
        Ok(Self {
            careful: Corpus::new(settings.mixture.with_careful_share(settings.careful_share), settings.seed),
            mixed: Corpus::new(settings.mixture.clone(), settings.seed),
            optimizer: AdamW::new(settings.optim.clone(), decoder.kernels(), &decoder.weights.entries(), World::solo())?,
            decoder,
            tokenizer,
            workers,
            gradients,
            settings,
            step: 0,
        })
    }

    /// Runs one optimizer step on the next `batch` documents. Returns the mean loss per response token, in nats.
    ///
    /// # Errors
    /// If the computation fails, for example for lack of memory.
    pub fn step(&mut self) -> Result<f64> {
        let settings = &self.settings;
        let in_careful_phase = self.step < (settings.steps as f64 * settings.careful_phase) as u64;
        let corpus = if in_careful_phase { &self.careful } else { &self.mixed };
        let first = self.step * settings.batch as u64;
        let scale = 1.0 / (settings.batch as f32 * settings.tokens_per_document);
        let workers = self.workers.count() as u64;
        let sums = self.workers.run(|worker| {
            let documents = (first + worker as u64..first + settings.batch as u64).step_by(workers as usize);
            let documents = documents.map(|index| tokenizer::encode(&self.tokenizer, &corpus.document(index)));
            let batch = Batch::of(documents.collect::<Result<Vec<_>>>()?, settings.prompt_weight);
            batch.accumulate(&self.decoder, &self.gradients[worker], scale)
        })?;
        for other in &self.gradients[1..] {
            self.gradients[0].add(other, &Cpu)?;
        }
        self.step += 1;
        let lr = settings.optim.learning_rate(self.step, settings.steps);
        self.optimizer.step(self.decoder.kernels(), &self.decoder.weights.entries(), &self.gradients[0].entries(), lr)?;
        self.gradients.iter().try_for_each(|gradients| gradients.clear(&Cpu))?;
        let (loss, tokens) =
            sums.into_iter().fold((0.0, 0), |(loss, tokens), (other_loss, other_tokens)| (loss + other_loss, tokens + other_tokens));
        Ok(loss / tokens as f64)
    }

    /// Returns the model in its current state.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// Returns the trained model, named `name`, with its tokenizer and configuration files.
    ///
    /// # Errors
    /// If the tokenizer's files cannot be created.
    pub fn into_model(self, name: &str) -> Result<Model> {
        let companions = tokenizer::files(&self.tokenizer)?.map(|(file, text)| (file.to_owned(), text.into_bytes()));
        Model::from_parts(name, self.decoder, companions.into())
    }

    /// Returns the tokenizer, which was trained on the corpus.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }
}

/// Packed documents, with a loss weight for each predicted token.
struct Batch {
    packed: Packed,
    weights: Vec<f32>,
    is_response: Vec<bool>,
}

impl Batch {
    fn of(documents: Vec<tokenizer::Encoded>, prompt_weight: f32) -> Self {
        let mut batch = Self { packed: Packed::new(), weights: Vec::new(), is_response: Vec::new() };
        for tokenizer::Encoded { prompt, response } in documents {
            let tokens = [prompt.as_slice(), &response].concat();
            let rows = batch.packed.push_segment(&tokens[..tokens.len() - 1], 0, 0..0);
            batch.packed.rows.extend(rows.map(|row| row as u32));
            batch.packed.targets.extend_from_slice(&tokens[1..]);
            batch.packed.offsets.push(batch.packed.targets.len());
            let responses = (1..tokens.len()).map(|i| i >= prompt.len());
            batch.weights.extend(responses.clone().map(|is_response| if is_response { 1.0 } else { prompt_weight }));
            batch.is_response.extend(responses);
        }
        batch
    }

    /// Adds the gradient of the weighted cross-entropy, times `scale`, to `gradients`. Returns the unweighted sum of the losses of the
    /// response tokens, in nats, and their number.
    fn accumulate(&self, decoder: &Decoder, gradients: &Weights, scale: f32) -> Result<(f64, usize)> {
        let (hidden, trace) = decoder.forward(&self.packed, ActivationCheckpointing::None)?;
        let derivatives = |first: usize, scores: &RowScores| {
            let weights = &self.weights[first..first + scores.logprobs.len()];
            TokenGradients { d_logprobs: weights.iter().map(|w| -w * scale).collect(), d_entropies: vec![0.0; weights.len()] }
        };
        let (scores, d_hidden) = decoder.head_forward_backward(&hidden, &self.packed, 1.0, Some(gradients), derivatives)?;
        decoder.backward(&self.packed, trace, d_hidden, gradients)?;
        let responses = scores.logprobs.iter().zip(&self.is_response).filter(|(_, is_response)| **is_response);
        Ok(responses.fold((0.0, 0), |(sum, count), (logprob, _)| (sum - f64::from(*logprob), count + 1)))
    }
}

/// Returns the `config.json` of a model with this shape, in the format that transformers uses for Qwen2.
///
/// # Errors
/// If `hidden` is not a multiple of `heads`, or the tokenizer has no end token.
pub fn config_json(shape: &Shape, tokenizer: &Tokenizer) -> Result<String> {
    let end = tokenizer.token_to_id(tokenizer::END_TOKEN).context("the tokenizer has no end token")?;
    ensure!(
        shape.heads > 0 && shape.hidden.is_multiple_of(shape.heads),
        "shape.hidden is {}; it must be a multiple of shape.heads ({})",
        shape.hidden,
        shape.heads
    );
    let config = json!({
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.key_value_heads,
        "max_position_embeddings": tokenizer::CONTEXT_LENGTH,
        "max_window_layers": shape.layers,
        "use_sliding_window": false,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": true,
        "torch_dtype": "bfloat16",
        "vocab_size": tokenizer.get_vocab_size(true),
        "bos_token_id": end,
        "eos_token_id": end,
        "initializer_range": 0.02,
        "attention_dropout": 0.0,
        "use_cache": true,
    });
    Ok(serde_json::to_string_pretty(&config)?)
}
