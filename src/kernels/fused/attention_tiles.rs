//! Builds the work lists of packed attention on the host, from segments. `attention_packed.cuh` and `attention_packed_backward.cuh` in
//! `src/kernels/cuda` read them.
//!
//! Here a *query range* is a range of query rows that attend to a tile of keys, and a *slot* is the index of a partial sum.

use std::collections::HashMap;

use crate::kernels::shape::Segment;

/// Rows in a tile of queries or of keys.
pub const TILE: usize = 64;
/// Approximate number of query rows per work item. If more queries attend to a tile of keys, it has several items.
const ROWS_PER_ITEM: usize = 1024;
/// The slot of a tile's only item, which writes the result directly.
const NO_SLOT: u32 = u32::MAX;
/// The lag with which every query attends to every key of a tile.
const ALL: u32 = TILE as u32;

/// The work list of the forward pass and of the gradient of queries, in the flat layout that the device reads.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct QueryTiles {
    /// `[n, 4]`, for each segment: first row and number of its own tokens, first row and length of its prefix.
    pub segments: Vec<u32>,
    /// `[m, 2]`, for each tile of queries: segment, and its first own token in the tile. The tiles with the most keys come first.
    pub tiles: Vec<u32>,
}

/// The work list of the gradient of keys and values, in the flat layout that the device reads.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct KeyTiles {
    /// `[m, 5]`, for each item: first key, number of keys, first query range, end of its query ranges, and slot.
    pub items: Vec<u32>,
    /// `[s, 3]`, for each query range: first query row, number of rows, and lag. Query i of the range attends to key j of the tile if
    /// j <= i + lag.
    pub query_ranges: Vec<u32>,
    /// `[r, 4]`, for each tile with several items: first key, number of keys, first slot, and number of slots.
    pub sums: Vec<u32>,
    /// Number of slots for partial sums.
    pub slots: usize,
}

impl QueryTiles {
    /// Splits the own tokens of all segments into tiles of queries.
    pub fn of(segments: &[Segment]) -> Self {
        let row = |segment: &Segment| [segment.tokens.start, segment.tokens.len(), segment.prefix.start, segment.prefix.len()];
        let mut tiles: Vec<(usize, usize)> = segments
            .iter()
            .enumerate()
            .flat_map(|(index, segment)| (0..segment.tokens.len()).step_by(TILE).map(move |first| (index, first)))
            .collect();
        tiles.sort_by_key(|(index, first)| std::cmp::Reverse(segments[*index].prefix.len() + first));
        Self {
            segments: segments.iter().flat_map(row).map(|value| value as u32).collect(),
            tiles: tiles.into_iter().flat_map(|(index, first)| [index as u32, first as u32]).collect(),
        }
    }
}

impl KeyTiles {
    /// Splits the own tokens of all segments into tiles of keys, and lists the query ranges of each.
    pub fn of(segments: &[Segment]) -> Self {
        let mut continued: HashMap<usize, Vec<&Segment>> = HashMap::new();
        for segment in segments.iter().filter(|segment| !segment.prefix.is_empty()) {
            continued.entry(segment.prefix.start).or_default().push(segment);
        }
        let mut work = Self::default();
        for segment in segments {
            let (start, own) = (segment.tokens.start, segment.tokens.len());
            for first in (0..own).step_by(TILE) {
                let mut query_ranges = vec![[(start + first) as u32, (own - first) as u32, 0]];
                for other in continued.get(&start).into_iter().flatten() {
                    query_ranges.push([other.tokens.start as u32, other.tokens.len() as u32, ALL]);
                }
                work.push_tile((start + first) as u32, TILE.min(own - first) as u32, &query_ranges);
            }
        }
        work
    }

    fn push_tile(&mut self, first_key: u32, keys: u32, query_ranges: &[[u32; 3]]) {
        let parts = split(query_ranges);
        let first_slot = self.slots;
        for part in &parts {
            let slot = if parts.len() == 1 { NO_SLOT } else { self.slots as u32 };
            let begin = (self.query_ranges.len() / 3) as u32;
            self.query_ranges.extend(part.iter().flatten());
            self.items.extend([first_key, keys, begin, begin + part.len() as u32, slot]);
            self.slots += usize::from(parts.len() > 1);
        }
        if parts.len() > 1 {
            self.sums.extend([first_key, keys, first_slot as u32, parts.len() as u32]);
        }
    }
}

/// Splits query ranges into parts of about [`ROWS_PER_ITEM`] rows, one for each item. Cuts long ranges.
fn split(query_ranges: &[[u32; 3]]) -> Vec<Vec<[u32; 3]>> {
    let (mut parts, mut rows) = (vec![Vec::new()], 0);
    for [mut row, mut count, mut lag] in query_ranges.iter().copied() {
        while count > 0 {
            if rows >= ROWS_PER_ITEM {
                parts.push(Vec::new());
                rows = 0;
            }
            // A short remainder stays in this part.
            let left = ROWS_PER_ITEM - rows;
            let taken = if (count as usize) < left + ROWS_PER_ITEM / 4 { count } else { left as u32 };
            if let Some(part) = parts.last_mut() {
                part.push([row, taken, lag]);
            }
            rows += taken as usize;
            (row, count, lag) = (row + taken, count - taken, lag + taken);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_tiles_cover_every_row_once_and_start_with_the_longest_sequences() {
        let segments =
            [Segment { tokens: 0..70, prefix: 0..0 }, Segment { tokens: 70..75, prefix: 0..70 }, Segment { tokens: 75..76, prefix: 0..0 }];
        let work = QueryTiles::of(&segments);
        assert_eq!(work.segments, [0, 70, 0, 0, 70, 5, 0, 70, 75, 1, 0, 0]);
        assert_eq!(work.tiles, [1, 0, 0, 64, 0, 0, 2, 0]);
    }

    #[test]
    fn key_tiles_split_a_tile_with_many_query_rows() {
        let few = [Segment { tokens: 0..3, prefix: 0..0 }, Segment { tokens: 3..10, prefix: 0..3 }];
        let work = KeyTiles::of(&few);
        assert_eq!(work.items, [0, 3, 0, 2, NO_SLOT, 3, 7, 2, 3, NO_SLOT]);
        assert_eq!(work.query_ranges, [0, 3, 0, 3, 7, ALL, 3, 7, 0]);
        assert_eq!((work.slots, work.sums.len()), (0, 0));

        let many: Vec<Segment> =
            (0..30)
                .map(|i| {
                    if i == 0 {
                        Segment { tokens: 0..2, prefix: 0..0 }
                    } else {
                        Segment { tokens: i * 100 - 98..i * 100 + 2, prefix: 0..2 }
                    }
                })
                .collect();
        let work = KeyTiles::of(&many);
        assert_eq!(work.sums, [0, 2, 0, 3]);
        let prefix_rows: u32 = work.query_ranges.chunks(3).take(work.items[5 * 2 + 3] as usize).map(|range| range[1]).sum();
        assert_eq!(prefix_rows, 2 + 29 * 100, "every query attends to the prefix once");
    }

    #[test]
    fn split_cuts_a_long_query_range_and_adjusts_its_lag() {
        let parts = split(&[[10, 3000, 0]]);
        assert_eq!(parts, [vec![[10, 1024, 0]], vec![[1034, 1024, 1024]], vec![[2058, 952, 2048]]]);
    }
}
