//! Lanes: a fixed number of independent workers over which sequences and micro-batches are dealt. Small products lose with several threads, so
//! a small model computes each lane on one thread of its own; a large one has one lane, and its products use all threads.
//!
//! The number of lanes decides in which order gradients are summed, so it is a setting that a run records, not a property of the machine.

use anyhow::Result;
use rayon::ThreadPool;

/// Parameters below which a product on one thread beats one on several.
const SMALL_MODEL: usize = 20_000_000;

/// Workers that run side by side.
pub struct Lanes {
    /// One pool of one thread per lane; none where the single lane uses the global pool.
    pools: Vec<ThreadPool>,
}

impl Lanes {
    /// `count` lanes; one lane computes with all threads.
    pub fn new(count: usize) -> Result<Self> {
        let pool = |_| rayon::ThreadPoolBuilder::new().num_threads(1).build();
        let pools = if count > 1 { (0..count).map(pool).collect::<Result<_, _>>()? } else { Vec::new() };
        Ok(Self { pools })
    }

    /// The usual number of lanes for a model of so many parameters.
    pub fn usual(parameters: usize) -> usize {
        if parameters < SMALL_MODEL { 2 } else { 1 }
    }

    /// How many lanes there are.
    pub fn count(&self) -> usize {
        self.pools.len().max(1)
    }

    /// Runs `work(lane)` on every lane and gives the results in lane order.
    pub fn run<T: Send>(&self, work: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
        if self.pools.is_empty() {
            return Ok(vec![work(0)?]);
        }
        let mut results: Vec<Option<Result<T>>> = self.pools.iter().map(|_| None).collect();
        std::thread::scope(|scope| {
            for ((lane, pool), result) in self.pools.iter().enumerate().zip(&mut results) {
                let work = &work;
                scope.spawn(move || *result = Some(pool.install(|| work(lane))));
            }
        });
        results.into_iter().map(|result| result.unwrap_or_else(|| anyhow::bail!("a lane gave no result"))).collect()
    }
}
