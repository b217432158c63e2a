//! Wrong requests, told apart from failures. An error that is marked here says that what was asked cannot be done as it was asked: a setting
//! outside its range, an unknown name, a folder that is taken. The program then ends with exit code 2, and with 1 after any other error.

use std::fmt;

use anyhow::Result;

/// An error in what was asked, not in doing it.
#[derive(Debug)]
pub struct Usage(anyhow::Error);

impl fmt::Display for Usage {
    /// The whole chain of causes in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

impl std::error::Error for Usage {}

/// Marks an error as one of usage.
///
/// # Errors
/// The error of `result` as a [`Usage`]; whoever adds context to it can still find it by type.
pub fn usage<T>(result: Result<T>) -> Result<T> {
    result.map_err(|error| Usage(error).into())
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn usage_keeps_its_mark_and_its_causes_under_context() {
        let wrong: Result<()> = usage(Err(anyhow!("no such example")).context("pi0")).context("train");
        let error = wrong.unwrap_err();
        assert!(error.is::<Usage>());
        assert_eq!(format!("{error:#}"), "train: pi0: no such example");
        assert!(!anyhow!("the disk is full").is::<Usage>());
    }
}
