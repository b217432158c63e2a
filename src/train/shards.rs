//! Divides a mini-batch into shards, whose gradients are summed by a fixed binary tree. The sum has the same bits for every number of ranks
//! and workers that divides the number of shards. Decides who computes which shard; independent of the computation.

use std::ops::Range;

use anyhow::{Result, ensure};

use crate::dist::World;
use crate::kernels::{OutOfMemory, is_out_of_memory};

/// The shards of a run's mini-batches, dealt over its ranks: a rank has neighboring shards, so its sum is a subtree of the whole.
#[derive(Clone, Copy, Debug)]
pub struct Shards<'a> {
    /// The ranks.
    pub world: &'a World,
    /// The number of shards of a mini-batch (`train.shards`), a power of two.
    pub count: usize,
}

impl<'a> Shards<'a> {
    /// Deals `count` shards over the ranks.
    ///
    /// # Errors
    /// If the number of ranks does not divide the number of shards.
    pub fn new(world: &'a World, count: usize) -> Result<Self> {
        shards_of_rank(count, world.size())?;
        Ok(Self { world, count })
    }

    /// The shards of this rank.
    pub fn own(&self) -> Range<usize> {
        let each = self.count / self.world.size();
        self.world.rank() * each..(self.world.rank() + 1) * each
    }

    /// Returns how many of `workers` workers can share this rank's shards equally.
    pub fn usable_workers(&self, workers: usize) -> usize {
        usable_workers(self.own().len(), workers)
    }

    /// Returns the number of sets of gradients that each of `workers` workers needs to add up its shards.
    pub fn buffers(&self, workers: usize) -> usize {
        buffers(self.own().len() / self.usable_workers(workers))
    }

    /// Makes the outcome of work that can run out of memory or be interrupted the same on all ranks: if one rank is out of memory, all get
    /// that error and can retry together.
    ///
    /// # Errors
    /// As [`World::agree`], and [`OutOfMemory`] if a rank is out of memory.
    pub fn agree<T>(&self, outcome: Result<T>) -> Result<T> {
        if self.world.size() == 1 {
            return outcome;
        }
        let outcome = match outcome {
            Err(error) if is_out_of_memory(&error) => Ok(None),
            outcome => outcome.map(Some),
        };
        let value = self.world.agree(outcome)?;
        let is_out = self.world.max(u64::from(value.is_none()))? == 1;
        value.filter(|_| !is_out).ok_or_else(|| candle_core::Error::from(OutOfMemory::new("a process is out of memory")).into())
    }
}

/// Returns how many of a mini-batch's `shards` shards each of `ranks` ranks computes.
///
/// # Errors
/// If the number of ranks does not divide the number of shards.
pub fn shards_of_rank(shards: usize, ranks: usize) -> Result<usize> {
    let advice = match ranks.is_power_of_two() {
        true => format!("or set train.shards to {ranks}"),
        false => format!("such as {}", shards.min(ranks.next_power_of_two() / 2)),
    };
    ensure!(
        shards.is_multiple_of(ranks),
        "train.shards is {shards}, which {ranks} processes cannot share equally: start a number of processes that divides it, {advice}"
    );
    Ok(shards / ranks)
}

/// Returns how many of `workers` workers can share a rank's `shards` shards equally: the largest power of two that is not above either number.
pub fn usable_workers(shards: usize, workers: usize) -> usize {
    1 << shards.min(workers).max(1).ilog2()
}

/// Returns the number of sets of gradients that add up `shards` shards as a binary counter does: one for each bit.
pub fn buffers(shards: usize) -> usize {
    shards.max(1).ilog2() as usize + 1
}

/// Deals sequences of these lengths over shards, longest first, each to the shard with the fewest tokens. Returns the indices of each
/// shard's sequences in ascending order.
pub fn deal(lengths: &[usize], shards: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(lengths[*index]));
    let mut dealt: Vec<(usize, Vec<usize>)> = vec![(0, Vec::new()); shards];
    for index in order {
        if let Some((tokens, shard)) = dealt.iter_mut().min_by_key(|(tokens, shard)| (*tokens, shard.len())) {
            *tokens += lengths[index];
            shard.push(index);
        }
    }
    dealt.iter_mut().for_each(|(_, shard)| shard.sort_unstable());
    dealt.into_iter().map(|(_, shard)| shard).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dist::threads;

    #[test]
    fn deal_gives_the_longest_to_the_emptiest_shard() {
        // 9, then 5 and 4; at nine tokens each, 3 goes to the shard with fewer responses, and 1 to the other.
        assert_eq!(deal(&[5, 9, 1, 4, 3], 2), [vec![1, 4], vec![0, 2, 3]]);
        assert_eq!(deal(&[2, 2], 4), [vec![0], vec![1], vec![], vec![]]);
        assert_eq!(deal(&[0, 0, 0, 0], 2), [[0, 2], [1, 3]], "empty responses are spread too");
    }

    #[test]
    fn shards_are_neighbors_and_workers_share_them_equally() {
        let found = threads::run(4, |world| {
            let shards = Shards::new(&world, 8).unwrap();
            (shards.own(), shards.usable_workers(3), shards.buffers(1))
        });
        assert_eq!(found, [(0..2, 2, 2), (2..4, 2, 2), (4..6, 2, 2), (6..8, 2, 2)]);
        let message = threads::run(3, |world| Shards::new(&world, 8).unwrap_err().to_string()).remove(0);
        assert_eq!(
            message,
            "train.shards is 8, which 3 processes cannot share equally: start a number of processes that divides it, such as 2"
        );
        let message = shards_of_rank(8, 16).unwrap_err().to_string();
        assert!(message.ends_with("start a number of processes that divides it, or set train.shards to 16"), "{message}");
        assert_eq!([1, 2, 4, 8].map(buffers), [1, 2, 3, 4]);
    }

    #[test]
    fn agree_makes_all_ranks_run_out_of_memory_together() {
        let found = threads::run(2, |world| {
            let shards = Shards::new(&world, 2).unwrap();
            let outcome = if world.rank() == 1 { Err(candle_core::Error::from(OutOfMemory::new("full")).into()) } else { Ok(1) };
            (is_out_of_memory(&shards.agree(outcome).unwrap_err()), shards.agree(Ok(2)).unwrap())
        });
        assert_eq!(found, [(true, 2); 2]);
    }
}
