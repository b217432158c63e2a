//! Divides the trained parameters among the ranks of a run, by whole tensors (ZeRO stage 1, Rajbhandari et al. 2020). The owner of a tensor
//! holds its optimizer state, adds up its gradient over the ranks, and sends the updated weights to the others.

use std::cmp::Reverse;
use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use candle_core::Tensor;

use super::transfer;
use crate::dist::World;
use crate::kernels::Kernels;

/// Which rank owns each trained parameter.
#[derive(Clone, Debug)]
pub struct Owners {
    world: World,
    /// The names of the parameters and their owners, in the order of the parameters.
    owners: Vec<(String, usize)>,
}

impl Owners {
    /// Assigns parameters with these names and numbers of elements: the largest first, each to the rank with the fewest elements.
    pub fn new(world: &World, parameters: Vec<(String, usize)>) -> Self {
        let owners = assign(parameters.iter().map(|(_, elements)| *elements).collect(), world.size());
        Self { world: world.clone(), owners: parameters.into_iter().map(|(name, _)| name).zip(owners).collect() }
    }

    /// The ranks.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Returns true if this rank owns the parameter.
    pub fn owns(&self, name: &str) -> bool {
        self.owners.iter().any(|(owned, rank)| owned == name && *rank == self.world.rank())
    }

    /// Returns the names of all parameters and their owners, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, usize)> {
        self.owners.iter().map(|(name, rank)| (name.as_str(), *rank))
    }

    /// Returns the numbers of all parameters in order, with their names, to every rank. `own` has those of this rank's parameters.
    pub(super) fn collect(&self, own: Vec<f64>) -> Result<Vec<(&str, f64)>> {
        let mut gathered: Vec<_> = self.world.gather(own)?.into_iter().map(Vec::into_iter).collect();
        self.iter().map(|(name, owner)| Ok((name, gathered[owner].next().with_context(|| format!("no number for {name}"))?))).collect()
    }

    /// Adds up `gradients` (f32) over the ranks; each rank gets the sums of its own parameters, and parts of the others.
    ///
    /// Ranks exchange tensors in pairs at distance 1, then 2, 4 and so on, so that sums form a binary tree over the ranks, whatever their
    /// number. A tensor goes to the partner if its owner lies on the partner's side.
    ///
    /// # Errors
    /// If the number of ranks is not a power of two, a parameter has no gradient, or the device or the connection fails.
    pub fn add_over_ranks(&self, kernels: &dyn Kernels, gradients: &HashMap<&str, &Tensor>) -> Result<()> {
        let (rank, ranks) = (self.world.rank(), self.world.size());
        ensure!(ranks.is_power_of_two(), "gradients cannot be added over {ranks} ranks: their number must be a power of two");
        for distance in (0..ranks.ilog2()).map(|level| 1 << level) {
            // The tensors that both partners still hold are those whose owners agree with them at all smaller distances.
            let held = self.iter().filter(|(_, owner)| owner % distance == rank % distance);
            let (kept, sent): (Vec<_>, Vec<_>) = held.partition(|(_, owner)| owner & distance == rank & distance);
            let tensors = |side: Vec<(&str, usize)>| -> Result<Vec<&Tensor>> {
                side.into_iter().map(|(name, _)| gradients.get(name).copied().with_context(|| format!("{name} has no gradient"))).collect()
            };
            transfer::add_from(&self.world, kernels, rank ^ distance, &tensors(kept)?, &tensors(sent)?)?;
        }
        Ok(())
    }

    /// Copies each of the `parameters` from its owner to all other ranks.
    ///
    /// # Errors
    /// If a parameter is missing, or the device or the connection fails.
    pub fn spread(&self, kernels: &dyn Kernels, parameters: &HashMap<&str, &Tensor>) -> Result<()> {
        if self.world.size() == 1 {
            return Ok(());
        }
        for owner in 0..self.world.size() {
            let owned = self.iter().filter(|(_, rank)| *rank == owner);
            let owned = owned.map(|(name, _)| parameters.get(name).copied().with_context(|| format!("{name} has no weight")));
            transfer::copy_from(&self.world, kernels, owner, &owned.collect::<Result<Vec<_>>>()?)?;
        }
        Ok(())
    }
}

/// Returns the owner of each of the tensors with these numbers of elements, among `ranks` ranks: the largest first, each to the rank with the
/// fewest elements.
pub(super) fn assign(elements: Vec<usize>, ranks: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..elements.len()).collect();
    order.sort_by_key(|index| Reverse(elements[*index]));
    let (mut owned, mut owners) = (vec![0; ranks], vec![0; elements.len()]);
    for index in order {
        let owner = (0..ranks).min_by_key(|rank| owned[*rank]).unwrap_or(0);
        owned[owner] += elements[index];
        owners[index] = owner;
    }
    owners
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dist::threads;
    use crate::kernels::{Cpu, cpu};

    #[test]
    fn new_gives_the_largest_tensor_to_the_emptiest_rank() {
        let sizes = [10, 7, 5, 1].into_iter().enumerate().map(|(index, size)| (index.to_string(), size)).collect::<Vec<_>>();
        let owners = threads::run(2, |world| Owners::new(&world, sizes.clone()).iter().map(|(_, owner)| owner).collect::<Vec<_>>());
        assert_eq!(owners, [[0, 1, 1, 0], [0, 1, 1, 0]]);
    }

    #[test]
    fn add_over_ranks_sums_pairs_first_and_spread_sends_the_sums_to_all() {
        // In f32, the order of these sums matters: a chain from the left would give 1.
        let parts = [1e8f32, 1.0, -1e8, 1.0];
        let expected = (parts[0] + parts[1]) + (parts[2] + parts[3]);
        assert_ne!(expected, ((parts[0] + parts[1]) + parts[2]) + parts[3]);
        let names = ["a", "b", "c", "d", "e"];
        let found = threads::run(4, |world| {
            let owners = Owners::new(&world, names.iter().map(|name| ((*name).to_owned(), 3)).collect());
            let tensors = names.map(|_| cpu::tensor(vec![parts[world.rank()]; 3], 3).unwrap());
            let by_name: HashMap<&str, &Tensor> = names.into_iter().zip(&tensors).collect();
            owners.add_over_ranks(&Cpu, &by_name).unwrap();
            let sums = owners.iter().filter(|(name, _)| owners.owns(name)).map(|(name, _)| by_name[name].to_vec1::<f32>().unwrap());
            assert!(sums.flatten().all(|sum| sum == expected));
            owners.spread(&Cpu, &by_name).unwrap();
            tensors.map(|tensor| tensor.to_vec1::<f32>().unwrap())
        });
        assert_eq!(found, vec![names.map(|_| vec![expected; 3]); 4]);
    }
}
