//! JSON lines that a user hands in. Unlike a run's own records, whose last line may be half written, every line counts.

use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use serde::de::DeserializeOwned;

/// Every record of a file with where it stands, for messages; empty lines are passed over.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<(String, T)>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let record = |(index, line): (usize, &str)| {
        let place = format!("{}, line {}", path.display(), index + 1);
        // serde_json counts lines too, and would call this one 1.
        let bad = |error: serde_json::Error| anyhow!("{place}: {}", error.to_string().replace(" at line 1 column", " at column"));
        let record = serde_json::from_str(line).map_err(bad)?;
        Ok((place, record))
    };
    let records: Vec<(String, T)> = lines.map(record).collect::<Result<_>>()?;
    ensure!(!records.is_empty(), "{} has no lines", path.display());
    Ok(records)
}
