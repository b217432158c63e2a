//! Plain data that operations are told: head counts, which rows see which, and row numbers.

use std::ops::Range;

use candle_core::Tensor;

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

/// Row numbers: on the host, and on the device where that is another.
#[derive(Clone, Debug)]
pub struct Indices<'a> {
    /// The numbers; none where only the device has them yet.
    pub host: &'a [u32],
    /// The same as a tensor; none on the CPU.
    pub device: Option<Tensor>,
}

impl Indices<'_> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.device.as_ref().map_or(self.host.len(), Tensor::elem_count)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One new token for each of several cached sequences: where their tokens lie.
#[derive(Clone, Debug)]
pub struct Tables<'a> {
    /// The blocks that hold each sequence.
    pub blocks: &'a [&'a [u32]],
    /// Tokens of each sequence, the new one included.
    pub counts: &'a [usize],
    /// Blocks `[n, longest]` and counts `[n]` on the device; none on the CPU.
    pub device: Option<(Tensor, Tensor)>,
}

/// The key and value blocks of one layer.
#[derive(Clone, Debug)]
pub struct LayerCache {
    /// As the kernels that made it lay it out, a block number first.
    pub keys: Tensor,
    /// The same for values.
    pub values: Tensor,
}
