//! Operations on rows: gather, for the embedding and for the rows that reach the head; scatter-add, for their gradients; and rotary position
//! embedding (Su et al. 2021), which rotates a row by its position. The rotation uses Hugging Face's half-split layout: element i of a head
//! is paired with element i + d/2.

use candle_core::{Result, Tensor, bail};
use multiversion::multiversion;

use super::{for_rows, read, tensor, update};
use crate::kernels::shape::{Rotation, check_rows};

/// Returns the rows of `table [n, w]` at `indices`, in that order: `[indices, w]`.
///
/// # Errors
/// If an index is out of range, or `table` is not a contiguous f32 matrix on the CPU.
pub fn gather(table: &Tensor, indices: &[u32]) -> Result<Tensor> {
    let (rows, width) = table.dims2()?;
    if let Some(index) = indices.iter().find(|index| **index as usize >= rows) {
        bail!("row {index} is out of range for a table with {rows} rows");
    }
    let values = read([table], |[table]| {
        let mut out = Vec::with_capacity(indices.len() * width);
        for index in indices {
            out.extend_from_slice(&table[*index as usize * width..][..width]);
        }
        out
    })?;
    tensor(values, (indices.len(), width))
}

/// `target[indices[i]] += rows[i]`, for `target [n, w]` and `rows [indices, w]`. An index may occur several times.
///
/// # Errors
/// If `indices` and `rows` differ in length, or a tensor is not a contiguous f32 tensor on the CPU.
///
/// # Panics
/// If an index is out of range.
pub fn scatter_add_into(target: &Tensor, indices: &[u32], rows: &Tensor) -> Result<()> {
    let (_, width) = target.dims2()?;
    check_rows(indices, rows)?;
    update(target, [rows], |target, [rows]| {
        for (index, row) in indices.iter().zip(rows.chunks_exact(width)) {
            let target = &mut target[*index as usize * width..][..width];
            target.iter_mut().zip(row).for_each(|(t, r)| *t += r);
        }
    })
}

/// Rotates the first `heads` heads (queries and keys) of each row of `qkv [t, (heads + value heads) d]` in place. The tables `cos` and
/// `sin [p, d/2]` are read at `positions[t]`.
///
/// # Errors
/// If a position is beyond the tables, only the device has the positions, or a tensor is not a contiguous f32 tensor on the CPU.
pub fn rotate_in_place(qkv: &Tensor, heads: usize, rotation: &Rotation) -> Result<()> {
    rotate_by_in_place(qkv, heads, rotation, 1.0)
}

/// The backward pass of [`rotate_in_place`]: rotates the heads back.
///
/// # Errors
/// If a position is beyond the tables, only the device has the positions, or a tensor is not a contiguous f32 tensor on the CPU.
pub fn rotate_back_in_place(d_qkv: &Tensor, heads: usize, rotation: &Rotation) -> Result<()> {
    rotate_by_in_place(d_qkv, heads, rotation, -1.0)
}

fn rotate_by_in_place(qkv: &Tensor, heads: usize, rotation: &Rotation, sign: f32) -> Result<()> {
    let Rotation { cos, sin, positions } = rotation;
    let positions = positions.on_host()?;
    let (_, width) = qkv.dims2()?;
    let (limit, half) = cos.dims2()?;
    if let Some(position) = positions.iter().find(|position| **position as usize >= limit) {
        bail!("position {position} is beyond the model's context length of {limit} tokens");
    }
    update(qkv, [cos, sin], |qkv, [cos, sin]| {
        for_rows(qkv, width, |first, rows| rotate_rows(rows, width, heads, half, cos, sin, &positions[first..], sign));
    })
}

#[multiversion(targets = "simd")]
#[allow(clippy::too_many_arguments)] // plain sizes of one flat loop
fn rotate_rows(qkv: &mut [f32], width: usize, heads: usize, half: usize, cos: &[f32], sin: &[f32], positions: &[u32], sign: f32) {
    for (row, position) in qkv.chunks_exact_mut(width).zip(positions) {
        let at = *position as usize * half;
        let (cos, sin) = (&cos[at..at + half], &sin[at..at + half]);
        for head in row[..heads * 2 * half].chunks_exact_mut(2 * half) {
            let (first, second) = head.split_at_mut(half);
            for i in 0..half {
                let (x, y, s) = (first[i], second[i], sin[i] * sign);
                first[i] = x * cos[i] - y * s;
                second[i] = y * cos[i] + x * s;
            }
        }
    }
}
