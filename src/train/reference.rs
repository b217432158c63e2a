//! The model that a KL term holds to, and how it follows the policy: not at all, by being set to it every so many steps, or as a moving
//! average of it. Owns its weights; must never know what is computed with them.

use std::path::Path;

use anyhow::{Context, Result};
use candle_core::{DType, Tensor};

use super::settings::RunSettings;
use crate::checkpoint::state::Trained;
use crate::model::{Decoder, Lora, Weights, import};

/// A file of the state that a run resumes from, in f32.
const FILE: &str = "reference.safetensors";

/// The reference.
pub struct Reference {
    /// What scores; its weights lie in the host's memory where the run streams them.
    pub decoder: Decoder,
    /// A moving average in f32, where the decoder's dtype would round its small moves away.
    average: Option<Weights>,
}

impl Reference {
    /// The reference of a run that has one: the given model, else the policy as it starts. Under adapters that is their base, which is
    /// there in any case, as long as the reference stays as it is.
    pub fn new(settings: &RunSettings, given: Option<Decoder>, policy: &Decoder, lora: Option<&Lora>) -> Result<Option<Self>> {
        if !settings.has_reference() {
            return Ok(None);
        }
        let stays = !settings.reference_moves();
        let (decoder, is_base) = match (given, lora) {
            (Some(given), _) => (given, false),
            (None, Some(lora)) if stays => (lora.base.clone(), true),
            (None, _) => (policy.deep_copy()?, false),
        };
        let decoder = if settings.train.stream_reference && !is_base { decoder.in_host_memory()? } else { decoder };
        let rounds = decoder.weights.norm.dtype() != DType::F32 && settings.train.reference_decay > 0.0;
        let average = rounds.then(|| Self::in_f32(&decoder)).transpose()?;
        Ok(Some(Self { decoder, average }))
    }

    /// The weights in f32, on their own device.
    fn in_f32(decoder: &Decoder) -> Result<Weights> {
        let is_here = decoder.weights.norm.device().same_device(decoder.kernels().device());
        let wide = |tensor: &Tensor| if is_here { decoder.kernels().cast(tensor, DType::F32) } else { tensor.to_dtype(DType::F32) };
        decoder.weights.map(&decoder.config, |tensor| Ok(wide(tensor)?))
    }

    /// Follows the policy after a step (from 1), as the settings say.
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

    /// Writes its weights into a state's folder.
    pub fn save(&self, state: &Path) -> Result<()> {
        let weights = self.average.as_ref().unwrap_or(&self.decoder.weights).on_host(&self.decoder.config)?;
        let tensors: Vec<_> = weights.entries().into_iter().map(|(_, tensor)| Some(tensor)).collect();
        Trained::Weights(&self.decoder.config).write(&state.join(FILE), &tensors)
    }

    /// Reads what `save` wrote.
    pub fn load(&self, state: &Path) -> Result<()> {
        let weights = import::load_file(&state.join(FILE), &self.decoder.config).context(
            "the reference that moves is not there; were train.reference_every or train.reference_decay set when the run began?",
        )?;
        self.average.as_ref().map_or(Ok(()), |average| average.set(&weights, self.decoder.kernels()))?;
        self.decoder.weights.set(&weights, self.decoder.kernels())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ModelConfig, initial};

    fn policy(seed: u64) -> Result<Decoder> {
        let config = ModelConfig::parse(
            r#"{"model_type": "qwen2", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
            "vocab_size": 20, "max_position_embeddings": 32, "rms_norm_eps": 1e-6, "rope_theta": 1e4}"#,
        )?;
        let weights = initial::random(&config, seed, 0.02)?;
        Decoder::new(config, weights)
    }

    fn embedding(decoder: &Decoder) -> Result<Vec<f32>> {
        Ok(decoder.weights.embedding.flatten_all()?.to_vec1()?)
    }

    fn follower(settings: &RunSettings, start: &Decoder) -> Result<Reference> {
        Ok(Reference::new(settings, None, start, None)?.expect("the KL term has a coefficient"))
    }

    #[test]
    fn a_reference_is_held_only_where_a_coefficient_asks_for_it() -> Result<()> {
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
    fn it_is_set_to_the_policy_or_moves_towards_it_and_comes_back_from_disk() -> Result<()> {
        let (start, later) = (policy(1)?, policy(2)?);
        let mut settings = RunSettings::demonstration();
        settings.train.reference_every = 3;
        let reference = follower(&settings, &start)?;
        reference.follow(&settings, 2, &later)?;
        assert_eq!(embedding(&reference.decoder)?, embedding(&start)?);
        reference.follow(&settings, 3, &later)?;
        assert_eq!(embedding(&reference.decoder)?, embedding(&later)?);

        (settings.train.reference_every, settings.train.reference_decay) = (0, 0.75);
        let reference = follower(&settings, &start)?;
        reference.follow(&settings, 1, &later)?;
        let mixed = embedding(&reference.decoder)?;
        let expected = embedding(&start)?.into_iter().zip(embedding(&later)?).map(|(a, b)| 0.75 * a + 0.25 * b);
        assert!(mixed.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-7));
        assert_ne!(embedding(&start)?, mixed, "the policy's own weights are not touched");
        let folder = tempfile::tempdir()?;
        reference.save(folder.path())?;
        let again = follower(&settings, &start)?;
        again.load(folder.path())?;
        assert_eq!(embedding(&again.decoder)?, mixed);
        Ok(())
    }
}
