//! Adapters in the format of Hugging Face's PEFT: `adapter_config.json` and `adapter_model.safetensors`, which `peft` and vLLM load beside the
//! base model. Knows writers and paths, not folders.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use serde_json::{Value, json};

use super::{Adapters, Lora};
use crate::kernels::on_host;

/// What `adapter_config.json` says; `base` is where the base model is found.
pub fn config(lora: &Lora, base: &str) -> Value {
    let mut modules: Vec<&str> = lora.adapters.iter().filter_map(|adapter| adapter.module.rsplit('.').next()).collect();
    modules.sort_unstable();
    modules.dedup();
    let alpha = lora.settings.effective_alpha();
    json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "inference_mode": true,
        "r": lora.settings.rank,
        // PEFT declares it as a whole number, and takes others.
        "lora_alpha": if alpha.fract() == 0.0 { json!(alpha as u64) } else { json!(alpha) },
        "lora_dropout": 0.0,
        "target_modules": modules,
        "bias": "none",
        "fan_in_fan_out": false,
        "init_lora_weights": true,
        "modules_to_save": null,
    })
}

/// The names of PEFT's tensors, in the order of `Adapters::entries`.
fn names(adapters: &Adapters) -> Vec<String> {
    let both = |module: &str| ["lora_A", "lora_B"].map(|factor| format!("base_model.model.{module}.{factor}.weight"));
    adapters.iter().flat_map(|adapter| both(&adapter.module)).collect()
}

/// Writes tensors in the order and shapes of `Adapters::entries` (adapters, their gradients or moments) as one safetensors file, f32, each the
/// transpose of ours: `lora_A [r, in]`, `lora_B [out, r]`.
pub fn to_writer<'a>(out: &mut dyn Write, adapters: &Adapters, tensors: impl IntoIterator<Item = &'a Tensor>) -> Result<()> {
    let transposed = |tensor: &Tensor| on_host(tensor)?.t()?.contiguous();
    let tensors = tensors.into_iter().map(transposed).collect::<candle_core::Result<Vec<_>>>()?;
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    let named = names(adapters).into_iter().zip(tensors);
    Ok(out.write_all(&safetensors::serialize(named, Some(metadata))?)?)
}

/// Reads what `to_writer` wrote, in the order of `Adapters::entries`.
///
/// # Errors
/// When a tensor is missing or has another shape; the file and the tensor are named.
pub fn load(path: &Path, adapters: &Adapters) -> Result<Vec<Tensor>> {
    let place = path.display();
    let mut found = candle_core::safetensors::load(path, &Device::Cpu).with_context(|| format!("cannot read {place}"))?;
    let read = |(name, (_, ours)): (String, (String, &Tensor))| {
        let tensor = found.remove(&name).with_context(|| format!("tensor {name} is missing from {place}"))?;
        let (tensor, expected) = (tensor.t()?.contiguous()?, ours.dims());
        ensure!(tensor.dims() == expected, "tensor {name} in {place} is {:?} when transposed, expected {expected:?}", tensor.dims());
        Ok(tensor)
    };
    names(adapters).into_iter().zip(adapters.entries()).map(read).collect()
}
