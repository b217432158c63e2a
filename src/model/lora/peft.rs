//! Adapters in the format of Hugging Face's PEFT: `adapter_config.json` and `adapter_model.safetensors`, which `peft` and vLLM load with
//! the base model. `crate::checkpoint` owns the folders.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use serde_json::{Value, json};

use super::{Adapters, Lora};
use crate::kernels::on_host;
use crate::model::tensor_file::{self, Entry, Source};

/// Returns the contents of `adapter_config.json`. `base` is the path or hub name of the base model.
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
        // PEFT declares an integer but accepts other numbers.
        "lora_alpha": if alpha.fract() == 0.0 { json!(alpha as u64) } else { json!(alpha) },
        "lora_dropout": 0.0,
        "target_modules": modules,
        "bias": "none",
        "fan_in_fan_out": false,
        "init_lora_weights": true,
        "modules_to_save": null,
    })
}

/// Returns PEFT's names of the tensors, in the order of `Adapters::entries`.
fn names(adapters: &Adapters) -> Vec<String> {
    let both = |module: &str| ["lora_A", "lora_B"].map(|factor| format!("base_model.model.{module}.{factor}.weight"));
    adapters.iter().flat_map(|adapter| both(&adapter.module)).collect()
}

/// Writes adapters, their gradients or moments as a safetensors file in f32. `source` returns a tensor by its index in `Adapters::entries`,
/// with the shape there; the file has their transposes, `lora_A [r, in]` and `lora_B [out, r]`.
///
/// # Errors
/// If `out` cannot be written, `source` fails, or a tensor cannot be copied to the host.
pub fn to_writer(out: &mut dyn Write, adapters: &Adapters, source: &mut Source) -> Result<()> {
    let transposed = |(number, (name, (_, tensor))): (usize, (String, (String, &Tensor)))| {
        let shape: Vec<usize> = tensor.dims().iter().rev().copied().collect();
        (number, Entry::f32(name, &shape))
    };
    let mut entries: Vec<(usize, Entry)> = names(adapters).into_iter().zip(adapters.entries()).enumerate().map(transposed).collect();
    // The order of the safetensors crate.
    entries.sort_by(|(_, left), (_, right)| left.name.cmp(&right.name));
    let (numbers, entries): (Vec<usize>, Vec<Entry>) = entries.into_iter().unzip();
    tensor_file::write(out, &entries, &tensor_file::PYTORCH, &mut |index| Ok(on_host(&source(numbers[index])?)?.t()?.contiguous()?))
}

/// Reads a file written by [`to_writer`]. Returns its tensors in the order and shapes of `Adapters::entries`.
///
/// # Errors
/// If the file cannot be read, or a tensor is missing or has another shape. The message names the file and the tensor.
pub fn load(path: &Path, adapters: &Adapters) -> Result<Vec<Tensor>> {
    let file = path.display();
    let mut found = candle_core::safetensors::load(path, &Device::Cpu).with_context(|| format!("cannot read {file}"))?;
    let read = |(name, (_, ours)): (String, (String, &Tensor))| {
        let tensor = found.remove(&name).with_context(|| format!("tensor {name} is missing from {file}"))?;
        let (tensor, expected) = (tensor.t()?.contiguous()?, ours.dims());
        ensure!(tensor.dims() == expected, "tensor {name} in {file} has shape {:?} when transposed, expected {expected:?}", tensor.dims());
        Ok(tensor)
    };
    names(adapters).into_iter().zip(adapters.entries()).map(read).collect()
}
