//! Attention of packed sequences, with its gradient, and against the cache, against f64.

use candle_core::{Result, Tensor};

use super::Bench;
use super::exact::attend;
use crate::kernels::{BLOCK, Heads, Segment};

impl Bench<'_> {
    pub fn packed_attention(&mut self, segments: &[Segment], heads: Heads) -> Result<()> {
        let (kernels, d) = (self.kernels, heads.width);
        let t = segments.iter().map(|segment| segment.tokens.len()).sum::<usize>();
        let name = |operation: &str| format!("{operation} of {} sequences, {t} tokens, {heads:?}", segments.len());
        let (qkv, d_out) = (self.random((t, heads.row()), 1)?, self.random((t, heads.query * d), 2)?);
        let exact = attend(&qkv.exact, &d_out.exact, segments, heads);
        let (out, lse) = kernels.attend_packed(&qkv.tensor, segments, heads)?;
        self.outcome(&name("attend_packed"), d, exact.out, &out)?;
        let found = kernels.attend_packed_backward(&d_out.tensor, &out, &lse, &qkv.tensor, segments, heads)?;
        self.outcome(&name("attend_packed_backward"), d, exact.d_qkv, &found)
    }

    /// Sequences of these lengths, their tokens scattered over the blocks of a cache; the last token of each asks.
    pub fn cached_attention(&mut self, lengths: &[usize], heads: Heads) -> Result<()> {
        let (kernels, d) = (self.kernels, heads.width);
        let total: usize = lengths.iter().sum();
        let blocks_of = |length: &usize| length.div_ceil(BLOCK);
        let count = lengths.iter().map(blocks_of).sum::<usize>();
        let qkv = self.random((total, heads.row()), 1)?;
        // Every third block from the end, so that no sequence has neighbours.
        let mut numbers = (0..count as u32).map(|i| i * 3 + 1).rev();
        let tables: Vec<Vec<u32>> = lengths.iter().map(|length| numbers.by_ref().take(blocks_of(length)).collect()).collect();
        let cache = kernels.cache(count * 3 + 1, heads)?;
        let (mut slots, mut segments, mut last) = (Vec::new(), Vec::new(), Vec::new());
        for (table, length) in tables.iter().zip(lengths) {
            let start = slots.len();
            slots.extend((0..*length).map(|t| table[t / BLOCK] * BLOCK as u32 + (t % BLOCK) as u32));
            segments.push(Segment { tokens: start..start + length, prefix: 0..0 });
            last.push((start + length - 1) as u32);
        }
        kernels.store(&cache, &qkv.tensor, &kernels.indices(&slots)?, heads)?;
        // Block 0 gets a copy of the first sequence's first block, which the sequence then uses.
        kernels.copy_blocks(&cache, &[(tables[0][0], 0)], heads)?;
        let mut blocks: Vec<&[u32]> = tables.iter().map(Vec::as_slice).collect();
        let copied = [&[0], &tables[0][1..]].concat();
        blocks[0] = &copied;
        let asking = qkv.tensor.index_select(&Tensor::new(last.as_slice(), kernels.device())?, 0)?;
        let found = kernels.attend_cached(&asking, &cache, &kernels.tables(&blocks, lengths)?, heads)?;
        let all = attend(&qkv.exact, &vec![0.0; total * heads.query * d], &segments, heads).out;
        let width = heads.query * d;
        let exact = last.iter().flat_map(|row| all[*row as usize * width..][..width].to_vec()).collect();
        self.outcome(&format!("attend_cached of {lengths:?}, {heads:?}"), d, exact, &found)
    }
}

/// Sequences without a prefix, laid end to end.
pub fn alone(lengths: &[usize]) -> Vec<Segment> {
    let mut start = 0;
    let segment = |length: &usize| {
        start += length;
        Segment { tokens: start - length..start, prefix: 0..0 }
    };
    lengths.iter().map(segment).collect()
}

/// A prefix, and sequences that continue it.
pub fn shared(prefix: usize, lengths: &[usize]) -> Vec<Segment> {
    let mut segments = alone(&[&[prefix], lengths].concat());
    segments[1..].iter_mut().for_each(|segment| segment.prefix = 0..prefix);
    segments
}
