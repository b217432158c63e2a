//! Compares the critic with PyTorch: values, advantages, returns, the clipped value loss, and the gradients of critic and policy, on
//! recorded rollouts (`scripts/golden/make_critic.py` writes `tests/golden-critic` and records the versions).

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use candle_core::{Device, Tensor};
use rlvr::config;
use rlvr::dist::World;
use rlvr::flow::ScoredRollout;
use rlvr::interrupt::Interrupt;
use rlvr::model::export::{self, WeightDtype};
use rlvr::model::{Decoder, Gradients, ModelConfig, Weights, import};
use rlvr::objective::{Estimate, ResponseRewards, advantages};
use rlvr::output::Progress;
use rlvr::train::critic::{self, Critic};
use rlvr::train::update::{Packing, Sample, Sequence, Updater};
use rlvr::train::{Replay, RunSettings, algorithm};
use rlvr::workers::Workers;
use serde_json::Value;

use crate::fixture::{json, repository};

/// The largest distance, relative to the norm of each tensor.
const TOLERANCE: f64 = 1e-4;

fn path(part: &str) -> PathBuf {
    repository("tests").join(part)
}

fn tensors(part: &str) -> BTreeMap<String, Tensor> {
    candle_core::safetensors::load(path(part), &Device::Cpu).unwrap().into_iter().collect()
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn assert_close(label: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{label}");
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let size = norm(&mut expected.iter().map(|x| f64::from(*x)));
    assert!(size > 0.0, "{label} is expected to be 0");
    let distance = norm(&mut found.iter().zip(expected).map(|(f, e)| f64::from(f - e))) / size;
    assert!(distance <= TOLERANCE, "{label} is off by {distance:.1e} of its norm");
}

/// Compares gradients with the expected ones by the names of the checkpoint's tensors.
fn assert_gradients_close(label: &str, weights: &Weights, config: &ModelConfig, mut expected: BTreeMap<String, Tensor>) -> Result<()> {
    let mut bytes = Vec::new();
    export::to_writer(&mut bytes, weights, config, WeightDtype::F32)?;
    for (name, found) in candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)? {
        let expected = expected.remove(&name).unwrap_or_else(|| panic!("{label}: {name} is not expected"));
        assert_close(&format!("{label}, {name}"), &numbers(&found), &numbers(&expected));
    }
    assert!(expected.is_empty(), "{label}: {:?} were not found", expected.keys());
    Ok(())
}

/// Splits a flat per-token slice by response.
fn split(flat: &[f32], scored: &[ScoredRollout]) -> Vec<Vec<f32>> {
    let mut rest = flat;
    let mut take = |length| {
        let (response, after) = rest.split_at(length);
        rest = after;
        response.to_vec()
    };
    scored.iter().map(|scored| take(scored.rollout.completion.ids.len())).collect()
}

fn decoder(name: &str, part: &str) -> Result<Decoder> {
    let folder = path("golden").join(name).join(part);
    let config = ModelConfig::parse(&std::fs::read_to_string(folder.join("config.json"))?)?;
    let weights = import::load(&folder, &config, &Progress::hidden())?;
    Decoder::new(config, weights)
}

fn check(name: &str, case: &str, numbers_of_case: &Value, clip: f32) -> Result<()> {
    let (policy, reference) = (decoder(name, "policy")?, decoder(name, "reference")?);
    let config = policy.config.clone();
    // The PPO preset, with numbers from the case.
    let mut settings = algorithm::resolve(&RunSettings::published(), &[config::parse_override("algo=ppo")?])?;
    let number = |key: &str| numbers_of_case[key].as_f64().unwrap() as f32;
    (settings.advantage.gamma, settings.advantage.lambda) = (number("gamma"), number("lambda"));
    (settings.reward.kl, settings.loss.entropy, settings.critic.clip) = (number("kl"), number("entropy"), clip);
    settings.rollout.temperature = 1.0;
    // Use several micro-batches and two workers.
    settings.train.micro_batch_tokens = 64;
    settings.validate()?;

    let workers = Workers::new(2)?;
    let mut critic = Critic::new(&settings, &policy, workers.count(), World::solo())?;
    let inputs = tensors(&format!("golden-critic/{name}/inputs.safetensors"));
    (critic.model.weight, critic.model.bias) = (inputs["weight"].clone(), inputs["bias"].clone());
    let scored = Replay::read(&path("golden").join(name).join("rollouts.jsonl"))?.step(1).to_vec();
    let completions = || scored.iter().map(|scored| (&scored.rollout.prompt.ids, &scored.rollout.completion));
    let mut samples: Vec<Sample> = completions()
        .map(|(prompt, completion)| Sample { old: Some(completion.logprobs.clone()), ..Sample::of(prompt, completion) })
        .collect();
    let sequences: Vec<Sequence> = samples.iter().map(|sample| sample.sequence).collect();
    let interrupt = Interrupt::default();
    let (micro_batch_tokens, checkpointing) = (settings.train.micro_batch_tokens, settings.train.activation_checkpointing);
    let packing = Packing { workers: &workers, micro_batch_tokens, checkpointing, interrupt: &interrupt, progress: None, shards: None };
    let updater = Updater { settings: &settings, packing, policy: &policy, reference: Some(&reference) };
    let label = format!("{name}, {case}");
    assert_close(&format!("{label}, values"), &critic.values(&packing, &sequences)?.concat(), &numbers(&inputs["values"]));

    let expected = tensors(&format!("golden-critic/{name}/{case}-estimates.safetensors"));
    let old: Vec<Vec<f32>> = scored.iter().map(|scored| scored.rollout.completion.logprobs.clone()).collect();
    let penalties = settings.reward.kl_estimator.penalties(settings.reward.kl, &old, &updater.reference_logprobs(&sequences)?);
    let responses: Vec<ResponseRewards> =
        scored.iter().zip(&penalties).map(|(scored, tokens)| ResponseRewards { outcome: scored.reward, tokens }).collect();
    let rewards: Vec<Vec<f32>> = responses.iter().map(ResponseRewards::by_token).collect();
    let estimates = critic::estimates(&settings.advantage, &rewards, &split(&numbers(&inputs["old_values"]), &scored));
    let flat = |of: fn(&Estimate) -> &Vec<f32>| estimates.iter().flat_map(|one| of(one).clone()).collect::<Vec<f32>>();
    assert_close(&format!("{label}, advantages"), &flat(|one| &one.advantages), &numbers(&expected["advantages"]));
    assert_close(&format!("{label}, returns"), &flat(|one| &one.returns), &numbers(&expected["returns"]));
    let advantages = advantages(&settings.advantage, settings.rollout.group_size, &responses, Some(&estimates));
    assert_close(&format!("{label}, whitened"), &advantages.concat(), &numbers(&expected["whitened"]));

    let (terms, _) = critic.gradient(&packing, &settings, &sequences, &rewards, Some(&estimates))?;
    assert!(terms.clipped > 0.0 && terms.clipped < terms.tokens);
    assert_close(&format!("{label}, value loss"), &[terms.loss as f32], &numbers(&expected["loss"]));
    let mut expected = tensors(&format!("golden-critic/{name}/{case}-critic.safetensors"));
    for (name, found) in [("value.weight", &critic.gradients().weight), ("value.bias", &critic.gradients().bias)] {
        assert_close(&format!("{label}, {name}"), &numbers(found), &numbers(&expected.remove(name).unwrap()));
    }
    assert_gradients_close(&label, &critic.gradients().body, &critic.model.body.config, expected)?;

    samples.iter_mut().zip(advantages).for_each(|(sample, advantages)| sample.advantages = advantages);
    let gradients = [Gradients::zeros(&policy, None)?, Gradients::zeros(&policy, None)?];
    updater.gradient(&samples, updater.loss_reference(&samples)?.as_deref(), &gradients)?;
    let Gradients::Weights(weights) = &gradients[0] else { panic!("all weights are trained") };
    assert_gradients_close(
        &format!("{label}, policy"),
        weights,
        &config,
        tensors(&format!("golden-critic/{name}/{case}-policy.safetensors")),
    )
}

#[test]
fn critic_and_policy_gradients_match_pytorch() {
    let cases: Value = json(&path("golden-critic/cases.json"));
    for name in ["qwen2-tied", "qwen2-untied", "llama"] {
        for (case, settings) in cases["cases"].as_object().unwrap() {
            check(name, case, settings, cases["clip"].as_f64().unwrap() as f32).unwrap();
        }
    }
}
