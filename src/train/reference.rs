//! The reference of the KL term. It is fixed, or a copy of the policy that is refreshed every few steps, or a moving average of the policy.
//! Owns the reference's weights. Knows nothing about their use.

use std::path::Path;

use anyhow::{Context, Result};
use candle_core::{DType, Tensor};

use super::settings::RunSettings;
use crate::checkpoint::state::TrainedParameters;
use crate::model::{Decoder, Lora, Weights, import};
use crate::output::Progress;

/// The file's name in a checkpoint state; its weights are f32.
const FILE: &str = "reference.safetensors";

/// The reference of the KL term.
pub struct Reference {
    /// The reference model; its weights are in host memory if `train.stream_reference` is on.
    pub decoder: Decoder,
    /// The moving average in f32, because bf16 would round its small changes away; `None` without a moving average, or if the decoder's
    /// weights are f32.
    average: Option<Weights>,
}

impl Reference {
    /// Creates the reference of a run: `loaded`, or else the initial policy. With adapters, a fixed reference shares the base
    /// weights. Returns `None` without a KL term.
    ///
    /// # Errors
    /// If the weights cannot be copied.
    pub fn new(settings: &RunSettings, loaded: Option<Decoder>, policy: &Decoder, lora: Option<&Lora>) -> Result<Option<Self>> {
        if !settings.has_reference() {
            return Ok(None);
        }
        let is_fixed = !settings.reference_moves();
        let (decoder, is_base) = match (loaded, lora) {
            (Some(loaded), _) => (loaded, false),
            (None, Some(lora)) if is_fixed => (lora.base.clone(), true),
            (None, _) => (policy.deep_copy()?, false),
        };
        let decoder = if settings.train.stream_reference && !is_base { decoder.offload_to_host()? } else { decoder };
        let rounds = decoder.weights.norm.dtype() != DType::F32 && settings.train.reference_decay > 0.0;
        let average = rounds.then(|| Self::in_f32(&decoder)).transpose()?;
        Ok(Some(Self { decoder, average }))
    }

    /// Converts the weights to f32 on their current device.
    fn in_f32(decoder: &Decoder) -> Result<Weights> {
        let is_on_device = decoder.weights.norm.device().same_device(decoder.kernels().device());
        let wide = |tensor: &Tensor| if is_on_device { decoder.kernels().cast(tensor, DType::F32) } else { tensor.to_dtype(DType::F32) };
        decoder.weights.map(&decoder.config, |tensor| Ok(wide(tensor)?))
    }

    /// Synchronizes the reference with the policy after a step, counted from 1, if `train.reference_every` or `train.reference_decay`
    /// requires it.
    ///
    /// # Errors
    /// If a kernel or a copy fails.
    pub fn follow(&self, settings: &RunSettings, step: u64, policy: &Decoder) -> Result<()> {
        let (every, decay) = (settings.train.reference_every, f64::from(settings.train.reference_decay));
        if every > 0 && step.is_multiple_of(every) {
            self.decoder.weights.set(&policy.weights, policy.kernels())?;
        }
        if decay > 0.0 {
            let kernels = policy.kernels();
            let exact = self.average.as_ref().unwrap_or(&self.decoder.weights);
            for ((_, average), (_, policy)) in exact.entries().into_iter().zip(policy.weights.entries()) {
                kernels.mix_in_place(average, policy, decay)?;
            }
            self.average.as_ref().map_or(Ok(()), |average| self.decoder.weights.set(average, kernels))?;
        }
        Ok(())
    }

    /// Writes the weights to a checkpoint state.
    ///
    /// # Errors
    /// If the weights cannot be copied or the file cannot be written.
    pub fn save(&self, state: &Path) -> Result<()> {
        let weights = self.average.as_ref().unwrap_or(&self.decoder.weights).on_host(&self.decoder.config)?;
        let tensors = weights.entries();
        TrainedParameters::Weights(&self.decoder.config).write(&state.join(FILE), &mut |number| Ok(tensors[number].1.clone()))
    }

    /// Restores the weights that [`save`](Self::save) wrote. Counts the bytes in `shown`.
    ///
    /// # Errors
    /// If the file is missing or does not match the model.
    pub fn load(&self, state: &Path, shown: &Progress) -> Result<()> {
        let weights = import::load_file(&state.join(FILE), &self.decoder.config, shown).context(
            "cannot load the synchronized reference: was train.reference_every or train.reference_decay set when the run started?",
        )?;
        self.average.as_ref().map_or(Ok(()), |average| average.set(&weights, self.decoder.kernels()))?;
        self.decoder.weights.set(&weights, self.decoder.kernels())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ModelConfig, init};

    fn policy(seed: u64) -> Result<Decoder> {
        let config = ModelConfig::parse(
            r#"{"model_type": "qwen2", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
            "vocab_size": 20, "max_position_embeddings": 32, "rms_norm_eps": 1e-6, "rope_theta": 1e4}"#,
        )?;
        let weights = init::random(&config, seed, 0.02)?;
        Decoder::new(config, weights)
    }

    fn embedding(decoder: &Decoder) -> Result<Vec<f32>> {
        Ok(decoder.weights.embedding.flatten_all()?.to_vec1()?)
    }

    fn new_reference(settings: &RunSettings, start: &Decoder) -> Result<Reference> {
        Ok(Reference::new(settings, None, start, None)?.expect("the KL term has a coefficient"))
    }

    #[test]
    fn new_returns_a_reference_only_if_a_kl_coefficient_is_set() -> Result<()> {
        let start = policy(1)?;
        let mut settings = RunSettings::demonstration();
        assert!(Reference::new(&settings, None, &start, None)?.is_some());
        settings.loss.kl = 0.0;
        assert!(Reference::new(&settings, None, &start, None)?.is_none());
        settings.reward.kl = 0.1;
        assert!(Reference::new(&settings, None, &start, None)?.is_some());
        Ok(())
    }

    #[test]
    fn follow_copies_or_averages_the_policy_and_load_restores_the_result() -> Result<()> {
        let (start, later) = (policy(1)?, policy(2)?);
        let mut settings = RunSettings::demonstration();
        settings.train.reference_every = 3;
        let reference = new_reference(&settings, &start)?;
        reference.follow(&settings, 2, &later)?;
        assert_eq!(embedding(&reference.decoder)?, embedding(&start)?);
        reference.follow(&settings, 3, &later)?;
        assert_eq!(embedding(&reference.decoder)?, embedding(&later)?);

        (settings.train.reference_every, settings.train.reference_decay) = (0, 0.75);
        let reference = new_reference(&settings, &start)?;
        reference.follow(&settings, 1, &later)?;
        let mixed = embedding(&reference.decoder)?;
        let expected = embedding(&start)?.into_iter().zip(embedding(&later)?).map(|(a, b)| 0.75 * a + 0.25 * b);
        assert!(mixed.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-7));
        assert_ne!(embedding(&start)?, mixed, "the policy does not change");
        let folder = tempfile::tempdir()?;
        reference.save(folder.path())?;
        let again = new_reference(&settings, &start)?;
        again.load(folder.path(), &Progress::hidden())?;
        assert_eq!(embedding(&again.decoder)?, mixed);
        Ok(())
    }
}
