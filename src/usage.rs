//! Distinguishes usage errors from failures. A usage error means that the request itself is wrong: a setting out of range, an unknown name,
//! a folder that already exists. The program then exits with code 2; after any other error it exits with code 1.

use std::fmt;

use anyhow::Result;

/// A usage error.
#[derive(Debug)]
pub struct Usage(anyhow::Error);

impl fmt::Display for Usage {
    /// Writes the error and all its causes on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

impl std::error::Error for Usage {}

/// Marks an error as a usage error.
///
/// # Errors
/// Returns the error of `result` as a [`Usage`], which callers can downcast to even after adding context.
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
