//! Selects the device, the backend and the dtype: the settings, and how they resolve on a given machine.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Result, bail};
use candle_core::{DType, Device};
use serde::{Deserialize, Serialize};

use super::confirmation;
use super::gpu_info::{check_usable, info, name};
use super::{Cpu, Kernels, Stock};

/// The settings of the section `compute`: where and how models are computed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ComputeSettings {
    /// `auto` (the first GPU if it is usable, otherwise the CPU), `cpu`, `cuda`, or `cuda:N`.
    pub device: DeviceChoice,
    /// The backend; `auto` selects it by device.
    pub kernels: Backend,
    /// The dtype of weights and activations.
    pub dtype: Precision,
    /// Makes products sum in the same order for any number of rows, so that sampler and trainer agree bit for bit. The plain loops
    /// always do.
    pub batch_invariant: bool,
}

/// The values of the setting `device`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceChoice {
    /// The first GPU if it is usable, otherwise the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The NVIDIA GPU with this number.
    Cuda(usize),
}

/// The values of the setting `kernels`: which implementation of the operations is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Plain on the CPU; fused on confirmed GPUs and with --batch-invariant; stock on other GPUs.
    #[default]
    Auto,
    /// Candle's stock operations, on any device.
    #[value(alias = "reference")]
    Stock,
    /// This program's loops in f32, on the CPU only.
    Plain,
    /// This program's kernels for NVIDIA GPUs; on the CPU, the same as plain.
    Fused,
}

/// The values of the setting `dtype`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// f32 on the CPU, bf16 on a GPU.
    #[default]
    Auto,
    /// 4 bytes per weight and activation.
    F32,
    /// 2 bytes per weight and activation; weight gradients and master weights are f32.
    Bf16,
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.split_once(':') {
            None if text == "auto" => Ok(Self::Auto),
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", number)) => {
                number.parse().map(Self::Cuda).map_err(|_| format!("\"{number}\" is not a GPU number: write cuda:N, such as cuda:0"))
            }
            _ => Err(format!("unknown device \"{text}\"; expected one of auto, cpu, cuda, cuda:N")),
        }
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse()
    }
}

impl From<DeviceChoice> for String {
    fn from(device: DeviceChoice) -> Self {
        device.to_string()
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(0) => f.write_str("cuda"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

/// The settings resolved for one machine, without `auto`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compute {
    /// The GPU's number; `None` for the CPU.
    pub gpu: Option<usize>,
    /// True for candle's stock operations; false for this program's own: the plain loops on the CPU, the fused kernels on a GPU.
    pub stock: bool,
    /// The dtype of weights and activations: f32 or bf16.
    pub dtype: DType,
    /// True if products sum in the same order for any number of rows. The plain loops always do.
    pub batch_invariant: bool,
}

impl ComputeSettings {
    /// Resolves the settings for this machine.
    ///
    /// # Errors
    /// If the requested device does not exist or cannot be used, or the settings contradict each other.
    pub fn resolve(&self) -> Result<Compute> {
        let gpu = match self.device {
            DeviceChoice::Cpu => None,
            DeviceChoice::Cuda(number) => Some(check_usable(number).map(|()| number)?),
            DeviceChoice::Auto => match check_usable(0) {
                Ok(()) => Some(0),
                // Users expect that a GPU is used if there is one, so a problem with it deserves a warning.
                Err(reason) if info(0).is_some() => {
                    tracing::warn!("computing on the CPU: {reason}");
                    None
                }
                Err(reason) => {
                    tracing::debug!(%reason, "computing on the CPU");
                    None
                }
            },
        };
        self.on(gpu)
    }

    /// Resolves the settings for the GPU with this number, or for the CPU if `None`.
    ///
    /// # Errors
    /// If the settings contradict each other, or the device does not support the backend or the dtype.
    pub fn on(&self, gpu: Option<usize>) -> Result<Compute> {
        self.resolve_for(gpu, gpu.and_then(info).is_some_and(|info| confirmation::is_confirmed(&info)))
    }

    fn resolve_for(&self, gpu: Option<usize>, is_confirmed: bool) -> Result<Compute> {
        let stock = match self.kernels {
            Backend::Auto => gpu.is_some() && !is_confirmed && !self.batch_invariant,
            Backend::Stock => true,
            Backend::Plain | Backend::Fused => false,
        };
        if self.kernels == Backend::Plain && gpu.is_some() {
            bail!("--kernels plain works only on the CPU: use --device cpu, or --kernels fused on a GPU");
        }
        let dtype = match self.dtype {
            Precision::Auto if gpu.is_none() => DType::F32,
            Precision::Auto | Precision::Bf16 => DType::BF16,
            Precision::F32 => DType::F32,
        };
        if gpu.is_none() && !stock && dtype != DType::F32 {
            bail!("bf16 on the CPU needs --kernels stock: this program's own operations compute in f32 there");
        }
        if self.batch_invariant && stock {
            bail!("batch-invariant products need --kernels fused: stock operations select algorithms by the number of rows");
        }
        Ok(Compute { gpu, stock, dtype, batch_invariant: self.batch_invariant })
    }

    /// Returns advice for users whose GPU runs stock operations because the fused kernels are not confirmed on it; `None` in all other
    /// cases.
    pub fn advice(&self, compute: &Compute) -> Option<String> {
        let number = compute.gpu.filter(|_| self.kernels == Backend::Auto && compute.stock)?;
        let name = name(number).unwrap_or_else(|| format!("GPU {number}"));
        Some(format!(
            "this program's kernels are not confirmed on the {name}, so it uses slower stock operations: run scripts/gpu-check.sh (eight \
             minutes) to confirm them, or pass --kernels fused to use them unconfirmed"
        ))
    }
}

impl Compute {
    /// The plain loops on the CPU, in f32.
    pub fn cpu() -> Self {
        Self { gpu: None, stock: false, dtype: DType::F32, batch_invariant: false }
    }

    /// Creates kernels for these choices: selects the device, backend and dtype.
    ///
    /// # Errors
    /// If the GPU does not exist or cannot be initialized.
    pub fn open(&self) -> Result<Arc<dyn Kernels>> {
        Ok(match (self.gpu, self.stock) {
            (None, false) => Arc::new(Cpu),
            (None, true) => Arc::new(Stock::new(Device::Cpu, self.dtype)),
            (Some(number), _) => on_gpu(number, self)?,
        })
    }

    /// Describes the choices for people, for example `the CPU, f32, plain kernels`.
    pub fn describe(&self) -> String {
        let device = match self.gpu {
            None => "the CPU".to_owned(),
            Some(number) => name(number).unwrap_or_else(|| format!("GPU {number}")),
        };
        let backend = match (self.gpu, self.stock) {
            (_, true) => "stock",
            (None, false) => "plain",
            (Some(_), false) => "fused",
        };
        let dtype = if self.dtype == DType::BF16 { "bf16" } else { "f32" };
        format!("{device}, {dtype}, {backend} kernels{}", if self.batch_invariant { ", batch-invariant" } else { "" })
    }
}

/// The properties of the device and its kernels that determine how much memory a model needs and how much there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// True on a GPU.
    pub is_gpu: bool,
    /// True for candle's stock operations, whose temporary tensors need more memory than the plan counts.
    pub is_stock: bool,
    /// Bytes per element of weights and most activations.
    pub element_bytes: usize,
    /// Free bytes of the device's memory; `None` if the device uses the machine's main memory.
    pub free: Option<u64>,
    /// Total bytes of the device's memory; `None` if the device uses the machine's main memory.
    pub total: Option<u64>,
}

impl Compute {
    /// The target for a device with `total` bytes of memory, all of them free; `None` for a device that uses the machine's main memory.
    pub fn target(&self, total: Option<u64>) -> Target {
        let (is_gpu, element_bytes) = (self.gpu.is_some(), self.dtype.size_in_bytes());
        Target { is_gpu, is_stock: self.stock, element_bytes, free: total, total }
    }
}

impl Target {
    /// The target for existing kernels, with the memory that is free now.
    pub fn of(kernels: &dyn Kernels) -> Self {
        let memory = kernels.memory();
        Self {
            is_gpu: !kernels.device().is_cpu(),
            is_stock: kernels.backend() == Stock::BACKEND,
            element_bytes: kernels.dtype().size_in_bytes(),
            free: memory.map(|memory| memory.free),
            total: memory.map(|memory| memory.total),
        }
    }

    /// The target for the plain loops on the CPU, in f32.
    pub fn cpu() -> Self {
        Compute::cpu().target(None)
    }
}

#[cfg(not(feature = "cuda"))]
fn on_gpu(number: usize, _: &Compute) -> Result<Arc<dyn Kernels>> {
    check_usable(number)?;
    bail!("there is no GPU {number}")
}

#[cfg(feature = "cuda")]
fn on_gpu(number: usize, compute: &Compute) -> Result<Arc<dyn Kernels>> {
    let gpu = super::fused::cuda::Gpu::new(number, compute.batch_invariant)?;
    if compute.stock {
        return Ok(Arc::new(Stock::new(super::fused::Launch::device(&gpu).clone(), compute.dtype)));
    }
    Ok(Arc::new(super::Fused::new(Arc::new(gpu), compute.dtype)?))
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn device_choice_parses_names() {
        let check = |text: &str, device: DeviceChoice| assert_eq!(text.parse(), Ok(device), "{text}");
        check("auto", DeviceChoice::Auto);
        check("cpu", DeviceChoice::Cpu);
        check("cuda", DeviceChoice::Cuda(0));
        check("cuda:3", DeviceChoice::Cuda(3));
        assert_eq!(DeviceChoice::Cuda(3).to_string(), "cuda:3");
        for wrong in ["", "gpu", "cpu:0", "cuda:", "cuda:x", "cuda:-1"] {
            assert!(wrong.parse::<DeviceChoice>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn advice_is_only_for_stock_operations_selected_by_auto() {
        let check = |kernels: Backend, is_confirmed: bool, gpu: Option<usize>, expected: bool| {
            let settings = ComputeSettings { kernels, ..ComputeSettings::default() };
            let advice = settings.advice(&settings.resolve_for(gpu, is_confirmed).unwrap());
            assert_eq!(advice.is_some_and(|advice| advice.contains("scripts/gpu-check.sh")), expected, "{kernels:?} {gpu:?}");
        };
        check(Backend::Auto, false, Some(0), true);
        check(Backend::Auto, true, Some(0), false);
        check(Backend::Auto, false, None, false);
        check(Backend::Fused, false, Some(0), false);
        check(Backend::Stock, false, Some(0), false);
    }

    #[test]
    fn on_resolves_dtype_and_kernels_by_device() {
        let settings = ComputeSettings::default();
        assert_eq!(settings.on(None).unwrap(), Compute::cpu());
        assert_eq!(settings.on(Some(0)).unwrap().dtype, DType::BF16);
        assert!(settings.resolve_for(Some(0), false).unwrap().stock && !settings.resolve_for(Some(0), true).unwrap().stock);
        let fused = ComputeSettings { kernels: Backend::Fused, ..ComputeSettings::default() };
        assert!(!fused.resolve_for(Some(0), false).unwrap().stock);
        let bf16 = ComputeSettings { dtype: Precision::Bf16, ..ComputeSettings::default() };
        assert!(bf16.on(None).unwrap_err().to_string().contains("--kernels stock"));
        let stock = ComputeSettings { kernels: Backend::Stock, ..bf16 };
        assert_eq!(stock.on(None).unwrap().open().unwrap().dtype(), DType::BF16);
        assert_eq!(stock.on(None).unwrap().open().unwrap().backend(), "stock");
        let invariant = ComputeSettings { batch_invariant: true, ..stock };
        assert!(invariant.on(Some(0)).is_err());
        for own in [Backend::Plain, Backend::Fused] {
            let own = ComputeSettings { kernels: own, ..ComputeSettings::default() };
            assert_eq!(own.on(None).unwrap().open().unwrap().backend(), "plain");
        }
        let plain = ComputeSettings { kernels: Backend::Plain, ..ComputeSettings::default() };
        assert!(plain.on(Some(0)).unwrap_err().to_string().contains("--device cpu"));
    }

    /// Settings and flags accept the current names; `--kernels` also accepts the former name of `stock`.
    #[test]
    fn backend_names_stay_valid() {
        for (name, backend) in [("auto", Backend::Auto), ("stock", Backend::Stock), ("plain", Backend::Plain), ("fused", Backend::Fused)] {
            assert_eq!(Backend::from_str(name, false), Ok(backend));
            assert_eq!(serde_json::from_value::<Backend>(name.into()).unwrap(), backend);
            assert_eq!(serde_json::to_value(backend).unwrap(), name);
        }
        assert_eq!(Backend::from_str("reference", false), Ok(Backend::Stock));
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn resolve_reports_a_build_without_cuda() {
        let settings = ComputeSettings { device: DeviceChoice::Cuda(0), ..ComputeSettings::default() };
        assert!(settings.resolve().unwrap_err().to_string().contains("no CUDA support"));
        assert_eq!(ComputeSettings::default().resolve().unwrap(), Compute::cpu());
    }
}
