//! Compares the decoder with independent implementations: candle-transformers' Qwen2 and Llama on the same weights, and finite differences
//! through the whole model.

use std::collections::HashMap;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use rlvr::flow::SamplingMask;
use rlvr::kernels::{Cpu, RowScores, cpu};
use rlvr::model::decoder::ActivationCheckpointing;
use rlvr::model::export::{self, WeightDtype};
use rlvr::model::head::TokenGradients;
use rlvr::model::{Decoder, ModelConfig, Packed, Weights, import, init};
use rlvr::output::Progress;

const LLAMA3: &str = r#""rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 16}"#;

fn config(family: &str, tied: bool, rope: &str) -> String {
    format!(
        r#"{{"model_type": "{family}", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 61, "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "hidden_act": "silu",
        "max_window_layers": 3, "sliding_window": 64, "use_sliding_window": false, "tie_word_embeddings": {tied}, {rope}}}"#
    )
}

/// Returns a decoder with random weights, biases and norms that are large enough for every term to matter.
fn decoder(text: &str) -> Result<Decoder> {
    let config = ModelConfig::parse(text)?;
    let weights = init::random(&config, 3, 0.2)?;
    for (index, (name, tensor)) in weights.entries().into_iter().enumerate() {
        if name.ends_with("norm") || name.ends_with("bias") {
            let noise = Tensor::from_vec(
                (0..tensor.elem_count()).map(|i| ((i * 7 + index * 3) % 11) as f32 * 0.05).collect::<Vec<_>>(),
                tensor.shape(),
                &Device::Cpu,
            )?;
            cpu::update(tensor, [&noise], |t, [n]| t.iter_mut().zip(n).for_each(|(t, n)| *t += n))?;
        }
    }
    Decoder::new(config, weights)
}

fn bytes(weights: &Weights, config: &ModelConfig) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    export::to_writer(&mut bytes, weights, config, WeightDtype::F32)?;
    Ok(bytes)
}

fn tensors(decoder: &Decoder) -> Result<HashMap<String, Tensor>> {
    let bytes = self::bytes(&decoder.weights, &decoder.config)?;
    Ok(candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)?)
}

const TOKENS: [u32; 23] = [5, 17, 3, 60, 0, 9, 9, 33, 21, 1, 2, 44, 58, 12, 7, 31, 30, 29, 8, 4, 6, 50, 11];

fn our_logits(decoder: &Decoder) -> Result<Vec<f32>> {
    let mut packed = Packed::new();
    packed.push_segment(&[1, 2, 3], 0, 0..0);
    packed.push_segment(&TOKENS, 0, 0..0);
    let hidden = decoder.hidden(&packed)?;
    Ok(decoder.logits(&hidden, &[packed.len() as u32 - 1])?.flatten_all()?.to_vec1()?)
}

fn compare(ours: &[f32], theirs: &Tensor) -> Result<()> {
    let theirs: Vec<f32> = theirs.flatten_all()?.to_vec1()?;
    assert_eq!(ours.len(), theirs.len());
    let largest = theirs.iter().fold(0.0f32, |a, x| a.max(x.abs()));
    let difference = ours.iter().zip(&theirs).fold(0.0f32, |a, (x, y)| a.max((x - y).abs()));
    assert!(largest > 0.1 && difference < 1e-4 * largest, "logits up to {largest} differ by {difference}");
    Ok(())
}

#[test]
fn decoder_matches_candle_transformers_qwen2() -> Result<()> {
    for tied in [true, false] {
        let text = config("qwen2", tied, r#""rope_theta": 10000.0"#);
        let decoder = decoder(&text)?;
        let vb = VarBuilder::from_tensors(tensors(&decoder)?, DType::F32, &Device::Cpu);
        let mut theirs = candle_transformers::models::qwen2::ModelForCausalLM::new(&serde_json::from_str(&text)?, vb)?;
        compare(&our_logits(&decoder)?, &theirs.forward(&Tensor::new(&TOKENS, &Device::Cpu)?.unsqueeze(0)?, 0)?)?;
    }
    Ok(())
}

#[test]
fn decoder_matches_candle_transformers_llama() -> Result<()> {
    use candle_transformers::models::llama::{Cache, Llama, LlamaConfig};
    for (tied, rope) in [(true, LLAMA3), (false, r#""rope_theta": 10000.0"#)] {
        let text = config("llama", tied, rope);
        let decoder = decoder(&text)?;
        let vb = VarBuilder::from_tensors(tensors(&decoder)?, DType::F32, &Device::Cpu);
        let config = serde_json::from_str::<LlamaConfig>(&text)?.into_config(false);
        let theirs = Llama::load(vb, &config)?;
        let mut cache = Cache::new(false, DType::F32, &config, &Device::Cpu)?;
        compare(&our_logits(&decoder)?, &theirs.forward(&Tensor::new(&TOKENS, &Device::Cpu)?.unsqueeze(0)?, 0, &mut cache)?)?;
    }
    Ok(())
}

/// Returns the derivatives of `loss`: the weights of each token's log-probability and entropy.
fn derivatives(first: usize, scores: &RowScores) -> TokenGradients {
    let each = |f: fn(usize) -> f32| (first..first + scores.logprobs.len()).map(f).collect();
    TokenGradients { d_logprobs: each(|j| 0.3 - (j % 5) as f32 * 0.2), d_entropies: each(|j| 0.1 * (j % 3) as f32) }
}

fn loss(decoder: &Decoder, packed: &Packed) -> Result<f64> {
    let scores = decoder.score(packed, 0.7)?;
    let rows = RowScores { logprobs: scores.logprobs, entropies: scores.entropies, log_sum_exp: Vec::new() };
    let weights = derivatives(0, &rows);
    let terms = rows.logprobs.iter().zip(&weights.d_logprobs).chain(rows.entropies.iter().zip(&weights.d_entropies));
    Ok(terms.map(|(x, w)| f64::from(*x) * f64::from(*w)).sum())
}

fn gradients(decoder: &Decoder, packed: &Packed, checkpointing: ActivationCheckpointing) -> Result<Weights> {
    let gradients = Weights::zeros(&decoder.config, &Cpu)?;
    let (hidden, saved) = decoder.forward(packed, checkpointing)?;
    let (scores, d_hidden) = decoder.head_forward_backward(&hidden, packed, 0.7, Some(&gradients), derivatives)?;
    assert_eq!(scores, decoder.score(packed, 0.7)?, "head_forward_backward and score agree");
    decoder.backward(packed, saved, d_hidden, &gradients)?;
    Ok(gradients)
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn batch() -> Packed {
    let prompts: [&[u32]; 2] = [&[5, 17, 3, 60, 0], &[9; 19]];
    Packed::of_responses([(prompts[0], vec![&[1, 2, 3][..], &[7], &[8; 20]]), (prompts[1], vec![&[4, 5][..], &[6; 5]])])
}

/// Adds sampling masks to a batch: every third position keeps the whole vocabulary, the others only some ids around the target.
fn with_sampling_masks(batch: Packed) -> Packed {
    let mut mask = SamplingMask::default();
    for (position, target) in batch.targets.iter().enumerate() {
        match position as u32 % 3 {
            0 => mask.push_whole(),
            reach => mask.push(target.saturating_sub(reach * 2)..target + 3),
        }
    }
    Packed { mask, ..batch }
}

#[test]
fn backward_matches_finite_differences_through_the_whole_model() -> Result<()> {
    let unscaled = r#""rope_theta": 10000.0"#;
    let runs =
        [("qwen2", true, unscaled, batch()), ("llama", false, LLAMA3, batch()), ("llama", false, LLAMA3, with_sampling_masks(batch()))];
    for (family, tied, rope, packed) in runs {
        let decoder = decoder(&config(family, tied, rope))?;
        let gradients = gradients(&decoder, &packed, ActivationCheckpointing::None)?;
        for ((name, tensor), (_, gradient)) in decoder.weights.entries().into_iter().zip(gradients.entries()) {
            let gradient = values(gradient);
            let largest = gradient.iter().fold(0.0f32, |a, g| a.max(g.abs()));
            assert!(largest > 0.0 && gradient.iter().all(|g| g.is_finite()), "{name} must get a finite, non-zero gradient");
            // Test the element with the largest gradient, and a few fixed ones.
            let steepest = gradient.iter().position(|g| g.abs() == largest).unwrap();
            for i in [steepest, 0, gradient.len() / 2, gradient.len() - 1] {
                let at = |h: f32| -> Result<f64> {
                    cpu::update(tensor, [], |t, []| t[i] += h)?;
                    let loss = loss(&decoder, &packed);
                    cpu::update(tensor, [], |t, []| t[i] -= h)?;
                    loss
                };
                let h = 1e-2;
                let numeric = (8.0 * (at(h)? - at(-h)?) - (at(2.0 * h)? - at(-2.0 * h)?)) / f64::from(12.0 * h);
                let error = (numeric - f64::from(gradient[i])).abs();
                assert!(
                    error < 2e-3 * f64::from(largest) + 5e-4,
                    "{family} {name}[{i}]: gradient {}, finite difference {numeric}",
                    gradient[i]
                );
            }
        }
    }
    Ok(())
}

#[test]
fn activation_checkpointing_changes_no_bit() -> Result<()> {
    let decoder = decoder(&config("qwen2", true, r#""rope_theta": 10000.0"#))?;
    let saved = gradients(&decoder, &batch(), ActivationCheckpointing::None)?;
    for checkpointing in [ActivationCheckpointing::Selective, ActivationCheckpointing::Full] {
        let recomputed = gradients(&decoder, &batch(), checkpointing)?;
        for ((name, a), (_, b)) in saved.entries().into_iter().zip(recomputed.entries()) {
            assert_eq!(values(a), values(b), "{name}, {checkpointing:?}");
        }
    }
    Ok(())
}

#[test]
fn packed_shared_prompt_has_the_gradients_of_separate_prompts() -> Result<()> {
    let decoder = decoder(&config("qwen2", true, r#""rope_theta": 10000.0"#))?;
    let (prompt, responses): (&[u32], [&[u32]; 3]) = (&[5, 17, 3, 60, 0], [&[1, 2, 3], &[7], &[8; 20]]);
    let shared = Packed::of_responses([(prompt, responses.to_vec())]);
    let separate = Packed::of_responses(responses.map(|response| (prompt, vec![response])));
    assert_eq!(decoder.score(&shared, 0.7)?, decoder.score(&separate, 0.7)?, "scores are bit-identical");
    let (a, b) =
        (gradients(&decoder, &shared, ActivationCheckpointing::None)?, gradients(&decoder, &separate, ActivationCheckpointing::None)?);
    for ((name, a), (_, b)) in a.entries().into_iter().zip(b.entries()) {
        let (a, b) = (values(a), values(b));
        let largest = a.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        assert!(a.iter().zip(&b).all(|(x, y)| (x - y).abs() < 1e-4 * largest), "{name}");
    }
    Ok(())
}

#[test]
fn decode_from_the_cache_matches_packed_logits_bit_for_bit() -> Result<()> {
    let decoder = decoder(&config("qwen2", false, r#""rope_theta": 10000.0"#))?;
    let mut packed = Packed::new();
    packed.push_segment(&TOKENS, 0, 0..0);
    let hidden = decoder.hidden(&packed)?;
    let expected = decoder.logits(&hidden, &(0..23).collect::<Vec<_>>())?;
    let (cache, table) = (decoder.cache(4)?, [2u32, 0]);
    let slot = |t: usize| table[t / 16] * 16 + (t % 16) as u32;
    let mut prompt = Packed::new();
    prompt.push_segment(&TOKENS[..10], 0, 0..0);
    decoder.prefill(&prompt, &cache, &(0..10).map(slot).collect::<Vec<_>>())?;
    for t in 10..23 {
        let hidden = decoder.decode(&decoder.kernels().indices(&TOKENS[t..=t])?, &[t + 1], &[&table], &[slot(t)], &cache)?;
        assert_eq!(values(&decoder.logits(&hidden, &[0])?), values(&expected.get(t)?), "token {t}");
    }
    Ok(())
}

#[test]
fn import_load_reads_what_export_wrote() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let decoder = decoder(&config("qwen2", false, r#""rope_theta": 10000.0"#))?;
    let bytes = self::bytes(&decoder.weights, &decoder.config)?;
    std::fs::write(folder.path().join("model.safetensors"), &bytes)?;
    let again = import::load(folder.path(), &decoder.config, &Progress::hidden())?;
    assert_eq!(self::bytes(&again, &decoder.config)?, bytes);

    std::fs::write(folder.path().join("model.safetensors"), &bytes[..bytes.len() - 5])?;
    let message = import::load(folder.path(), &decoder.config, &Progress::hidden()).unwrap_err().to_string();
    assert!(message.contains("is truncated"), "{message}");
    let other = ModelConfig::parse(&config("qwen2", false, r#""rope_theta": 10000.0"#).replace("48", "40"))?;
    std::fs::write(folder.path().join("model.safetensors"), &bytes)?;
    let message = import::load(folder.path(), &other, &Progress::hidden()).unwrap_err().to_string();
    assert!(message.contains("mlp.gate_proj.weight") && message.contains("[48, 32]") && message.contains("[40, 32]"), "{message}");
    Ok(())
}
