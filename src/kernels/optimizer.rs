//! The arguments of an optimizer step: its hyperparameters, and the parameter that it changes with its moments, in f32 or in 8 bits.

use std::sync::LazyLock;

use candle_core::{DType, Device, Result, Tensor};

/// Elements that share a scale, and values that a code can name.
pub const CODED: usize = 256;
/// The numbers of one step, the same for every parameter.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Learning rate of this step.
    pub lr: f32,
    /// Decay of the first moment. In f64: 1 - 0.999 in f32 is off by 5e-5 of itself.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay: a share `lr * weight_decay` of the parameter is removed.
    pub weight_decay: f32,
    /// What each gradient is multiplied with first: the clip of the global norm.
    pub gradient_scale: f32,
    /// Which step this is, from 1: corrects the moments' bias.
    pub count: u64,
}

/// A step's numbers as they multiply: what every version of the step computes with.
#[derive(Clone, Copy, Debug)]
pub struct Factors {
    /// What weight decay leaves of the parameter.
    pub keep: f32,
    /// Learning rate over the first moment's correction.
    pub rate: f32,
    /// What the first moment keeps.
    pub keep_first: f32,
    /// What it takes of the gradient.
    pub take_first: f32,
    /// What the second moment keeps.
    pub keep_second: f32,
    /// What it takes of the gradient's square.
    pub take_second: f32,
    /// The root of the second moment is divided by it.
    pub second_correction: f32,
}

impl Step {
    /// The numbers that elements are multiplied with.
    pub fn factors(&self) -> Factors {
        let corrections = [self.beta1, self.beta2].map(|beta| 1.0 - beta.powf(self.count as f64));
        Factors {
            keep: 1.0 - self.lr * self.weight_decay,
            rate: self.lr / corrections[0] as f32,
            keep_first: self.beta1 as f32,
            take_first: (1.0 - self.beta1) as f32,
            keep_second: self.beta2 as f32,
            take_second: (1.0 - self.beta2) as f32,
            second_correction: corrections[1].sqrt() as f32,
        }
    }
}

/// The two moments of a parameter.
#[derive(Clone, Debug)]
pub enum Moments {
    /// In f32, shaped as the parameter.
    Full {
        /// The mean gradient.
        first: Tensor,
        /// The mean of its square.
        second: Tensor,
    },
    /// In 8 bits.
    Coded {
        /// The mean gradient.
        first: Coded,
        /// The mean of its square.
        second: Coded,
    },
}

/// What an optimizer step changes, and the gradient that it reads. All of one number of elements.
#[derive(Clone, Copy, Debug)]
pub struct Parameter<'a> {
    /// What the model computes with, in the kernels' dtype or in f32.
    pub weight: &'a Tensor,
    /// The same in f32, where that dtype is another: what is updated, and then rounded to `weight`.
    pub master: Option<&'a Tensor>,
    /// The moments.
    pub moments: &'a Moments,
    /// The gradient, f32.
    pub gradient: &'a Tensor,
}

/// One moment of a parameter of n elements in 8 bits, on any device.
#[derive(Clone, Debug)]
pub struct Coded {
    /// `[n]`, u8.
    pub codes: Tensor,
    /// `[ceil(n / 256)]`, f32: the largest size in each block.
    pub scales: Tensor,
}

impl Coded {
    /// Zeros.
    pub fn zeros(count: usize, device: &Device) -> Result<Self> {
        let scales = Tensor::zeros(count.div_ceil(CODED), DType::F32, device)?;
        Ok(Self { codes: Tensor::zeros(count, DType::U8, device)?, scales })
    }

    /// Bytes of one moment with `count` elements.
    pub fn bytes(count: usize) -> u64 {
        (count + count.div_ceil(CODED) * size_of::<f32>()) as u64
    }

    /// Takes over another's codes and scales, in place, on whatever device this one is.
    ///
    /// # Errors
    /// When it has another size.
    pub fn set(&self, other: &Coded) -> Result<()> {
        for (target, source) in [(&self.codes, &other.codes), (&self.scales, &other.scales)] {
            if target.dims() != source.dims() || target.dtype() != source.dtype() {
                candle_core::bail!(
                    "found {:?} of {:?}, expected {:?} of {:?}",
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

/// The values of codes 0 to 255, ascending, as shares of a block's scale.
pub type Map = [f32; CODED];

/// The map of first moments, and that of second ones.
pub static MAPS: LazyLock<[Map; 2]> = LazyLock::new(|| [map(true), map(false)]);

/// Each decade below 1 has half as many values as the one above, in the middles of equal parts; 0 and 1 are added.
fn map(is_signed: bool) -> Map {
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
