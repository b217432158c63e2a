//! Arguments that several commands share: where to compute, where data lies, which chat template; and downloads as people see them.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use anyhow::Result;
use clap::Args;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use toml::{Table, Value};

use crate::data::{Library, OnTransfer, Transfer};
use crate::kernels::{ComputeSettings, Kernels, Place, Precision, Version};
use crate::source;
use crate::text::ChatSettings;

/// Where and how to compute.
#[derive(Debug, Args)]
pub struct ComputeArgs {
    /// Where to compute: auto (a GPU where there is one), cpu, or cuda[:N]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<Place>,
    /// The operations: reference (candle's own) or fused (this program's); auto takes what the device has confirmed
    #[arg(long, value_enum, value_name = "VERSION")]
    pub kernels: Option<Version>,
    /// What weights and activations are: f32 or bf16; auto takes f32 on the CPU and bf16 on a GPU
    #[arg(long, value_enum, value_name = "DTYPE")]
    pub dtype: Option<Precision>,
    /// On a GPU, sums in one order whatever the batch, so that sampler and trainer agree to the bit (on the CPU they always do)
    #[arg(long)]
    pub batch_invariant: bool,
}

impl ComputeArgs {
    /// The operations for a model on this machine.
    pub fn open(&self, model: &str) -> Result<Arc<dyn Kernels>> {
        let defaults = ComputeSettings::default();
        let settings = ComputeSettings {
            device: self.device.unwrap_or(defaults.device),
            kernels: self.kernels.unwrap_or(defaults.kernels),
            dtype: self.dtype.unwrap_or(defaults.dtype),
            batch_invariant: self.batch_invariant,
        };
        source::open(&settings, model)
    }

    /// The flags that were given, as a layer of settings.
    pub fn layer(&self) -> Result<Table> {
        let mut compute = Table::new();
        compute.extend(self.device.map(|device| ("device".to_owned(), Value::String(device.to_string()))));
        for (key, value) in [("kernels", self.kernels.map(Value::try_from)), ("dtype", self.dtype.map(Value::try_from))] {
            compute.extend(value.transpose()?.map(|value| (key.to_owned(), value)));
        }
        compute.extend(self.batch_invariant.then(|| ("batch_invariant".to_owned(), Value::Boolean(true))));
        Ok(Table::from_iter([("compute".to_owned(), Value::Table(compute))]))
    }
}

#[derive(Debug, Args)]
pub struct DataArgs {
    /// A folder with test/NAME/test.jsonl and train/*.parquet, instead of downloads
    #[arg(long, env = "RLVR_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

impl DataArgs {
    /// The published files: in a folder, else downloaded.
    pub fn library(&self) -> Result<Library> {
        Ok(Library::open(self.data_dir.as_deref())?.on_transfer(transfers()))
    }
}

/// The chat template of commands that ask questions.
#[derive(Debug, Args)]
pub struct ChatArgs {
    /// A chat template in place of the checkpoint's (Jinja)
    #[arg(long, value_name = "FILE")]
    pub chat_template: Option<PathBuf>,
    /// The date that templates print as today's (default: today)
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub date: Option<String>,
}

impl ChatArgs {
    /// The template's contents and the date, checked as far as can be without a tokenizer.
    pub fn settings(&self, needed: bool) -> Result<ChatSettings> {
        ChatSettings::read(self.chat_template.as_deref(), self.date.clone(), needed)
    }
}

/// From this size on a file is worth a line where there is no terminal for a bar.
const LARGE_BYTES: u64 = 10 << 20;

/// Downloads, one file after the other: a bar that goes when the file is there, or, without a terminal, a line.
pub fn transfers() -> OnTransfer {
    let current: Mutex<Option<(String, ProgressBar)>> = Mutex::new(None);
    Arc::new(move |transfer: &Transfer| {
        let mut current = current.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (received, total) = (transfer.received_bytes, transfer.total_bytes.unwrap_or(0));
        if current.as_ref().is_none_or(|(name, _)| *name != transfer.name) {
            // A file that is there at once had been there before.
            if received > 0 && received == total {
                return;
            }
            if total >= LARGE_BYTES && !std::io::stderr().is_terminal() {
                tell!("downloading {}, {}", transfer.name, HumanBytes(total));
            }
            let bar = ProgressBar::new(total).with_message(transfer.name.clone());
            let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta} left");
            *current = Some((transfer.name.clone(), style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style))));
        }
        let Some((_, bar)) = current.as_ref() else { return };
        bar.set_position(received);
        if received > 0 && received == total {
            bar.finish_and_clear();
            *current = None;
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::train::RunSettings;

    #[test]
    fn a_layer_has_the_flags_that_were_given() {
        let resolved = |args: &ComputeArgs| {
            let before = ComputeSettings { device: Place::Cuda(1), dtype: Precision::Bf16, ..ComputeSettings::default() };
            let defaults = RunSettings { compute: before, ..RunSettings::demonstration() };
            config::resolve(&defaults, &[args.layer().unwrap()]).unwrap().compute
        };
        let none = ComputeArgs { device: None, kernels: None, dtype: None, batch_invariant: false };
        let found = resolved(&none);
        assert_eq!(
            (found.device, found.kernels, found.dtype, found.batch_invariant),
            (Place::Cuda(1), Version::Auto, Precision::Bf16, false)
        );
        let all =
            ComputeArgs { device: Some(Place::Cpu), kernels: Some(Version::Fused), dtype: Some(Precision::F32), batch_invariant: true };
        let found = resolved(&all);
        assert_eq!((found.device, found.kernels, found.dtype, found.batch_invariant), (Place::Cpu, Version::Fused, Precision::F32, true));
    }
}
