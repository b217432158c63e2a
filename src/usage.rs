//! Usage errors, as distinct from failures. A marked error means that the request itself is wrong: a setting out of range, an unknown name,
//! a folder that already exists. The program then exits with code 2, and with 1 after any other error.

use std::fmt;

use anyhow::Result;

/// An error in the request, not in carrying it out.
#[derive(Debug)]
pub struct Usage(anyhow::Error);

impl fmt::Display for Usage {
    /// Writes the whole chain of causes in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

impl std::error::Error for Usage {}

/// Marks an error as a usage error.
///
/// # Errors
/// Returns the error of `result` as a [`Usage`]. Callers can still find it by type after context was added.
pub fn usage<T>(result: Result<T>) -> Result<T> {
    result.map_err(|error| Usage(error).into())
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn usage_keeps_its_type_and_causes_under_context() {
        let wrong: Result<()> = usage(Err(anyhow!("no such example")).context("pi0")).context("train");
        let error = wrong.unwrap_err();
        assert!(error.is::<Usage>());
        assert_eq!(format!("{error:#}"), "train: pi0: no such example");
        assert!(!anyhow!("the disk is full").is::<Usage>());
    }
}
