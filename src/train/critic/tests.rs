use super::*;
use crate::interrupt::Interrupt;
use crate::model::{ModelConfig, init};
use crate::objective::{Baseline, Scale};
use crate::workers::Workers;

/// Eight prompts and responses: four responses of different lengths to each of two prompts.
fn responses() -> Vec<(Vec<u32>, Vec<u32>)> {
    let one = |number: usize| {
        let (prompt, length) = ([vec![5u32, 6, 7], vec![9; 8]][number / 4].clone(), [1, 7, 12, 3][number % 4] + number / 4);
        (prompt, (0..length).map(|i| ((i * 7 + number * 3) % 20) as u32).collect())
    };
    (0..8).map(one).collect()
}

fn settings() -> RunSettings {
    let mut settings = RunSettings::demonstration();
    settings.advantage = AdvantageSettings { baseline: Baseline::Critic, scale: Scale::Batch, gamma: 0.9, lambda: 0.8 };
    settings.critic.lr = 1e-3;
    settings
}

fn policy() -> Result<Decoder> {
    let config = ModelConfig::parse(
        r#"{"model_type": "llama", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 23, "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
        "tie_word_embeddings": false}"#,
    )?;
    let weights = init::random(&config, 3, 0.2)?;
    Decoder::new(config, weights)
}

/// Loss terms, estimates, and gradients by name.
type Pass = (ValueTerms, Vec<Estimate>, Vec<(String, Vec<f32>)>);

/// Computes estimates and gradients of a new critic on `workers` workers, with at most `tokens` tokens per micro-batch.
fn pass(tokens: usize, workers: usize, known: Option<&[Estimate]>) -> Result<Pass> {
    let settings = settings();
    let policy = policy()?;
    let (workers, responses, interrupt) = (Workers::new(workers)?, responses(), Interrupt::default());
    let critic = Critic::new(&settings, &policy, workers.count(), World::solo())?;
    let packing = Packing {
        workers: &workers,
        micro_batch_tokens: tokens,
        checkpointing: settings.train.activation_checkpointing,
        interrupt: &interrupt,
        progress: None,
        shards: None,
    };
    let sequences: Vec<Sequence> = responses.iter().map(|(prompt, response)| Sequence { prompt, response, mask: None }).collect();
    // Every second response has a reward of 1 at its last token.
    let reward = |(number, sequence): (usize, &Sequence)| {
        let mut rewards = vec![0.0; sequence.response.len()];
        rewards[sequence.response.len() - 1] = (number % 2) as f32;
        rewards
    };
    let rewards: Vec<Vec<f32>> = sequences.iter().enumerate().map(reward).collect();
    let (terms, found) = critic.gradient(&packing, &settings, &sequences, &rewards, known)?;
    let values: Vec<Vec<f32>> = found.iter().map(|estimate| estimate.values.clone()).collect();
    if known.is_none() {
        assert_eq!(critic.values(&packing, &sequences)?, values, "training and scoring passes compute the same values");
        assert_eq!(estimates(&settings.advantage, &rewards, &values), found);
    }
    let gradients = critic.gradients().entries().into_iter().map(|(name, tensor)| Ok((name, tensor.flatten_all()?.to_vec1()?)));
    Ok((terms, found, gradients.collect::<Result<_>>()?))
}

#[test]
fn gradient_does_not_depend_on_packing_beyond_rounding() -> Result<()> {
    let (terms, estimates, whole) = pass(100_000, 1, None)?;
    assert_eq!(terms.tokens, 50.0);
    for (tokens, workers) in [(1, 1), (20, 2), (100_000, 3)] {
        let (other, same, gradients) = pass(tokens, workers, None)?;
        assert_eq!(same, estimates, "{tokens} tokens, {workers} workers");
        assert!((other.loss - terms.loss).abs() < 1e-9, "{} against {}", other.loss, terms.loss);
        for ((name, a), (_, b)) in whole.iter().zip(&gradients) {
            let largest = a.iter().fold(0.0f32, |m, x| m.max(x.abs()));
            assert!(largest > 0.0 && a.iter().zip(b).all(|(x, y)| (x - y).abs() < 1e-4 * largest), "{name}");
        }
    }
    Ok(())
}

#[test]
fn gradient_returns_known_estimates_and_clips_distant_values() -> Result<()> {
    let (_, fresh, _) = pass(4096, 2, None)?;
    // Old values far below and returns far above: clipping moves each value away from its return, so the clipped loss is the larger one.
    let moved = |estimate: &Estimate| {
        let by = |values: &[f32], by: f32| values.iter().map(|value| value + by).collect();
        Estimate { values: by(&estimate.values, -3.0), advantages: estimate.advantages.clone(), returns: by(&estimate.values, 9.0) }
    };
    let known: Vec<Estimate> = fresh.iter().map(moved).collect();
    let (terms, found, gradients) = pass(4096, 2, Some(&known))?;
    assert_eq!(found, known);
    assert_eq!(terms.per_token(terms.clipped), 1.0);
    // 0.5 (9 + 3 - 0.5)^2
    assert!((terms.loss - 0.5 * 11.5f64.powi(2)).abs() < 1e-3, "{}", terms.loss);
    assert!(gradients.iter().all(|(_, values)| values.iter().all(|value| *value == 0.0)));
    Ok(())
}
