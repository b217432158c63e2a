//! A step whose evaluation a signal has ended: its updates are done, its line of metrics is not complete. The line lies in the state of that
//! step until the evaluation is made and the line is written.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use crate::checkpoint::write_file;

const FILE: &str = "line.json";

/// Writes the line into a state's folder.
pub fn save(state: &Path, line: &Map<String, Value>) -> Result<()> {
    write_file(&state.join(FILE), serde_json::to_string(line)?.as_bytes())
}

/// Whether a state has one.
pub fn is_in(state: &Path) -> bool {
    state.join(FILE).exists()
}

/// Reads what `save` wrote; none where the step of this state is complete.
pub fn read(state: &Path) -> Result<Option<Map<String, Value>>> {
    let path = state.join(FILE);
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).map(Some).with_context(|| format!("{} is broken", path.display()))
}
