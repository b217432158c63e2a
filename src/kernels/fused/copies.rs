//! Launches copies, with or without a conversion of the dtype, fills with zeros, scaling and moving averages.

use std::ops::Range;

use candle_core::{DType, Result, Tensor, bail};

use super::launch::Argument::{Float, Long, Tensor as At};
use super::launch::Grid;
use super::{Fused, MAX_BLOCKS, MAX_THREADS, VECTOR_BYTES};
use crate::kernels::copies;

/// Rows of a contiguous tensor: the index of the first element, and the distance from one row to the next, in elements.
struct Rows<'a> {
    tensor: &'a Tensor,
    first: usize,
    stride: usize,
}

impl Rows<'_> {
    /// The whole tensor as one row.
    fn whole(tensor: &Tensor) -> Rows<'_> {
        Rows { tensor, first: 0, stride: tensor.elem_count() }
    }
}

/// Copies `rows` rows of `columns` elements. Values are rounded if the target's dtype is narrower.
fn copy(fused: &Fused, to: &Rows, from: &Rows, rows: usize, columns: usize) -> Result<()> {
    let kernel = match (from.tensor.dtype(), to.tensor.dtype()) {
        (DType::F32, DType::BF16) => "copy_f32_to_bf16",
        (DType::BF16, DType::F32) => "copy_bf16_to_f32",
        (from, to) if from == to && to.size_in_bytes() == 1 => "copy_u8",
        (from, to) if from == to && to.size_in_bytes() == 2 => "copy_u16",
        (from, to) if from == to && to.size_in_bytes() == 4 => "copy_u32",
        (from, to) => bail!("no kernel copies a tensor of {from:?} to one of {to:?}"),
    };
    let widest = from.tensor.dtype().size_in_bytes().max(to.tensor.dtype().size_in_bytes());
    let vectors = columns.div_ceil(VECTOR_BYTES / widest);
    let threads = vectors.next_multiple_of(32).clamp(32, MAX_THREADS);
    let along = vectors.div_ceil(threads).min(MAX_BLOCKS * 8);
    let grid = Grid { blocks: [along, rows.min(MAX_BLOCKS * 8), 1], threads, shared_bytes: 0 };
    let sizes = [to.first, from.first, rows, columns, to.stride, from.stride].map(Long);
    fused.launch_exactly(kernel, grid, &[&[At(to.tensor), At(from.tensor)], &sizes[..]].concat())
}

/// Returns `x` in `dtype` and on the kernels' device, or `x` itself if it already has both.
///
/// # Errors
/// If no kernel converts between these dtypes, or the device is out of memory.
pub fn cast(fused: &Fused, x: &Tensor, dtype: DType) -> Result<Tensor> {
    let x = x.to_device(fused.machine.device())?;
    if x.dtype() == dtype {
        return Ok(x);
    }
    let out = fused.machine.empty(x.shape().clone(), dtype)?;
    copy(fused, &Rows::whole(&out), &Rows::whole(&x), 1, x.elem_count())?;
    Ok(out)
}

/// Sets `target = source`, converting the dtype if necessary.
///
/// # Errors
/// If the shapes differ, no kernel converts between these dtypes, or the device fails.
pub fn set(fused: &Fused, target: &Tensor, source: &Tensor) -> Result<()> {
    if target.dims() != source.dims() {
        bail!("cannot set {:?} to {:?}", target.shape(), source.shape());
    }
    if !target.device().same_device(fused.machine.device()) {
        return copies::set(target, &copies::on_host(source)?);
    }
    let source = source.to_device(target.device())?;
    copy(fused, &Rows::whole(target), &Rows::whole(&source), 1, target.elem_count())
}

/// Copies some columns of `matrix [m, n]` to a new matrix in f32.
///
/// # Errors
/// If the columns are out of range, no kernel converts this dtype to f32, or the device is out of memory.
pub fn columns(fused: &Fused, matrix: &Tensor, columns: Range<usize>) -> Result<Tensor> {
    let (rows, width) = matrix.dims2()?;
    if columns.end > width {
        bail!("columns {columns:?} are out of range for a matrix with {width} columns");
    }
    let out = fused.empty_f32((rows, columns.len()))?;
    let from = Rows { tensor: matrix, first: columns.start, stride: width };
    copy(fused, &Rows { tensor: &out, first: 0, stride: columns.len() }, &from, rows, columns.len())?;
    Ok(out)
}

/// Writes `source [m, n]` to the columns of `target` starting at `first`.
///
/// # Errors
/// If the numbers of rows differ, the columns are out of range, or no kernel converts between these dtypes.
pub fn set_columns(fused: &Fused, target: &Tensor, first: usize, source: &Tensor) -> Result<()> {
    let ((rows, width), (source_rows, count)) = (target.dims2()?, source.dims2()?);
    if rows != source_rows || first + count > width {
        bail!("cannot write {:?} to the columns of {:?} starting at {first}", source.shape(), target.shape());
    }
    let to = Rows { tensor: target, first, stride: width };
    copy(fused, &to, &Rows { tensor: source, first: 0, stride: count }, rows, count)
}

/// Concatenates tensors along their first axis. All other axes must match.
///
/// # Errors
/// If `parts` is empty, their dtypes or other axes differ, or the device is out of memory.
pub fn stack(fused: &Fused, parts: &[&Tensor]) -> Result<Tensor> {
    let Some((first, others)) = parts.split_first() else { bail!("cannot stack an empty list of tensors") };
    let same = |part: &&&Tensor| part.dtype() == first.dtype() && part.dims()[1..] == first.dims()[1..];
    if first.rank() == 0 || !others.iter().all(|part| part.rank() == first.rank() && same(&part)) {
        bail!("cannot stack tensors whose rows differ in shape");
    }
    let mut dims = first.dims().to_vec();
    dims[0] = parts.iter().map(|part| part.dims()[0]).sum();
    let (out, mut at) = (fused.machine.empty(dims.into(), first.dtype())?, 0);
    for part in parts {
        let count = part.elem_count();
        copy(fused, &Rows { tensor: &out, first: at, stride: count }, &Rows::whole(part), 1, count)?;
        at += count;
    }
    Ok(out)
}

/// Returns `factor * x`, in the layout of `x`, which is contiguous or the transpose of a contiguous matrix.
///
/// # Errors
/// If `x` is not f32 or has another layout, or the device is out of memory.
pub fn scaled(fused: &Fused, x: &Tensor, factor: f64) -> Result<Tensor> {
    if !x.is_contiguous() {
        return scaled(fused, &x.t()?, factor)?.t();
    }
    let (out, count) = (fused.empty_f32(x.shape().clone())?, x.elem_count());
    if x.dtype() != DType::F32 {
        bail!("cannot scale a tensor of {:?}: expected F32", x.dtype());
    }
    fused.launch_exactly("scale_f32", fused.stride(count), &[At(&out), At(x), Long(count), Float(factor as f32)])?;
    Ok(out)
}

/// Sets `average = decay * average + (1 - decay) * x`.
///
/// # Errors
/// If `average` is not f32, the sizes differ, or the device fails.
pub fn mix_in_place(fused: &Fused, average: &Tensor, x: &Tensor, decay: f64) -> Result<()> {
    // The moving average for an offloaded KL reference is in host memory.
    if !average.device().same_device(fused.machine.device()) {
        return copies::mix_in_place(average, &copies::on_host(x)?, decay);
    }
    let count = average.elem_count();
    if average.dtype() != DType::F32 || x.elem_count() != count {
        bail!(
            "a moving average must be F32 and have the shape of its source: found {:?} in {:?}, source {:?}",
            average.shape(),
            average.dtype(),
            x.shape()
        );
    }
    let arguments = [At(average), At(x), Long(count), Float(decay as f32), Float((1.0 - decay) as f32)];
    fused.launch_exactly(&format!("mix_{}", super::suffix(x.dtype())), fused.stride(count), &arguments)
}

/// Sets every element to 0.
///
/// # Errors
/// If the launch fails.
pub fn clear(fused: &Fused, target: &Tensor) -> Result<()> {
    let bytes = target.elem_count() * target.dtype().size_in_bytes();
    let blocks = bytes.div_ceil(VECTOR_BYTES * MAX_THREADS).min(MAX_BLOCKS);
    fused.launch_exactly("clear_bytes", Grid::of(blocks, MAX_THREADS), &[At(target), Long(bytes)])
}
