//! Weights in and out of safetensors files in Hugging Face's layout: read tensor by tensor, checked against the configuration, converted to f32.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo, TensorView};

use super::config::ModelConfig;
use super::names::{Part, parts};
use super::weights::Weights;
use crate::kernels;

/// The dtypes that weights are stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightDtype {
    /// 4 bytes.
    F32,
    /// 2 bytes, the range of f32.
    Bf16,
    /// 2 bytes, the precision of 11 bits.
    F16,
}

impl WeightDtype {
    /// The name that `config.json` uses.
    pub fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
            Self::F16 => "float16",
        }
    }

    fn safetensors(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::Bf16 => Dtype::BF16,
            Self::F16 => Dtype::F16,
        }
    }

    fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::Bf16 => values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
            Self::F16 => values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
        }
    }
}

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
    for path in paths {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let size = file.metadata()?.len();
        store.add(path.display().to_string(), Box::new(BufReader::new(file)), size)?;
    }
    store.weights(config)
}

/// Reads the weights of one safetensors file that is already in memory.
pub fn from_bytes(bytes: &'static [u8], config: &ModelConfig) -> Result<Weights> {
    let mut store = Store::default();
    store.add("the embedded model".to_owned(), Box::new(Cursor::new(bytes)), bytes.len() as u64)?;
    store.weights(config)
}

/// Writes the weights under Hugging Face's names as one safetensors file's bytes, tied weights once.
pub fn to_bytes(weights: &Weights, config: &ModelConfig, dtype: WeightDtype) -> Result<Vec<u8>> {
    let mut tensors = Vec::new();
    for (name, tensor) in weights.entries() {
        let width = tensor.dims()[tensor.rank() - 1];
        for part in parts(config, &name) {
            let values = kernels::read([tensor], |[values]| part.extract(values, width))?;
            tensors.push((part.name, part.shape, dtype.encode(&values)));
        }
    }
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(dtype.safetensors(), shape.clone(), bytes);
        view.map(|view| (name.as_str(), view)).map_err(|error| anyhow::anyhow!("cannot write {name}: {error}"))
    });
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    safetensors::serialize(views.collect::<Result<Vec<_>>>()?, Some(metadata)).context("cannot write the weights")
}

fn weight_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let single = folder.join("model.safetensors");
    if single.exists() {
        return Ok(vec![single]);
    }
    let index = folder.join("model.safetensors.index.json");
    let Ok(text) = std::fs::read_to_string(&index) else {
        bail!("{} has neither model.safetensors nor model.safetensors.index.json", folder.display());
    };
    let place = index.display();
    let index: serde_json::Value = serde_json::from_str(&text).with_context(|| format!("{place} is not JSON"))?;
    let map = index.get("weight_map").and_then(|map| map.as_object()).with_context(|| format!("{place} has no weight_map"))?;
    let mut names = map.values().filter_map(|file| file.as_str());
    if let Some(name) = names.clone().find(|name| name.contains(['/', '\\'])) {
        bail!("{place} names \"{name}\", expected files beside it such as model-00001-of-00002.safetensors");
    }
    let mut files: Vec<PathBuf> = names.by_ref().map(|file| folder.join(file)).collect();
    files.sort();
    files.dedup();
    Ok(files)
}

trait Source: Read + Seek {}
impl<T: Read + Seek> Source for T {}

/// All tensors of one or more files, by name.
#[derive(Default)]
struct Store {
    files: Vec<(String, Box<dyn Source>)>,
    tensors: BTreeMap<String, (usize, TensorInfo, u64)>,
}

impl Store {
    fn add(&mut self, name: String, mut source: Box<dyn Source>, size: u64) -> Result<()> {
        let mut length = [0; 8];
        source
            .read_exact(&mut length)
            .with_context(|| format!("{name} is too short to be a safetensors file: {size} bytes, expected more than 8"))?;
        let header = u64::from_le_bytes(length);
        ensure!(
            header <= size.saturating_sub(8),
            "{name} is truncated or no safetensors file: its header would be {header} of {size} bytes"
        );
        let mut buffer = vec![0; header as usize];
        source.read_exact(&mut buffer)?;
        let metadata: Metadata = serde_json::from_slice(&buffer).with_context(|| format!("{name} has a broken safetensors header"))?;
        let start = 8 + header;
        let expected = start + metadata.tensors().values().map(|info| info.data_offsets.1 as u64).max().unwrap_or(0);
        ensure!(expected <= size, "{name} is truncated: {size} bytes, its header promises {expected}");
        for (tensor, info) in metadata.tensors() {
            self.tensors.insert(tensor.clone(), (self.files.len(), info.clone(), start));
        }
        self.files.push((name, source));
        Ok(())
    }

    /// Every tensor that the configuration asks for, and no other.
    fn weights(mut self, config: &ModelConfig) -> Result<Weights> {
        let weights = Weights::build(config, |name, shape| {
            let width = shape.dims()[shape.rank() - 1];
            let mut ours = vec![0.0; shape.elem_count()];
            for part in parts(config, name) {
                part.place(&self.take(&part)?, &mut ours, width);
            }
            Ok(kernels::tensor(ours, shape)?)
        })?;
        // A tied checkpoint may still carry its head; old exports carry rotary tables.
        let extra = self.tensors.keys().filter(|name| *name != "lm_head.weight" && !name.ends_with("rotary_emb.inv_freq"));
        let extra: Vec<&str> = extra.map(String::as_str).take(3).collect();
        ensure!(extra.is_empty(), "{} has tensors that config.json does not ask for: {} ...", self.names(), extra.join(", "));
        Ok(weights)
    }

    fn names(&self) -> String {
        self.files.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
    }

    fn take(&mut self, part: &Part) -> Result<Vec<f32>> {
        let Some((file, info, start)) = self.tensors.remove(&part.name) else {
            bail!("tensor {} is missing from {}; config.json asks for it with shape {:?}", part.name, self.names(), part.shape);
        };
        let (name, source) = &mut self.files[file];
        ensure!(info.shape == part.shape, "tensor {} in {name} has shape {:?}, config.json says {:?}", part.name, info.shape, part.shape);
        source.seek(SeekFrom::Start(start + info.data_offsets.0 as u64))?;
        let mut bytes = vec![0; info.data_offsets.1 - info.data_offsets.0];
        source.read_exact(&mut bytes).with_context(|| format!("cannot read tensor {} of {name}", part.name))?;
        let values: Vec<f32> = match info.dtype {
            Dtype::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            Dtype::BF16 => bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            Dtype::F16 => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            other => bail!("tensor {} in {name} is {other:?}; known are F32, BF16 and F16", part.name),
        };
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            bail!("tensor {} in {name} has a value that is not finite ({} at element {index})", part.name, values[index]);
        }
        Ok(values)
    }
}
