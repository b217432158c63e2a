//! Requests to stop a run, and the description of the work in progress. Long-running work polls them. Knows nothing about their origin;
//! `cli::signals` turns signals into requests.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Flag added to a signal's number if the stop must not wait for the step in progress.
const NOW: usize = 1 << 8;

/// A stop request, if any, and its urgency. Long-running work shares it by reference.
#[derive(Debug, Default)]
pub struct Interrupt {
    /// 0, or the signal's number, with or without `NOW`.
    requested: AtomicUsize,
    /// The work in progress, for messages.
    doing: Mutex<String>,
}

/// The work stopped early on request. Its partial results are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted {
    /// The signal's number.
    pub signal: usize,
}

impl Interrupt {
    /// Requests a stop after the step in progress. Has no effect if a stop was already requested.
    pub fn request_stop_after_step(&self, signal: usize) {
        let _ = self.requested.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Requests a stop as soon as possible.
    pub fn request_stop_now(&self, signal: usize) {
        self.requested.store(signal | NOW, Ordering::SeqCst);
    }

    /// Forgets a request, before work that the earlier one does not concern.
    pub fn reset(&self) {
        self.requested.store(0, Ordering::SeqCst);
    }

    /// Returns true if a stop was requested, immediately or after the step in progress.
    pub fn stop_after_step(&self) -> bool {
        self.requested.load(Ordering::SeqCst) != 0
    }

    /// Returns true if the work must stop at the next token or micro-batch.
    pub fn stop_now(&self) -> bool {
        self.requested.load(Ordering::SeqCst) & NOW != 0
    }

    /// Returns the number of the signal behind the current request; `None` if there is none.
    pub fn signal(&self) -> Option<usize> {
        Some(self.requested.load(Ordering::SeqCst) & !NOW).filter(|signal| *signal != 0)
    }

    /// Returns an error if a stop as soon as possible was requested, to end work whose partial results can be dropped.
    ///
    /// # Errors
    /// [`Interrupted`], if [`request_stop_now`](Self::request_stop_now) was called. Callers that can save finished work match on this type.
    pub fn check(&self) -> Result<(), Interrupted> {
        match self.signal() {
            Some(signal) if self.stop_now() => Err(Interrupted { signal }),
            _ => Ok(()),
        }
    }

    /// Sets the description of the work in progress, such as "step 12", which is printed while a stop waits for it.
    pub fn begin(&self, work: impl Into<String>) {
        *self.doing.lock().unwrap_or_else(PoisonError::into_inner) = work.into();
    }

    /// Returns the description of the work in progress; empty until [`begin`](Self::begin) is called.
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
    fn interrupt_requests_only_become_more_urgent() {
        let interrupt = Interrupt::default();
        assert!(!interrupt.stop_after_step() && interrupt.signal().is_none() && interrupt.check().is_ok());
        interrupt.request_stop_after_step(2);
        assert!(interrupt.stop_after_step() && !interrupt.stop_now() && interrupt.check().is_ok());
        interrupt.request_stop_now(15);
        interrupt.request_stop_after_step(2);
        assert!(interrupt.stop_after_step() && interrupt.stop_now());
        assert_eq!(interrupt.check(), Err(Interrupted { signal: 15 }));
        interrupt.reset();
        assert!(interrupt.check().is_ok() && !interrupt.stop_after_step());
    }
}
