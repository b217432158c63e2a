//! Compares packed attention, its gradient, and attention over the key/value cache with f64.

use std::collections::BTreeSet;

use candle_core::{Device, Result, Tensor};

use super::Bench;
use super::exact::{attend, attend_backward};
use crate::kernels::{BLOCK, Heads, Segment};

/// Up to this number of tokens, all rows are compared.
const ALL_TOKENS: usize = 2048;
/// Number of rows compared in longer batches.
const SAMPLED_ROWS: usize = 64;

impl Bench<'_> {
    /// Runs `packed_attention`; an error is an outcome.
    pub fn packed(&mut self, segments: &[Segment], heads: Heads) {
        self.attempt(&format!("packed attention of {} sequences, {heads:?}", segments.len()), |bench| {
            bench.packed_attention(segments, heads)
        });
    }

    /// Runs `cached_attention`; an error is an outcome.
    pub fn cached(&mut self, lengths: &[usize], heads: Heads) {
        self.attempt(&format!("cached attention of {} sequences, {heads:?}", lengths.len()), |bench| {
            bench.cached_attention(lengths, heads)
        });
    }

    fn packed_attention(&mut self, segments: &[Segment], heads: Heads) -> Result<()> {
        let (kernels, d) = (self.kernels, heads.width);
        let t = segments.iter().map(|segment| segment.tokens.len()).sum::<usize>();
        let name = |operation: &str| format!("{operation} of {} sequences, {t} tokens, {heads:?}", segments.len());
        let (qkv, d_out) = (self.random((t, heads.row()), 1)?, self.random((t, heads.query * d), 2)?);
        let rows = compared_rows(segments);
        let of_rows = |found: Tensor| crate::kernels::on_host(&found)?.index_select(&numbers(&rows)?, 0);
        let (out, lse) = kernels.attend_packed(&qkv.tensor, segments, heads)?;
        self.outcome(&name("attend_packed"), d, attend(&qkv.exact, segments, heads, &rows), &of_rows(out.clone())?)?;
        let found = kernels.attend_packed_backward(&d_out.tensor, &out, &lse, &qkv.tensor, segments, heads)?;
        let exact = attend_backward(&qkv.exact, &d_out.exact, segments, heads, &rows);
        self.outcome(&name("attend_packed_backward"), d, exact, &of_rows(found)?)
    }

    /// Runs attention for sequences with these lengths, whose tokens are scattered over the blocks of a cache. The last token of each is the
    /// query.
    fn cached_attention(&mut self, lengths: &[usize], heads: Heads) -> Result<()> {
        let (kernels, d) = (self.kernels, heads.width);
        let total: usize = lengths.iter().sum();
        let blocks_of = |length: &usize| length.div_ceil(BLOCK);
        let count = lengths.iter().map(blocks_of).sum::<usize>();
        let qkv = self.random((total, heads.row()), 1)?;
        // Every third block, from the end, so that no sequence uses adjacent blocks.
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
        // Block 0 becomes a copy of the first sequence's first block, and the sequence then uses it.
        kernels.copy_blocks(&cache, &[(tables[0][0], 0)], heads)?;
        let mut blocks: Vec<&[u32]> = tables.iter().map(Vec::as_slice).collect();
        let copied = [&[0], &tables[0][1..]].concat();
        blocks[0] = &copied;
        let last_rows = kernels.gather(&qkv.tensor, &kernels.indices(&last)?)?;
        let found = kernels.attend_cached(&last_rows, &cache, &kernels.tables(&blocks, lengths)?, heads)?;
        let rows: Vec<usize> = last.iter().map(|row| *row as usize).collect();
        let exact = attend(&qkv.exact, &segments, heads, &rows);
        self.outcome(&format!("attend_cached of {} sequences, {total} tokens, {heads:?}", lengths.len()), d, exact, &found)
    }
}

fn numbers(rows: &[usize]) -> Result<Tensor> {
    Tensor::from_iter(rows.iter().map(|row| *row as u32), &Device::Cpu)
}

/// Returns all rows, or some rows of a long batch: both ends of the first two sequences and of the last one, the boundaries of tiles, and
/// others evenly spaced.
fn compared_rows(segments: &[Segment]) -> Vec<usize> {
    let tokens = segments.iter().map(|segment| segment.tokens.len()).sum::<usize>();
    if tokens <= ALL_TOKENS {
        return (0..tokens).collect();
    }
    let ends = segments.iter().take(2).chain(segments.last()).flat_map(|segment| [segment.tokens.start, segment.tokens.end - 1]);
    let borders = [63, 64, 65, 127, 128, 1023, 1024, tokens - 2, tokens - 65, tokens - 64];
    let mut rows: BTreeSet<usize> = ends.chain(borders).collect();
    let others = SAMPLED_ROWS - rows.len();
    rows.extend((1..=others).map(|i| i * tokens / (others + 1)));
    rows.into_iter().collect()
}

/// Returns packed sequences with these lengths, without a prefix.
pub fn without_prefix(lengths: &[usize]) -> Vec<Segment> {
    let mut start = 0;
    let segment = |length: &usize| {
        start += length;
        Segment { tokens: start - length..start, prefix: 0..0 }
    };
    lengths.iter().map(segment).collect()
}

/// Returns a prefix and sequences with these lengths that continue it.
pub fn with_prefix(prefix: usize, lengths: &[usize]) -> Vec<Segment> {
    let mut segments = without_prefix(&[&[prefix], lengths].concat());
    segments[1..].iter_mut().for_each(|segment| segment.prefix = 0..prefix);
    segments
}
