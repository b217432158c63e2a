//! Rows by number: the embedding's look-up, the choice of rows that reach the head, their gradients, summed in f32, and rotary position
//! embedding (Su et al. 2021), which turns a row by its position. The latter in Hugging Face's half-split form: element i of a head turns
//! with element i + d/2.

use candle_core::{Result, Tensor, bail};
use multiversion::multiversion;

use super::{for_rows, read, tensor, update};
use crate::kernels::shape::{Rotation, check_rows};

/// `table [n, w]` at `indices` to `[indices, w]`.
pub fn gather(table: &Tensor, indices: &[u32]) -> Result<Tensor> {
    let (rows, width) = table.dims2()?;
    if let Some(index) = indices.iter().find(|index| **index as usize >= rows) {
        bail!("row {index} asked of a table of {rows} rows");
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

/// `target[indices[i]] += rows[i]`: an index may come up many times.
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

/// Turns the first `heads` heads (queries and keys) of each row of `qkv [t, (heads + value heads) d]` in place; `cos`, `sin [p, d/2]` are
/// looked up at `positions[t]`.
pub fn rotate_in_place(qkv: &Tensor, heads: usize, rotation: &Rotation) -> Result<()> {
    turn_in_place(qkv, heads, rotation, 1.0)
}

/// Turns them back, which is the gradient.
pub fn rotate_back_in_place(d_qkv: &Tensor, heads: usize, rotation: &Rotation) -> Result<()> {
    turn_in_place(d_qkv, heads, rotation, -1.0)
}

fn turn_in_place(qkv: &Tensor, heads: usize, rotation: &Rotation, sign: f32) -> Result<()> {
    let Rotation { cos, sin, positions } = rotation;
    let positions = positions.on_host()?;
    let (_, width) = qkv.dims2()?;
    let (limit, half) = cos.dims2()?;
    if let Some(position) = positions.iter().find(|position| **position as usize >= limit) {
        bail!("position {position} is beyond the model's window of {limit} tokens");
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
