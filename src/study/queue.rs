//! Which rank takes which run: pure decisions on numbers. Every rank makes the same ones, so none has to be told.

use std::collections::VecDeque;

/// The runs that wait, and the free slots of all ranks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    pending: VecDeque<usize>,
    /// The number of free slots by rank.
    free: Vec<usize>,
    /// The number of all slots.
    slots: usize,
}

impl Queue {
    /// Queues these runs for `ranks` ranks with `jobs` slots each.
    pub fn new(pending: Vec<usize>, ranks: usize, jobs: usize) -> Self {
        Self { pending: pending.into(), free: vec![jobs; ranks], slots: jobs * ranks }
    }

    /// Deals runs to free slots, in order: each to the rank with the most free slots, and of equal ranks to the first. Returns the rank of
    /// each run.
    pub fn deal(&mut self) -> Vec<(usize, usize)> {
        let mut dealt = Vec::new();
        while let Some((rank, free)) = self.free.iter_mut().enumerate().rev().max_by_key(|(_, free)| **free).filter(|(_, free)| **free > 0)
        {
            let Some(run) = self.pending.pop_front() else { break };
            *free -= 1;
            dealt.push((rank, run));
        }
        dealt
    }

    /// Frees the slot of a run that ended on this rank.
    pub fn release(&mut self, rank: usize) {
        self.free[rank] += 1;
    }

    /// The runs that wait, in order.
    pub fn pending(&self) -> impl Iterator<Item = usize> {
        self.pending.iter().copied()
    }

    /// The number of slots of all ranks.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// True if no run waits and none has a slot.
    pub fn is_done(&self) -> bool {
        self.pending.is_empty() && self.free.iter().sum::<usize>() == self.slots
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deal_fills_the_emptiest_rank_first() {
        let check = |runs: usize, ranks: usize, jobs: usize, expected: &[(usize, usize)]| {
            let mut queue = Queue::new((0..runs).collect(), ranks, jobs);
            assert_eq!(queue.deal(), expected, "{runs} runs, {ranks} ranks, {jobs} jobs");
            assert_eq!(queue.deal(), []);
            assert_eq!(queue.pending().collect::<Vec<_>>(), (expected.len()..runs).collect::<Vec<_>>());
        };
        check(3, 1, 1, &[(0, 0)]);
        check(3, 1, 4, &[(0, 0), (0, 1), (0, 2)]);
        check(5, 3, 1, &[(0, 0), (1, 1), (2, 2)]);
        check(3, 2, 2, &[(0, 0), (1, 1), (0, 2)]);
        check(0, 2, 2, &[]);
    }

    #[test]
    fn release_lets_the_next_run_take_the_slot() {
        let mut queue = Queue::new((0..4).collect(), 3, 1);
        assert_eq!(queue.deal(), [(0, 0), (1, 1), (2, 2)]);
        queue.release(1);
        assert_eq!(queue.deal(), [(1, 3)]);
        for rank in 0..3 {
            assert!(!queue.is_done());
            queue.release(rank);
        }
        assert!(queue.is_done() && queue.deal().is_empty());
    }
}
