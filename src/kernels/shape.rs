//! What operations are told besides their tensors: head counts, which rows see which, row numbers, and how a factor lies in memory.

use std::ops::Range;

use candle_core::{Result, Tensor, bail};

/// Positions in a block of keys, in the packed scratch and in the paged cache alike.
pub const BLOCK: usize = 16;

/// The sizes of one attention layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub query: usize,
    /// Key/value heads; each serves `query / key_value` query heads.
    pub key_value: usize,
    /// Width of a head, d.
    pub width: usize,
}

impl Heads {
    /// Values in a row of the fused query/key/value projection.
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

    /// Where key (or value) head `g` begins in a row.
    pub fn key_offset(&self, g: usize) -> usize {
        (self.query + g) * self.width
    }

    /// Where value head `g` begins in a row.
    pub fn value_offset(&self, g: usize) -> usize {
        (self.query + self.key_value + g) * self.width
    }
}

/// A sequence's own tokens, and those of another segment that it continues (empty where it starts by itself). A prefix must stand before
/// the tokens that use it and must itself have no prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Rows of the packed batch that this segment computes.
    pub tokens: Range<usize>,
    /// Rows of the packed batch that come before them in the sequence.
    pub prefix: Range<usize>,
}

/// Row numbers, where an operation can read them. [`Kernels::indices`](super::Kernels::indices) brings them there.
#[derive(Clone, Debug)]
pub enum Indices<'a> {
    /// On the host alone, which computes.
    Host(&'a [u32]),
    /// On the host, and the same `[rows]` on the device.
    Both(&'a [u32], Tensor),
    /// On the device alone, `[rows]`: tokens that the host has not read yet.
    Device(Tensor),
}

impl<'a> Indices<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Host(rows) | Self::Both(rows, _) => rows.len(),
            Self::Device(rows) => rows.elem_count(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The numbers, for an operation that reads them on the host.
    ///
    /// # Errors
    /// When only the device has them.
    pub fn on_host(&self) -> Result<&'a [u32]> {
        match self {
            Self::Host(rows) | Self::Both(rows, _) => Ok(rows),
            Self::Device(rows) => bail!("the host has not read the {} row numbers that this operation needs there", rows.elem_count()),
        }
    }

    /// The numbers `[rows]`, for an operation that reads them on the device.
    ///
    /// # Errors
    /// When only the host has them.
    pub fn on_device(&self) -> Result<&Tensor> {
        match self {
            Self::Both(_, rows) | Self::Device(rows) => Ok(rows),
            Self::Host(rows) => bail!("the {} row numbers that this operation needs on the device were not brought there", rows.len()),
        }
    }
}

/// The angles of rotary position embedding: the tables for all positions, and the position of each row.
#[derive(Clone, Copy, Debug)]
pub struct Rotation<'a> {
    /// cos(position * frequency), `[p, d/2]` in f32.
    pub cos: &'a Tensor,
    /// sin(position * frequency), with the same shape.
    pub sin: &'a Tensor,
    /// Each row's position, `[t]`.
    pub positions: &'a Indices<'a>,
}

/// Refuses rows that are not one for each number.
pub fn check_rows(numbers: &[u32], rows: &Tensor) -> Result<()> {
    if rows.dim(0)? != numbers.len() {
        bail!("{} row numbers for {} rows of values", numbers.len(), rows.dim(0)?);
    }
    Ok(())
}

/// One new token for each of several cached sequences: where their tokens lie.
#[derive(Clone, Debug)]
pub enum Tables<'a> {
    /// Lists that the host reads.
    Host {
        /// The blocks that hold each sequence.
        blocks: &'a [&'a [u32]],
        /// Tokens of each sequence, the new one included.
        counts: &'a [usize],
    },
    /// The same where a kernel reads it.
    Device {
        /// The blocks, `[n, longest]`.
        blocks: Tensor,
        /// The tokens, `[n]`.
        counts: Tensor,
    },
}

/// Block and token counts by sequence, on the host.
type Lists<'a> = (&'a [&'a [u32]], &'a [usize]);

impl<'a> Tables<'a> {
    /// The lists, for an operation that reads them on the host.
    ///
    /// # Errors
    /// When only the device has them.
    pub fn on_host(&self) -> Result<Lists<'a>> {
        match self {
            Self::Host { blocks, counts } => Ok((blocks, counts)),
            Self::Device { .. } => bail!("the host does not have the sequences' blocks that this operation needs there"),
        }
    }

    /// Blocks and tokens, for an operation that reads them on the device.
    ///
    /// # Errors
    /// When only the host has them.
    pub fn on_device(&self) -> Result<(&Tensor, &Tensor)> {
        match self {
            Self::Device { blocks, counts } => Ok((blocks, counts)),
            Self::Host { .. } => bail!("the sequences' blocks are not on the device"),
        }
    }
}

/// The key and value blocks of one layer.
#[derive(Clone, Debug)]
pub struct LayerCache {
    /// As the kernels that made it lay it out, a block number first.
    pub keys: Tensor,
    /// The same for values.
    pub values: Tensor,
}

/// A factor of a product as it lies in memory: a row-major matrix, or the transpose of one.
#[derive(Clone, Debug)]
pub struct Factor {
    /// The row-major matrix.
    pub stored: Tensor,
    /// Whether the factor is its transpose.
    pub is_transposed: bool,
    /// The factor's rows and columns.
    pub size: (usize, usize),
}

impl Factor {
    /// A matrix, or a transposed view of one.
    ///
    /// # Errors
    /// When it is neither.
    pub fn of(matrix: &Tensor) -> Result<Self> {
        let (rows, columns) = matrix.dims2()?;
        let lies = |row, column| matrix.stride() == [row, column];
        // A single row or column can be read as either; what it was made as decides.
        let is_transposed = !lies(columns, 1) && lies(1, rows);
        let stored = if is_transposed { matrix.t()? } else { matrix.clone() };
        if !stored.is_contiguous() {
            bail!("a factor of a product is neither a contiguous matrix nor the transpose of one: {:?}", matrix.layout());
        }
        Ok(Self { stored, is_transposed, size: (rows, columns) })
    }
}

/// The sizes m, k and n of the product of `a [m, k]` and `b [k, n]`.
///
/// # Errors
/// When the factors do not meet.
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
    fn numbers_are_read_where_they_are_and_nowhere_else() -> Result<()> {
        let there = || Tensor::new(&[4u32, 2], &Device::Cpu);
        let (host, both, device) = (Indices::Host(&[4, 2]), Indices::Both(&[4, 2], there()?), Indices::Device(there()?));
        assert_eq!([host.len(), both.len(), device.len()], [2; 3]);
        assert_eq!((host.on_host()?, both.on_host()?), (&[4, 2][..], &[4, 2][..]));
        assert!(device.on_host().unwrap_err().to_string().contains("the host has not read the 2 row numbers"));
        assert!(both.on_device().is_ok() && device.on_device().is_ok() && host.on_device().is_err());
        Ok(())
    }

    #[test]
    fn a_factor_is_a_matrix_or_the_transpose_of_one() -> Result<()> {
        for (rows, columns) in [(1, 1), (1, 5), (5, 1), (3, 4), (0, 4)] {
            let matrix = Tensor::zeros((rows, columns), DType::F32, &Device::Cpu)?;
            let (plain, turned) = (Factor::of(&matrix)?, Factor::of(&matrix.t()?)?);
            assert_eq!((plain.is_transposed, plain.size), (false, (rows, columns)));
            assert_eq!((turned.is_transposed, turned.size), (rows * columns > 1 || rows == 0, (columns, rows)));
            assert_eq!(turned.stored.dims(), if turned.is_transposed { [rows, columns] } else { [columns, rows] });
        }
        let matrix = Tensor::zeros((3, 8), DType::F32, &Device::Cpu)?;
        assert!(Factor::of(&matrix.narrow(0, 1, 2)?).is_ok());
        assert!(Factor::of(&matrix.narrow(1, 1, 2)?).unwrap_err().to_string().contains("neither a contiguous matrix nor"));
        Ok(())
    }
}
