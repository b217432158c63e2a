//! Tracks the blocks of the paged cache by number: which are free, and how many owners each has.

use crate::kernels::BLOCK;

/// A pool of cache blocks, with reference counts.
#[derive(Clone, Debug)]
pub struct BlockPool {
    /// The number of owners of each block, resident prompts and sequences; 0 if it is free.
    owners: Vec<u32>,
    free: Vec<u32>,
}

impl BlockPool {
    /// Creates a pool of `blocks` free blocks.
    pub fn new(blocks: usize) -> Self {
        Self { owners: vec![0; blocks], free: (0..blocks as u32).rev().collect() }
    }

    /// Returns the number of blocks that `tokens` tokens need.
    pub fn blocks_for(tokens: usize) -> usize {
        tokens.div_ceil(BLOCK)
    }

    /// Returns the number of free blocks.
    pub fn available(&self) -> usize {
        self.free.len()
    }

    /// Allocates a block for one owner; `None` if no block is free.
    pub fn allocate(&mut self) -> Option<u32> {
        let block = self.free.pop()?;
        self.owners[block as usize] = 1;
        Some(block)
    }

    /// Allocates `count` blocks; `None`, with nothing allocated, if fewer are free.
    pub fn allocate_many(&mut self, count: usize) -> Option<Vec<u32>> {
        if count > self.free.len() {
            return None;
        }
        (0..count).map(|_| self.allocate()).collect()
    }

    /// Adds an owner to an allocated block.
    pub fn share(&mut self, block: u32) {
        self.owners[block as usize] += 1;
    }

    /// Removes one owner from each of `blocks`. Blocks without owners become free.
    pub fn release(&mut self, blocks: &[u32]) {
        for block in blocks {
            let owners = &mut self.owners[*block as usize];
            *owners -= 1;
            if *owners == 0 {
                self.free.push(*block);
            }
        }
    }
}
