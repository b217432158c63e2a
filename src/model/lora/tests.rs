use std::sync::Arc;

use candle_core::Device;

use super::*;
use crate::dist::World;
use crate::kernels::fused::emulated::Emulator;
use crate::kernels::{Fused, Kernels, RowScores, Stock, cpu};
use crate::model::decoder::ActivationCheckpointing;
use crate::model::gradients::{Gradients, parameters};
use crate::model::head::TokenGradients;
use crate::model::init;
use crate::model::parameters::block;
use crate::optim::{AdamW, OptimSettings};

const TEMPERATURE: f32 = 0.7;

/// The tensor-core kernels support this head dimension.
fn decoder(tied: bool) -> Result<Decoder> {
    let config = ModelConfig::parse(&format!(
        r#"{{"model_type": "qwen2", "hidden_size": 128, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "vocab_size": 61, "max_position_embeddings": 96, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
        "tie_word_embeddings": {tied}}}"#
    ))?;
    let weights = init::random(&config, 3, 0.1)?;
    // Use values that bf16 can represent: the tests compare kernels, not the rounding of weights.
    let weights = weights.map(&config, |tensor| Ok(tensor.to_dtype(DType::BF16)?.to_dtype(DType::F32)?))?;
    Decoder::new(config, weights)
}

fn projections(config: &ModelConfig) -> Vec<&'static str> {
    block(config, 0).iter().filter(|row| row.role == Role::Projection).map(|row| row.field).collect()
}

/// Creates adapters that change the decoder's results.
fn nonzero_lora(decoder: &Decoder, rank: usize) -> Result<Lora> {
    let lora = Lora::new(LoraSettings { rank, alpha: 0.0 }, decoder, 5)?;
    for (index, adapter) in lora.adapters.iter().enumerate() {
        let values = (0..adapter.b.elem_count()).map(|i| ((i * 7 + index * 3) % 11) as f32 * 0.01 - 0.05).collect();
        adapter.b.slice_set(&cpu::tensor(values, adapter.b.shape())?.to_device(adapter.b.device())?, 0, 0)?;
    }
    lora.merge(decoder)?;
    Ok(lora)
}

/// Packs one prompt with three responses, and one with a single response.
fn packed() -> Packed {
    let tokens = |count: usize, seed: usize| (0..count).map(|i| ((i * 31 + seed * 17 + i * i) % 61) as u32).collect::<Vec<u32>>();
    let (prompt, responses, other) = (tokens(13, 1), [tokens(9, 2), tokens(1, 3), tokens(30, 4)], tokens(21, 5));
    Packed::of_responses([(prompt.as_slice(), responses.iter().map(Vec::as_slice).collect()), (&other[..4], vec![&other[4..]])])
}

/// Returns the derivatives of `loss`: the weights of each token's log-probability and entropy.
fn derivatives(first: usize, scores: &RowScores) -> TokenGradients {
    let each = |f: fn(usize) -> f32| (first..first + scores.logprobs.len()).map(f).collect();
    TokenGradients { d_logprobs: each(|j| 0.3 - (j % 5) as f32 * 0.2), d_entropies: each(|j| 0.1 * (j % 3) as f32) }
}

fn loss(decoder: &Decoder, packed: &Packed) -> Result<f64> {
    let scores = decoder.score(packed, TEMPERATURE)?;
    let rows = RowScores { logprobs: scores.logprobs, entropies: scores.entropies, log_sum_exp: Vec::new() };
    let weights = derivatives(0, &rows);
    let terms = rows.logprobs.iter().zip(&weights.d_logprobs).chain(rows.entropies.iter().zip(&weights.d_entropies));
    Ok(terms.map(|(x, w)| f64::from(*x) * f64::from(*w)).sum())
}

/// Computes the gradient of `loss`.
fn gradients(decoder: &Decoder, lora: Option<&Lora>, checkpointing: ActivationCheckpointing) -> Result<Gradients> {
    let (gradients, packed) = (Gradients::zeros(decoder, lora)?, packed());
    let (hidden, saved) = decoder.forward(&packed, checkpointing)?;
    let (_, d_hidden) = decoder.head_forward_backward(&hidden, &packed, TEMPERATURE, gradients.of_head(), derivatives)?;
    gradients.backward(decoder, &packed, saved, d_hidden)?;
    Ok(gradients)
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(crate::kernels::on_host(tensor)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

/// Returns the distance relative to the norm of the expected values.
fn distance(found: &Tensor, expected: &Tensor) -> Result<f64> {
    let (found, expected) = (values(found)?, values(expected)?);
    let sum = |f: &dyn Fn(usize) -> f32| (0..expected.len()).map(|i| f64::from(f(i)).powi(2)).sum::<f64>();
    Ok((sum(&|i| found[i] - expected[i]) / sum(&|i| expected[i]).max(1e-30)).sqrt())
}

#[test]
fn backward_matches_finite_differences_through_the_whole_model() -> Result<()> {
    for (tied, checkpointing) in [(true, ActivationCheckpointing::None), (false, ActivationCheckpointing::Full)] {
        let decoder = decoder(tied)?;
        let (lora, packed) = (nonzero_lora(&decoder, 4)?, packed());
        let gradients = gradients(&decoder, Some(&lora), checkpointing)?;
        for ((name, tensor), (_, gradient)) in lora.adapters.entries().into_iter().zip(gradients.entries()) {
            let gradient = values(gradient)?;
            let largest = gradient.iter().fold(0.0f32, |a, g| a.max(g.abs()));
            assert!(largest > 0.0 && gradient.iter().all(|g| g.is_finite()), "{name} must get a finite, non-zero gradient");
            let steepest = gradient.iter().position(|g| g.abs() == largest).unwrap_or_default();
            for i in [steepest, 0, gradient.len() / 2, gradient.len() - 1] {
                let at = |h: f32| {
                    cpu::update(tensor, [], |t, []| t[i] += h)?;
                    lora.merge(&decoder)?;
                    let loss = loss(&decoder, &packed);
                    cpu::update(tensor, [], |t, []| t[i] -= h)?;
                    loss
                };
                let h = 2e-3;
                let numeric = (at(h)? - at(-h)?) / f64::from(2.0 * h);
                let error = (numeric - f64::from(gradient[i])).abs();
                assert!(error < 0.01 * f64::from(largest) + 2e-3, "{name}[{i}]: gradient {}, finite difference {numeric}", gradient[i]);
            }
        }
    }
    Ok(())
}

#[test]
fn initial_adapters_match_peft_and_change_nothing() -> Result<()> {
    let decoder = decoder(true)?;
    let before = decoder.deep_copy()?;
    let lora = Lora::new(LoraSettings { rank: 8, alpha: 0.0 }, &decoder, 1)?;
    lora.merge(&decoder)?;
    for ((name, merged), (_, expected)) in decoder.weights.entries().into_iter().zip(before.weights.entries()) {
        assert_eq!(values(merged)?, values(expected)?, "{name}");
    }
    assert_eq!(lora.scale(), 2.0);
    for adapter in lora.adapters.iter() {
        let (a, inputs) = (values(&adapter.a)?, adapter.a.dim(0)? as f64);
        // The variance of a uniform distribution is a third of the bound's square.
        let variance = a.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>() / a.len() as f64;
        assert!(a.iter().all(|value| f64::from(value.abs()) <= inputs.powf(-0.5)), "{}", adapter.name);
        assert!((variance * 3.0 * inputs - 1.0).abs() < 0.2, "{}: variance {variance}", adapter.name);
        assert!(values(&adapter.b)?.iter().all(|value| *value == 0.0));
    }
    let again = Adapters::initial(&decoder.config, 8, 1, decoder.kernels())?;
    let other = Adapters::initial(&decoder.config, 8, 2, decoder.kernels())?;
    let first = |adapters: &Adapters| values(adapters.entries()[0].1);
    assert_eq!(first(&again)?, first(&lora.adapters)?);
    assert_ne!(first(&other)?, first(&lora.adapters)?);
    assert_eq!(lora.adapters.entries().iter().map(|(_, t)| t.elem_count()).sum::<usize>(), Adapters::parameter_count(&decoder.config, 8));
    Ok(())
}

/// With `a` the identity, the gradient of `b` is the gradient of the whole projection, so a step along it equals a full update.
#[test]
fn backward_at_full_rank_equals_a_full_update() -> Result<()> {
    let decoder = decoder(true)?;
    let full = gradients(&decoder, None, ActivationCheckpointing::None)?;
    let Gradients::Weights(full) = full else { anyhow::bail!("gradients of all weights") };
    let rank = 128;
    let lora = Lora::new(LoraSettings { rank, alpha: rank as f64 }, &decoder, 1)?;
    for adapter in lora.adapters.iter() {
        let inputs = adapter.a.dim(0)?;
        let identity = (0..inputs * rank).map(|i| f32::from(u8::from(i / rank == i % rank))).collect();
        adapter.a.slice_set(&cpu::tensor(identity, (inputs, rank))?, 0, 0)?;
    }
    let Gradients::Adapters(found) = gradients(&decoder, Some(&lora), ActivationCheckpointing::None)? else {
        anyhow::bail!("gradients of adapters")
    };
    for (adapter, sums) in lora.adapters.iter().zip(found.sums.iter()) {
        adapter.b.slice_set(&(&sums.b * -0.1)?, 0, 0)?;
        assert!(values(&sums.a)?.iter().all(|value| *value == 0.0), "a has no gradient while b is zero");
    }
    lora.merge(&decoder)?;
    for (layer, ((merged, base), full)) in decoder.weights.blocks.iter().zip(&lora.base.weights.blocks).zip(&full.blocks).enumerate() {
        for name in projections(&decoder.config) {
            let (merged, base, full) = (merged.get(name)?, base.get(name)?, full.get(name)?);
            let far = distance(merged, &(base - (full * 0.1)?)?)?;
            assert!(far < 1e-6 && distance(base, merged)? > 1e-4, "layers.{layer}.{name}: off by {far:.1e}");
        }
    }
    Ok(())
}

#[test]
fn merge_adds_adapters_to_the_base_and_changes_nothing_else() -> Result<()> {
    let decoder = decoder(false)?;
    let before = decoder.deep_copy()?;
    let lora = nonzero_lora(&decoder, 4)?;
    let product = |adapter: &Adapter| Ok((adapter.a.matmul(&adapter.b)? * lora.scale())?);
    for (layer, adapters) in lora.adapters.layers.iter().enumerate() {
        let (merged, old) = (&decoder.weights.blocks[layer], &before.weights.blocks[layer]);
        for name in projections(&decoder.config) {
            let parts = adapters.iter().filter(|adapter| adapter.field == name).map(product).collect::<Result<Vec<_>>>()?;
            let far = distance(merged.get(name)?, &(old.get(name)? + Tensor::cat(&parts, 1)?)?)?;
            assert!(far < 1e-6, "layers.{layer}.{name}: off by {far:.1e}");
        }
    }
    for ((name, after), (_, old)) in decoder.weights.entries().into_iter().zip(before.weights.entries()) {
        let is_projection = projections(&decoder.config).iter().any(|projection| name.ends_with(&format!(".{projection}")));
        assert_eq!(values(after)? == values(old)?, !is_projection, "{name}");
    }
    Ok(())
}

#[test]
fn peft_load_reads_what_to_writer_wrote() -> Result<()> {
    let decoder = decoder(true)?;
    let (lora, folder) = (nonzero_lora(&decoder, 3)?, tempfile::tempdir()?);
    let path = folder.path().join("adapter_model.safetensors");
    let tensors = lora.adapters.entries();
    let mut bytes = Vec::new();
    peft::to_writer(&mut bytes, &lora.adapters, &mut |number| Ok(tensors[number].1.clone()))?;
    let views = safetensors::SafeTensors::deserialize(&bytes)?.tensors();
    assert!(safetensors::serialize(views, Some([("format".to_owned(), "pt".to_owned())].into()))? == bytes);
    std::fs::write(&path, &bytes)?;
    for (read, (_, written)) in peft::load(&path, &lora.adapters)?.iter().zip(&tensors) {
        assert_eq!((read.dims(), values(read)?), (written.dims(), values(written)?));
    }
    let file = candle_core::safetensors::load(&path, &Device::Cpu)?;
    let shape = |name: &str| file[&format!("base_model.model.model.layers.1.{name}.weight")].dims().to_vec();
    assert_eq!((shape("self_attn.k_proj.lora_A"), shape("self_attn.k_proj.lora_B")), (vec![3, 128], vec![64, 3]));
    assert_eq!((shape("mlp.down_proj.lora_A"), shape("mlp.down_proj.lora_B")), (vec![3, 96], vec![128, 3]));
    assert_eq!(file.len(), 2 * 7 * 2);
    let message = peft::load(&path, &Adapters::zeros(&decoder.config, 4, decoder.kernels())?).map(|_| ()).unwrap_err().to_string();
    assert!(message.contains("lora_A.weight in") && message.contains("expected [128, 4]"), "{message}");
    Ok(())
}

/// Checks that gradients and three optimizer steps on other kernels match the CPU's. `allowed` is the largest relative distance.
fn check_kernels(kernels: Arc<dyn Kernels>, allowed: f64) -> Result<()> {
    let trained = |decoder: Decoder| {
        let lora = nonzero_lora(&decoder, 4)?;
        let first = gradients(&decoder, Some(&lora), ActivationCheckpointing::Full)?;
        let parameters = parameters(&decoder, Some(&lora));
        let mut optimizer = AdamW::new(OptimSettings::default(), decoder.kernels(), &parameters, World::solo())?;
        for _ in 0..3 {
            let gradients = gradients(&decoder, Some(&lora), ActivationCheckpointing::None)?;
            optimizer.step(decoder.kernels(), &parameters, &gradients.entries(), 1e-3)?;
            lora.merge(&decoder)?;
        }
        anyhow::Ok((first, lora, decoder))
    };
    let (dtype, cpu) = (kernels.dtype(), decoder(true)?);
    let (found, expected) = (trained(cpu.on(kernels)?.deep_copy()?)?, trained(cpu)?);
    let check = |kind: &str, found: Vec<(String, &Tensor)>, expected: Vec<(String, &Tensor)>| {
        found.into_iter().zip(expected).try_for_each(|((name, found), (_, expected))| {
            let far = distance(found, expected)?;
            assert!(far < allowed, "{kind} {name} in {dtype:?}: off by {far:.1e}");
            anyhow::Ok(())
        })
    };
    check("gradient of", found.0.entries(), expected.0.entries())?;
    check("adapter", found.1.adapters.entries(), expected.1.adapters.entries())?;
    check("merged", found.2.weights.entries(), expected.2.weights.entries())
}

#[test]
fn lora_training_on_other_kernels_matches_the_cpu() -> Result<()> {
    check_kernels(Arc::new(Stock::new(Device::Cpu, DType::F32)), 1e-4)?;
    check_kernels(Arc::new(Stock::new(Device::Cpu, DType::BF16)), 0.05)?;
    let Some(emulator) = Emulator::new().map(Arc::new) else { return Ok(()) };
    check_kernels(Arc::new(Fused::new(emulator.clone(), DType::F32)?), 1e-4)?;
    check_kernels(Arc::new(Fused::new(emulator, DType::BF16)?), 0.05)
}
