//! Compares the whole decoder on stock operations and fused kernels with the CPU: scores, gradients, decoding and optimizer steps.

use std::sync::Arc;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};

use super::decoder::ActivationCheckpointing;
use super::head::TokenGradients;
use super::{Decoder, ModelConfig, Packed, Weights, init};
use crate::dist::World;
use crate::kernels::fused::emulated::Emulator;
use crate::kernels::{Cpu, Filter, Fused, Kernels, RowScores, SamplingParams, Stock};
use crate::optim::{AdamW, OptimSettings};

#[cfg(feature = "cuda")]
mod own_kernels;

/// The tensor-core kernels support this head dimension.
const SHAPE: &str = r#"{"model_type": "qwen2", "hidden_size": 128, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "vocab_size": 83, "max_position_embeddings": 96, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
    "tie_word_embeddings": true}"#;
const TEMPERATURE: f32 = 0.6;

fn decoder() -> Result<Decoder> {
    let config = ModelConfig::parse(SHAPE)?;
    let weights = init::random(&config, 3, 0.08)?;
    // Use values that bf16 can represent: the tests compare kernels, not the rounding of weights.
    let weights = weights.map(&config, |tensor| Ok(tensor.to_dtype(DType::BF16)?.to_dtype(DType::F32)?))?;
    Decoder::new(config, weights)
}

/// Packs one prompt with three responses, and one with a single response.
fn packed() -> Packed {
    let tokens = |count: usize, seed: usize| (0..count).map(|i| ((i * 31 + seed * 17 + i * i) % 83) as u32).collect::<Vec<u32>>();
    let (prompt, responses, other) = (tokens(13, 1), [tokens(9, 2), tokens(1, 3), tokens(30, 4)], tokens(21, 5));
    Packed::of_responses([(prompt.as_slice(), responses.iter().map(Vec::as_slice).collect()), (&other[..4], vec![&other[4..]])])
}

/// Returns log-probabilities, entropies, and the gradient of a loss of both.
fn scores_and_gradient(decoder: &Decoder, packed: &Packed) -> Result<(Vec<f32>, Vec<f32>, Weights)> {
    let gradients = Weights::zeros(&decoder.config, decoder.kernels())?;
    let (hidden, saved) = decoder.forward(packed, ActivationCheckpointing::Selective)?;
    let objective = |first: usize, scores: &RowScores| {
        let derivative = |i: usize| if (first + i).is_multiple_of(3) { 1.0 } else { -0.5 };
        let count = scores.logprobs.len();
        TokenGradients { d_logprobs: (0..count).map(derivative).collect(), d_entropies: vec![0.2; count] }
    };
    let (scores, d_hidden) = decoder.head_forward_backward(&hidden, packed, TEMPERATURE, Some(&gradients), objective)?;
    decoder.backward(packed, saved, d_hidden, &gradients)?;
    Ok((scores.logprobs, scores.entropies, gradients))
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(crate::kernels::on_host(tensor)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

/// Returns the distance relative to the norm of the expected values.
fn distance(found: &[f32], expected: &[f32]) -> f64 {
    let sum = |f: &dyn Fn(usize) -> f32| (0..expected.len()).map(|i| f64::from(f(i)).powi(2)).sum::<f64>();
    (sum(&|i| found[i] - expected[i]) / sum(&|i| expected[i]).max(1e-30)).sqrt()
}

/// Returns true if a distance in bf16 is only noise. The bias of a key shifts all attention scores of a query equally, so its gradient is 0
/// except for rounding errors, which Adam turns into steps of full size.
fn is_rounding_noise(name: &str) -> bool {
    name.starts_with("ten steps") && name.ends_with("qkv_bias")
}

/// Returns distances of `kernels` from the CPU, by name: of scores in nats; of gradients, and of the changes in ten optimizer steps,
/// relative to the norm.
fn distances(kernels: Arc<dyn Kernels>) -> Result<Vec<(String, f64)>> {
    let (cpu, packed) = (decoder()?, packed());
    let other = cpu.on(kernels)?;
    check_decoding(&other)?;
    let (expected, expected_entropies, expected_gradient) = scores_and_gradient(&cpu, &packed)?;
    let (logprobs, entropies, gradient) = scores_and_gradient(&other, &packed)?;
    let max_difference = |a: &[f32], b: &[f32]| a.iter().zip(b).fold(0.0, |max, (a, b)| f64::max(max, f64::from((a - b).abs())));
    let mut distances = vec![
        ("log-probabilities".to_owned(), max_difference(&logprobs, &expected)),
        ("entropies".to_owned(), max_difference(&entropies, &expected_entropies)),
    ];
    for ((name, found), (_, expected)) in gradient.entries().iter().zip(expected_gradient.entries()) {
        distances.push((format!("gradient of {name}"), distance(&values(found)?, &values(expected)?)));
    }
    for ((name, found), (_, expected)) in ten_steps(&other, &packed)?.into_iter().zip(ten_steps(&cpu, &packed)?) {
        distances.push((format!("ten steps of {name}"), distance(&found, &expected)));
    }
    Ok(distances)
}

/// Checks kernels in f32. Adam divides each element of a gradient by its size, so rounding errors of small elements count in full, and
/// steps differ more than gradients.
fn check_f32(kernels: Arc<dyn Kernels>) -> Result<()> {
    for (name, distance) in distances(kernels)? {
        let allowed = if name.starts_with("ten steps") { 1e-3 } else { 1e-5 };
        assert!(distance < allowed, "{name}: off by {distance:.1e}");
    }
    Ok(())
}

/// Checks that decoding token by token and scoring compute the same log-probabilities on the same kernels.
fn check_decoding(decoder: &Decoder) -> Result<()> {
    let tokens: Vec<u32> = (0..40u32).map(|i| (i * 7 + 3) % 83).collect();
    let (prompt, rest) = tokens.split_at(9);
    let scored = decoder.score(&Packed::of_responses([(prompt, vec![rest])]), 1.0)?.logprobs;
    let (cache, table) = (decoder.cache(5)?, [3u32, 0, 4]);
    let slot = |t: usize| table[t / 16] * 16 + (t % 16) as u32;
    let mut packed = Packed::new();
    packed.push_segment(prompt, 0, 0..0);
    let mut hidden = decoder.prefill(&packed, &cache, &(0..9).map(slot).collect::<Vec<_>>())?;
    let mut row = 8;
    for (at, token) in rest.iter().enumerate() {
        let scores = decoder.kernels().head_scores_in_place(&decoder.logits(&hidden, &[row])?, &[*token], 1.0)?;
        let gap = (scores.logprobs[0] - scored[at]).abs();
        let allowed = if decoder.kernels().dtype() == DType::F32 { 1e-4 } else { 0.05 };
        assert!(gap < allowed, "token {at}: decoding computes {}, scoring {}", scores.logprobs[0], scored[at]);
        let t = 9 + at;
        hidden = decoder.decode(&decoder.kernels().indices(&[*token])?, &[t + 1], &[&table], &[slot(t)], &cache)?;
        row = 0;
    }
    let params = SamplingParams { temperature: 1.0, filter: Filter::default(), uniforms: &[0.4] };
    let logits = decoder.logits(&hidden, &[0])?;
    let expected = Cpu.sample(crate::kernels::on_host(&logits)?.copy()?, 83, &params)?.read()?;
    assert_eq!(decoder.kernels().sample(logits, 83, &params)?.read()?.tokens, expected.tokens);
    Ok(())
}

/// Returns the change of every tensor in ten optimizer steps.
fn ten_steps(decoder: &Decoder, packed: &Packed) -> Result<Vec<(String, Vec<f32>)>> {
    let decoder = decoder.deep_copy()?;
    let settings = OptimSettings { lr: 1e-3, weight_decay: 0.1, ..OptimSettings::default() };
    let mut optimizer = AdamW::new(settings, decoder.kernels(), &decoder.weights.entries(), World::solo())?;
    assert!(optimizer.states.iter().all(|state| state.master.is_some() == (decoder.kernels().dtype() != DType::F32)));
    let current = |optimizer: &AdamW| -> Result<Vec<(String, Vec<f32>)>> {
        let states = optimizer.states.iter().zip(decoder.weights.entries());
        states.map(|(state, (name, weight))| Ok((name, values(state.master.as_ref().unwrap_or(weight))?))).collect()
    };
    let before = current(&optimizer)?;
    for _ in 0..10 {
        let (_, _, gradients) = scores_and_gradient(&decoder, packed)?;
        optimizer.step(decoder.kernels(), &decoder.weights.entries(), &gradients.entries(), 1e-3)?;
    }
    let change = |((name, after), (_, before)): ((String, Vec<f32>), (String, Vec<f32>))| {
        (name, after.iter().zip(before).map(|(a, b)| a - b).collect())
    };
    Ok(current(&optimizer)?.into_iter().zip(before).map(change).collect())
}

#[test]
fn decoder_on_stock_operations_matches_the_cpu_in_f32() -> Result<()> {
    check_f32(Arc::new(Stock::new(Device::Cpu, DType::F32)))
}

#[test]
fn decoder_on_fused_kernels_matches_the_cpu_in_f32() -> Result<()> {
    let Some(emulator) = Emulator::new() else { return Ok(()) };
    check_f32(Arc::new(Fused::new(Arc::new(emulator), DType::F32)?))
}

#[test]
fn decoder_on_fused_kernels_is_as_accurate_as_on_stock_operations_in_bf16() -> Result<()> {
    let stock = distances(Arc::new(Stock::new(Device::Cpu, DType::BF16)))?;
    for (name, distance) in stock.iter().filter(|(name, _)| !is_rounding_noise(name)) {
        let allowed = if name.starts_with("ten steps") { 0.2 } else { 0.05 };
        assert!(*distance < allowed, "{name}: stock operations are off by {distance:.1e}");
    }
    let Some(emulator) = Emulator::new() else { return Ok(()) };
    check_bf16(Arc::new(Fused::new(Arc::new(emulator), DType::BF16)?), &stock)
}

/// Checks that kernels in bf16 are at most twice as far from the CPU in f32 as stock operations in bf16. Usually they are closer.
fn check_bf16(kernels: Arc<dyn Kernels>, stock: &[(String, f64)]) -> Result<()> {
    for ((name, distance), (_, stock)) in distances(kernels)?.iter().zip(stock).filter(|((name, _), _)| !is_rounding_noise(name)) {
        assert!(*distance < 2.0 * stock, "{name}: off by {distance:.1e}, stock operations by {stock:.1e}");
    }
    Ok(())
}

#[cfg(feature = "cuda")]
#[test]
fn decoder_on_fused_kernels_on_a_gpu_matches_the_cpu() -> Result<()> {
    let Some(gpu) = crate::kernels::tests::gpu() else { return Ok(()) };
    check_f32(Arc::new(Fused::new(gpu.clone(), DType::F32)?))?;
    let stock = distances(Arc::new(Stock::new(Device::Cpu, DType::BF16)))?;
    check_bf16(Arc::new(Fused::new(gpu, DType::BF16)?), &stock)
}
