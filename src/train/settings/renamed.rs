//! Settings of a run that had another name in earlier versions, so that old files and `config.toml`s keep working.

use crate::config::Renamed;

/// Old names and the new ones.
pub(super) const RENAMED: &[Renamed] = &[];
