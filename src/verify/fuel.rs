//! The budget of one comparison. It owns the promise that every comparison ends soon: each token, node, digit and evaluation is paid for, and
//! when nothing is left the comparison ends as "not equal". Nothing here measures time, so that the verdict is the same on every machine.

/// Steps left. A step is a few nanoseconds of work.
#[derive(Clone, Debug)]
pub struct Fuel(u64);

/// The budget is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted;

impl Fuel {
    /// Enough for every honest answer a hundred times over, and for a few milliseconds of a hostile one.
    pub const COMPARISON: u64 = 300_000;

    /// A budget of `steps`.
    pub fn new(steps: u64) -> Self {
        Fuel(steps)
    }

    /// Whether nothing is left: what came out as undecided may only have been too dear.
    pub fn is_spent(&self) -> bool {
        self.0 == 0
    }

    /// Pays for `steps` steps, before they are made.
    pub fn spend(&mut self, steps: u64) -> Result<(), Exhausted> {
        match self.0.checked_sub(steps) {
            Some(left) => {
                self.0 = left;
                Ok(())
            }
            None => {
                self.0 = 0;
                Err(Exhausted)
            }
        }
    }
}
