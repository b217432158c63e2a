//! The cache's blocks as plain numbers: which are free, and how many sequences share each.

use crate::kernels::BLOCK;

/// Blocks by number, with their owners counted.
#[derive(Clone, Debug)]
pub struct Pages {
    owners: Vec<u32>,
    free: Vec<u32>,
}

impl Pages {
    /// All free.
    pub fn new(blocks: usize) -> Self {
        Self { owners: vec![0; blocks], free: (0..blocks as u32).rev().collect() }
    }

    /// Blocks that hold `tokens` tokens.
    pub fn blocks_for(tokens: usize) -> usize {
        tokens.div_ceil(BLOCK)
    }

    /// How many are free.
    pub fn available(&self) -> usize {
        self.free.len()
    }

    /// Takes a free block.
    pub fn take(&mut self) -> Option<u32> {
        let block = self.free.pop()?;
        self.owners[block as usize] = 1;
        Some(block)
    }

    /// Takes several, or none.
    pub fn take_many(&mut self, count: usize) -> Option<Vec<u32>> {
        if count > self.free.len() {
            return None;
        }
        (0..count).map(|_| self.take()).collect()
    }

    /// One more owner.
    pub fn share(&mut self, block: u32) {
        self.owners[block as usize] += 1;
    }

    /// One owner fewer for each; a block without owners is free.
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
