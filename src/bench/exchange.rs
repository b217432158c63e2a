//! Measures how fast ranks exchange data: a broadcast, an exchange of pairs, and a sum over all ranks whose bits do not depend on their
//! number.

use std::ops::Range;
use std::time::Instant;

use anyhow::{Result, ensure};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::dist::World;

/// Number of times that each exchange is measured, after one that is not.
const REPEATS: usize = 5;

/// Least number of terms in the sum. Worlds that divide it compute the same bits.
const TERMS: usize = 8;

/// The measured times.
#[derive(Clone, Debug, Serialize)]
pub struct Exchange {
    /// The number of bytes that each rank sends, receives or sums.
    pub bytes: usize,
    /// Median time in which rank 0 sends the bytes to all others; `None` for a single rank, like the next.
    pub broadcast_s: Option<f64>,
    /// Median time in which two neighbors send each other the bytes.
    pub pair_s: Option<f64>,
    /// Median time of the sum over all ranks.
    pub sum_s: f64,
    /// The sha256 of the sums, equal on all ranks and for every world of 1, 2, 4 or 8 ranks.
    pub sha256: String,
}

/// Measures the exchanges of `numbers` f32.
///
/// # Errors
/// If the number of ranks is not a power of two, or the connection fails.
pub fn measure(world: &World, numbers: usize) -> Result<Exchange> {
    ensure!(world.size().is_power_of_two(), "the sum needs 1, 2, 4, 8, ... ranks, but there are {}", world.size());
    let own = own_sum(world, numbers);
    let bytes = own.len();
    let (mut buffer, mut received) = (own.clone(), vec![0; bytes]);
    let broadcast = || world.communicator().broadcast(0, &mut buffer);
    let broadcast_s = (world.size() > 1).then(|| median_s(world, broadcast)).transpose()?;
    let pair = || world.communicator().exchange(world.rank() ^ 1, &own, &mut received);
    let pair_s = (world.size() > 1).then(|| median_s(world, pair)).transpose()?;
    let mut sum = own.clone();
    let sum_s = median_s(world, || {
        sum.copy_from_slice(&own);
        sum_over_ranks(world, &mut sum, &mut received)
    })?;
    let sha256: String = Sha256::digest(&sum).iter().map(|byte| format!("{byte:02x}")).collect();
    world.ensure_equal(&[("sums with the sha256", sha256.clone())])?;
    Ok(Exchange { bytes, broadcast_s, pair_s, sum_s, sha256 })
}

/// Returns the median time until all ranks have done `work`.
fn median_s(world: &World, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    work()?;
    let mut times = Vec::with_capacity(REPEATS);
    for _ in 0..REPEATS {
        world.wait_for_all()?;
        let started = Instant::now();
        work()?;
        world.wait_for_all()?;
        times.push(started.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[REPEATS / 2])
}

/// Adds up the buffers of all ranks by recursive halving, then collects the parts by recursive doubling. Ranks at distance 1, 2, 4, ...
/// exchange halves, so element by element the terms are added in a binary tree over ranks.
fn sum_over_ranks(world: &World, buffer: &mut [u8], received: &mut [u8]) -> Result<()> {
    let mut parts: Vec<(usize, Range<usize>, Range<usize>)> = Vec::new();
    let mut part = 0..buffer.len();
    for distance in (0..world.size().ilog2()).map(|level| 1usize << level) {
        let middle = part.start + part.len() / 8 * 4;
        let (low, high) = (part.start..middle, middle..part.end);
        let (kept, sent) = if world.rank() & distance == 0 { (low, high) } else { (high, low) };
        let peer = world.rank() ^ distance;
        world.communicator().exchange(peer, &buffer[sent.clone()], &mut received[kept.clone()])?;
        add(&mut buffer[kept.clone()], &received[kept.clone()]);
        parts.push((peer, kept.clone(), sent));
        part = kept;
    }
    for (peer, kept, sent) in parts.into_iter().rev() {
        let own = buffer[kept].to_vec();
        world.communicator().exchange(peer, &own, &mut buffer[sent])?;
    }
    Ok(())
}

/// Adds f32 numbers in the machine's byte order. Both orders of two terms have the same bits.
fn add(sums: &mut [u8], terms: &[u8]) {
    for (sum, term) in sums.as_chunks_mut::<4>().0.iter_mut().zip(terms.as_chunks::<4>().0) {
        *sum = (f32::from_ne_bytes(*sum) + f32::from_ne_bytes(*term)).to_ne_bytes();
    }
}

/// Returns this rank's part of the sum: its terms, added in a binary tree.
fn own_sum(world: &World, numbers: usize) -> Vec<u8> {
    let count = TERMS.max(world.size()) / world.size();
    let first = world.rank() * count;
    tree_sum(first..first + count, numbers)
}

/// Adds terms in a binary tree; their number is a power of two.
fn tree_sum(terms: Range<usize>, numbers: usize) -> Vec<u8> {
    if terms.len() == 1 {
        return (0..numbers).flat_map(|index| term(terms.start, index).to_ne_bytes()).collect();
    }
    let middle = terms.start + terms.len() / 2;
    let mut sum = tree_sum(terms.start..middle, numbers);
    add(&mut sum, &tree_sum(middle..terms.end, numbers));
    sum
}

/// Returns an arbitrary number in [-1, 1) whose sums depend on the order.
fn term(term: usize, index: usize) -> f32 {
    let mixed = (index as u32 ^ (term as u32) << 24).wrapping_mul(0x9e37_79b9);
    let mixed = (mixed ^ mixed >> 15).wrapping_mul(0x85eb_ca6b);
    (mixed >> 8) as f32 / (1 << 23) as f32 - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dist::threads;

    #[test]
    fn measure_gives_the_same_sums_for_every_number_of_ranks() {
        // Not a multiple of the number of ranks.
        let hashes = [1, 2, 4, 8].map(|ranks| threads::run(ranks, |world| measure(&world, 1003).unwrap().sha256));
        assert!(hashes.iter().flatten().all(|hash| *hash == hashes[0][0]), "{hashes:?}");
        let in_order = (1..TERMS).fold(tree_sum(0..1, 1003), |mut sum, next| {
            add(&mut sum, &tree_sum(next..next + 1, 1003));
            sum
        });
        assert_ne!(in_order, tree_sum(0..TERMS, 1003), "the order of the terms must matter");
        let refused = threads::run(3, |world| measure(&world, 10).unwrap_err().to_string());
        assert_eq!(refused[0], "the sum needs 1, 2, 4, 8, ... ranks, but there are 3");
    }
}
