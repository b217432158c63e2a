use std::sync::Arc;

use super::*;
use crate::flow::{Completion, Finish, Problem, Prompt, Rollout};
use crate::interrupt::Interrupt;
use crate::lanes::Lanes;
use crate::model::{ModelConfig, initial};

/// Responses of several lengths to two prompts, with rewards of both kinds.
fn scored() -> Vec<Scored> {
    let one = |number: usize| {
        let (prompt, length) = ([vec![5u32, 6, 7], vec![9; 8]][number / 4].clone(), [1, 7, 12, 3][number % 4] + number / 4);
        let ids: Vec<u32> = (0..length).map(|i| ((i * 7 + number * 3) % 20) as u32).collect();
        let completion = Completion { logprobs: vec![-1.0; length], ids, finish: Finish::Stop, truncated: None };
        let prompt = Prompt { problem: Arc::new(Problem::default()), text: String::new(), ids: prompt.into() };
        let rollout = Rollout { group: number / 4, sample: number % 4, prompt, completion, text: String::new() };
        Scored { rollout, reward: (number % 2) as f32, rewards: Default::default(), correct: number % 2 == 1, boxed: true }
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
    let weights = initial::random(&config, 3, 0.2)?;
    Decoder::new(config, weights)
}

/// Terms, estimates and gradients by name.
type Pass = (ValueTerms, Vec<Estimate>, Vec<(String, Vec<f32>)>);

/// Values and gradients of a fresh critic, where micro-batches have so many tokens and are dealt to so many lanes.
fn pass(tokens: usize, lanes: usize, known: Option<&[Estimate]>) -> Result<Pass> {
    let mut settings = settings();
    settings.train.micro_batch_tokens = tokens;
    let policy = policy()?;
    let (lanes, scored) = (Lanes::new(lanes)?, scored());
    let critic = Critic::new(&settings, &policy, lanes.count())?;
    let updater = Updater { settings: &settings, lanes: &lanes, policy: &policy, reference: None, interrupt: &Interrupt::default() };
    let samples: Vec<Sample> = scored.iter().map(|scored| Sample { scored, advantages: Vec::new(), old: None }).collect();
    let (terms, found) = critic.gradient(&updater, &samples, &token_rewards(&scored, None), known)?;
    let values: Vec<Vec<f32>> = found.iter().map(|estimate| estimate.values.clone()).collect();
    if known.is_none() {
        assert_eq!(critic.values(&updater, &samples)?, values, "the pass that learns gives the values of the one that does not");
        assert_eq!(estimates(&settings.advantage, &token_rewards(&scored, None), &values), found);
    }
    let gradients = critic.gradients().entries().into_iter().map(|(name, tensor)| Ok((name, tensor.flatten_all()?.to_vec1()?)));
    Ok((terms, found, gradients.collect::<Result<_>>()?))
}

#[test]
fn packing_changes_no_value_and_gradients_by_rounding_only() -> Result<()> {
    let (terms, estimates, whole) = pass(100_000, 1, None)?;
    assert_eq!(terms.tokens, 50.0);
    for (tokens, lanes) in [(1, 1), (20, 2), (100_000, 3)] {
        let (other, same, gradients) = pass(tokens, lanes, None)?;
        assert_eq!(same, estimates, "{tokens} tokens, {lanes} lanes");
        assert!((other.loss - terms.loss).abs() < 1e-9, "{} against {}", other.loss, terms.loss);
        for ((name, a), (_, b)) in whole.iter().zip(&gradients) {
            let largest = a.iter().fold(0.0f32, |m, x| m.max(x.abs()));
            assert!(largest > 0.0 && a.iter().zip(b).all(|(x, y)| (x - y).abs() < 1e-4 * largest), "{name}");
        }
    }
    Ok(())
}

#[test]
fn known_estimates_stand_and_clip_what_has_moved_away() -> Result<()> {
    let (_, fresh, _) = pass(4096, 2, None)?;
    // Old values far below, returns far above: each clipped value is farther from its return than the value itself.
    let moved = |estimate: &Estimate| {
        let by = |values: &[f32], by: f32| values.iter().map(|value| value + by).collect();
        Estimate { values: by(&estimate.values, -3.0), advantages: estimate.advantages.clone(), returns: by(&estimate.values, 9.0) }
    };
    let known: Vec<Estimate> = fresh.iter().map(moved).collect();
    let (terms, given, gradients) = pass(4096, 2, Some(&known))?;
    assert_eq!(given, known);
    assert_eq!(terms.per_token(terms.clipped), 1.0);
    // 0.5 (9 + 3 - 0.5)^2
    assert!((terms.loss - 0.5 * 11.5f64.powi(2)).abs() < 1e-3, "{}", terms.loss);
    assert!(gradients.iter().all(|(_, values)| values.iter().all(|value| *value == 0.0)));
    Ok(())
}

#[test]
fn a_reward_comes_with_the_last_token() {
    let rewards = token_rewards(&scored(), None);
    assert_eq!(rewards[1], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    assert_eq!((rewards[0].as_slice(), rewards.len()), (&[0.0][..], 8));
    let besides: Vec<Vec<f32>> = rewards.iter().map(|rewards| vec![-0.25; rewards.len()]).collect();
    assert_eq!(token_rewards(&scored(), Some(&besides))[1], [-0.25, -0.25, -0.25, -0.25, -0.25, -0.25, 0.75]);
}

#[test]
fn advantages_are_whitened_where_the_settings_say_so() {
    let of = |advantages: &[f32]| Estimate { advantages: advantages.to_vec(), ..Estimate::default() };
    let estimates = [of(&[1.0, 3.0]), of(&[5.0])];
    let mut settings = settings().advantage;
    let found = advantages(&settings, &estimates).concat();
    assert!(found.iter().zip([-1.0f32, 0.0, 1.0]).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}");
    settings.scale = Scale::None;
    assert_eq!(advantages(&settings, &estimates), [vec![1.0, 3.0], vec![5.0]]);
}

#[test]
fn contradictions_are_refused_with_what_to_set() {
    let check = |change: fn(&mut RunSettings), expected: &str| {
        let mut settings = settings();
        change(&mut settings);
        let message = settings.validate().map_or_else(|error| error.to_string(), |()| String::new());
        assert!(message.contains(expected) && message.is_empty() == expected.is_empty(), "{message}");
    };
    check(|_| (), "");
    check(|s| s.critic.lr = 0.0, "critic.lr is 0: set it");
    check(|s| s.critic.lr = -1.0, "critic.lr is -1");
    check(|s| s.advantage.scale = Scale::Group, "set it to batch or none");
    check(|s| s.advantage.baseline = Baseline::Group, "no critic is used: set advantage.baseline=critic, or critic.lr=0");
    check(|s| s.critic.warmup_steps = 300, "the policy would never learn");
    check(|s| s.advantage.lambda = 1.5, "advantage.lambda is 1.5");
    check(|s| s.critic.clip = -0.5, "critic.clip is -0.5");
    check(|s| (s.advantage, s.critic.lr, s.critic.warmup_steps) = (AdvantageSettings::default(), 0.0, 3), "critic.warmup_steps is 3");
}
