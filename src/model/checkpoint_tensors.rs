//! Maps tensors of a checkpoint (Hugging Face layout) to columns of our tensors, and copies values between the two.

use std::ops::Range;

use crate::kernels::layout::{self, Columns};

/// A tensor of a checkpoint and its position in one of our tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointTensor {
    /// The name in the checkpoint.
    pub name: String,
    /// The shape in the checkpoint: `[out, in]` for projections.
    pub shape: Vec<usize>,
    /// The columns of our tensor that it occupies.
    pub columns: Range<usize>,
    /// True if our tensor contains the transpose.
    pub transposed: bool,
}

impl CheckpointTensor {
    /// Copies `values`, whole rows of the checkpoint's tensor from row `first` on, into `ours`, our tensor with `width` columns.
    pub fn import_rows(&self, first: usize, values: &[f32], ours: &mut [f32], width: usize) {
        let (_, columns) = self.rows_and_columns();
        let start = self.columns.start;
        if self.transposed {
            return layout::put_transposed(values, columns, ours, Columns { width, start: start + first });
        }
        for (row, values) in values.chunks_exact(columns).enumerate() {
            ours[(first + row) * width + start..][..columns].copy_from_slice(values);
        }
    }

    /// Fills `target` with whole rows of the checkpoint's tensor, from row `first` on. `ours` is our tensor with `width` columns.
    pub fn export_rows(&self, first: usize, ours: &[f32], width: usize, target: &mut [f32]) {
        let (_, columns) = self.rows_and_columns();
        let start = self.columns.start;
        if self.transposed {
            return layout::take_transposed(ours, Columns { width, start: start + first }, target, columns);
        }
        for (row, target) in target.chunks_exact_mut(columns).enumerate() {
            target.copy_from_slice(&ours[(first + row) * width + start..][..columns]);
        }
    }

    /// Returns the number of rows and columns of the checkpoint's tensor. A vector is one row.
    pub fn rows_and_columns(&self) -> (usize, usize) {
        let columns = self.shape[self.shape.len() - 1];
        (self.shape.iter().product::<usize>() / columns, columns)
    }
}
