//! Which responses a report includes when not all fit. Decides on plain data: knows nothing of files, texts and sizes.

use std::collections::BTreeMap;

use crate::rng::{Purpose, Stream};

/// What the order of inclusion depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// True if the verdict at the base differs from the verdict at the end.
    pub changed: bool,
    /// A number for its pass and subject.
    pub stratum: usize,
}

/// Returns the indices of the candidates in the order of inclusion: first all whose verdict changed, then all others. Within both, the
/// strata take turns, so that each is represented as early as possible. The order within a stratum, and that of the strata, is random;
/// the seed determines it.
pub fn order(candidates: &[Candidate], seed: u64) -> Vec<usize> {
    let mut order = Vec::with_capacity(candidates.len());
    for (tier, changed) in [true, false].into_iter().enumerate() {
        let mut stream = Stream::new(seed, Purpose::Included, tier as u64);
        let mut strata: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (index, candidate) in candidates.iter().enumerate().filter(|(_, candidate)| candidate.changed == changed) {
            strata.entry(candidate.stratum).or_default().push(index);
        }
        let mut strata: Vec<Vec<usize>> = strata.into_values().collect();
        strata.iter_mut().for_each(|members| stream.shuffle(members));
        stream.shuffle(&mut strata);
        let rounds = strata.iter().map(Vec::len).max().unwrap_or(0);
        order.extend((0..rounds).flat_map(|round| strata.iter().filter_map(move |members| members.get(round))).copied());
    }
    order
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Candidates of random strata, of which about a quarter changed.
    fn candidates(count: usize, strata: u32, seed: u64) -> Vec<Candidate> {
        let mut stream = Stream::new(seed, Purpose::Problems, 0);
        let candidate = |_| Candidate { changed: stream.chance(0.25), stratum: stream.below(strata) as usize };
        (0..count).map(candidate).collect()
    }

    #[test]
    fn order_is_a_permutation_that_the_seed_determines() {
        for (count, strata) in [(0, 1), (1, 1), (50, 1), (200, 7), (200, 300)] {
            let candidates = candidates(count, strata, 3);
            let found = order(&candidates, 0);
            assert_eq!(found, order(&candidates, 0));
            assert_eq!(found.iter().copied().collect::<BTreeSet<_>>(), (0..count).collect(), "{count} in {strata}");
            assert!(count < 50 || found != order(&candidates, 1), "{count} in {strata}");
        }
    }

    #[test]
    fn order_has_changed_ones_first_and_represents_each_stratum() {
        for seed in 0..20 {
            let candidates = candidates(150, 6, seed);
            let found = order(&candidates, seed);
            let changed = candidates.iter().filter(|candidate| candidate.changed).count();
            assert!(found[..changed].iter().all(|index| candidates[*index].changed), "seed {seed}");
            for tier in [&found[..changed], &found[changed..]] {
                let all: BTreeSet<usize> = tier.iter().map(|index| candidates[*index].stratum).collect();
                let first: BTreeSet<usize> = tier[..all.len()].iter().map(|index| candidates[*index].stratum).collect();
                assert_eq!(first, all, "seed {seed}: each stratum has its first turn before any has its second");
            }
        }
    }
}
