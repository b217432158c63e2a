//! All ranks of a run, as the rest of the program sees them.

use std::sync::{Arc, LazyLock};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Communicator, Solo};
use crate::interrupt::Interrupted;

/// All ranks of a run, seen from one of them. Every rank calls the collective methods in the same order.
#[derive(Clone)]
pub struct World {
    pub(super) communicator: Arc<dyn Communicator>,
    /// The number of ranks on this host.
    ranks_on_host: usize,
}

impl World {
    /// A run of one process.
    pub fn solo() -> &'static Self {
        static SOLO: LazyLock<World> = LazyLock::new(|| World::of(Arc::new(Solo)));
        &SOLO
    }

    /// The ranks that a communicator connects.
    pub fn of(communicator: Arc<dyn Communicator>) -> Self {
        Self { communicator, ranks_on_host: 1 }
    }

    /// Sets the number of ranks on this host, which share its processors.
    pub fn with_ranks_on_host(self, ranks: usize) -> Self {
        Self { ranks_on_host: ranks.max(1), ..self }
    }

    /// The number of ranks on this host.
    pub fn ranks_on_host(&self) -> usize {
        self.ranks_on_host
    }

    /// Returns this rank's share of the workers that suit its host, at least 1.
    pub fn workers_of_rank(&self, of_host: usize) -> usize {
        (of_host / self.ranks_on_host).max(1)
    }

    /// The communicator.
    pub fn communicator(&self) -> &dyn Communicator {
        &*self.communicator
    }

    /// The number of this rank, from 0.
    pub fn rank(&self) -> usize {
        self.communicator.rank()
    }

    /// The number of ranks.
    pub fn size(&self) -> usize {
        self.communicator.world()
    }

    /// True for the rank that writes files and speaks to the user.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Returns this rank's share of `count` items that are dealt in turn: rank r has items r, r + W, and so on.
    pub fn share(&self, count: usize) -> impl Iterator<Item = usize> + use<> {
        (self.rank()..count).step_by(self.size())
    }

    /// Returns the values of all ranks in rank order, to every rank.
    ///
    /// # Errors
    /// If the connection fails, or a rank sends a value of another type.
    pub fn gather<T: Serialize + DeserializeOwned>(&self, value: T) -> Result<Vec<T>> {
        if self.size() == 1 {
            return Ok(vec![value]);
        }
        let bytes = rmp_serde::to_vec_named(&value)?;
        let decode =
            |(rank, bytes): (usize, Vec<u8>)| rmp_serde::from_slice(&bytes).with_context(|| format!("cannot read what rank {rank} sent"));
        self.communicator.gather(&bytes)?.into_iter().enumerate().map(decode).collect()
    }

    /// Returns the results for all of `count` items in order, to every rank. `own` has the results for this rank's [`share`](Self::share).
    ///
    /// # Errors
    /// If the connection fails, or the ranks' results are not one per item.
    pub fn collect<T: Serialize + DeserializeOwned>(&self, count: usize, own: Vec<T>) -> Result<Vec<T>> {
        let mut dealt: Vec<_> = self.gather(own)?.into_iter().map(Vec::into_iter).collect();
        let collected: Vec<T> = (0..count).map_while(|item| dealt[item % self.size()].next()).collect();
        ensure!(collected.len() == count && dealt.iter().all(|left| left.len() == 0), "the ranks do not agree on {count} results");
        Ok(collected)
    }

    /// Returns rank 0's value to every rank.
    ///
    /// # Errors
    /// If the connection fails, or the ranks have values of different types.
    pub fn from_first<T: Serialize + DeserializeOwned>(&self, value: T) -> Result<T> {
        self.gather(self.is_first().then_some(value))?.into_iter().next().flatten().context("rank 0 sent nothing")
    }

    /// Returns the largest value of any rank, to every rank.
    ///
    /// # Errors
    /// If the connection fails.
    pub fn max(&self, value: u64) -> Result<u64> {
        Ok(self.gather(value)?.into_iter().max().unwrap_or(value))
    }

    /// Waits until every rank has called this.
    ///
    /// # Errors
    /// If the connection fails.
    pub fn wait_for_all(&self) -> Result<()> {
        self.gather(()).map(drop)
    }

    /// Makes an interruption of one rank that of all, so that they stop at the same place. Every rank calls it at the end of work that checks
    /// for interruptions. Returns any other error at once, without a word to the other ranks: the program then ends them.
    ///
    /// # Errors
    /// [`Interrupted`] if a rank was interrupted; otherwise the error of `outcome`.
    pub fn agree<T>(&self, outcome: Result<T>) -> Result<T> {
        if self.size() == 1 {
            return outcome;
        }
        let (value, signal) = match outcome {
            Ok(value) => (Some(value), 0),
            Err(error) => (None, error.downcast::<Interrupted>()?.signal),
        };
        let signal = self.max(signal as u64)? as usize;
        value.filter(|_| signal == 0).ok_or_else(|| Interrupted { signal }.into())
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(out, "rank {} of {}", self.rank(), self.size())
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::super::threads;
    use super::*;

    #[test]
    fn collect_returns_dealt_items_in_order() {
        for count in [0, 1, 5, 8] {
            let check = |world: World| {
                let own = world.share(count).map(|item| item * item).collect();
                assert_eq!(world.collect(count, own).unwrap(), (0..count).map(|item| item * item).collect::<Vec<_>>());
            };
            [1, 2, 4].into_iter().for_each(|ranks| drop(threads::run(ranks, check)));
        }
        let wrong = threads::run(2, |world| world.collect(3, vec![0u8; 2]).unwrap_err().to_string());
        assert_eq!(wrong, ["the ranks do not agree on 3 results"; 2]);
    }

    #[test]
    fn gather_keeps_the_bits_of_numbers() {
        let bits = [f64::NAN.to_bits() | 1, (-0.0f64).to_bits(), 0.1f64.to_bits(), f64::NEG_INFINITY.to_bits()];
        let found = threads::run(2, |world| world.gather(bits.map(f64::from_bits)).unwrap());
        assert!(found.into_iter().flatten().all(|values| values.map(f64::to_bits) == bits));
    }

    #[test]
    fn from_first_and_max_give_every_rank_the_same() {
        let found = threads::run(4, |world| (world.from_first(world.rank() + 10).unwrap(), world.max(world.rank() as u64 * 3).unwrap()));
        assert_eq!(found, [(10, 9); 4]);
    }

    #[test]
    fn agree_interrupts_all_ranks_if_one_is() {
        let outcome = |world: World| {
            let own = if world.rank() == 1 { Err(Interrupted { signal: 10 }.into()) } else { Ok(5) };
            world.agree(own).map_err(|error| error.downcast::<Interrupted>().unwrap())
        };
        assert_eq!(threads::run(4, outcome), vec![Err(Interrupted { signal: 10 }); 4]);
        assert_eq!(threads::run(2, |world| world.agree(Ok(world.rank())).unwrap()), [0, 1]);
        let failed = threads::run(2, |world| world.agree(if world.rank() == 0 { Err(anyhow!("disk full")) } else { Ok(()) }).is_err());
        assert_eq!(failed, [true; 2]);
    }
}
