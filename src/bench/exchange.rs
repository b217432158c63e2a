//! Measures how fast ranks exchange data: a broadcast, an exchange of pairs, and the sum over all ranks that a training run computes for its
//! gradients ([`Owners`]), whose bits do not depend on their number.

use std::ops::Range;
use std::time::Instant;

use anyhow::{Result, ensure};
use candle_core::{DType, Device, Tensor};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::dist::World;
use crate::kernels::{Cpu, Kernels};
use crate::optim::Owners;

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
    /// Median time of the sum over all ranks, as in an update: each owner adds up its tensors, and sends the sums to all.
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
    let sent = bytes(&own);
    let (mut buffer, mut received) = (sent.clone(), vec![0; sent.len()]);
    let broadcast = || world.communicator().broadcast(0, &mut buffer);
    let broadcast_s = (world.size() > 1).then(|| median_s(world, broadcast)).transpose()?;
    let pair = || world.communicator().exchange(world.rank() ^ 1, &sent, &mut received);
    let pair_s = (world.size() > 1).then(|| median_s(world, pair)).transpose()?;
    let sum = Sum::of(world, numbers)?;
    let sum_s = median_s(world, || {
        sum.set(&own)?;
        sum.add_over_ranks()
    })?;
    let sha256 = sha256(&sum.numbers()?);
    world.ensure_equal(&[("sums with the sha256", sha256.clone())])?;
    Ok(Exchange { bytes: sent.len(), broadcast_s, pair_s, sum_s, sha256 })
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

/// Numbers that ranks sum as they sum gradients in a training run: tensors with owners, which add up their own and send the sums to all.
struct Sum {
    owners: Owners,
    tensors: Vec<(String, Tensor)>,
}

impl Sum {
    /// Divides `count` numbers into tensors of nearly the same size, as many for each rank.
    fn of(world: &World, count: usize) -> Result<Self> {
        let parts = TERMS.max(world.size());
        let part = |index: usize| (index + 1) * count / parts - index * count / parts;
        let tensors = (0..parts).map(|index| Ok((index.to_string(), Tensor::zeros(part(index), DType::F32, &Device::Cpu)?)));
        let tensors = tensors.collect::<Result<Vec<_>>>()?;
        let owners = Owners::new(world, tensors.iter().map(|(name, tensor)| (name.clone(), tensor.elem_count())).collect());
        Ok(Self { owners, tensors })
    }

    /// Overwrites the tensors with `numbers`, this rank's part of the sum.
    fn set(&self, numbers: &[f32]) -> Result<()> {
        let mut rest = numbers;
        self.tensors.iter().try_for_each(|(_, tensor)| {
            let (own, after) = rest.split_at(tensor.elem_count());
            rest = after;
            Ok(Cpu.set(tensor, &Tensor::new(own, &Device::Cpu)?)?)
        })
    }

    /// Adds up the tensors of all ranks.
    fn add_over_ranks(&self) -> Result<()> {
        let by_name = self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        self.owners.add_over_ranks(&Cpu, &by_name)?;
        self.owners.spread(&Cpu, &by_name)
    }

    /// Returns the numbers in order.
    fn numbers(&self) -> Result<Vec<f32>> {
        let parts = self.tensors.iter().map(|(_, tensor)| Ok(tensor.to_vec1::<f32>()?)).collect::<Result<Vec<_>>>()?;
        Ok(parts.concat())
    }
}

fn bytes(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
}

fn sha256(numbers: &[f32]) -> String {
    Sha256::digest(bytes(numbers)).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Adds numbers. Both orders of two terms have the same bits.
fn add(sums: &mut [f32], terms: &[f32]) {
    sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
}

/// Returns this rank's part of the sum: its terms, added in a binary tree.
fn own_sum(world: &World, numbers: usize) -> Vec<f32> {
    let count = TERMS.max(world.size()) / world.size();
    let first = world.rank() * count;
    tree_sum(first..first + count, numbers)
}

/// Adds terms in a binary tree; their number is a power of two.
fn tree_sum(terms: Range<usize>, numbers: usize) -> Vec<f32> {
    if terms.len() == 1 {
        return (0..numbers).map(|index| term(terms.start, index)).collect();
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
        assert_eq!(hashes[0][0], sha256(&tree_sum(0..TERMS, 1003)));
        let in_order = (1..TERMS).fold(tree_sum(0..1, 1003), |mut sum, next| {
            add(&mut sum, &tree_sum(next..next + 1, 1003));
            sum
        });
        assert_ne!(in_order, tree_sum(0..TERMS, 1003), "the order of the terms must matter");
        let refused = threads::run(3, |world| measure(&world, 10).unwrap_err().to_string());
        assert_eq!(refused[0], "the sum needs 1, 2, 4, 8, ... ranks, but there are 3");
    }
}
