//! Reads weights from safetensors files in Hugging Face layout: checks them against the configuration and converts them to f32, tensor by
//! tensor. The counterpart of `super::export`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use candle_core::Tensor;
use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::checkpoint_tensors::CheckpointTensor;
use super::config::ModelConfig;
use super::layout::weight_files;
use super::parameters::{self, Parameter, Role, parameters};
use super::weights::Weights;
use crate::kernels::cpu;
use crate::output::Progress;

/// Reads the weights of a folder: `model.safetensors`, or the shards that `model.safetensors.index.json` lists. Counts the bytes in
/// `progress`, as parts of the work in progress.
///
/// # Errors
/// If a file is missing, truncated or corrupt, or if a tensor is missing, unexpected, not finite, or has another shape than `config` says.
/// The message names the file and the tensor.
pub fn load(folder: &Path, config: &ModelConfig, progress: &Progress) -> Result<Weights> {
    from_paths(&weight_files(folder)?, config, progress)
}

/// Reads the weights of a safetensors file. Counts the bytes like [`load`].
///
/// # Errors
/// If the file is missing, truncated or corrupt, or if a tensor is missing, unexpected, not finite, or has another shape than `config`
/// says. The message names the file and the tensor.
pub fn load_file(path: &Path, config: &ModelConfig, progress: &Progress) -> Result<Weights> {
    from_paths(&[path.to_owned()], config, progress)
}

fn from_paths(paths: &[PathBuf], config: &ModelConfig, progress: &Progress) -> Result<Weights> {
    let mut store = Store::default();
    paths.iter().try_for_each(|path| store.add(FileSource::File(path.clone())))?;
    store.weights(config, progress)
}

/// Reads the weights of a safetensors file in memory.
///
/// # Errors
/// If the file is truncated or corrupt, or if a tensor is missing, unexpected, not finite, or has another shape than `config` says. The
/// message names the tensor.
pub fn from_bytes(bytes: &'static [u8], config: &ModelConfig) -> Result<Weights> {
    let mut store = Store::default();
    store.add(FileSource::Memory(bytes))?;
    store.weights(config, &Progress::hidden())
}

/// Checks a folder's weights against the configuration by their headers: names, shapes and dtypes, but not values.
///
/// # Errors
/// If a file is missing, truncated or corrupt, or if a tensor is missing, unexpected, or has another shape or dtype than expected. The
/// message names the file and the tensor.
pub fn check(folder: &Path, config: &ModelConfig) -> Result<()> {
    let mut store = Store::default();
    weight_files(folder)?.into_iter().try_for_each(|path| store.add(FileSource::File(path)))?;
    store.check(config)
}

/// Maximum bytes of a header, as in the safetensors library.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// Number of elements to read and convert at a time, few enough to stay in the CPU cache.
const CHUNK_ELEMENTS: usize = 1 << 18;
/// Minimum number of rows in a chunk. Rows of a transposed tensor become adjacent elements of our tensor's rows, and a cache line has 16
/// elements.
const MIN_CHUNK_ROWS: usize = 16;

/// A file on disk or in memory.
enum FileSource {
    File(PathBuf),
    Memory(&'static [u8]),
}

trait ReadSeek: Read + Seek {}
impl<T: Read + Seek> ReadSeek for T {}

impl FileSource {
    fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Memory(_) => "the embedded model".to_owned(),
        }
    }

    fn open(&self) -> Result<Box<dyn ReadSeek>> {
        Ok(match self {
            Self::File(path) => Box::new(File::open(path).with_context(|| format!("cannot open {}", path.display()))?),
            Self::Memory(bytes) => Box::new(Cursor::new(*bytes)),
        })
    }
}

/// A tensor in a file.
struct Entry {
    file: usize,
    info: TensorInfo,
    /// The position of its first byte in the file.
    offset: u64,
}

impl Entry {
    fn bytes(&self) -> u64 {
        (self.info.data_offsets.1 - self.info.data_offsets.0) as u64
    }
}

/// All tensors of one or more files, by name.
#[derive(Default)]
struct Store {
    files: Vec<FileSource>,
    tensors: BTreeMap<String, Entry>,
}

impl Store {
    fn add(&mut self, file_source: FileSource) -> Result<()> {
        let name = file_source.name();
        let mut source = file_source.open()?;
        let size = source.seek(SeekFrom::End(0))?;
        source.rewind()?;
        let mut length = [0; 8];
        source
            .read_exact(&mut length)
            .with_context(|| format!("{name} is too short to be a safetensors file: {size} bytes, expected more than 8"))?;
        let header = u64::from_le_bytes(length);
        ensure!(
            header <= size.saturating_sub(8),
            "{name} is truncated or not a safetensors file: its header claims {header} of {size} bytes"
        );
        ensure!(
            header <= MAX_HEADER_BYTES,
            "{name} is not a safetensors file: its header claims {header} bytes, expected at most {MAX_HEADER_BYTES}"
        );
        let mut buffer = vec![0; header as usize];
        source.read_exact(&mut buffer)?;
        let metadata: Metadata =
            serde_json::from_slice(&buffer).with_context(|| format!("{name} is corrupt: its safetensors header is not valid"))?;
        let start = 8 + header;
        let expected = start + metadata.tensors().values().map(|info| info.data_offsets.1 as u64).max().unwrap_or(0);
        ensure!(expected <= size, "{name} is truncated: it has {size} bytes, expected {expected} according to its header");
        for (tensor, info) in metadata.tensors() {
            let entry = Entry { file: self.files.len(), info: info.clone(), offset: start + info.data_offsets.0 as u64 };
            if let Some(other) = self.tensors.insert(tensor.clone(), entry) {
                bail!("tensor {tensor} is in both {} and {name}, expected in one file", self.files[other.file].name());
            }
        }
        self.files.push(file_source);
        Ok(())
    }

    /// Checks that the files have every tensor that the configuration describes, with its shape and a supported dtype, and no other tensor.
    fn check(&self, config: &ModelConfig) -> Result<()> {
        let table = parameters(config);
        for (row, part) in table.iter().flat_map(|row| row.parts.iter().map(move |part| (row, part))) {
            ensure!(
                row.role != Role::Head || self.tensors.contains_key(&part.name),
                "{}; tie_word_embeddings in config.json is not true: set it to true if the model's head is its embedding",
                self.missing(part)
            );
            self.find(part)?;
        }
        // Tied checkpoints may still have a head tensor, and old exports have rotary tables.
        let head = parameters::head(config);
        let names: BTreeSet<&str> = table.iter().chain([&head]).flat_map(|row| &row.parts).map(|part| part.name.as_str()).collect();
        let is_extra = |name: &&String| !names.contains(name.as_str()) && !name.ends_with("rotary_emb.inv_freq");
        let extra: Vec<&str> = self.tensors.keys().filter(is_extra).map(String::as_str).take(3).collect();
        ensure!(extra.is_empty(), "{} has tensors that config.json does not describe: {} ...", self.names(), extra.join(", "));
        Ok(())
    }

    /// Checks all names and shapes, then reads the tensors in parallel and counts their bytes.
    fn weights(&self, config: &ModelConfig, progress: &Progress) -> Result<Weights> {
        self.check(config)?;
        let table = parameters(config);
        let parts = table.iter().flat_map(|row| &row.parts);
        let bytes: Vec<u64> = parts.map(|part| Ok(self.find(part)?.bytes())).collect::<Result<_>>()?;
        progress.expect_bytes(bytes.iter().sum());
        if config.tied {
            self.check_tied(config)?;
        }
        let loaded: Vec<Tensor> = table.par_iter().map(|row| self.load(row, progress)).collect::<Result<_>>()?;
        let mut loaded = loaded.into_iter();
        Weights::build(config, |row| loaded.next().with_context(|| format!("no tensor {}", row.name())))
    }

    /// Checks that the head tensor of a tied checkpoint, if it has one, equals the embedding.
    fn check_tied(&self, config: &ModelConfig) -> Result<()> {
        let only = |row: Parameter| row.parts.into_iter().next().context("a tensor without parts");
        let (embedding, head) = (only(parameters::embedding(config))?, only(parameters::head(config))?);
        if !self.tensors.contains_key(&head.name) {
            return Ok(());
        }
        let (embedding_entry, head_entry) = (self.find(&embedding)?, self.find(&head)?);
        let rows = (CHUNK_ELEMENTS / config.hidden).max(1);
        (0..config.vocabulary).into_par_iter().step_by(rows).try_for_each(|first| {
            let (start, count) = (first * config.hidden, rows.min(config.vocabulary - first) * config.hidden);
            let (mut embedding_values, mut head_values) = (Vec::new(), Vec::new());
            self.read(&embedding, start, count, self.files[embedding_entry.file].open()?.as_mut(), &mut embedding_values)?;
            self.read(&head, start, count, self.files[head_entry.file].open()?.as_mut(), &mut head_values)?;
            ensure!(
                embedding_values == head_values,
                "config.json ties {} to {}, but the two differ in {}: set tie_word_embeddings to false",
                head.name,
                embedding.name,
                self.names()
            );
            Ok(())
        })
    }

    fn names(&self) -> String {
        self.files.iter().map(FileSource::name).collect::<Vec<_>>().join(", ")
    }

    fn missing(&self, part: &CheckpointTensor) -> String {
        format!("tensor {} is missing from {}, expected with shape {:?} according to config.json", part.name, self.names(), part.shape)
    }

    fn find(&self, part: &CheckpointTensor) -> Result<&Entry> {
        let entry = self.tensors.get(&part.name).with_context(|| self.missing(part))?;
        let (name, found) = (self.files[entry.file].name(), &entry.info.shape);
        ensure!(
            *found == part.shape,
            "tensor {} in {name} has shape {found:?}, expected {:?} according to config.json",
            part.name,
            part.shape
        );
        // The product cannot overflow: the shape equals the configured one, whose sizes are limited.
        let (dtype, elements) = (entry.info.dtype, found.iter().product::<usize>());
        ensure!(
            matches!(dtype, Dtype::F32 | Dtype::BF16 | Dtype::F16),
            "tensor {} in {name} has dtype {dtype:?}, expected F32, BF16 or F16",
            part.name
        );
        let bytes = entry.bytes();
        ensure!(
            bytes * 8 == (elements * dtype.bitsize()) as u64,
            "tensor {} in {name} has {bytes} bytes for {elements} values of {dtype:?}",
            part.name
        );
        Ok(entry)
    }

    /// Reads one of our tensors from the checkpoint's tensors that make it up.
    fn load(&self, row: &Parameter, progress: &Progress) -> Result<Tensor> {
        let width = row.width();
        let mut ours = vec![0.0; row.shape.elem_count()];
        for part in &row.parts {
            let (total, columns) = part.rows_and_columns();
            let rows = (CHUNK_ELEMENTS / columns).max(MIN_CHUNK_ROWS);
            if part.transposed || part.columns.len() < width {
                let mut source = self.files[self.find(part)?.file].open()?;
                let mut values = Vec::new();
                for first in (0..total).step_by(rows) {
                    progress.add_parts(self.read(
                        part,
                        first * columns,
                        (total - first).min(rows) * columns,
                        source.as_mut(),
                        &mut values,
                    )?);
                    part.import_rows(first, &values, &mut ours, width);
                }
            } else {
                // Our tensor has the same rows in the same order, so all threads can read parts of it.
                ours.par_chunks_mut(rows * 16 * columns).enumerate().try_for_each(|(chunk, ours)| {
                    let mut source = self.files[self.find(part)?.file].open()?;
                    let mut values = Vec::new();
                    for (index, ours) in ours.chunks_mut(rows * columns).enumerate() {
                        let first = (chunk * 16 + index) * rows * columns;
                        progress.add_parts(self.read(part, first, ours.len(), source.as_mut(), &mut values)?);
                        ours.copy_from_slice(&values);
                    }
                    anyhow::Ok(())
                })?;
            }
        }
        Ok(cpu::tensor(ours, &row.shape)?)
    }

    /// Reads `count` elements of a tensor, from element `first` on, into `values`, as f32. Returns the number of bytes read.
    fn read(&self, part: &CheckpointTensor, first: usize, count: usize, source: &mut dyn ReadSeek, values: &mut Vec<f32>) -> Result<usize> {
        let entry = self.find(part)?;
        let name = || format!("tensor {} of {}", part.name, self.files[entry.file].name());
        let size = entry.info.dtype.bitsize() / 8;
        let mut bytes = vec![0; count * size];
        source.seek(SeekFrom::Start(entry.offset + (first * size) as u64))?;
        source.read_exact(&mut bytes).with_context(|| format!("cannot read {}", name()))?;
        values.clear();
        match entry.info.dtype {
            Dtype::F32 => values.extend(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))),
            Dtype::BF16 => values.extend(bytes.chunks_exact(2).map(|b| f32::from_bits(u32::from(u16::from_le_bytes([b[0], b[1]])) << 16))),
            Dtype::F16 => {
                let halves: Vec<f16> = bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]])).collect();
                values.resize(count, 0.0);
                halves.convert_to_f32_slice(values);
            }
            other => bail!("{} has dtype {other:?}, expected F32, BF16 or F16", name()),
        }
        // Without an early exit, the compiler vectorizes this loop. Only the message needs the position.
        if values.iter().fold(false, |found, value| found | !value.is_finite()) {
            let index = values.iter().position(|value| !value.is_finite()).unwrap_or(0);
            let file = self.files[entry.file].name();
            bail!("tensor {} in {file} has a value that is not finite ({} at element {})", part.name, values[index], first + index);
        }
        Ok(bytes.len())
    }
}
