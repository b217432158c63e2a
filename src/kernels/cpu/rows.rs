//! Rows by index: the embedding's look-up, the choice of rows that reach the head, and their gradients, summed in f32.

use candle_core::{Result, Tensor, bail};

use super::{read, tensor, update};

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
pub fn scatter_add(target: &Tensor, indices: &[u32], rows: &Tensor) -> Result<()> {
    let (_, width) = target.dims2()?;
    update(target, [rows], |target, [rows]| {
        for (index, row) in indices.iter().zip(rows.chunks_exact(width)) {
            let target = &mut target[*index as usize * width..][..width];
            target.iter_mut().zip(row).for_each(|(t, r)| *t += r);
        }
    })
}
