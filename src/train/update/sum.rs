//! Computes gradients micro-batch by micro-batch on all workers, and sums them: worker by worker, or with shards by a binary tree.

use anyhow::{Result, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::packing::{Packing, Sequence, pack};
use crate::kernels::Kernels;
use crate::model::Packed;
use crate::model::gradients::GradientSum;
use crate::train::shards::{Shards, deal};

impl Packing<'_> {
    /// Adds the gradients of all sequences to `gradients`, which must be zero before, and afterwards are zero except for the first, which has
    /// the sum over this rank's sequences. `work(state, gradients, numbers, packed)` adds the gradient of one micro-batch, whose sequences
    /// have the indices `numbers`.
    ///
    /// Without shards, each worker has one set of gradients and one state. With shards, each worker has [`Shards::buffers`] sets, and each
    /// shard a state. Returns the states of all ranks, in the order of workers or shards.
    ///
    /// # Errors
    /// If `work` fails, or [`Interrupted`](crate::interrupt::Interrupted) if a stop is requested. With shards, as [`Shards::agree`].
    pub fn sum_gradients<S, G>(
        &self,
        sequences: &[Sequence],
        gradients: &[G],
        kernels: &dyn Kernels,
        work: impl Fn(&mut S, &G, &[usize], Packed) -> Result<()> + Sync,
    ) -> Result<Vec<S>>
    where
        S: Default + Send + Serialize + DeserializeOwned,
        G: GradientSum + Sync,
    {
        let Some(shards) = self.shards else {
            let states = self.on_workers(sequences, |state, worker, numbers, packed| work(state, &gradients[worker], numbers, packed))?;
            gradients[1..].iter().try_for_each(|other| merge(&gradients[0], other, kernels))?;
            return Ok(states);
        };
        let states = shards.agree(self.sum_shards(shards, sequences, gradients, kernels, work))?;
        Ok(shards.world.gather(states)?.into_iter().flatten().collect())
    }

    /// Adds up this rank's shards. Returns their states in order.
    fn sum_shards<S: Default + Send, G: GradientSum + Sync>(
        &self,
        shards: Shards,
        sequences: &[Sequence],
        gradients: &[G],
        kernels: &dyn Kernels,
        work: impl Fn(&mut S, &G, &[usize], Packed) -> Result<()> + Sync,
    ) -> Result<Vec<S>> {
        let lengths: Vec<usize> = sequences.iter().map(|sequence| sequence.response.len()).collect();
        let micro_batches = |numbers: &Vec<usize>| {
            let of_shard: Vec<Sequence> = numbers.iter().map(|number| sequences[*number]).collect();
            let numbered = |batch: Vec<usize>| batch.into_iter().map(|index| numbers[index]).collect();
            self.micro_batches_for(&of_shard, 1).into_iter().map(numbered).collect::<Vec<Vec<usize>>>()
        };
        let own: Vec<Vec<Vec<usize>>> = deal(&lengths, shards.count)[shards.own()].iter().map(micro_batches).collect();
        self.progress.iter().for_each(|progress| progress.expect(own.iter().map(Vec::len).sum()));
        let workers = shards.usable_workers(self.workers.count());
        let (each, depth) = (own.len() / workers, shards.buffers(self.workers.count()));
        let stacks: Vec<&[G]> = gradients.chunks(depth).take(workers).collect();
        ensure!(stacks.len() == workers, "{} sets of gradients do not suffice for {workers} workers", gradients.len());
        let states = self.workers.run(|worker| {
            let Some(stack) = stacks.get(worker) else { return Ok(Vec::new()) };
            let mut states = Vec::new();
            for (number, micro_batches) in own[worker * each..(worker + 1) * each].iter().enumerate() {
                // The sums so far are one per bit of `number`, the largest first.
                let mut top = number.count_ones() as usize;
                let mut state = S::default();
                for numbers in micro_batches.iter().filter(|numbers| !numbers.is_empty()) {
                    self.interrupt.check()?;
                    work(&mut state, &stack[top], numbers, pack(sequences, numbers))?;
                    self.progress.iter().for_each(|progress| progress.add());
                }
                states.push(state);
                for _ in 0..number.trailing_ones() {
                    merge(&stack[top - 1], &stack[top], kernels)?;
                    top -= 1;
                }
            }
            Ok(states)
        })?;
        // Continue the tree over the workers.
        for distance in (0..workers.ilog2()).map(|level| 1 << level) {
            for left in (0..workers).step_by(2 * distance) {
                merge(&stacks[left][0], &stacks[left + distance][0], kernels)?;
            }
        }
        Ok(states.into_iter().flatten().collect())
    }
}

/// Adds `right` to `left` and sets it to 0.
fn merge<G: GradientSum>(left: &G, right: &G, kernels: &dyn Kernels) -> Result<()> {
    left.add(right, kernels)?;
    right.clear(kernels)
}
