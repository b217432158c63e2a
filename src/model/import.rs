//! Weights in, from safetensors files in Hugging Face's layout: read tensor by tensor, checked against the configuration, converted to f32.
//! `super::export` is the way out.

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

use super::config::ModelConfig;
use super::layout::weight_files;
use super::parameters::{self, Parameter, Role, parameters};
use super::parts::Part;
use super::weights::Weights;
use crate::kernels::cpu;

/// Reads the weights of a folder: `model.safetensors`, or the shards that `model.safetensors.index.json` lists.
pub fn load(folder: &Path, config: &ModelConfig) -> Result<Weights> {
    from_paths(&weight_files(folder)?, config)
}

/// Reads the weights of one safetensors file.
pub fn load_file(path: &Path, config: &ModelConfig) -> Result<Weights> {
    from_paths(&[path.to_owned()], config)
}

fn from_paths(paths: &[PathBuf], config: &ModelConfig) -> Result<Weights> {
    let mut store = Store::default();
    paths.iter().try_for_each(|path| store.add(Place::File(path.clone())))?;
    store.weights(config)
}

/// Reads the weights of one safetensors file that is already in memory.
pub fn from_bytes(bytes: &'static [u8], config: &ModelConfig) -> Result<Weights> {
    let mut store = Store::default();
    store.add(Place::Memory(bytes))?;
    store.weights(config)
}

/// Checks that a folder's weights are those that the configuration asks for, by their headers: names, shapes and dtypes, no values.
///
/// # Errors
/// As [`load`], as far as headers tell.
pub fn check(folder: &Path, config: &ModelConfig) -> Result<()> {
    let mut store = Store::default();
    weight_files(folder)?.into_iter().try_for_each(|path| store.add(Place::File(path)))?;
    store.check(config)
}

/// Most bytes of a header, as in the safetensors library.
const HEADER_BYTES: u64 = 100_000_000;
/// Elements of a tensor that are read and converted at once: they stay in the processor's cache.
const CHUNK_ELEMENTS: usize = 1 << 18;
/// Fewest rows of a chunk: they become neighbours in a row of ours, and a cache line holds 16.
const TRANSPOSED_ROWS: usize = 16;

/// Where a file's bytes are.
enum Place {
    File(PathBuf),
    Memory(&'static [u8]),
}

trait Source: Read + Seek {}
impl<T: Read + Seek> Source for T {}

impl Place {
    fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Memory(_) => "the embedded model".to_owned(),
        }
    }

    fn open(&self) -> Result<Box<dyn Source>> {
        Ok(match self {
            Self::File(path) => Box::new(File::open(path).with_context(|| format!("cannot open {}", path.display()))?),
            Self::Memory(bytes) => Box::new(Cursor::new(*bytes)),
        })
    }
}

/// Where a tensor's bytes are.
struct Entry {
    file: usize,
    info: TensorInfo,
    /// Of its first byte in the file.
    offset: u64,
}

/// All tensors of one or more files, by name.
#[derive(Default)]
struct Store {
    files: Vec<Place>,
    tensors: BTreeMap<String, Entry>,
}

impl Store {
    fn add(&mut self, place: Place) -> Result<()> {
        let name = place.name();
        let mut source = place.open()?;
        let size = source.seek(SeekFrom::End(0))?;
        source.rewind()?;
        let mut length = [0; 8];
        source
            .read_exact(&mut length)
            .with_context(|| format!("{name} is too short to be a safetensors file: {size} bytes, expected more than 8"))?;
        let header = u64::from_le_bytes(length);
        ensure!(
            header <= size.saturating_sub(8),
            "{name} is truncated or no safetensors file: its header would be {header} of {size} bytes"
        );
        ensure!(
            header <= HEADER_BYTES,
            "{name} is no safetensors file: its header would have {header} bytes, expected at most {HEADER_BYTES}"
        );
        let mut buffer = vec![0; header as usize];
        source.read_exact(&mut buffer)?;
        let metadata: Metadata = serde_json::from_slice(&buffer).with_context(|| format!("{name} has a broken safetensors header"))?;
        let start = 8 + header;
        let expected = start + metadata.tensors().values().map(|info| info.data_offsets.1 as u64).max().unwrap_or(0);
        ensure!(expected <= size, "{name} is truncated: {size} bytes, its header promises {expected}");
        for (tensor, info) in metadata.tensors() {
            let entry = Entry { file: self.files.len(), info: info.clone(), offset: start + info.data_offsets.0 as u64 };
            if let Some(other) = self.tensors.insert(tensor.clone(), entry) {
                bail!("tensor {tensor} is in {} and in {name}; expected it once", self.files[other.file].name());
            }
        }
        self.files.push(place);
        Ok(())
    }

    /// Every tensor that the configuration asks for, and no other: names, shapes and dtypes.
    fn check(&self, config: &ModelConfig) -> Result<()> {
        let table = parameters(config);
        for (row, part) in table.iter().flat_map(|row| row.parts.iter().map(move |part| (row, part))) {
            ensure!(
                row.role != Role::Head || self.tensors.contains_key(&part.name),
                "{}, because tie_word_embeddings is not true there: where the model's head is its embedding, set it to true",
                self.missing(part)
            );
            self.find(part)?;
        }
        // A tied checkpoint may still carry its head; old exports carry rotary tables.
        let head = parameters::head(config);
        let names: BTreeSet<&str> = table.iter().chain([&head]).flat_map(|row| &row.parts).map(|part| part.name.as_str()).collect();
        let is_extra = |name: &&String| !names.contains(name.as_str()) && !name.ends_with("rotary_emb.inv_freq");
        let extra: Vec<&str> = self.tensors.keys().filter(is_extra).map(String::as_str).take(3).collect();
        ensure!(extra.is_empty(), "{} has tensors that config.json does not ask for: {} ...", self.names(), extra.join(", "));
        Ok(())
    }

    /// Every tensor, several at once: names and shapes first, then the values.
    fn weights(&self, config: &ModelConfig) -> Result<Weights> {
        self.check(config)?;
        if config.tied {
            self.check_tied(config)?;
        }
        let loaded: Vec<Tensor> = parameters(config).par_iter().map(|row| self.load(row)).collect::<Result<_>>()?;
        let mut loaded = loaded.into_iter();
        Weights::build(config, |row| loaded.next().with_context(|| format!("no tensor {}", row.name())))
    }

    /// A tied checkpoint may carry its head as well, but only as the embedding's copy.
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
            let (mut one, mut other) = (Vec::new(), Vec::new());
            self.read(&embedding, start, count, self.files[embedding_entry.file].open()?.as_mut(), &mut one)?;
            self.read(&head, start, count, self.files[head_entry.file].open()?.as_mut(), &mut other)?;
            ensure!(
                one == other,
                "config.json ties {} to {}, but {} has two different ones: set tie_word_embeddings to false",
                head.name,
                embedding.name,
                self.names()
            );
            Ok(())
        })
    }

    fn names(&self) -> String {
        self.files.iter().map(Place::name).collect::<Vec<_>>().join(", ")
    }

    fn missing(&self, part: &Part) -> String {
        format!("tensor {} is missing from {}; config.json asks for it with shape {:?}", part.name, self.names(), part.shape)
    }

    fn find(&self, part: &Part) -> Result<&Entry> {
        let entry = self.tensors.get(&part.name).with_context(|| self.missing(part))?;
        let (name, found) = (self.files[entry.file].name(), &entry.info.shape);
        ensure!(*found == part.shape, "tensor {} in {name} has shape {found:?}, config.json says {:?}", part.name, part.shape);
        // As large as the configuration says, which has limits.
        let (dtype, elements) = (entry.info.dtype, found.iter().product::<usize>());
        ensure!(
            matches!(dtype, Dtype::F32 | Dtype::BF16 | Dtype::F16),
            "tensor {} in {name} is {dtype:?}; known are F32, BF16 and F16",
            part.name
        );
        let bytes = entry.info.data_offsets.1 - entry.info.data_offsets.0;
        ensure!(
            bytes * 8 == elements * dtype.bitsize(),
            "tensor {} in {name} has {bytes} bytes for {elements} values of {dtype:?}",
            part.name
        );
        Ok(entry)
    }

    /// One of our tensors, from its parts.
    fn load(&self, row: &Parameter) -> Result<Tensor> {
        let width = row.width();
        let mut ours = vec![0.0; row.shape.elem_count()];
        for part in &row.parts {
            let (total, columns) = part.rows_and_columns();
            let rows = (CHUNK_ELEMENTS / columns).max(TRANSPOSED_ROWS);
            if part.transposed || part.columns.len() < width {
                let mut source = self.files[self.find(part)?.file].open()?;
                let mut values = Vec::new();
                for first in (0..total).step_by(rows) {
                    self.read(part, first * columns, (total - first).min(rows) * columns, source.as_mut(), &mut values)?;
                    part.place(first, &values, &mut ours, width);
                }
            } else {
                // Row for row as in the file: a large table is read by all threads.
                ours.par_chunks_mut(rows * 16 * columns).enumerate().try_for_each(|(chunk, ours)| {
                    let mut source = self.files[self.find(part)?.file].open()?;
                    let mut values = Vec::new();
                    for (index, ours) in ours.chunks_mut(rows * columns).enumerate() {
                        self.read(part, (chunk * 16 + index) * rows * columns, ours.len(), source.as_mut(), &mut values)?;
                        ours.copy_from_slice(&values);
                    }
                    anyhow::Ok(())
                })?;
            }
        }
        Ok(cpu::tensor(ours, &row.shape)?)
    }

    /// Reads `count` values of a tensor, from element `first` on, as f32.
    fn read(&self, part: &Part, first: usize, count: usize, source: &mut dyn Source, values: &mut Vec<f32>) -> Result<()> {
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
            other => bail!("{} is {other:?}; known are F32, BF16 and F16", name()),
        }
        // Without a short cut the test vectorises; the place is looked for only where there is one.
        if values.iter().fold(false, |broken, value| broken | !value.is_finite()) {
            let index = values.iter().position(|value| !value.is_finite()).unwrap_or(0);
            let file = self.files[entry.file].name();
            bail!("tensor {} in {file} has a value that is not finite ({} at element {})", part.name, values[index], first + index);
        }
        Ok(())
    }
}
