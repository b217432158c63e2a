//! The optimizer's moments as a file of their own kind, by the optimizer's own names and in its own layout: blocks of codes follow our
//! tensors, and would not survive the division into a checkpoint's. For tensor T it holds `T.first` and `T.second` in f32, or of each
//! `T.first.codes` (U8) and `T.first.scales` (F32).

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::kernels::{Kernels, Moments, on_host};
use crate::optim::{AdamW, ParameterState};

/// The tensors of a parameter's moments.
fn tensors(state: &ParameterState) -> Vec<(String, &Tensor)> {
    let name = |suffix: &str| format!("{}.{suffix}", state.name);
    match &state.moments {
        Moments::Full { first, second } => vec![(name("first"), first), (name("second"), second)],
        Moments::Coded { first, second } => vec![
            (name("first.codes"), &first.codes),
            (name("first.scales"), &first.scales),
            (name("second.codes"), &second.codes),
            (name("second.scales"), &second.scales),
        ],
    }
}

/// Writes the moments, tensor by tensor.
pub fn to_writer(out: &mut dyn Write, optimizer: &AdamW) -> Result<()> {
    tensors_to_writer(out, optimizer.states.iter().flat_map(tensors).collect())
}

/// Writes named tensors, of f32 or of bytes, one by one.
pub fn tensors_to_writer(out: &mut dyn Write, mut tensors: Vec<(String, &Tensor)>) -> Result<()> {
    // Those of 4 bytes first, so that each begins at a multiple of its size.
    tensors.sort_by_key(|(_, tensor)| tensor.dtype() == DType::U8);
    let mut end = 0;
    let info = |(name, tensor): &(String, &Tensor)| {
        let start = end;
        end += tensor.elem_count() * tensor.dtype().size_in_bytes();
        let dtype = if tensor.dtype() == DType::U8 { Dtype::U8 } else { Dtype::F32 };
        (name.clone(), TensorInfo { dtype, shape: tensor.dims().to_vec(), data_offsets: (start, end) })
    };
    let mut header = serde_json::to_vec(&Metadata::new(None, tensors.iter().map(info).collect())?)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    for (_, tensor) in tensors {
        let flat = on_host(tensor)?.flatten_all()?;
        match flat.dtype() {
            DType::U8 => out.write_all(&flat.to_vec1::<u8>()?)?,
            _ => flat.to_vec1::<f32>()?.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))?,
        }
    }
    Ok(())
}

/// Reads the moments into the optimizer, in place. Those of a parameter that is frozen now are not read; a parameter that was frozen then
/// keeps the zeros that it begins with.
///
/// # Errors
/// When a parameter's moments are of another kind or size, or one is not finite.
pub fn load(path: &Path, kernels: &dyn Kernels, optimizer: &AdamW) -> Result<()> {
    let restore = || {
        let found = candle_core::safetensors::load(path, &Device::Cpu)?;
        let was_trained = |name: &str| ["first", "first.codes"].iter().any(|suffix| found.contains_key(&format!("{name}.{suffix}")));
        let states = optimizer.states.iter().filter(|state| was_trained(&state.name));
        states.flat_map(tensors).try_for_each(|(name, target)| set(kernels, &name, target, found.get(&name)))
    };
    restore().with_context(|| format!("cannot use {}", path.display()))
}

fn set(kernels: &dyn Kernels, name: &str, target: &Tensor, found: Option<&Tensor>) -> Result<()> {
    let Some(found) = found else { bail!("there is no {name}: was the state saved with another optim.states?") };
    let kind = |tensor: &Tensor| format!("{:?} of {:?}", tensor.dims(), tensor.dtype());
    ensure!(kind(found) == kind(target), "{name} is {}, expected {}", kind(found), kind(target));
    if found.dtype() == DType::F32 {
        let values = found.flatten_all()?.to_vec1::<f32>()?;
        ensure!(values.iter().all(|value| value.is_finite()), "{name} has a value that is not finite");
    }
    Ok(kernels.set(target, found)?)
}
