//! Work lists of packed attention, built on the host from segments: what `cuda/attention_packed.cuh` and `attention_packed_backward.cuh` read.

use std::collections::HashMap;

use crate::kernels::shape::Segment;

/// Rows of a tile of queries, and of a tile of keys.
pub const TILE: usize = 64;
/// Query rows that one block of threads takes for a tile of keys, about: more are dealt to several.
const ROWS_PER_ITEM: usize = 1024;
/// What an item has for a slot that writes its tile by itself.
const NO_SLOT: u32 = u32::MAX;
/// A lag by which every query sees every key of a tile.
const ALL: u32 = TILE as u32;

/// What the forward pass and the gradient of queries read: flat, as the device has it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct QueryWork {
    /// `[n, 4]`: own rows and prefix rows of each segment, first and number.
    pub segments: Vec<u32>,
    /// `[m, 2]`: segment and first own token, the longest sequences first.
    pub tiles: Vec<u32>,
}

/// What the gradient of keys and values reads.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct KeyWork {
    /// `[m, 5]`: keys, first and number, sights, first and end, and slot.
    pub items: Vec<u32>,
    /// `[s, 3]`: query rows, first and number, and lag.
    pub sights: Vec<u32>,
    /// `[r, 4]`: keys, first and number, and slots, first and number.
    pub sums: Vec<u32>,
    /// Slots of partial sums.
    pub slots: usize,
}

impl QueryWork {
    /// Tiles of all segments.
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

impl KeyWork {
    /// Tiles of keys with all that see them.
    pub fn of(segments: &[Segment]) -> Self {
        let mut continued: HashMap<usize, Vec<&Segment>> = HashMap::new();
        for segment in segments.iter().filter(|segment| !segment.prefix.is_empty()) {
            continued.entry(segment.prefix.start).or_default().push(segment);
        }
        let mut work = Self::default();
        for segment in segments {
            let (start, own) = (segment.tokens.start, segment.tokens.len());
            for first in (0..own).step_by(TILE) {
                let mut sights = vec![[(start + first) as u32, (own - first) as u32, 0]];
                for other in continued.get(&start).into_iter().flatten() {
                    sights.push([other.tokens.start as u32, other.tokens.len() as u32, ALL]);
                }
                work.push_tile((start + first) as u32, TILE.min(own - first) as u32, &sights);
            }
        }
        work
    }

    fn push_tile(&mut self, first_key: u32, keys: u32, sights: &[[u32; 3]]) {
        let shares = share(sights);
        let first_slot = self.slots;
        for share in &shares {
            let slot = if shares.len() == 1 { NO_SLOT } else { self.slots as u32 };
            let begin = (self.sights.len() / 3) as u32;
            self.sights.extend(share.iter().flatten());
            self.items.extend([first_key, keys, begin, begin + share.len() as u32, slot]);
            self.slots += usize::from(shares.len() > 1);
        }
        if shares.len() > 1 {
            self.sums.extend([first_key, keys, first_slot as u32, shares.len() as u32]);
        }
    }
}

/// Deals sights to as few shares of about `ROWS_PER_ITEM` rows as hold them; a long sight is cut.
fn share(sights: &[[u32; 3]]) -> Vec<Vec<[u32; 3]>> {
    let (mut shares, mut rows) = (vec![Vec::new()], 0);
    for [mut row, mut count, mut lag] in sights.iter().copied() {
        while count > 0 {
            if rows >= ROWS_PER_ITEM {
                shares.push(Vec::new());
                rows = 0;
            }
            // A remainder that is not worth a share of its own stays.
            let left = ROWS_PER_ITEM - rows;
            let taken = if (count as usize) < left + ROWS_PER_ITEM / 4 { count } else { left as u32 };
            if let Some(share) = shares.last_mut() {
                share.push([row, taken, lag]);
            }
            rows += taken as usize;
            (row, count, lag) = (row + taken, count - taken, lag + taken);
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_every_row_once_and_long_sequences_come_first() {
        let segments =
            [Segment { tokens: 0..70, prefix: 0..0 }, Segment { tokens: 70..75, prefix: 0..70 }, Segment { tokens: 75..76, prefix: 0..0 }];
        let work = QueryWork::of(&segments);
        assert_eq!(work.segments, [0, 70, 0, 0, 70, 5, 0, 70, 75, 1, 0, 0]);
        assert_eq!(work.tiles, [1, 0, 0, 64, 0, 0, 2, 0]);
    }

    #[test]
    fn a_tile_that_many_see_is_split_and_summed_up() {
        let few = [Segment { tokens: 0..3, prefix: 0..0 }, Segment { tokens: 3..10, prefix: 0..3 }];
        let work = KeyWork::of(&few);
        assert_eq!(work.items, [0, 3, 0, 2, NO_SLOT, 3, 7, 2, 3, NO_SLOT]);
        assert_eq!(work.sights, [0, 3, 0, 3, 7, ALL, 3, 7, 0]);
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
        let work = KeyWork::of(&many);
        assert_eq!(work.sums, [0, 2, 0, 3]);
        let prefix_rows: u32 = work.sights.chunks(3).take(work.items[5 * 2 + 3] as usize).map(|sight| sight[1]).sum();
        assert_eq!(prefix_rows, 2 + 29 * 100, "every query is seen once");
    }

    #[test]
    fn a_long_sight_is_cut_with_its_lag() {
        let shares = share(&[[10, 3000, 0]]);
        assert_eq!(shares, [vec![[10, 1024, 0]], vec![[1034, 1024, 1024]], vec![[2058, 952, 2048]]]);
    }
}
