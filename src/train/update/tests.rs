//! Every algorithm's gradient is independent of the token budget and the number of workers, except for rounding.

use anyhow::Result;

use super::{Packing, Sample, Sequence, Updater};
use crate::config;
use crate::flow::{Completion, FinishReason};
use crate::interrupt::Interrupt;
use crate::model::{Decoder, Gradients, ModelConfig, init};
use crate::train::RunSettings;
use crate::train::algorithm::{self, ALGORITHMS};
use crate::workers::Workers;

const SHAPE: &str = r#"{"model_type": "qwen2", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "vocab_size": 20, "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 1e4}"#;

fn decoder(seed: u64) -> Result<Decoder> {
    let config = ModelConfig::parse(SHAPE)?;
    let weights = init::random(&config, seed, 0.3)?;
    Decoder::new(config, weights)
}

/// Prompts and responses: four responses of 1 to 12 tokens to each of `prompts` prompts.
fn responses(prompts: usize) -> Vec<(Vec<u32>, Completion)> {
    let tokens = |count: usize, seed: usize| (0..count).map(|i| ((i * 7 + seed * 5 + i * i) % 20) as u32).collect::<Vec<u32>>();
    let one = |index: usize| {
        let (group, ids) = (index / 4, tokens(1 + index * 5 % 12, index + 1));
        let completion = Completion { logprobs: vec![-1.0; ids.len()], ids, finish: FinishReason::Stop, masked: None };
        (tokens(3 + 2 * group, group + 40), completion)
    };
    (0..4 * prompts).map(one).collect()
}

/// Creates samples with old log-probabilities on both sides of every clip, and with advantages of both signs that differ from token to
/// token.
fn samples<'a>(updater: &Updater, responses: &'a [(Vec<u32>, Completion)]) -> Result<Vec<Sample<'a>>> {
    let bare: Vec<Sample> = responses.iter().map(|(prompt, completion)| Sample::of(prompt, completion)).collect();
    let sequences: Vec<Sequence> = bare.iter().map(|sample| sample.sequence).collect();
    let logprobs = updater.logprobs(&sequences)?;
    let sample = |(number, (bare, logprobs)): (usize, (Sample<'a>, Vec<f32>))| {
        let shift = |t: usize| ((number * 3 + t * 5) % 7) as f32 * 0.2 - 0.6;
        let old = logprobs.iter().enumerate().map(|(t, logprob)| logprob + shift(t)).collect();
        let advantages = (0..logprobs.len()).map(|t| if number % 2 == 0 { 1.0 } else { -0.7 } + t as f32 * 0.05).collect();
        Sample { advantages, old: Some(old), ..bare }
    };
    Ok(bare.into_iter().zip(logprobs).enumerate().map(sample).collect())
}

fn gradient(settings: &RunSettings, workers: usize, prompts: usize) -> Result<Vec<(String, Vec<f32>)>> {
    let (policy, reference, workers, interrupt) = (decoder(1)?, decoder(2)?, Workers::new(workers)?, Interrupt::default());
    let (micro_batch_tokens, checkpointing) = (settings.train.micro_batch_tokens, settings.train.activation_checkpointing);
    let packing = Packing { workers: &workers, micro_batch_tokens, checkpointing, interrupt: &interrupt, progress: None, shards: None };
    let updater = Updater { settings, packing, policy: &policy, reference: Some(&reference) };
    let responses = responses(prompts);
    let gradients = (0..workers.count()).map(|_| Gradients::zeros(&policy, None)).collect::<Result<Vec<_>>>()?;
    let samples = samples(&updater, &responses)?;
    updater.gradient(&samples, updater.loss_reference(&samples)?.as_deref(), &gradients)?;
    gradients[0].entries().into_iter().map(|(name, tensor)| Ok((name, tensor.flatten_all()?.to_vec1()?))).collect()
}

/// Returns the norm of the difference relative to the norm of the expected values.
fn distance(found: &[f32], expected: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    norm(&mut found.iter().zip(expected).map(|(f, e)| f - e)) / norm(&mut expected.iter().copied())
}

#[test]
fn gradient_of_every_algorithm_does_not_depend_on_packing() -> Result<()> {
    for algorithm in ALGORITHMS {
        let set = config::parse_override(&format!("algo={}", algorithm.name))?;
        let mut settings = algorithm::resolve(&RunSettings::demonstration(), &[set])?;
        for prompts in [1, 3] {
            settings.train.micro_batch_tokens = 1 << 20;
            let whole = gradient(&settings, 1, prompts)?;
            // A budget of 20 tokens splits 12 responses into several micro-batches; a budget of 1 gives each its own.
            for (budget, workers) in [(20, 1), (1, 1), (20, 2)] {
                settings.train.micro_batch_tokens = budget;
                for ((name, expected), (_, found)) in whole.iter().zip(gradient(&settings, workers, prompts)?) {
                    assert!(expected.iter().any(|value| *value != 0.0), "{}: {name} has no gradient", algorithm.name);
                    let off = distance(&found, expected);
                    assert!(
                        off <= 1e-4,
                        "{}, {prompts} prompts, {budget} tokens, {workers} workers: {name} is off by {off:.1e}",
                        algorithm.name
                    );
                }
            }
        }
    }
    Ok(())
}
