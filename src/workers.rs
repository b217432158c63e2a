//! A fixed number of workers that divide sequences and micro-batches among themselves. Small matrix products are slower on several threads,
//! so a small model has several workers with one thread each, and a large one has a single worker whose products use all threads.
//!
//! The number of workers determines the order in which gradients are summed, so it is a recorded setting, not a property of the machine.

use anyhow::Result;
use rayon::ThreadPool;

/// Models with fewer parameters than this compute products faster on one thread than on several.
const SMALL_MODEL: usize = 20_000_000;

/// Workers that run in parallel.
pub struct Workers {
    /// One single-threaded pool per worker; empty if a single worker uses the global pool.
    pools: Vec<ThreadPool>,
}

impl Workers {
    /// Creates `count` workers with one thread each; a single worker uses all threads.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn new(count: usize) -> Result<Self> {
        let pool = |_| rayon::ThreadPoolBuilder::new().num_threads(1).build();
        let pools = if count > 1 { (0..count).map(pool).collect::<Result<_, _>>()? } else { Vec::new() };
        Ok(Self { pools })
    }

    /// Returns the default number of workers for a model with this number of parameters.
    pub fn default_count(parameters: usize) -> usize {
        if parameters < SMALL_MODEL { 2 } else { 1 }
    }

    /// Returns the number of workers, at least 1.
    pub fn count(&self) -> usize {
        self.pools.len().max(1)
    }

    /// Runs `work(index)` on every worker and returns the results in worker order.
    ///
    /// # Errors
    /// Returns the first error in worker order. All workers have finished by then.
    ///
    /// # Panics
    /// If `work` panics.
    pub fn run<T: Send>(&self, work: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
        if self.pools.is_empty() {
            return Ok(vec![work(0)?]);
        }
        let mut results: Vec<Option<Result<T>>> = self.pools.iter().map(|_| None).collect();
        std::thread::scope(|scope| {
            for ((worker, pool), result) in self.pools.iter().enumerate().zip(&mut results) {
                let work = &work;
                scope.spawn(move || *result = Some(pool.install(|| work(worker))));
            }
        });
        results.into_iter().map(|result| result.unwrap_or_else(|| anyhow::bail!("a worker returned no result"))).collect()
    }
}
