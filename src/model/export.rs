//! Writes weights as safetensors in Hugging Face layout: the header first, from shapes alone, then the tensors piece by piece, so that a
//! model of any size needs only a few MiB of buffers. Writes to any [`Write`]; `crate::checkpoint` owns files and folders.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;

use anyhow::{Context, Result, bail};
use candle_core::{DType, Tensor};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;
use serde_json::{Value, json};

use super::checkpoint_tensors::CheckpointTensor;
use super::config::ModelConfig;
use super::parameters::parameters;
use super::tensor_file::{self, Entry, Source};
use super::weights::Weights;
use crate::kernels::{cpu, on_host};

/// The default maximum size of a weights file: 5 GB, as in transformers 4.
pub const MAX_SHARD_BYTES: u64 = 5_000_000_000;

/// Number of elements that one thread fills and encodes at a time, few enough to stay in the CPU cache.
const CHUNK_ELEMENTS: usize = 1 << 18;
/// Chunks have a multiple of this many rows: rows of a checkpoint's projection are columns of our tensor, and a cache line has 16 elements.
const CHUNK_ROWS: usize = 16;
/// Number of chunks to encode in parallel before writing them.
const CHUNKS_AT_ONCE: usize = 16;

/// The dtype of exported weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightDtype {
    /// 4 bytes.
    F32,
    /// 2 bytes, with the range of f32.
    Bf16,
    /// 2 bytes, with 11 bits of precision.
    F16,
}

/// The dtype of exported weights and their division into files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// The dtype of every tensor.
    pub dtype: WeightDtype,
    /// Maximum bytes of tensors in one file. A larger tensor gets its own file.
    pub max_shard_bytes: u64,
}

/// Returns the bytes of the buffers that [`WeightFile::write`] allocates: encoded chunks, and the f32 values that they are encoded from.
pub fn buffer_bytes(dtype: WeightDtype) -> u64 {
    (CHUNKS_AT_ONCE * CHUNK_ELEMENTS * dtype.size() + rayon::current_num_threads() * CHUNK_ELEMENTS * size_of::<f32>()) as u64
}

impl Format {
    /// Returns the format with `dtype` and the default maximum file size.
    pub fn of(dtype: WeightDtype) -> Self {
        Self { dtype, max_shard_bytes: MAX_SHARD_BYTES }
    }
}

/// A source of values to export. `values(number, part, first, target)` fills `target` with whole rows of `part`, in the checkpoint's
/// layout, from row `first` on. `number` is the index in `parameters` of our tensor that the part belongs to. Several threads call it
/// concurrently.
pub type Values<'a> = dyn Fn(usize, &CheckpointTensor, usize, &mut [f32]) -> Result<()> + Sync + 'a;

/// Returns a source for weights in memory, which must be in f32 on the CPU.
pub fn values_of(weights: &Weights) -> impl Fn(usize, &CheckpointTensor, usize, &mut [f32]) -> Result<()> + Sync + '_ {
    let tensors: Vec<&Tensor> = weights.entries().into_iter().map(|(_, tensor)| tensor).collect();
    move |number, part, first, target| copy_rows(tensors[number], part, first, target)
}

fn copy_rows(tensor: &Tensor, part: &CheckpointTensor, first: usize, target: &mut [f32]) -> Result<()> {
    let width = tensor.dims()[tensor.rank() - 1];
    Ok(cpu::read([tensor], |[ours]| part.export_rows(first, ours, width, target))?)
}

/// One file of weights: its name and the tensors in it.
#[derive(Clone, Debug)]
pub struct WeightFile {
    /// `model.safetensors`, or the name of a shard.
    pub name: String,
    dtype: WeightDtype,
    /// The tensors in file order, each with the index in `parameters` of our tensor that it belongs to.
    tensors: Vec<(usize, CheckpointTensor)>,
}

/// Divides a model's weights into files. Like transformers, assigns tensors in the model's order and starts a new file when the next tensor
/// would exceed the limit. Tied weights are in one file only.
///
/// # Errors
/// Currently never.
pub fn files(config: &ModelConfig, format: Format) -> Result<Vec<WeightFile>> {
    let table = parameters(config).into_iter().enumerate();
    let tensors = table.flat_map(|(number, row)| row.parts.into_iter().map(move |part| (number, part)));
    let (mut shards, mut filled) = (vec![Vec::new()], 0);
    for (number, part) in tensors {
        let bytes = format.dtype.bytes(&part);
        if filled > 0 && filled + bytes > format.max_shard_bytes {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += bytes;
        if let Some(shard) = shards.last_mut() {
            shard.push((number, part));
        }
    }
    let count = shards.len();
    let file = |(index, mut tensors): (usize, Vec<(usize, CheckpointTensor)>)| {
        // The safetensors crate sorts by alignment, which is the same for all tensors here, then by name.
        tensors.sort_by(|(_, left), (_, right)| left.name.cmp(&right.name));
        let name = if count == 1 { "model.safetensors".to_owned() } else { format!("model-{:05}-of-{count:05}.safetensors", index + 1) };
        WeightFile { name, dtype: format.dtype, tensors }
    };
    Ok(shards.into_iter().enumerate().map(file).collect())
}

/// Returns the contents of `model.safetensors.index.json`; `None` if there is only one file.
///
/// # Errors
/// If the index cannot be serialized.
pub fn index(files: &[WeightFile]) -> Result<Option<Vec<u8>>> {
    if files.len() < 2 {
        return Ok(None);
    }
    let entries = |file: &'_ WeightFile| file.tensors.iter().map(|(_, part)| (part.name.clone(), file.name.clone())).collect::<Vec<_>>();
    let weight_map: BTreeMap<String, String> = files.iter().flat_map(entries).collect();
    let total_size: u64 = files.iter().map(WeightFile::tensor_bytes).sum();
    let index: Value = json!({"metadata": {"total_size": total_size}, "weight_map": weight_map});
    Ok(Some((serde_json::to_string_pretty(&index)? + "\n").into_bytes()))
}

/// Writes weights as a single safetensors file of any size.
///
/// # Errors
/// If `out` cannot be written, or a value is too large for the dtype. The message names the tensor.
pub fn to_writer(out: &mut dyn Write, weights: &Weights, config: &ModelConfig, dtype: WeightDtype) -> Result<()> {
    let tensors = weights.entries();
    tensors_to_writer(out, config, dtype, &mut |number| Ok(tensors[number].1.clone()))
}

/// Writes tensors as a single safetensors file. `source` returns a tensor by its index in `parameters`, with the shape there.
///
/// # Errors
/// If `out` cannot be written, `source` fails, a tensor cannot be copied to the host, or a value is too large for the dtype. The message
/// names the tensor.
pub fn tensors_to_writer(out: &mut dyn Write, config: &ModelConfig, dtype: WeightDtype, source: &mut Source) -> Result<()> {
    let single = Format { dtype, max_shard_bytes: u64::MAX };
    files(config, single)?.iter().try_for_each(|file| file.write_tensors(out, source))
}

impl WeightFile {
    /// Returns the total bytes of the tensors, without the header.
    pub fn tensor_bytes(&self) -> u64 {
        self.tensors.iter().map(|(_, part)| self.dtype.bytes(part)).sum()
    }

    /// Writes the whole file: the header, then every tensor in pieces.
    ///
    /// # Errors
    /// If `out` cannot be written, `values` fails, or a value is too large for the dtype. The message names the tensor.
    pub fn write(&self, out: &mut dyn Write, values: &Values) -> Result<()> {
        out.write_all(&self.start()?)?;
        let mut buffer = Vec::new();
        let mut write = |(number, part): &(usize, CheckpointTensor)| {
            self.write_part(out, part, &mut buffer, &|first, target| values(*number, part, first, target))
        };
        self.tensors.iter().try_for_each(&mut write)
    }

    /// Writes the whole file from the tensors that `source` returns. Keeps a tensor until its last part is written.
    fn write_tensors(&self, out: &mut dyn Write, source: &mut Source) -> Result<()> {
        out.write_all(&self.start()?)?;
        let (mut held, mut buffer) = (HashMap::new(), Vec::new());
        for (index, (number, part)) in self.tensors.iter().enumerate() {
            let tensor = match held.remove(number) {
                Some(tensor) => tensor,
                None => on_host(&source(*number)?)?.to_dtype(DType::F32)?,
            };
            self.write_part(out, part, &mut buffer, &|first, target| copy_rows(&tensor, part, first, target))?;
            if self.tensors[index + 1..].iter().any(|(later, _)| later == number) {
                held.insert(*number, tensor);
            }
        }
        Ok(())
    }

    /// Writes the values of one tensor, whose rows from `first` on `rows(first, target)` copies to `target`.
    fn write_part(&self, out: &mut dyn Write, part: &CheckpointTensor, buffer: &mut Vec<u8>, rows: &Rows) -> Result<()> {
        let size = self.dtype.size();
        let (count, columns) = part.rows_and_columns();
        let chunk_rows = (CHUNK_ELEMENTS / columns / CHUNK_ROWS).max(1) * CHUNK_ROWS;
        for first in (0..count).step_by(chunk_rows * CHUNKS_AT_ONCE) {
            buffer.resize((count - first).min(chunk_rows * CHUNKS_AT_ONCE) * columns * size, 0);
            buffer.par_chunks_mut(chunk_rows * columns * size).enumerate().try_for_each(|(chunk, bytes)| {
                let mut piece = vec![0.0; bytes.len() / size];
                rows(first + chunk * chunk_rows, &mut piece)?;
                self.dtype.encode(&piece, bytes).with_context(|| format!("tensor {}", part.name))
            })?;
            out.write_all(buffer)?;
        }
        Ok(())
    }

    /// Returns the same start of the file as the safetensors crate.
    fn start(&self) -> Result<Vec<u8>> {
        let dtype = self.dtype.safetensors();
        let entry = |(_, part): &(usize, CheckpointTensor)| Entry { name: part.name.clone(), dtype, shape: part.shape.clone() };
        tensor_file::start(self.tensors.iter().map(entry), &tensor_file::PYTORCH)
    }
}

/// Copies rows of one tensor, from a row on, to a slice of whole rows. Several threads call it concurrently.
type Rows<'a> = dyn Fn(usize, &mut [f32]) -> Result<()> + Sync + 'a;

impl WeightDtype {
    /// Returns the dtype's name in `config.json`.
    pub fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
            Self::F16 => "float16",
        }
    }

    /// Returns the bytes per value.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }

    fn bytes(self, part: &CheckpointTensor) -> u64 {
        (part.shape.iter().product::<usize>() * self.size()) as u64
    }

    fn safetensors(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::Bf16 => Dtype::BF16,
            Self::F16 => Dtype::F16,
        }
    }

    /// Encodes values as little-endian bytes, rounding to nearest, ties to even. A value too large for the dtype is an error, not infinity.
    fn encode(self, values: &[f32], bytes: &mut [u8]) -> Result<()> {
        let halves = match self {
            Self::F32 => {
                bytes.chunks_exact_mut(4).zip(values).for_each(|(bytes, value)| bytes.copy_from_slice(&value.to_le_bytes()));
                return Ok(());
            }
            Self::Bf16 => {
                let mut halves = vec![bf16::ZERO; values.len()];
                halves.convert_from_f32_slice(values);
                halves.iter().map(|half| half.to_bits()).collect::<Vec<u16>>()
            }
            Self::F16 => {
                let mut halves = vec![f16::ZERO; values.len()];
                halves.convert_from_f32_slice(values);
                halves.iter().map(|half| half.to_bits()).collect()
            }
        };
        let infinity = if self == Self::Bf16 { bf16::INFINITY.to_bits() } else { f16::INFINITY.to_bits() };
        if halves.iter().fold(false, |found, half| found | (half & 0x7fff == infinity)) {
            let overflow = values.iter().zip(&halves).find(|(value, half)| value.is_finite() && *half & 0x7fff == infinity);
            if let Some((value, _)) = overflow {
                bail!("the value {value} is too large for {}: export as bf16 or f32", self.torch_name());
            }
        }
        bytes.chunks_exact_mut(2).zip(&halves).for_each(|(bytes, half)| bytes.copy_from_slice(&half.to_le_bytes()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::TensorView;

    use super::*;
    use crate::model::init;

    fn config(tied: bool) -> ModelConfig {
        let text = format!(
            r#"{{"model_type": "qwen2", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "vocab_size": 61, "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 1e4,
            "tie_word_embeddings": {tied}}}"#
        );
        ModelConfig::parse(&text).unwrap()
    }

    fn written(file: &WeightFile, weights: &Weights) -> Vec<u8> {
        let mut bytes = Vec::new();
        file.write(&mut bytes, &values_of(weights)).unwrap();
        bytes
    }

    #[test]
    fn write_matches_the_safetensors_crate() {
        for tied in [true, false] {
            let config = config(tied);
            let weights = init::random(&config, 1, 0.5).unwrap();
            for dtype in [WeightDtype::F32, WeightDtype::Bf16, WeightDtype::F16] {
                let files = files(&config, Format::of(dtype)).unwrap();
                assert!(files.len() == 1 && index(&files).unwrap().is_none());
                let bytes = written(&files[0], &weights);
                let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
                assert_eq!(read.names().len(), if tied { 26 } else { 27 });
                let views: Vec<(String, TensorView)> = read.tensors();
                let metadata = [("format".to_owned(), "pt".to_owned())].into();
                assert!(safetensors::serialize(views, Some(metadata)).unwrap() == bytes, "{dtype:?}");
            }
        }
    }

    #[test]
    fn files_fills_shards_to_the_limit_and_index_lists_them() {
        let (config, weights) = (config(false), Weights::zeros(&config(false), &crate::kernels::Cpu).unwrap());
        let format = Format { dtype: WeightDtype::F32, max_shard_bytes: 20_000 };
        let files = files(&config, format).unwrap();
        assert!(files.len() > 3 && files.iter().all(|file| file.tensor_bytes() <= 20_000));
        assert_eq!(files[0].name, format!("model-00001-of-{:05}.safetensors", files.len()));
        let index: Value = serde_json::from_slice(&index(&files).unwrap().unwrap()).unwrap();
        assert_eq!(index["metadata"]["total_size"].as_u64(), Some(4 * config.parameter_count() as u64));
        let mut names = 0;
        for file in &files {
            let bytes = written(file, &weights);
            for name in safetensors::SafeTensors::deserialize(&bytes).unwrap().names() {
                assert_eq!(index["weight_map"][name], file.name);
                names += 1;
            }
        }
        assert_eq!(index["weight_map"].as_object().unwrap().len(), names);
        // A tensor above the limit is not split.
        let single = super::files(&config, Format { max_shard_bytes: 1, ..format }).unwrap();
        assert!(single.len() == names && single.iter().all(|file| file.tensors.len() == 1));
    }

    #[test]
    fn encode_rounds_ties_to_even_and_rejects_overflow() {
        let check = |dtype: WeightDtype, value: f32, expected: u16| {
            let mut bytes = [0; 2];
            dtype.encode(&[value], &mut bytes).unwrap();
            assert_eq!(u16::from_le_bytes(bytes), expected, "{value} in {dtype:?}");
        };
        // Values halfway between two adjacent values of bf16 (8 bits) or f16 (11 bits) round to the even one.
        check(WeightDtype::Bf16, f32::from_bits(0x3f80_8000), 0x3f80);
        check(WeightDtype::Bf16, f32::from_bits(0x3f81_8000), 0x3f82);
        check(WeightDtype::Bf16, f32::from_bits(0x3f80_8001), 0x3f81);
        check(WeightDtype::F16, 2049.0, 0x6800);
        check(WeightDtype::F16, 2051.0, 0x6802);
        check(WeightDtype::F16, 65504.0, 0x7bff);
        let message = WeightDtype::F16.encode(&[1.0, 65520.0], &mut [0; 4]).unwrap_err().to_string();
        assert!(message.contains("65520") && message.contains("float16"), "{message}");
        assert!(WeightDtype::Bf16.encode(&[f32::MAX], &mut [0; 2]).is_err());
    }
}
