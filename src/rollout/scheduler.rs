//! Who runs next: pure decisions on plain data. Knows block numbers and token counts, no tensor and no token's meaning.
//!
//! Sequences are admitted in order while there is room. All sequences of one prompt share its full blocks; the last, partial one is copied for
//! each. When a running sequence needs a block and none is free, the one admitted last gives up its blocks and waits to be computed again.

use std::collections::VecDeque;

use crate::kernels::BLOCK;

use super::pages::Pages;

/// A sequence on its way to a response.
#[derive(Clone, Debug, PartialEq)]
pub struct Sequence {
    /// Which request it answers.
    pub request: usize,
    /// Which distinct prompt it continues.
    pub prompt: usize,
    /// Its blocks, the shared ones first.
    pub table: Vec<u32>,
    /// Tokens generated so far, those that are on their way included.
    pub generated: usize,
}

/// What must be computed before the admitted sequences can go on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Admission {
    /// Prompts to compute, `(prompt, blocks)`.
    pub prefill: Vec<(usize, Vec<u32>)>,
    /// Blocks to copy, `(from, to)`, after the prefill.
    pub copies: Vec<(u32, u32)>,
    /// Admitted sequences that start after their prompt.
    pub fresh: Vec<Sequence>,
    /// Admitted sequences that were preempted: prompt and generated tokens are to be computed again.
    pub restored: Vec<Sequence>,
}

/// The state of all requests of one lane.
#[derive(Clone, Debug)]
pub struct Scheduler {
    pages: Pages,
    max_running: usize,
    prompts: Vec<PromptState>,
    /// `(request, prompt, tokens generated before a preemption)`
    waiting: VecDeque<(usize, usize, usize)>,
    /// What runs, in the order of admission.
    pub running: Vec<Sequence>,
    /// How often a sequence was preempted.
    pub preemptions: usize,
}

#[derive(Clone, Debug)]
struct PromptState {
    length: usize,
    /// Its blocks while it is resident.
    blocks: Option<Vec<u32>>,
    /// Sequences that wait for it.
    waiting: usize,
}

impl Scheduler {
    /// `prompts[p]` is a prompt's length in tokens, `requests[r]` the prompt that request r continues.
    pub fn new(blocks: usize, max_running: usize, prompts: &[usize], requests: &[usize]) -> Self {
        let state = |(p, length): (usize, &usize)| PromptState {
            length: *length,
            blocks: None,
            waiting: requests.iter().filter(|prompt| **prompt == p).count(),
        };
        Self {
            pages: Pages::new(blocks),
            max_running,
            prompts: prompts.iter().enumerate().map(state).collect(),
            waiting: requests.iter().enumerate().map(|(request, prompt)| (request, *prompt, 0)).collect(),
            running: Vec::new(),
            preemptions: 0,
        }
    }

    /// Whether the next waiting sequence would be admitted now.
    pub fn can_admit(&self) -> bool {
        let Some((_, prompt, generated)) = self.waiting.front().copied() else { return false };
        let room = self.running.is_empty() || self.needed(prompt, generated) <= self.pages.available();
        self.running.len() < self.max_running && room
    }

    /// Whether every running sequence has a place for its newest token, or can have one without a preemption.
    pub fn has_room(&self) -> bool {
        self.running.iter().filter(|sequence| self.lacks_block(sequence)).count() <= self.pages.available()
    }

    /// All running sequences wait again, and half as many run from now on; resident prompts are forgotten.
    pub fn retreat(&mut self) {
        self.max_running = (self.running.len() / 2).max(1);
        while self.forget_any() {}
        while !self.running.is_empty() {
            self.preempt();
        }
    }

    /// Blocks that admitting a sequence takes.
    fn needed(&self, prompt: usize, generated: usize) -> usize {
        let PromptState { length, blocks, .. } = &self.prompts[prompt];
        match generated {
            // A block to write the first new token to, and the prompt's own where it is not resident.
            0 if blocks.is_some() => 1,
            0 => 1 + Pages::blocks_for(*length),
            _ => Pages::blocks_for(length + generated),
        }
    }

    fn lacks_block(&self, sequence: &Sequence) -> bool {
        Pages::blocks_for(self.prompts[sequence.prompt].length + sequence.generated) > sequence.table.len()
    }

    /// Whether nothing runs or waits.
    pub fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Admits waiting sequences while there is room; they count as running from now on.
    pub fn admit(&mut self) -> Admission {
        let mut admission = Admission::default();
        // Blocks freed in this round must not be given out in it: the copies from them are still to be made.
        let mut unwanted = Vec::new();
        while self.running.len() < self.max_running {
            let Some((request, prompt, generated)) = self.waiting.front().copied() else { break };
            let admitted = if generated == 0 {
                self.admit_fresh(request, prompt, &mut admission)
            } else {
                self.admit_restored(request, prompt, generated, &mut admission)
            };
            if !admitted && self.running.is_empty() && self.forget_any() {
                continue; // nobody runs who could make room, so prompts kept for later do
            }
            if !admitted {
                break;
            }
            self.waiting.pop_front();
            self.prompts[prompt].waiting -= 1;
            if self.prompts[prompt].waiting == 0 {
                unwanted.push(prompt);
            }
        }
        unwanted.into_iter().for_each(|prompt| self.forget(prompt));
        admission
    }

    fn admit_fresh(&mut self, request: usize, prompt: usize, admission: &mut Admission) -> bool {
        let length = self.prompts[prompt].length;
        if self.pages.available() < self.needed(prompt, 0) {
            return false;
        }
        if self.prompts[prompt].blocks.is_none() {
            let Some(blocks) = self.pages.take_many(Pages::blocks_for(length)) else { return false };
            admission.prefill.push((prompt, blocks.clone()));
            self.prompts[prompt].blocks = Some(blocks);
        }
        let Some(own) = self.pages.take() else { return false };
        let resident = self.prompts[prompt].blocks.as_deref().unwrap_or(&[]);
        let full = length / BLOCK;
        let mut table = resident[..full].to_vec();
        table.iter().for_each(|block| self.pages.share(*block));
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
        let Some(table) = self.pages.take_many(Pages::blocks_for(self.prompts[prompt].length + generated)) else { return false };
        let sequence = Sequence { request, prompt, table, generated };
        admission.restored.push(sequence.clone());
        self.running.push(sequence);
        true
    }

    /// Gives every running sequence a place for its newest token, preempting the youngest where blocks run out.
    pub fn make_room(&mut self) {
        let mut index = 0;
        while index < self.running.len() {
            if !self.lacks_block(&self.running[index]) {
                index += 1;
            } else if let Some(block) = self.pages.take() {
                self.running[index].table.push(block);
                index += 1;
            } else {
                self.preempt();
            }
        }
    }

    fn preempt(&mut self) {
        // A resident prompt that only waiting sequences want goes first: it is cheap to compute again.
        if self.forget_any() {
            return;
        }
        if let Some(sequence) = self.running.pop() {
            self.pages.release(&sequence.table);
            self.prompts[sequence.prompt].waiting += 1;
            self.waiting.push_front((sequence.request, sequence.prompt, sequence.generated));
            self.preemptions += 1;
        }
    }

    /// Ends a sequence and frees its blocks.
    pub fn finish(&mut self, request: usize) {
        if let Some(index) = self.running.iter().position(|sequence| sequence.request == request) {
            let sequence = self.running.remove(index);
            self.pages.release(&sequence.table);
        }
    }

    /// Frees the blocks of one resident prompt, if there is any.
    fn forget_any(&mut self) -> bool {
        let resident = (0..self.prompts.len()).find(|prompt| self.is_resident(*prompt));
        resident.into_iter().for_each(|prompt| self.forget(prompt));
        resident.is_some()
    }

    fn forget(&mut self, prompt: usize) {
        if let Some(blocks) = self.prompts[prompt].blocks.take() {
            self.pages.release(&blocks);
        }
    }

    /// Whether the prompt's blocks are held for sequences yet to come.
    pub fn is_resident(&self, prompt: usize) -> bool {
        self.prompts[prompt].blocks.is_some()
    }

    /// Free blocks.
    pub fn available(&self) -> usize {
        self.pages.available()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_computed_once_and_its_full_blocks_are_shared() {
        let mut scheduler = Scheduler::new(20, 8, &[35], &[0, 0, 0]);
        let admission = scheduler.admit();
        assert_eq!(admission.prefill, [(0, vec![0, 1, 2])]);
        assert_eq!(admission.copies, [(2, 3), (2, 4), (2, 5)]);
        let tables: Vec<_> = admission.fresh.iter().map(|sequence| sequence.table.clone()).collect();
        assert_eq!(tables, [[0, 1, 3], [0, 1, 4], [0, 1, 5]]);
        // Nobody waits for the prompt any more, so its partial block is free again; the full ones live with their users.
        assert_eq!(scheduler.available(), 20 - 5);
        (0..3).for_each(|request| scheduler.finish(request));
        assert!(scheduler.is_done() && scheduler.available() == 20);
    }

    #[test]
    fn a_prompt_of_whole_blocks_needs_no_copy() {
        let mut scheduler = Scheduler::new(10, 8, &[32], &[0, 0]);
        let admission = scheduler.admit();
        assert!(admission.copies.is_empty());
        assert_eq!(admission.fresh[1].table.len(), 3);
    }

    /// A prompt's partial block is copied after all prefills of the round: until then nobody else may write to it.
    #[test]
    fn a_block_to_be_copied_is_not_given_away_in_the_same_round() {
        let mut scheduler = Scheduler::new(12, 8, &[5, 5, 5], &[0, 1, 2]);
        let admission = scheduler.admit();
        let prefilled: Vec<u32> = admission.prefill.iter().flat_map(|(_, blocks)| blocks.clone()).collect();
        let copied: Vec<u32> = admission.copies.iter().map(|(from, _)| *from).collect();
        assert_eq!(prefilled, copied);
        assert!(prefilled.iter().all(|block| prefilled.iter().filter(|other| *other == block).count() == 1), "{prefilled:?}");
    }

    #[test]
    fn running_is_bounded_and_goes_on_when_one_ends() {
        let mut scheduler = Scheduler::new(100, 2, &[4, 4], &[0, 1, 1]);
        assert_eq!(scheduler.admit().fresh.len(), 2);
        assert!(scheduler.admit().fresh.is_empty());
        scheduler.finish(0);
        let admission = scheduler.admit();
        assert_eq!(admission.fresh[0].request, 2);
        assert!(admission.prefill.is_empty(), "prompt 1 is still resident");
    }

    /// Every request ends, whatever little room there is, and no block is lost.
    #[test]
    fn all_requests_end_under_every_shortage() {
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
                    scheduler.make_room();
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
