//! Arguments that several commands share (device and kernels, data folder, chat template, form of the results), and the progress display of
//! downloads.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use anyhow::Result;
use clap::Args;
use indicatif::HumanBytes;
use toml::{Table, Value};

use crate::data::{DataStore, DownloadProgress, OnProgress};
use crate::kernels::{Backend, ComputeSettings, DeviceChoice, Kernels, Precision};
use crate::output::Progress;
use crate::source;
use crate::text::ChatSettings;

/// The device, kernels and dtype to compute with.
#[derive(Debug, Args)]
#[command(next_help_heading = "Compute options")]
pub struct ComputeArgs {
    /// Device to compute on: auto (a GPU if there is one; the embedded model stays on the CPU), cpu, or cuda[:N]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<DeviceChoice>,
    /// Kernels to compute with: this program's own (plain on the CPU, fused on a GPU) or candle's stock operations
    #[arg(long, value_enum, value_name = "BACKEND")]
    pub kernels: Option<Backend>,
    /// dtype of weights and activations; auto is f32 on the CPU and bf16 on a GPU
    #[arg(long, value_enum, value_name = "DTYPE")]
    pub dtype: Option<Precision>,
    /// Make sums on a GPU independent of the batch, so that sampler and trainer agree bit for bit (always true on the CPU)
    #[arg(long)]
    pub batch_invariant: bool,
}

impl ComputeArgs {
    /// Opens the kernels for a model on this machine.
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

    /// Returns the given flags as a layer of settings.
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

/// The folder of the published files.
#[derive(Debug, Args)]
pub struct DataArgs {
    /// Read published data from this folder (test/NAME/test.jsonl, train/*.parquet) instead of downloading it
    #[arg(long, env = "RLVR_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

impl DataArgs {
    /// Opens the published files: those in `--data-dir`, or downloads.
    pub fn store(&self) -> Result<DataStore> {
        Ok(DataStore::open(self.data_dir.as_deref())?.on_progress(download_progress()))
    }
}

/// The chat template that turns questions into prompts.
#[derive(Debug, Args)]
pub struct ChatArgs {
    /// Jinja chat template to use instead of the checkpoint's
    #[arg(long, value_name = "FILE")]
    pub chat_template: Option<PathBuf>,
    /// Date that chat templates show as today's (default: today)
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub date: Option<String>,
}

impl ChatArgs {
    /// Reads the template and the date, and checks what can be checked without a tokenizer. `needed`: a checkpoint without a template is an
    /// error unless `--chat-template` is given.
    pub fn settings(&self, needed: bool) -> Result<ChatSettings> {
        ChatSettings::read(self.chat_template.as_deref(), self.date.clone(), needed)
    }
}

/// The form of a command's results.
#[derive(Clone, Copy, Debug, Args)]
pub struct JsonArgs {
    /// Print the results as one JSON document instead of tables
    #[arg(long)]
    json: bool,
}

impl JsonArgs {
    /// True with `--json`.
    pub fn is_on(self) -> bool {
        self.json
    }

    /// Prints the results to stdout: `document` on one line with `--json`, `tables` otherwise.
    pub fn print(self, document: impl FnOnce() -> Result<serde_json::Value>, tables: impl FnOnce()) -> Result<()> {
        if self.json {
            print_result!("{}", document()?);
        } else {
            tables();
        }
        Ok(())
    }
}

/// Minimum size of a download that prints a line if there is no terminal for a progress display.
const LARGE_BYTES: u64 = 10 << 20;

/// Shows downloads, one file at a time: in the progress display, or one line for a large file if nothing is drawn.
pub fn download_progress() -> OnProgress {
    // The file, the display, and the name of the work that the download interrupts.
    let current: Mutex<Option<(String, Progress, String)>> = Mutex::new(None);
    Arc::new(move |transfer: &DownloadProgress| {
        let mut current = current.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (received, total) = (transfer.received_bytes, transfer.total_bytes.unwrap_or(0));
        if current.as_ref().is_none_or(|(name, ..)| *name != transfer.name) {
            // A file that is complete at the first report was already on disk.
            if received > 0 && received == total {
                return;
            }
            let progress = Progress::new();
            if total >= LARGE_BYTES && !progress.is_drawn() {
                message!("downloading {}, {}", transfer.name, HumanBytes(total));
            }
            let before = progress.work();
            *current = Some((transfer.name.clone(), progress, before));
        }
        let Some((name, progress, before)) = current.as_ref() else { return };
        progress.transfer(&format!("downloading {name}"), received, total);
        if received > 0 && received == total {
            progress.begin(before);
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
    fn compute_args_layer_has_only_given_flags() {
        let resolved = |args: &ComputeArgs| {
            let configured = ComputeSettings { device: DeviceChoice::Cuda(1), dtype: Precision::Bf16, ..ComputeSettings::default() };
            let defaults = RunSettings { compute: configured, ..RunSettings::demonstration() };
            config::resolve(&defaults, &[args.layer().unwrap()]).unwrap().compute
        };
        let none = ComputeArgs { device: None, kernels: None, dtype: None, batch_invariant: false };
        let found = resolved(&none);
        assert_eq!(
            (found.device, found.kernels, found.dtype, found.batch_invariant),
            (DeviceChoice::Cuda(1), Backend::Auto, Precision::Bf16, false)
        );
        let all = ComputeArgs {
            device: Some(DeviceChoice::Cpu),
            kernels: Some(Backend::Fused),
            dtype: Some(Precision::F32),
            batch_invariant: true,
        };
        let found = resolved(&all);
        assert_eq!(
            (found.device, found.kernels, found.dtype, found.batch_invariant),
            (DeviceChoice::Cpu, Backend::Fused, Precision::F32, true)
        );
    }
}
