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

use crate::kernels::Kernels;
use crate::model::tensor_file::{self, Entry};
use crate::optim::{AdamW, AllStates, Part};
use crate::output::Progress;

/// The number of bytes to read at a time.
const CHUNK_BYTES: u64 = 16 << 20;

/// Returns the name of a parameter's moment in the file.
fn file_name(parameter: &str, part: Part) -> String {
    format!("{parameter}.{}", part.name())
}

/// Writes the moments of all ranks as a safetensors file, tensor by tensor.
///
/// # Errors
/// If `out` cannot be written, a tensor cannot be copied to the host, or another rank does not send it.
pub fn to_writer(out: &mut dyn Write, states: &AllStates) -> Result<()> {
    let mut tensors = Vec::new();
    for name in states.names() {
        for (part, dtype, shape) in states.moments(name)? {
            tensors.push(((name, part), Entry::of(file_name(name, part), dtype, &shape)?));
        }
    }
    // Write F32 tensors first, so that every tensor starts at a multiple of its element size.
    tensors.sort_by_key(|(_, entry)| entry.dtype == Dtype::U8);
    let (parts, entries): (Vec<(&str, Part)>, Vec<Entry>) = tensors.into_iter().unzip();
    tensor_file::write(out, &entries, &[], &mut |number| {
        let (name, part) = parts[number];
        states.read(name, part)?.with_context(|| format!("{name} has no {} moment", part.name()))
    })
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
        let mut targets = states.flat_map(|state| state.moments().into_iter().map(|(part, target)| (file_name(&state.name, part), target)));
        targets.try_for_each(|(name, target)| set(kernels, &name, target, found.get(&name)))
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
        let entry = Entry::f32("a".to_owned(), tensor.dims());
        tensor_file::write(&mut File::create(&path).unwrap(), &[entry], &[], &mut |_| Ok(tensor.clone())).unwrap();
        let found = read_tensors(&path, &progress).unwrap();
        assert_eq!(found["a"].to_vec1::<f32>().unwrap(), tensor.to_vec1::<f32>().unwrap());
        let size = path.metadata().unwrap().len();
        assert!(size > 4000 && progress.counts() == (size, size), "{:?}", progress.counts());
        std::fs::write(&path, "short").unwrap();
        assert!(read_tensors(&path, &progress).is_err());
    }
}
