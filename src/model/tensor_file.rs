//! Writes safetensors files tensor by tensor: first the header, from names and shapes alone, then the values. So the tensors of a file need
//! not be in memory together.

use std::io::Write;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Shape, Tensor};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::kernels::on_host;

/// Number of elements that are encoded at a time.
const PIECE_ELEMENTS: usize = 1 << 20;

/// Returns the tensor with this number. A writer calls it when it needs the tensor, and drops the tensor when it has written it.
pub type Source<'a> = dyn FnMut(usize) -> Result<Tensor> + 'a;

/// A tensor of a file, without its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The tensor's name in the file.
    pub name: String,
    /// Its dtype in the file.
    pub dtype: Dtype,
    /// Its shape in the file.
    pub shape: Vec<usize>,
}

impl Entry {
    /// The entry of an f32 tensor.
    pub fn f32(name: String, shape: &[usize]) -> Self {
        Self { name, dtype: Dtype::F32, shape: shape.to_vec() }
    }

    /// The entry of a tensor in f32 or u8.
    ///
    /// # Errors
    /// If the dtype is another one.
    pub fn of(name: String, dtype: DType, shape: &Shape) -> Result<Self> {
        let dtype = match dtype {
            DType::F32 => Dtype::F32,
            DType::U8 => Dtype::U8,
            other => bail!("tensor {name} is {other:?}, expected F32 or U8"),
        };
        Ok(Self { name, dtype, shape: shape.dims().to_vec() })
    }

    fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

/// The metadata of files that PyTorch programs read: `format` is `pt`.
pub const PYTORCH: [(&str, &str); 1] = [("format", "pt")];

/// Returns the start of a file, with the tensors in this order: the length of the header and the header, padded so that the values start at
/// a multiple of 8 bytes. The bytes are those of the safetensors crate if the order is.
///
/// # Errors
/// If the header cannot be serialized.
pub fn start(entries: impl IntoIterator<Item = Entry>, metadata: &[(&str, &str)]) -> Result<Vec<u8>> {
    let mut end = 0;
    let info = |entry: Entry| {
        let start = end;
        end += entry.bytes();
        (entry.name, TensorInfo { dtype: entry.dtype, shape: entry.shape, data_offsets: (start, end) })
    };
    let metadata = (!metadata.is_empty()).then(|| metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect());
    let mut header = serde_json::to_vec(&Metadata::new(metadata, entries.into_iter().map(info).collect())?)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut start = (header.len() as u64).to_le_bytes().to_vec();
    start.extend(header);
    Ok(start)
}

/// Writes a file with these tensors in this order, each F32 or U8. `source` returns the tensor of the entry with this number.
///
/// # Errors
/// If `out` cannot be written, `source` fails or returns a tensor of another dtype or shape, or a tensor cannot be copied to the host.
pub fn write(out: &mut dyn Write, entries: &[Entry], metadata: &[(&str, &str)], source: &mut Source) -> Result<()> {
    out.write_all(&start(entries.iter().cloned(), metadata)?)?;
    entries.iter().enumerate().try_for_each(|(number, entry)| {
        let tensor = source(number)?;
        let found = Entry::of(entry.name.clone(), tensor.dtype(), tensor.shape())?;
        ensure!(
            found == *entry,
            "tensor {} is {:?} {:?}, expected {:?} {:?}",
            entry.name,
            found.dtype,
            found.shape,
            entry.dtype,
            entry.shape
        );
        write_values(out, &tensor)
    })
}

/// Writes the values of a tensor, in little-endian order.
fn write_values(out: &mut dyn Write, tensor: &Tensor) -> Result<()> {
    let flat = on_host(tensor).context("cannot copy a tensor to the host")?.flatten_all()?;
    let count = flat.elem_count();
    for first in (0..count).step_by(PIECE_ELEMENTS) {
        let piece = flat.narrow(0, first, PIECE_ELEMENTS.min(count - first))?;
        match piece.dtype() {
            DType::U8 => out.write_all(&piece.to_vec1::<u8>()?)?,
            _ => piece.to_vec1::<f32>()?.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use safetensors::SafeTensors;

    use super::*;

    #[test]
    fn write_asks_for_one_tensor_after_the_other_and_matches_the_safetensors_crate() {
        let tensor = |count: usize, first: f32| (Tensor::arange(0.0f32, count as f32, &Device::Cpu).unwrap() + f64::from(first)).unwrap();
        let tensors = [tensor(PIECE_ELEMENTS + 3, 0.5), tensor(5, -2.0), tensor(7, 3.0).to_dtype(DType::U8).unwrap()];
        let entry = |(name, tensor): (&str, &Tensor)| Entry::of(name.to_owned(), tensor.dtype(), tensor.shape()).unwrap();
        let entries: Vec<Entry> = ["a", "b", "c"].into_iter().zip(&tensors).map(entry).collect();
        let (mut bytes, mut asked) = (Vec::new(), Vec::new());
        let mut source = |number: usize| {
            asked.push(number);
            Ok(tensors[number].clone())
        };
        write(&mut bytes, &entries, &PYTORCH, &mut source).unwrap();
        assert_eq!(asked, [0, 1, 2]);
        let views = SafeTensors::deserialize(&bytes).unwrap().tensors();
        assert!(safetensors::serialize(views, Some([("format".to_owned(), "pt".to_owned())].into())).unwrap() == bytes);
        let read = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).unwrap();
        assert_eq!(read["a"].to_vec1::<f32>().unwrap(), tensors[0].to_vec1::<f32>().unwrap());
        assert_eq!(read["c"].to_vec1::<u8>().unwrap(), [3, 4, 5, 6, 7, 8, 9]);
        let message = write(&mut Vec::new(), &entries, &[], &mut |_| Ok(tensors[1].clone())).unwrap_err().to_string();
        assert_eq!(message, format!("tensor a is F32 [5], expected F32 [{}]", PIECE_ELEMENTS + 3));
    }
}
