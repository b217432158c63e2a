use crate::kernels::Kernels;
use std::sync::Arc;

use super::*;
use crate::kernels::fused::emulated::Emulator;
use crate::kernels::{Fused, Stock, cpu};
use crate::model::decoder::ActivationCheckpointing;
use crate::model::init;
use candle_core::Device;

fn policy(family: &str, tied: bool, bf16: bool) -> Result<Decoder> {
    let config = ModelConfig::parse(&format!(
        r#"{{"model_type": "{family}", "hidden_size": 128, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "vocab_size": 61, "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
        "tie_word_embeddings": {tied}}}"#
    ))?;
    let weights = init::random(&config, 3, 0.1)?;
    for (index, (name, tensor)) in weights.entries().into_iter().enumerate() {
        if name.ends_with("norm") || name.ends_with("bias") {
            cpu::update(tensor, [], |t, []| t.iter_mut().enumerate().for_each(|(i, t)| *t += ((i * 7 + index * 3) % 11) as f32 * 0.05))?;
        }
    }
    let rounded = |tensor: &Tensor| Ok(if bf16 { tensor.to_dtype(DType::BF16)?.to_dtype(DType::F32)? } else { tensor.clone() });
    let weights = weights.map(&config, rounded)?;
    Decoder::new(config, weights)
}

/// Returns a value model whose head has values that bf16 can represent.
fn model(policy: &Decoder) -> Result<ValueModel> {
    let mut model = ValueModel::new(policy, 5, 0.3)?;
    model.weight = model.weight.to_dtype(DType::BF16)?.to_dtype(DType::F32)?;
    cpu::update(&model.bias, [], |bias, []| bias[0] = 0.5)?;
    Ok(model)
}

/// Returns the same model on other kernels.
fn on(model: &ValueModel, kernels: Arc<dyn Kernels>) -> Result<ValueModel> {
    let weight = model.weight.to_device(kernels.device())?.to_dtype(kernels.dtype())?;
    Ok(ValueModel { weight, bias: model.bias.to_device(kernels.device())?, body: model.body.on(kernels)? })
}

fn batch() -> Packed {
    let prompts: [&[u32]; 2] = [&[5, 17, 3, 60, 0], &[9; 19]];
    Packed::of_responses([(prompts[0], vec![&[1, 2, 3][..], &[7], &[8; 20]]), (prompts[1], vec![&[4, 5][..], &[6; 5]])])
}

/// Returns the derivatives of `loss` with respect to the values, which differ between tokens.
fn derivatives(count: usize) -> Vec<f32> {
    (0..count).map(|j| 0.3 - (j % 5) as f32 * 0.2).collect()
}

fn loss(model: &ValueModel, packed: &Packed) -> Result<f64> {
    let values = model.values(packed)?;
    Ok(values.iter().zip(derivatives(values.len())).map(|(value, derivative)| f64::from(*value) * f64::from(derivative)).sum())
}

fn gradients(model: &ValueModel, packed: &Packed, checkpointing: ActivationCheckpointing) -> Result<ValueGradients> {
    let gradients = model.gradients()?;
    let (hidden, saved) = model.body.forward(packed, checkpointing)?;
    let values = model.values_of(&hidden, packed)?;
    assert_eq!(values, model.values(packed)?, "both forward passes compute the same values");
    model.backward(&hidden, packed, saved, &derivatives(values.len()), &gradients)?;
    Ok(gradients)
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(crate::kernels::on_host(tensor)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

#[test]
fn backward_matches_finite_differences_for_every_tensor() -> Result<()> {
    for (family, tied) in [("qwen2", true), ("llama", false)] {
        let (model, packed) = (model(&policy(family, tied, false)?)?, batch());
        let gradients = gradients(&model, &packed, ActivationCheckpointing::None)?;
        let names: Vec<String> = shapes(&model.body.config).into_iter().map(|(name, _)| name).collect();
        assert!(names.iter().eq(gradients.entries().iter().map(|(name, _)| name)), "{names:?}");
        for ((name, tensor), (_, gradient)) in model.entries().into_iter().zip(gradients.entries()) {
            let gradient = values(gradient)?;
            let largest = gradient.iter().fold(0.0f32, |a, g| a.max(g.abs()));
            assert!(largest > 0.0 && gradient.iter().all(|g| g.is_finite()), "{name} must get a finite, non-zero gradient");
            let steepest = gradient.iter().position(|g| g.abs() == largest).unwrap_or(0);
            for i in [steepest, 0, gradient.len() / 2, gradient.len() - 1] {
                let at = |h: f32| -> Result<f64> {
                    cpu::update(tensor, [], |t, []| t[i] += h)?;
                    let loss = loss(&model, &packed);
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
fn value_model_starts_from_the_policy_and_shares_no_weights_with_it() -> Result<()> {
    let policy = policy("llama", false, false)?;
    let fresh = ValueModel::new(&policy, 5, 0.02)?;
    assert_eq!(parameter_count(&policy.config), fresh.entries().iter().map(|(_, tensor)| tensor.elem_count()).sum::<usize>());
    assert!(fresh.body.weights.head.is_none(), "no head for logits");
    cpu::update(&fresh.body.weights.embedding, [], |t, []| t.fill(0.0))?;
    assert!(values(&policy.weights.embedding)?.iter().any(|x| *x != 0.0), "the policy has its own weights");
    let spread = values(&fresh.weight)?.iter().map(|x| x * x).sum::<f32>() / 128.0;
    assert!((spread.sqrt() - 0.02).abs() < 0.005 && values(&fresh.bias)? == [0.0]);
    assert_eq!(values(&fresh.weight)?, values(&ValueModel::new(&policy, 5, 0.02)?.weight)?);
    assert!(ValueModel::new(&policy, 5, 0.0)?.values(&batch())?.iter().all(|value| *value == 0.0));
    Ok(())
}

#[test]
fn values_and_gradients_do_not_depend_on_packing_or_activation_checkpointing() -> Result<()> {
    let model = model(&policy("qwen2", true, false)?)?;
    let (prompt, responses): (&[u32], [&[u32]; 3]) = (&[5, 17, 3, 60, 0], [&[1, 2, 3], &[7], &[8; 20]]);
    let shared = Packed::of_responses([(prompt, responses.to_vec())]);
    let separate = Packed::of_responses(responses.map(|response| (prompt, vec![response])));
    assert_eq!(model.values(&shared)?, model.values(&separate)?, "values are bit-identical");
    let (saved, recomputed) =
        (gradients(&model, &shared, ActivationCheckpointing::None)?, gradients(&model, &shared, ActivationCheckpointing::Full)?);
    let separate = gradients(&model, &separate, ActivationCheckpointing::None)?;
    for (((name, saved), (_, recomputed)), (_, separate)) in saved.entries().into_iter().zip(recomputed.entries()).zip(separate.entries()) {
        let (saved, separate) = (values(saved)?, values(separate)?);
        assert_eq!(saved, values(recomputed)?, "{name}");
        let largest = saved.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        assert!(saved.iter().zip(&separate).all(|(x, y)| (x - y).abs() < 1e-4 * largest), "{name}");
    }
    Ok(())
}

/// Compares values and gradients with the CPU's. `allowed` is the largest distance relative to the norm.
fn check(kernels: Arc<dyn Kernels>, allowed: f64) -> Result<()> {
    let (cpu, packed) = (model(&policy("qwen2", true, true)?)?, batch());
    let other = on(&cpu, kernels)?;
    let near = |name: &str, found: &[f32], expected: &[f32]| {
        let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        let distance = norm(&mut found.iter().zip(expected).map(|(f, e)| f - e)) / norm(&mut expected.iter().copied());
        assert!(found.len() == expected.len() && distance < allowed, "{name}: off by {distance:.1e}");
    };
    near("values", &other.values(&packed)?, &cpu.values(&packed)?);
    let (found, expected) =
        (gradients(&other, &packed, ActivationCheckpointing::Full)?, gradients(&cpu, &packed, ActivationCheckpointing::Full)?);
    for ((name, found), (_, expected)) in found.entries().into_iter().zip(expected.entries()) {
        near(&name, &values(found)?, &values(expected)?);
    }
    Ok(())
}

#[test]
fn value_model_on_stock_operations_matches_the_cpu() -> Result<()> {
    check(Arc::new(Stock::new(Device::Cpu, DType::F32)), 1e-5)?;
    check(Arc::new(Stock::new(Device::Cpu, DType::BF16)), 0.05)
}

#[test]
fn value_model_on_fused_kernels_matches_the_cpu() -> Result<()> {
    let Some(emulator) = Emulator::new() else { return Ok(()) };
    check(Arc::new(Fused::new(Arc::new(emulator), DType::F32)?), 1e-5)?;
    let Some(emulator) = Emulator::new() else { return Ok(()) };
    check(Arc::new(Fused::new(Arc::new(emulator), DType::BF16)?), 0.05)
}

#[cfg(feature = "cuda")]
#[test]
fn value_model_on_fused_kernels_on_a_gpu_matches_the_cpu() -> Result<()> {
    let Some(gpu) = crate::kernels::tests::gpu() else { return Ok(()) };
    check(Arc::new(Fused::new(gpu.clone(), DType::F32)?), 1e-5)?;
    check(Arc::new(Fused::new(gpu, DType::BF16)?), 0.05)
}
