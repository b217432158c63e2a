//! Decides which sequences run. Works on block numbers and token counts; knows nothing about tensors or token ids.
//!
//! Sequences are admitted in the order of their requests while blocks are free. All sequences of a prompt share its full blocks; each gets
//! a copy of its last, partial block. When a running sequence needs a block and none is free, the most recently admitted sequence is
//! preempted: it loses its blocks and is recomputed later.

use std::collections::VecDeque;

use crate::kernels::BLOCK;

use super::block_pool::BlockPool;

/// A running sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Sequence {
    /// Index of its request.
    pub request: usize,
    /// Index of its prompt among the distinct prompts.
    pub prompt: usize,
    /// Its cache blocks in order, shared ones first.
    pub table: Vec<u32>,
    /// Number of generated tokens, including a pending one.
    pub generated: usize,
}

/// Newly admitted sequences, and the work that their first token requires.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Admission {
    /// Prompts to compute, as `(prompt, its blocks)`.
    pub prefill: Vec<(usize, Vec<u32>)>,
    /// Blocks to copy after the prefill, as `(from, to)`.
    pub copies: Vec<(u32, u32)>,
    /// Admitted sequences without generated tokens.
    pub fresh: Vec<Sequence>,
    /// Admitted sequences that were preempted earlier. Their prompts and generated tokens must be recomputed.
    pub restored: Vec<Sequence>,
}

/// The scheduling state of all requests of one worker.
#[derive(Clone, Debug)]
pub struct Scheduler {
    pool: BlockPool,
    max_running: usize,
    prompts: Vec<PromptState>,
    /// `(request, prompt, number of tokens generated before a preemption)`, in the order of admission.
    waiting: VecDeque<(usize, usize, usize)>,
    /// The running sequences, in the order of their admission.
    pub running: Vec<Sequence>,
    /// Number of preemptions.
    pub preemptions: usize,
}

#[derive(Clone, Debug)]
struct PromptState {
    length: usize,
    /// The blocks with its keys and values; `None` if it is not resident.
    blocks: Option<Vec<u32>>,
    /// Number of waiting sequences of this prompt.
    waiting: usize,
}

impl Scheduler {
    /// Creates a scheduler for a cache of `blocks` blocks. `prompts[p]` is the length of prompt p in tokens; `requests[r]` is the index of
    /// request r's prompt.
    pub fn new(blocks: usize, max_running: usize, prompts: &[usize], requests: &[usize]) -> Self {
        let state = |(p, length): (usize, &usize)| PromptState {
            length: *length,
            blocks: None,
            waiting: requests.iter().filter(|prompt| **prompt == p).count(),
        };
        Self {
            pool: BlockPool::new(blocks),
            max_running,
            prompts: prompts.iter().enumerate().map(state).collect(),
            waiting: requests.iter().enumerate().map(|(request, prompt)| (request, *prompt, 0)).collect(),
            running: Vec::new(),
            preemptions: 0,
        }
    }

    /// Returns true if the next waiting sequence can be admitted now.
    pub fn can_admit(&self) -> bool {
        let Some((_, prompt, generated)) = self.waiting.front().copied() else { return false };
        let has_room = self.running.is_empty() || self.blocks_needed(prompt, generated) <= self.pool.available();
        self.running.len() < self.max_running && has_room
    }

    /// Returns true if [`append_slots`](Self::append_slots) needs no preemption or eviction.
    pub fn can_append_slots(&self) -> bool {
        self.running.iter().filter(|sequence| self.lacks_block(sequence)).count() <= self.pool.available()
    }

    /// Preempts all running sequences, evicts all resident prompts, and limits later batches to half the current size.
    pub fn preempt_all(&mut self) {
        self.max_running = (self.running.len() / 2).max(1);
        while self.evict_any() {}
        while !self.running.is_empty() {
            self.preempt();
        }
    }

    /// Returns the number of blocks that admitting a sequence takes.
    fn blocks_needed(&self, prompt: usize, generated: usize) -> usize {
        let PromptState { length, blocks, .. } = &self.prompts[prompt];
        match generated {
            // One block for the first new token, and the prompt's own blocks unless it is resident.
            0 if blocks.is_some() => 1,
            0 => 1 + BlockPool::blocks_for(*length),
            _ => BlockPool::blocks_for(length + generated),
        }
    }

    fn lacks_block(&self, sequence: &Sequence) -> bool {
        BlockPool::blocks_for(self.prompts[sequence.prompt].length + sequence.generated) > sequence.table.len()
    }

    /// Returns true if no sequence runs or waits.
    pub fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Admits waiting sequences while there is room, and adds them to `running`.
    pub fn admit(&mut self) -> Admission {
        let mut admission = Admission::default();
        // Evict these prompts at the end: until then their partial blocks must not be reused, because the caller has yet to copy them.
        let mut unneeded = Vec::new();
        while self.running.len() < self.max_running {
            let Some((request, prompt, generated)) = self.waiting.front().copied() else { break };
            let admitted = if generated == 0 {
                self.admit_fresh(request, prompt, &mut admission)
            } else {
                self.admit_restored(request, prompt, generated, &mut admission)
            };
            if !admitted && self.running.is_empty() && self.evict_any() {
                continue; // No running sequence will free blocks, so evict a resident prompt instead.
            }
            if !admitted {
                break;
            }
            self.waiting.pop_front();
            self.prompts[prompt].waiting -= 1;
            if self.prompts[prompt].waiting == 0 {
                unneeded.push(prompt);
            }
        }
        unneeded.into_iter().for_each(|prompt| self.evict(prompt));
        admission
    }

    fn admit_fresh(&mut self, request: usize, prompt: usize, admission: &mut Admission) -> bool {
        let length = self.prompts[prompt].length;
        if self.pool.available() < self.blocks_needed(prompt, 0) {
            return false;
        }
        if self.prompts[prompt].blocks.is_none() {
            let Some(blocks) = self.pool.allocate_many(BlockPool::blocks_for(length)) else { return false };
            admission.prefill.push((prompt, blocks.clone()));
            self.prompts[prompt].blocks = Some(blocks);
        }
        let Some(own) = self.pool.allocate() else { return false };
        let resident = self.prompts[prompt].blocks.as_deref().unwrap_or(&[]);
        let full = length / BLOCK;
        let mut table = resident[..full].to_vec();
        table.iter().for_each(|block| self.pool.share(*block));
        if let Some(partial) = resident.get(full) {
            admission.copies.push((*partial, own));
        }
        table.push(own);
        let sequence = Sequence { request, prompt, table, generated: 0 };
        admission.fresh.push(sequence.clone());
        self.running.push(sequence);
        true
    }

    fn admit_restored(&mut self, request: usize, prompt: usize, generated: usize, admission: &mut Admission) -> bool {
        let Some(table) = self.pool.allocate_many(BlockPool::blocks_for(self.prompts[prompt].length + generated)) else { return false };
        let sequence = Sequence { request, prompt, table, generated };
        admission.restored.push(sequence.clone());
        self.running.push(sequence);
        true
    }

    /// Gives every running sequence a block for its newest token. When blocks run out, preempts the most recently admitted sequences.
    pub fn append_slots(&mut self) {
        let mut index = 0;
        while index < self.running.len() {
            if !self.lacks_block(&self.running[index]) {
                index += 1;
            } else if let Some(block) = self.pool.allocate() {
                self.running[index].table.push(block);
                index += 1;
            } else {
                self.preempt();
            }
        }
    }

    fn preempt(&mut self) {
        // First evict a resident prompt. Only waiting sequences need it, and it is cheap to recompute.
        if self.evict_any() {
            return;
        }
        if let Some(sequence) = self.running.pop() {
            self.pool.release(&sequence.table);
            self.prompts[sequence.prompt].waiting += 1;
            self.waiting.push_front((sequence.request, sequence.prompt, sequence.generated));
            self.preemptions += 1;
        }
    }

    /// Removes a finished sequence and releases its blocks.
    pub fn finish(&mut self, request: usize) {
        if let Some(index) = self.running.iter().position(|sequence| sequence.request == request) {
            let sequence = self.running.remove(index);
            self.pool.release(&sequence.table);
        }
    }

    /// Evicts one resident prompt and releases its blocks. Returns false if no prompt is resident.
    fn evict_any(&mut self) -> bool {
        let resident = (0..self.prompts.len()).find(|prompt| self.is_resident(*prompt));
        resident.into_iter().for_each(|prompt| self.evict(prompt));
        resident.is_some()
    }

    fn evict(&mut self, prompt: usize) {
        if let Some(blocks) = self.prompts[prompt].blocks.take() {
            self.pool.release(&blocks);
        }
    }

    /// Returns true if the prompt is resident: its keys and values stay in the cache for waiting sequences.
    pub fn is_resident(&self, prompt: usize) -> bool {
        self.prompts[prompt].blocks.is_some()
    }

    /// Returns the number of free blocks.
    pub fn available(&self) -> usize {
        self.pool.available()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admit_computes_a_prompt_once_and_shares_its_full_blocks() {
        let mut scheduler = Scheduler::new(20, 8, &[35], &[0, 0, 0]);
        let admission = scheduler.admit();
        assert_eq!(admission.prefill, [(0, vec![0, 1, 2])]);
        assert_eq!(admission.copies, [(2, 3), (2, 4), (2, 5)]);
        let tables: Vec<_> = admission.fresh.iter().map(|sequence| sequence.table.clone()).collect();
        assert_eq!(tables, [[0, 1, 3], [0, 1, 4], [0, 1, 5]]);
        // No sequence waits for the prompt, so its partial block is free again. The running sequences own the full blocks.
        assert_eq!(scheduler.available(), 20 - 5);
        (0..3).for_each(|request| scheduler.finish(request));
        assert!(scheduler.is_done() && scheduler.available() == 20);
    }

    #[test]
    fn admit_copies_no_block_of_a_prompt_without_a_partial_block() {
        let mut scheduler = Scheduler::new(10, 8, &[32], &[0, 0]);
        let admission = scheduler.admit();
        assert!(admission.copies.is_empty());
        assert_eq!(admission.fresh[1].table.len(), 3);
    }

    /// The engine copies a prompt's partial block after all prefills of an admission. Until then no other sequence may write to it.
    #[test]
    fn admit_does_not_reuse_a_block_that_is_yet_to_be_copied() {
        let mut scheduler = Scheduler::new(12, 8, &[5, 5, 5], &[0, 1, 2]);
        let admission = scheduler.admit();
        let prefilled: Vec<u32> = admission.prefill.iter().flat_map(|(_, blocks)| blocks.clone()).collect();
        let copied: Vec<u32> = admission.copies.iter().map(|(from, _)| *from).collect();
        assert_eq!(prefilled, copied);
        assert!(prefilled.iter().all(|block| prefilled.iter().filter(|other| *other == block).count() == 1), "{prefilled:?}");
    }

    #[test]
    fn admit_respects_max_running_and_continues_after_finish() {
        let mut scheduler = Scheduler::new(100, 2, &[4, 4], &[0, 1, 1]);
        assert_eq!(scheduler.admit().fresh.len(), 2);
        assert!(scheduler.admit().fresh.is_empty());
        scheduler.finish(0);
        let admission = scheduler.admit();
        assert_eq!(admission.fresh[0].request, 2);
        assert!(admission.prefill.is_empty(), "prompt 1 is still resident");
    }

    /// With few blocks, every request still finishes and no block is lost.
    #[test]
    fn scheduler_finishes_all_requests_with_few_blocks() {
        for blocks in 4..20 {
            for max_running in [1, 3, 8] {
                let requests: Vec<usize> = (0..9).map(|r| r % 3).collect();
                let lengths = |request: usize| 5 + request * 3;
                let mut scheduler = Scheduler::new(blocks, max_running, &[10, 16, 17], &requests);
                let mut generated = [0usize; 9];
                let mut rounds = 0;
                while !scheduler.is_done() {
                    let admission = scheduler.admit();
                    for sequence in &admission.restored {
                        assert_eq!(sequence.generated, generated[sequence.request], "a preempted sequence keeps its tokens");
                    }
                    scheduler.running.iter_mut().filter(|s| s.generated == 0).for_each(|s| s.generated = 1);
                    scheduler.append_slots();
                    for sequence in &scheduler.running {
                        assert!(sequence.table.len() * BLOCK >= [10, 16, 17][sequence.prompt] + sequence.generated);
                        generated[sequence.request] = sequence.generated + 1;
                    }
                    let ended: Vec<usize> =
                        scheduler.running.iter().filter(|s| s.generated + 1 >= lengths(s.request)).map(|s| s.request).collect();
                    scheduler.running.iter_mut().for_each(|s| s.generated += 1);
                    ended.into_iter().for_each(|request| scheduler.finish(request));
                    rounds += 1;
                    assert!(rounds < 2000, "{blocks} blocks, {max_running} running");
                }
                assert_eq!(scheduler.available(), blocks);
            }
        }
    }
}
