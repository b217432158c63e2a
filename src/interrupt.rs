//! A request to stop, as the parts of a run that can stop read it. Owns how urgent the request is and what is being finished; it must never know
//! where requests come from (signals: `cli::signals`).

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Set beside a signal's number where the stop is not to wait for the step in progress.
const NOW: usize = 1 << 8;

/// Whether, and how soon, a run is to stop. Shared by reference with everything that takes long.
#[derive(Debug, Default)]
pub struct Interrupt {
    /// 0, or the signal's number, with `NOW` or without.
    asked: AtomicUsize,
    /// What would be finished first, for people.
    doing: Mutex<String>,
}

/// The work ended early because a stop was asked for. What it had begun is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted {
    /// The signal's number.
    pub signal: usize,
}

impl Interrupt {
    /// Asks for a stop after the step in progress. A more urgent request stays as it is.
    pub fn ask_after_step(&self, signal: usize) {
        // Nothing is lost where one was asked for before.
        let _ = self.asked.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Asks for a stop as soon as possible.
    pub fn ask_now(&self, signal: usize) {
        self.asked.store(signal | NOW, Ordering::SeqCst);
    }

    /// Whether to stop after the step in progress, or earlier.
    pub fn stop_after_step(&self) -> bool {
        self.asked.load(Ordering::SeqCst) != 0
    }

    /// Whether to stop at the next token or micro-batch.
    pub fn stop_now(&self) -> bool {
        self.asked.load(Ordering::SeqCst) & NOW != 0
    }

    /// The number of the signal that asked last; none while nothing was asked.
    pub fn signal(&self) -> Option<usize> {
        Some(self.asked.load(Ordering::SeqCst) & !NOW).filter(|signal| *signal != 0)
    }

    /// Ends work that can be dropped: an error once a stop as soon as possible was asked for.
    ///
    /// # Errors
    /// [`Interrupted`]; callers that can save what was finished before look for it by type.
    pub fn check(&self) -> Result<(), Interrupted> {
        match self.signal() {
            Some(signal) if self.stop_now() => Err(Interrupted { signal }),
            _ => Ok(()),
        }
    }

    /// Notes what is in progress ("step 12"), to be told when a stop has to wait for it.
    pub fn begin(&self, what: impl Into<String>) {
        *self.doing.lock().unwrap_or_else(PoisonError::into_inner) = what.into();
    }

    /// What is in progress.
    pub fn doing(&self) -> String {
        self.doing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "interrupted by signal {}", self.signal)
    }
}

impl std::error::Error for Interrupted {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_only_become_more_urgent() {
        let interrupt = Interrupt::default();
        assert!(!interrupt.stop_after_step() && interrupt.signal().is_none() && interrupt.check().is_ok());
        interrupt.ask_after_step(2);
        assert!(interrupt.stop_after_step() && !interrupt.stop_now() && interrupt.check().is_ok());
        interrupt.ask_now(15);
        interrupt.ask_after_step(2);
        assert!(interrupt.stop_after_step() && interrupt.stop_now());
        assert_eq!(interrupt.check(), Err(Interrupted { signal: 15 }));
    }
}
