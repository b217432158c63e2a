//! The arguments of an optimizer step: its hyperparameters, and the parameter to update, with its moments in f32 or quantized to 8 bits.

use std::sync::LazyLock;

use candle_core::{DType, Device, Result, Tensor};

/// Size of a quantization block, whose elements share a scale; also the number of values that an 8-bit code can represent.
pub const QUANTIZATION_BLOCK: usize = 256;

/// The hyperparameters of one step, the same for all parameters.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The learning rate of this step.
    pub lr: f32,
    /// Decay of the first moment. In f64, because 1 - 0.999 in f32 has a relative error of 5e-5.
    pub beta1: f64,
    /// Decay of the second moment, in f64 for the same reason.
    pub beta2: f64,
    /// Added to the square root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay: the step removes the fraction `lr * weight_decay` of the parameter.
    pub weight_decay: f32,
    /// Multiplies each gradient before anything else, to clip the global norm.
    pub gradient_scale: f32,
    /// The number of this step, from 1, for the bias correction of the moments.
    pub count: u64,
}

/// The precomputed factors of a step, as the plain loops and the fused kernels use them.
#[derive(Clone, Copy, Debug)]
pub struct Factors {
    /// Multiplies the parameter: 1 minus the product of learning rate and weight decay.
    pub weight_decay_factor: f32,
    /// The learning rate divided by the first moment's bias correction.
    pub step_size: f32,
    /// Multiplies the first moment: beta1.
    pub beta1: f32,
    /// Multiplies the gradient before it is added to the first moment: 1 - beta1, from f64.
    pub one_minus_beta1: f32,
    /// Multiplies the second moment: beta2.
    pub beta2: f32,
    /// Multiplies the squared gradient before it is added to the second moment: 1 - beta2, from f64.
    pub one_minus_beta2: f32,
    /// Divides the square root of the second moment: the square root of its bias correction.
    pub bias_correction2_sqrt: f32,
}

impl Step {
    /// Computes the factors of this step.
    pub fn factors(&self) -> Factors {
        let corrections = [self.beta1, self.beta2].map(|beta| 1.0 - beta.powf(self.count as f64));
        Factors {
            weight_decay_factor: 1.0 - self.lr * self.weight_decay,
            step_size: self.lr / corrections[0] as f32,
            beta1: self.beta1 as f32,
            one_minus_beta1: (1.0 - self.beta1) as f32,
            beta2: self.beta2 as f32,
            one_minus_beta2: (1.0 - self.beta2) as f32,
            bias_correction2_sqrt: corrections[1].sqrt() as f32,
        }
    }
}

/// The two moments of a parameter.
#[derive(Clone, Debug)]
pub enum Moments {
    /// In f32, with the parameter's shape.
    Full {
        /// The moving average of the gradient.
        first: Tensor,
        /// The moving average of the squared gradient.
        second: Tensor,
    },
    /// Quantized to 8 bits.
    Quantized {
        /// The moving average of the gradient.
        first: Quantized,
        /// The moving average of the squared gradient.
        second: Quantized,
    },
}

/// The tensors of an optimizer step. It reads the gradient and updates all others. All have the same number of elements.
#[derive(Clone, Copy, Debug)]
pub struct Parameter<'a> {
    /// The weight that the model computes with, in the kernels' dtype or in f32.
    pub weight: &'a Tensor,
    /// The master weight in f32; `None` if `weight` is f32 itself. The step updates the master weight and rounds it to `weight`.
    pub master: Option<&'a Tensor>,
    /// The moments, which determine whether the step is quantized.
    pub moments: &'a Moments,
    /// The gradient, f32.
    pub gradient: &'a Tensor,
}

/// One moment of a parameter with n elements, quantized to 8 bits by block (Dettmers et al. 2021), on any device.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// Codes `[n]`, u8: indices into the moment's map in [`QUANTIZATION_MAPS`].
    pub codes: Tensor,
    /// Scales `[ceil(n / 256)]`, f32: the largest magnitude in each block.
    pub scales: Tensor,
}

impl Quantized {
    /// Allocates a moment of `count` elements. All codes and scales are 0, so all values are 0.
    ///
    /// # Errors
    /// If the device fails.
    pub fn zeros(count: usize, device: &Device) -> Result<Self> {
        let scales = Tensor::zeros(Self::scale_count(count), DType::F32, device)?;
        Ok(Self { codes: Tensor::zeros(count, DType::U8, device)?, scales })
    }

    /// Bytes of one moment with `count` elements.
    pub fn bytes(count: usize) -> u64 {
        (count + Self::scale_count(count) * size_of::<f32>()) as u64
    }

    /// The number of scales of a moment with `count` elements.
    pub fn scale_count(count: usize) -> usize {
        count.div_ceil(QUANTIZATION_BLOCK)
    }

    /// Overwrites the codes and scales of this moment with those of `other`, which may be on another device.
    ///
    /// # Errors
    /// If the sizes or dtypes differ, or a device fails.
    pub fn set(&self, other: &Quantized) -> Result<()> {
        for (target, source) in [(&self.codes, &other.codes), (&self.scales, &other.scales)] {
            if target.dims() != source.dims() || target.dtype() != source.dtype() {
                candle_core::bail!(
                    "found a tensor of {:?} in {:?}, expected {:?} in {:?}",
                    source.dims(),
                    source.dtype(),
                    target.dims(),
                    target.dtype()
                );
            }
            target.slice_set(&source.to_device(target.device())?, 0, 0)?;
        }
        Ok(())
    }
}

/// The values of codes 0 to 255, ascending, as fractions of a block's scale.
pub type QuantizationMap = [f32; QUANTIZATION_BLOCK];

/// The maps of first (signed) and second (unsigned) moments, in this order.
pub static QUANTIZATION_MAPS: LazyLock<[QuantizationMap; 2]> = LazyLock::new(|| [map(true), map(false)]);

/// Divides each of the seven decades below 1 into equal parts and uses their midpoints, with their negatives if signed. Each decade has half
/// as many parts as the one above it. 0 and 1 are added.
fn map(is_signed: bool) -> QuantizationMap {
    let mut values = vec![0.0, 1.0];
    for decade in 0..7 {
        let parts = 1 << (if is_signed { 6 } else { 7 } - decade);
        for part in 0..parts {
            let value = (0.1 + 0.9 * (f64::from(part) + 0.5) / f64::from(parts)) / f64::from(10u32.pow(decade));
            values.push(value as f32);
            values.extend(is_signed.then_some(-value as f32));
        }
    }
    values.sort_by(f32::total_cmp);
    std::array::from_fn(|code| values[code])
}
