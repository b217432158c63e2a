//! Implements [`Kernels`] with candle's stock operations, on any device that candle supports, in f32 or bf16. Their errors set the
//! bounds for the fused kernels in bf16, and they run on GPUs on which the fused kernels are not confirmed. Products, including those of
//! attention, are rounded to the dtype; norms, rotations, softmax and the head compute in f32 internally, as in Hugging Face's
//! transformers.

use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor};

use crate::flow::SamplingMask;
use crate::kernels::copies;
use crate::kernels::cpu::adamw_8bit;
use crate::kernels::logits::check_mask;
use crate::kernels::shape::{BlockTables, Heads, Indices, LayerCache, Rotation, Segment};
use crate::kernels::{
    BLOCK, Cpu, DeviceMemory, Kernels, MASKED, Moments, Parameter, Pass, PendingSample, RowScores, SamplingParams, Step, pass,
};

mod attention;

/// Candle's stock operations on one device, in one dtype.
#[derive(Clone, Debug)]
pub struct Stock {
    device: Device,
    dtype: DType,
}

/// Number of elements whose squares are summed at once, in f64.
const SQUARES: usize = 1 << 24;

impl Stock {
    /// The name of this backend, as in `--kernels`.
    pub const BACKEND: &str = "stock";

    /// Creates stock operations on `device`, with weights and activations in `dtype` (f32 or bf16).
    pub fn new(device: Device, dtype: DType) -> Self {
        Self { device, dtype }
    }

    /// A matrix product in the factors' dtype. Candle has no bf16 product on the CPU, so there it is computed in f32 and rounded.
    fn multiply(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        if a.dtype() == DType::BF16 && self.device.is_cpu() {
            return to_f32(a)?.matmul(&to_f32(b)?)?.to_dtype(DType::BF16);
        }
        a.matmul(b)
    }

    fn u32_tensor(&self, values: &[u32]) -> Result<Tensor> {
        Tensor::new(values, &self.device)
    }

    fn f32_column(&self, values: &[f32]) -> Result<Tensor> {
        Tensor::new(values, &self.device)?.unsqueeze(1)
    }
}

/// Converts to f32.
fn to_f32(x: &Tensor) -> Result<Tensor> {
    x.to_dtype(DType::F32)
}

/// `target += change`, in place, rounded to the target's dtype.
fn add_to(target: &Tensor, change: &Tensor) -> Result<()> {
    // On an empty tensor, candle's operations return the tensor itself, and candle refuses to copy a tensor to itself.
    if target.elem_count() == 0 {
        return Ok(());
    }
    let sum = (to_f32(target)? + to_f32(change)?)?;
    target.slice_set(&sum.to_dtype(target.dtype())?.contiguous()?, 0, 0)
}

/// One AdamW step with moments in f32.
fn step_in_place(master: &Tensor, first: &Tensor, second: &Tensor, gradient: &Tensor, step: &Step) -> Result<()> {
    let gradient = (gradient * f64::from(step.gradient_scale))?;
    first.slice_set(&((first * step.beta1)? + (&gradient * (1.0 - step.beta1))?)?, 0, 0)?;
    second.slice_set(&((second * step.beta2)? + (gradient.sqr()? * (1.0 - step.beta2))?)?, 0, 0)?;
    let corrections = [step.beta1, step.beta2].map(|beta| 1.0 - beta.powf(step.count as f64));
    let root = ((second.sqrt()? / corrections[1].sqrt())? + f64::from(step.eps))?;
    let change = ((first / root)? * (f64::from(step.lr) / corrections[0]))?;
    let decayed = (master * (1.0 - f64::from(step.lr) * f64::from(step.weight_decay)))?;
    master.slice_set(&(decayed - change)?, 0, 0)
}

impl Kernels for Stock {
    fn backend(&self) -> &'static str {
        Self::BACKEND
    }

    fn device(&self) -> &Device {
        &self.device
    }

    fn dtype(&self) -> DType {
        self.dtype
    }

    fn memory(&self) -> Option<DeviceMemory> {
        #[cfg(feature = "cuda")]
        if let Device::Cuda(device) = &self.device {
            return crate::kernels::fused::cuda::memory(device).ok();
        }
        None
    }

    fn indices<'a>(&self, rows: &'a [u32]) -> Result<Indices<'a>> {
        Ok(Indices::Both(rows, self.u32_tensor(rows)?))
    }

    fn tables<'a>(&self, blocks: &'a [&'a [u32]], counts: &'a [usize]) -> Result<BlockTables<'a>> {
        Ok(BlockTables::Host { blocks, counts })
    }

    fn gather(&self, table: &Tensor, rows: &Indices) -> Result<Tensor> {
        table.index_select(rows.on_device()?, 0)
    }

    fn scatter_add_into(&self, target: &Tensor, rows: &[u32], values: &Tensor) -> Result<()> {
        let sum = to_f32(target)?.index_add(&self.u32_tensor(rows)?, &to_f32(values)?, 0)?;
        target.slice_set(&sum.to_dtype(target.dtype())?, 0, 0)
    }

    fn product(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let product = self.multiply(x, weight)?;
        match bias {
            Some(bias) => product.broadcast_add(bias),
            None => Ok(product),
        }
    }

    fn add_product_into(&self, target: &Tensor, x: &Tensor, weight: &Tensor) -> Result<()> {
        add_to(target, &self.multiply(x, weight)?)
    }

    fn add_product(&self, base: &Tensor, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let sum = base.copy()?;
        self.add_product_into(&sum, x, weight)?;
        Ok(sum)
    }

    fn rms_norm(&self, x: &Tensor, weight: &Tensor, eps: f32) -> Result<(Tensor, Tensor)> {
        let x = to_f32(x)?;
        let inverse_rms = (x.sqr()?.mean_keepdim(1)? + f64::from(eps))?.sqrt()?.recip()?;
        let y = x.broadcast_mul(&inverse_rms)?.broadcast_mul(&to_f32(weight)?)?;
        Ok((y.to_dtype(self.dtype)?, inverse_rms.squeeze(1)?))
    }

    /// With n = x r and g = dy w: dx = r (g - n mean(g n)).
    fn rms_norm_backward_into(
        &self,
        dx: &Tensor,
        weight_gradient: &Tensor,
        dy: &Tensor,
        x: &Tensor,
        weight: &Tensor,
        inverse_rms: &Tensor,
    ) -> Result<()> {
        let (dy, r) = (to_f32(dy)?, inverse_rms.unsqueeze(1)?);
        let n = to_f32(x)?.broadcast_mul(&r)?;
        add_to(weight_gradient, &(&dy * &n)?.sum(0)?)?;
        let g = dy.broadcast_mul(&to_f32(weight)?)?;
        let mean = (&g * &n)?.mean_keepdim(1)?;
        add_to(dx, &(g - n.broadcast_mul(&mean)?)?.broadcast_mul(&r)?)
    }

    fn rotate_in_place(&self, qkv: &Tensor, heads: Heads, rotation: &Rotation) -> Result<()> {
        let (rotated, half, t) = (heads.query + heads.key_value, heads.width / 2, rotation.positions.len());
        let at = rotation.positions.on_device()?;
        let Rotation { cos, sin, .. } = rotation;
        let (cos, sin) = (cos.index_select(at, 0)?.unsqueeze(1)?, sin.index_select(at, 0)?.unsqueeze(1)?);
        let x = to_f32(&qkv.narrow(1, 0, rotated * heads.width)?.contiguous()?)?.reshape((t, rotated, 2, half))?;
        let (first, second) = (x.narrow(2, 0, 1)?.squeeze(2)?, x.narrow(2, 1, 1)?.squeeze(2)?);
        let new_first = (first.broadcast_mul(&cos)? - second.broadcast_mul(&sin)?)?;
        let new_second = (second.broadcast_mul(&cos)? + first.broadcast_mul(&sin)?)?;
        let x = Tensor::stack(&[new_first, new_second], 2)?.reshape((t, rotated * heads.width))?;
        qkv.slice_set(&x.to_dtype(qkv.dtype())?, 1, 0)
    }

    /// Rotates by the opposite angle.
    fn rotate_back_in_place(&self, d_qkv: &Tensor, heads: Heads, rotation: &Rotation, bias_gradient: Option<&Tensor>) -> Result<()> {
        self.rotate_in_place(d_qkv, heads, &Rotation { sin: &rotation.sin.neg()?, ..*rotation })?;
        bias_gradient.map_or(Ok(()), |gradient| add_to(gradient, &to_f32(d_qkv)?.sum(0)?))
    }

    fn attend_packed(&self, qkv: &Tensor, segments: &[Segment], heads: Heads) -> Result<(Tensor, Tensor)> {
        attention::packed(self, qkv, segments, heads)
    }

    fn attend_packed_backward(
        &self,
        d_out: &Tensor,
        out: &Tensor,
        log_sum_exp: &Tensor,
        qkv: &Tensor,
        segments: &[Segment],
        heads: Heads,
    ) -> Result<Tensor> {
        attention::packed_backward(self, d_out, out, log_sum_exp, qkv, segments, heads)
    }

    fn cache(&self, blocks: usize, heads: Heads) -> Result<LayerCache> {
        let zeros = || Tensor::zeros((blocks * BLOCK, heads.key_value * heads.width), self.dtype, &self.device);
        Ok(LayerCache { keys: zeros()?, values: zeros()? })
    }

    fn store(&self, cache: &LayerCache, qkv: &Tensor, slots: &Indices, heads: Heads) -> Result<()> {
        let columns = heads.key_value * heads.width;
        let slots = slots.on_device()?.unsqueeze(1)?.broadcast_as((slots.len(), columns))?.contiguous()?;
        for (target, start) in [(&cache.keys, heads.key_offset(0)), (&cache.values, heads.value_offset(0))] {
            target.scatter_set(&slots, &qkv.narrow(1, start, columns)?.contiguous()?, 0)?;
        }
        Ok(())
    }

    fn copy_blocks(&self, cache: &LayerCache, pairs: &[(u32, u32)], _heads: Heads) -> Result<()> {
        for (from, to) in pairs {
            for tensor in [&cache.keys, &cache.values] {
                tensor.slice_set(&tensor.narrow(0, *from as usize * BLOCK, BLOCK)?.copy()?, 0, *to as usize * BLOCK)?;
            }
        }
        Ok(())
    }

    fn attend_cached(&self, qkv: &Tensor, cache: &LayerCache, tables: &BlockTables, heads: Heads) -> Result<Tensor> {
        attention::cached(self, qkv, cache, tables.on_host()?, heads)
    }

    fn rotate_and_store_in_place(
        &self,
        qkv: &Tensor,
        heads: Heads,
        rotation: &Rotation,
        cache: &LayerCache,
        slots: &Indices,
    ) -> Result<()> {
        self.rotate_in_place(qkv, heads, rotation)?;
        self.store(cache, qkv, slots, heads)
    }

    fn swiglu(&self, gate_up: &Tensor) -> Result<Tensor> {
        let parts = to_f32(gate_up)?.chunk(2, 1)?;
        (parts[0].silu()? * &parts[1])?.to_dtype(self.dtype)
    }

    fn swiglu_backward(&self, dy: &Tensor, gate_up: &Tensor) -> Result<Tensor> {
        let (dy, parts) = (to_f32(dy)?, to_f32(gate_up)?.chunk(2, 1)?);
        let sigmoid = (parts[0].neg()?.exp()? + 1.0)?.recip()?;
        let silu = (&parts[0] * &sigmoid)?;
        let slope = (&sigmoid + (&silu * (1.0 - &sigmoid)?)?)?;
        Tensor::cat(&[((&dy * &parts[1])? * slope)?, (&dy * &silu)?], 1)?.to_dtype(self.dtype)
    }

    fn logits(&self, x: &Tensor, table: &Tensor) -> Result<Tensor> {
        to_f32(&self.multiply(x, &table.t()?)?)
    }

    fn head_scores_in_place(&self, logits: &Tensor, targets: &[u32], temperature: f32) -> Result<RowScores> {
        let scaled = (logits / f64::from(temperature))?;
        let lse = scaled.log_sum_exp(1)?.unsqueeze(1)?;
        let log_p = scaled.broadcast_sub(&lse)?;
        let target_log_p = log_p.gather(&self.u32_tensor(targets)?.unsqueeze(1)?, 1)?.squeeze(1)?;
        let entropy = (log_p.exp()? * &log_p)?.sum(1)?.neg()?;
        Ok(RowScores { logprobs: self.read(&target_log_p)?, entropies: self.read(&entropy)?, log_sum_exp: self.read(&lse)? })
    }

    fn head_backward(
        &self,
        logits: Tensor,
        targets: &[u32],
        temperature: f32,
        scores: &RowScores,
        d_logprob: &[f32],
        d_entropy: &[f32],
    ) -> Result<Tensor> {
        let inverse = 1.0 / f64::from(temperature);
        let (a, b) = ((self.f32_column(d_logprob)? * inverse)?, (self.f32_column(d_entropy)? * inverse)?);
        let log_p = (logits * inverse)?.broadcast_sub(&self.f32_column(&scores.log_sum_exp)?)?;
        let pull = log_p.broadcast_add(&self.f32_column(&scores.entropies)?)?.broadcast_mul(&b)?.broadcast_add(&a)?;
        let gradient = (log_p.exp()? * pull)?.neg()?;
        gradient.scatter_add(&self.u32_tensor(targets)?.unsqueeze(1)?, &a, 1)?.to_dtype(self.dtype)
    }

    fn sample(&self, logits: Tensor, limit: usize, params: &SamplingParams) -> Result<PendingSample> {
        Cpu.sample(copies::on_host(&logits)?, limit, params)
    }

    fn sample_with_mask(&self, logits: Tensor, limit: usize, params: &SamplingParams) -> Result<PendingSample> {
        Cpu.sample_with_mask(copies::on_host(&logits)?, limit, params)
    }

    fn mask_logits(&self, logits: Tensor, mask: &SamplingMask) -> Result<Tensor> {
        let (rows, width) = logits.dims2()?;
        check_mask(mask, (rows, width))?;
        if mask.is_whole() {
            return Ok(logits);
        }
        let mut allowed = vec![0u8; rows * width];
        for (row, allowed) in allowed.chunks_exact_mut(width).enumerate() {
            match mask.runs(row) {
                [] => allowed.fill(1),
                runs => runs.iter().for_each(|[begin, end]| allowed[*begin as usize..*end as usize].fill(1)),
            }
        }
        let allowed = Tensor::from_vec(allowed, (rows, width), &self.device)?;
        allowed.where_cond(&logits, &Tensor::full(MASKED, (rows, width), &self.device)?)
    }

    fn sum_of_squares(&self, gradient: &Tensor) -> Result<f64> {
        let gradient = gradient.flatten_all()?;
        let count = gradient.elem_count();
        let chunk = |start: usize| {
            let chunk = gradient.narrow(0, start, SQUARES.min(count - start))?;
            copies::on_host(&chunk.to_dtype(DType::F64)?.sqr()?.sum_all()?)?.to_scalar::<f64>()
        };
        (0..count).step_by(SQUARES).map(chunk).sum()
    }

    fn adamw_in_place(&self, parameter: &Parameter, step: &Step) -> Result<()> {
        let Parameter { weight, master, moments, gradient } = *parameter;
        let master = master.unwrap_or(weight);
        match moments {
            Moments::Full { first, second } => step_in_place(master, first, second, gradient, step)?,
            // No stock operation searches a table, so the plain loops run on the host, and the result is copied back.
            Moments::Quantized { first, second } => {
                let on_host = copies::on_host(master)?.copy()?;
                adamw_8bit::step_in_place(&on_host, first, second, &copies::on_host(gradient)?, step)?;
                master.slice_set(&on_host.to_device(&self.device)?, 0, 0)?;
            }
        }
        if weight.dtype() != DType::F32 {
            weight.slice_set(&master.to_dtype(weight.dtype())?, 0, 0)?;
        }
        Ok(())
    }

    fn add_into(&self, target: &Tensor, source: &Tensor) -> Result<()> {
        add_to(target, source)
    }

    fn clear(&self, target: &Tensor) -> Result<()> {
        target.zero_set()
    }

    fn cast(&self, x: &Tensor, dtype: DType) -> Result<Tensor> {
        copies::cast(x, dtype, &self.device)
    }

    fn set(&self, target: &Tensor, source: &Tensor) -> Result<()> {
        copies::set(target, source)
    }

    fn columns(&self, matrix: &Tensor, columns: Range<usize>) -> Result<Tensor> {
        copies::columns(matrix, columns)
    }

    fn set_columns(&self, target: &Tensor, first: usize, source: &Tensor) -> Result<()> {
        copies::set_columns(target, first, source)
    }

    fn stack(&self, parts: &[&Tensor]) -> Result<Tensor> {
        copies::stack(parts)
    }

    fn scaled(&self, x: &Tensor, factor: f64) -> Result<Tensor> {
        copies::scaled(x, factor)
    }

    fn mix_in_place(&self, average: &Tensor, x: &Tensor, decay: f64) -> Result<()> {
        copies::mix_in_place(average, x, decay)
    }

    fn read(&self, x: &Tensor) -> Result<Vec<f32>> {
        copies::on_host(x)?.flatten_all()?.to_vec1()
    }

    fn run_pass(&self, step: &pass::Step, pass: &dyn Pass) -> Result<Tensor> {
        pass::run_eagerly(self, step, pass)
    }
}
