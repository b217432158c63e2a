//! The arguments of operations other than plain tensors: head counts, segments of packed sequences, row numbers, block tables, and factors
//! of products with their memory layout.

use std::ops::Range;

use candle_core::{Result, Tensor, bail};

/// Positions per block, both in the paged key/value cache and in the scratch memory of packed attention.
pub const BLOCK: usize = 16;

/// The sizes of an attention layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Number of query heads.
    pub query: usize,
    /// Number of key/value heads; each serves `query / key_value` query heads.
    pub key_value: usize,
    /// Width of a head, d.
    pub width: usize,
}

impl Heads {
    /// Elements in a row of the fused query/key/value projection: `(q + 2 kv) d`.
    pub fn row(&self) -> usize {
        (self.query + 2 * self.key_value) * self.width
    }

    /// Query heads that share one key/value head.
    pub fn group(&self) -> usize {
        self.query / self.key_value
    }

    /// The softmax scale, d^-1/2.
    pub fn scale(&self) -> f32 {
        1.0 / (self.width as f32).sqrt()
    }

    /// Offset of key head `g` in a row of the fused projection.
    pub fn key_offset(&self, g: usize) -> usize {
        (self.query + g) * self.width
    }

    /// Offset of value head `g` in a row of the fused projection.
    pub fn value_offset(&self, g: usize) -> usize {
        (self.query + self.key_value + g) * self.width
    }
}

/// The rows of a packed batch that form one sequence: its own tokens, and optionally a shared prefix that precedes them. A prefix must come
/// before the tokens that continue it, and must not have a prefix itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Rows that this segment computes.
    pub tokens: Range<usize>,
    /// Rows of the shared prefix; empty if there is none.
    pub prefix: Range<usize>,
}

/// Row numbers on the host, on the device, or on both. [`Kernels::indices`](super::Kernels::indices) puts them where operations read them.
#[derive(Clone, Debug)]
pub enum Indices<'a> {
    /// On the host only, for the plain loops.
    Host(&'a [u32]),
    /// On the host, with a copy `[rows]` on the device.
    Both(&'a [u32], Tensor),
    /// On the device only, `[rows]`: tokens that the host has not read yet.
    Device(Tensor),
}

impl<'a> Indices<'a> {
    /// The number of row numbers.
    pub fn len(&self) -> usize {
        match self {
            Self::Host(rows) | Self::Both(rows, _) => rows.len(),
            Self::Device(rows) => rows.elem_count(),
        }
    }

    /// Returns true if there are no row numbers.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the numbers on the host.
    ///
    /// # Errors
    /// If only the device has them.
    pub fn on_host(&self) -> Result<&'a [u32]> {
        match self {
            Self::Host(rows) | Self::Both(rows, _) => Ok(rows),
            Self::Device(rows) => {
                bail!("this operation needs the {} row numbers on the host, but only the device has them", rows.elem_count())
            }
        }
    }

    /// Returns the numbers `[rows]` on the device.
    ///
    /// # Errors
    /// If only the host has them.
    pub fn on_device(&self) -> Result<&Tensor> {
        match self {
            Self::Both(_, rows) | Self::Device(rows) => Ok(rows),
            Self::Host(rows) => bail!("this operation needs the {} row numbers on the device, but only the host has them", rows.len()),
        }
    }
}

/// Rotary position embedding (Su et al. 2021): tables of angles for all p positions, and the position of each row.
#[derive(Clone, Copy, Debug)]
pub struct Rotation<'a> {
    /// cos(position * frequency), `[p, d/2]` in f32.
    pub cos: &'a Tensor,
    /// sin(position * frequency), with the same shape.
    pub sin: &'a Tensor,
    /// Each row's position, `[t]`.
    pub positions: &'a Indices<'a>,
}

/// Checks that `rows` has one row for each number.
///
/// # Errors
/// If the two numbers differ.
pub fn check_rows(numbers: &[u32], rows: &Tensor) -> Result<()> {
    if rows.dim(0)? != numbers.len() {
        bail!("found {} row numbers for {} rows of values", numbers.len(), rows.dim(0)?);
    }
    Ok(())
}

/// The block tables and token counts of n cached sequences, for a pass with one new token each.
#[derive(Clone, Debug)]
pub enum BlockTables<'a> {
    /// Lists on the host.
    Host {
        /// The cache blocks of each sequence, in order.
        blocks: &'a [&'a [u32]],
        /// Number of tokens in each sequence, including the new one.
        counts: &'a [usize],
    },
    /// Tensors on the device.
    Device {
        /// The blocks, `[n, longest]`, u32.
        blocks: Tensor,
        /// The numbers of tokens, `[n]`, u32.
        counts: Tensor,
    },
}

/// The cache blocks and the number of tokens of each sequence, on the host.
type Lists<'a> = (&'a [&'a [u32]], &'a [usize]);

impl<'a> BlockTables<'a> {
    /// Returns the lists on the host.
    ///
    /// # Errors
    /// If only the device has them.
    pub fn on_host(&self) -> Result<Lists<'a>> {
        match self {
            Self::Host { blocks, counts } => Ok((blocks, counts)),
            Self::Device { .. } => bail!("this operation needs the block tables on the host, but only the device has them"),
        }
    }

    /// Returns the blocks and numbers of tokens on the device.
    ///
    /// # Errors
    /// If only the host has them.
    pub fn on_device(&self) -> Result<(&Tensor, &Tensor)> {
        match self {
            Self::Device { blocks, counts } => Ok((blocks, counts)),
            Self::Host { .. } => bail!("this operation needs the block tables on the device, but only the host has them"),
        }
    }
}

/// The key/value cache of one layer.
#[derive(Clone, Debug)]
pub struct LayerCache {
    /// Blocks of keys, in the layout of the backend that created the cache. The first axis is the block number or, for stock operations, the
    /// slot.
    pub keys: Tensor,
    /// Blocks of values, with the same first axis.
    pub values: Tensor,
}

/// A factor of a product with its memory layout: a row-major matrix, or the transpose of one.
#[derive(Clone, Debug)]
pub struct Factor {
    /// The row-major matrix in memory.
    pub stored: Tensor,
    /// True if the factor is the transpose of `stored`.
    pub is_transposed: bool,
    /// The factor's rows and columns.
    pub size: (usize, usize),
}

impl Factor {
    /// Recognizes a contiguous matrix or a transposed view of one.
    ///
    /// # Errors
    /// If the tensor is not a matrix, or neither contiguous nor the transpose of a contiguous matrix.
    pub fn of(matrix: &Tensor) -> Result<Self> {
        let (rows, columns) = matrix.dims2()?;
        let has_strides = |row, column| matrix.stride() == [row, column];
        // A matrix with one row or one column fits both layouts; its strides decide.
        let is_transposed = !has_strides(columns, 1) && has_strides(1, rows);
        let stored = if is_transposed { matrix.t()? } else { matrix.clone() };
        if !stored.is_contiguous() {
            bail!("a factor of a product must be a contiguous matrix or the transpose of one, found {:?}", matrix.layout());
        }
        Ok(Self { stored, is_transposed, size: (rows, columns) })
    }
}

/// Returns the sizes m, k and n of the product of `a [m, k]` and `b [k, n]`.
///
/// # Errors
/// If the inner sizes differ.
pub fn product_sizes(a: &Factor, b: &Factor) -> Result<(usize, usize, usize)> {
    let ((m, k), (rows, n)) = (a.size, b.size);
    if k != rows {
        bail!("cannot multiply {m} x {k} by {rows} x {n}");
    }
    Ok((m, k, n))
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    #[test]
    fn indices_are_read_only_where_they_are_stored() -> Result<()> {
        let on_device = || Tensor::new(&[4u32, 2], &Device::Cpu);
        let (host, both, device) = (Indices::Host(&[4, 2]), Indices::Both(&[4, 2], on_device()?), Indices::Device(on_device()?));
        assert_eq!([host.len(), both.len(), device.len()], [2; 3]);
        assert_eq!((host.on_host()?, both.on_host()?), (&[4, 2][..], &[4, 2][..]));
        assert!(device.on_host().unwrap_err().to_string().contains("needs the 2 row numbers on the host, but only the device has them"));
        assert!(both.on_device().is_ok() && device.on_device().is_ok() && host.on_device().is_err());
        Ok(())
    }

    #[test]
    fn factor_recognizes_a_matrix_and_its_transpose() -> Result<()> {
        for (rows, columns) in [(1, 1), (1, 5), (5, 1), (3, 4), (0, 4)] {
            let matrix = Tensor::zeros((rows, columns), DType::F32, &Device::Cpu)?;
            let (plain, transposed) = (Factor::of(&matrix)?, Factor::of(&matrix.t()?)?);
            assert_eq!((plain.is_transposed, plain.size), (false, (rows, columns)));
            assert_eq!((transposed.is_transposed, transposed.size), (rows * columns > 1 || rows == 0, (columns, rows)));
            assert_eq!(transposed.stored.dims(), if transposed.is_transposed { [rows, columns] } else { [columns, rows] });
        }
        let matrix = Tensor::zeros((3, 8), DType::F32, &Device::Cpu)?;
        assert!(Factor::of(&matrix.narrow(0, 1, 2)?).is_ok());
        assert!(
            Factor::of(&matrix.narrow(1, 1, 2)?).unwrap_err().to_string().contains("must be a contiguous matrix or the transpose of one")
        );
        Ok(())
    }
}
