//! Saves and loads the optimizer's moments in our own names and layout. Hugging Face's layout does not work for quantized moments: their
//! blocks follow our tensors, which cannot be divided into Hugging Face's. Parameter P has `P.first` and `P.second` in f32, or
//! `P.first.codes` (U8), `P.first.scales` (F32), and the same for `P.second`.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::kernels::{Kernels, Moments, on_host};
use crate::optim::{AdamW, ParameterState};
use crate::output::Progress;

/// The number of bytes to read at a time.
const CHUNK_BYTES: u64 = 16 << 20;

/// Returns the tensors with the moments of one parameter, with their names in the file.
fn tensors(state: &ParameterState) -> Vec<(String, &Tensor)> {
    let name = |suffix: &str| format!("{}.{suffix}", state.name);
    match &state.moments {
        Moments::Full { first, second } => vec![(name("first"), first), (name("second"), second)],
        Moments::Quantized { first, second } => vec![
            (name("first.codes"), &first.codes),
            (name("first.scales"), &first.scales),
            (name("second.codes"), &second.codes),
            (name("second.scales"), &second.scales),
        ],
    }
}

/// Writes all moments as a safetensors file, tensor by tensor.
///
/// # Errors
/// If `out` cannot be written, or a tensor cannot be copied to the host.
pub fn to_writer(out: &mut dyn Write, optimizer: &AdamW) -> Result<()> {
    tensors_to_writer(out, optimizer.states.iter().flat_map(tensors).collect())
}

/// Writes named tensors, each F32 or U8, as a safetensors file.
///
/// # Errors
/// If `out` cannot be written, or a tensor cannot be copied to the host.
pub fn tensors_to_writer(out: &mut dyn Write, mut tensors: Vec<(String, &Tensor)>) -> Result<()> {
    // Write F32 tensors first, so that every tensor starts at a multiple of its element size.
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

/// Reads all tensors of a safetensors file onto the host. Counts the bytes in `progress`, as parts of the work in progress.
///
/// # Errors
/// If the file cannot be read or is not a safetensors file.
pub fn read_tensors(path: &Path, progress: &Progress) -> Result<HashMap<String, Tensor>> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    progress.expect_bytes(size);
    let mut bytes = Vec::with_capacity(size as usize);
    loop {
        let read = Read::by_ref(&mut file).take(CHUNK_BYTES).read_to_end(&mut bytes)?;
        if read == 0 {
            break;
        }
        progress.add_parts(read);
    }
    Ok(candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)?)
}

/// Restores the optimizer's moments in place. Counts the bytes like [`read_tensors`]. Skips parameters that are frozen now. Parameters that
/// were frozen when the file was written keep their moments, initially 0.
///
/// # Errors
/// If the file cannot be read, a tensor is missing, has another dtype or shape, or is not finite. The message names the file and the
/// tensor.
pub fn load(path: &Path, kernels: &dyn Kernels, optimizer: &AdamW, progress: &Progress) -> Result<()> {
    let restore = || {
        let found = read_tensors(path, progress)?;
        let was_trained = |name: &str| ["first", "first.codes"].iter().any(|suffix| found.contains_key(&format!("{name}.{suffix}")));
        let states = optimizer.states.iter().filter(|state| was_trained(&state.name));
        states.flat_map(tensors).try_for_each(|(name, target)| set(kernels, &name, target, found.get(&name)))
    };
    restore().with_context(|| format!("cannot use {}", path.display()))
}

fn set(kernels: &dyn Kernels, name: &str, target: &Tensor, found: Option<&Tensor>) -> Result<()> {
    let Some(found) = found else { bail!("tensor {name} is missing: was the state saved with another optim.states?") };
    let kind = |tensor: &Tensor| format!("{:?} {:?}", tensor.dtype(), tensor.dims());
    ensure!(kind(found) == kind(target), "tensor {name} is {}, expected {}", kind(found), kind(target));
    if found.dtype() == DType::F32 {
        let values = found.flatten_all()?.to_vec1::<f32>()?;
        ensure!(values.iter().all(|value| value.is_finite()), "tensor {name} has a value that is not finite");
    }
    Ok(kernels.set(target, found)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_tensors_returns_what_was_written_and_counts_the_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let (path, progress) = (folder.path().join("a.safetensors"), Progress::hidden());
        let tensor = Tensor::arange(0.0f32, 1000.0, &Device::Cpu).unwrap();
        tensors_to_writer(&mut File::create(&path).unwrap(), vec![("a".to_owned(), &tensor)]).unwrap();
        let found = read_tensors(&path, &progress).unwrap();
        assert_eq!(found["a"].to_vec1::<f32>().unwrap(), tensor.to_vec1::<f32>().unwrap());
        let size = path.metadata().unwrap().len();
        assert!(size > 4000 && progress.counts() == (size, size), "{:?}", progress.counts());
        std::fs::write(&path, "short").unwrap();
        assert!(read_tensors(&path, &progress).is_err());
    }
}
