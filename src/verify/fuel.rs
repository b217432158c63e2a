//! The budget of one comparison. It owns the promise that every comparison ends soon: each token, node, digit and evaluation is paid for, and
//! when nothing is left the comparison ends as "not equal". Nothing here measures time, so that the verdict is the same on every machine.

/// Steps left. A step is a few nanoseconds of work.
#[derive(Clone, Debug)]
pub struct Fuel {
    budget: u64,
    left: u64,
    /// Steps that were asked for when there were not as many left.
    refused: u64,
}

/// The budget is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted;

impl Fuel {
    /// A few milliseconds of a hostile answer. Half of the project's own cases take less than 400 steps, and none takes 20,000.
    pub const COMPARISON: u64 = 300_000;

    /// A budget of `steps`.
    pub fn new(steps: u64) -> Self {
        Fuel { budget: steps, left: steps, refused: 0 }
    }

    /// Whether nothing is left: what came out as undecided may only have been too dear.
    pub fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// Steps that were asked for, whether there were as many left or not. Code that goes on without fuel shows here.
    pub fn asked(&self) -> u64 {
        self.budget - self.left + self.refused
    }

    /// Pays for `steps` steps, before they are made.
    pub fn spend(&mut self, steps: u64) -> Result<(), Exhausted> {
        match self.left.checked_sub(steps) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.refused = self.refused.saturating_add(steps - self.left);
                self.left = 0;
                Err(Exhausted)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asked_counts_refused_steps() {
        let mut fuel = Fuel::new(10);
        assert_eq!((fuel.spend(4), fuel.asked()), (Ok(()), 4));
        assert_eq!((fuel.spend(9), fuel.asked(), fuel.is_spent()), (Err(Exhausted), 13, true));
        assert_eq!((fuel.spend(2), fuel.asked()), (Err(Exhausted), 15));
    }
}
