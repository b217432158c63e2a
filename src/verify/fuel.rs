//! The step budget of one comparison, which bounds its cost: each token, node, digit and evaluation uses up steps, and a comparison that
//! runs out of steps is "not equal". Nothing measures time, so the verdict is the same on every machine.

/// A counter of steps. One step is a few nanoseconds of work.
#[derive(Clone, Debug)]
pub struct Fuel {
    budget: u64,
    left: u64,
    /// Steps requested beyond the budget.
    refused: u64,
}

/// The error of a spent budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted;

impl Fuel {
    /// The budget for one comparison, a few milliseconds for a hostile answer. Half of the test cases take fewer than 400 steps, and none
    /// takes 20,000.
    pub const COMPARISON: u64 = 300_000;

    /// Creates a budget of `steps`.
    pub fn new(steps: u64) -> Self {
        Fuel { budget: steps, left: steps, refused: 0 }
    }

    /// True if no steps are left. A stage without a verdict may then have been too expensive.
    pub fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// Returns the number of steps requested, including refused ones. Tests use it to find code that continues without fuel.
    pub fn requested(&self) -> u64 {
        self.budget - self.left + self.refused
    }

    /// Deducts `steps` before they are taken.
    ///
    /// # Errors
    /// If fewer steps are left. Then the whole budget is spent.
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
    fn requested_counts_refused_steps() {
        let mut fuel = Fuel::new(10);
        assert_eq!((fuel.spend(4), fuel.requested()), (Ok(()), 4));
        assert_eq!((fuel.spend(9), fuel.requested(), fuel.is_spent()), (Err(Exhausted), 13, true));
        assert_eq!((fuel.spend(2), fuel.requested()), (Err(Exhausted), 15));
    }
}
