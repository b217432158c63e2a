//! JSON Lines: one record per line, append-only, so that a killed run loses at most the line being written. Resuming truncates the file to
//! the step of the checkpoint, because the run repeats and records the later steps again.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use crate::input::{self, Lines};

/// The number of bytes at the end of a file in which [`last`] looks for a line.
const MAX_LINE_BYTES: u64 = 64 * 1024;

/// An open JSON Lines file to append to.
#[derive(Debug)]
pub struct JsonLines {
    path: PathBuf,
    file: File,
    line: Vec<u8>,
}

impl JsonLines {
    /// Creates an empty file.
    ///
    /// # Errors
    /// If the file exists (records are never overwritten) or cannot be created.
    pub fn create(path: &Path) -> Result<Self> {
        let file =
            OpenOptions::new().append(true).create_new(true).open(path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self::over(path, file))
    }

    /// Opens an existing file to append to it. Does not repair an incomplete last line; [`resume`](Self::resume) does.
    ///
    /// # Errors
    /// If the file does not exist or cannot be opened.
    pub fn append(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().append(true).open(path).with_context(|| format!("cannot open {}", path.display()))?;
        Ok(Self::over(path, file))
    }

    /// Reopens the file of a run that resumes after `last_step`. Keeps lines whose `step` is at most `last_step`, in order and byte for
    /// byte, and drops all others, including lines that are not records with a step. Writes the remaining lines to a temporary file and then
    /// replaces the original. Creates a missing file, since the run may have stopped before its first line. Callers must check for missing
    /// steps beforehand.
    ///
    /// # Errors
    /// If a file cannot be read, written or replaced; the original is then unchanged.
    pub fn resume(path: &Path, last_step: u64) -> Result<Self> {
        let source = match File::open(path) {
            Ok(source) => source,
            Err(error) if error.kind() == ErrorKind::NotFound => return Self::create(path),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot open {}", path.display()));
            }
        };
        let partial = path.with_added_extension("partial");
        let replaced = File::create(&partial)
            .with_context(|| format!("cannot create {}", partial.display()))
            .and_then(|target| copy_until(path, source, target, last_step))
            .and_then(|()| fs::rename(&partial, path).with_context(|| format!("cannot replace {}", path.display())));
        if let Err(error) = replaced {
            // Return the first error; a leftover temporary file does no harm.
            let _ = fs::remove_file(&partial);
            return Err(error);
        }
        Self::append(path)
    }

    /// Appends one record and passes it to the operating system, without syncing. Numbers that are not finite become `null`; see
    /// [`null_as_nan`].
    ///
    /// # Errors
    /// If the record has no JSON form (such as a map with keys that are not strings), or the file cannot be written.
    pub fn write(&mut self, record: &impl Serialize) -> Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, record).with_context(|| format!("cannot write a record to {}", self.path.display()))?;
        self.line.push(b'\n');
        // One write per line, so that after a crash at most the last line is torn, and readers never see mixed lines.
        self.file.write_all(&self.line).with_context(|| format!("cannot write to {}", self.path.display()))
    }

    fn over(path: &Path, file: File) -> Self {
        Self { path: path.to_owned(), file, line: Vec::new() }
    }
}

/// Reads all records of a file, which may belong to a running or killed run: skips empty lines, and a last line that has no line end and
/// does not parse.
///
/// # Errors
/// If the file cannot be read, or a line does not parse as a `T`; the message names the file and the line.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut records = Vec::new();
    each_record(path, file, |record| {
        records.push(record);
        Ok(())
    })?;
    Ok(records)
}

/// Returns the last complete record of a file that another process may be writing; `None` if there is none yet, or if the last complete
/// line does not parse as a `T`. Reads only the end of the file.
pub fn last<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let mut file = File::open(path).ok()?;
    let start = file.metadata().ok()?.len().saturating_sub(MAX_LINE_BYTES);
    file.seek(SeekFrom::Start(start)).ok()?;
    let mut end = Vec::new();
    file.read_to_end(&mut end).ok()?;
    let complete = &end[..end.iter().rposition(|byte| *byte == b'\n')?];
    let line = complete.rsplit(|byte| *byte == b'\n').next()?;
    serde_json::from_slice(line).ok()
}

/// Reads all records of a user's file as `(location, record)`; the location, `FILE, line N`, is for messages. Unpacks `.gz`, and skips
/// empty lines. Unlike in [`read`], every other line must parse, including the last.
///
/// # Errors
/// If the file cannot be read or has no records, or a line does not parse as a `T`; the message names the file, the line and the field.
pub fn read_input<T: DeserializeOwned>(path: &Path) -> Result<Vec<(String, T)>> {
    let lines = Lines::open(path)?.map(|line| {
        let line = line?;
        let record = record(&line.text).map_err(|error| anyhow!("{}: {error}", line.location))?;
        Ok((line.location, record))
    });
    let records: Vec<(String, T)> = lines.collect::<Result<_>>()?;
    ensure!(!records.is_empty(), "{} has no lines: write one JSON object per line", path.display());
    Ok(records)
}

/// Parses the record of a line.
///
/// # Errors
/// If the line does not parse as a `T`; the message names the field.
pub fn record<T: DeserializeOwned>(line: &str) -> Result<T> {
    let line = input::json(line);
    let mut json = serde_json::Deserializer::from_str(&line);
    let record = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let (field, error) = (error.path().to_string(), without_line(error.inner()));
        // The error concerns the whole record or a position before the first field, so there is no field to name.
        if field == "." || field.contains('?') { anyhow!("{error}") } else { anyhow!("`{field}`: {error}") }
    })?;
    json.end().map_err(|error| anyhow!("{}", without_line(&error)))?;
    Ok(record)
}

/// Formats an error without serde_json's line number, which is always 1 here.
fn without_line(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column", " at column")
}

/// Deserializes `null`, which stands for a number that is not finite, as NaN. For `#[serde(deserialize_with = "...")]`.
///
/// # Errors
/// If the value is neither a number nor `null`.
pub fn null_as_nan<'de, D: Deserializer<'de>>(value: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(value)?.unwrap_or(f64::NAN))
}

/// Copies the lines of steps up to and including `last_step`, and syncs the copy, so that the caller can rename it.
fn copy_until(path: &Path, source: File, target: File, last_step: u64) -> Result<()> {
    #[derive(Deserialize)]
    struct Stamp {
        step: u64,
    }
    let (mut source, mut target) = (BufReader::new(source), BufWriter::new(target));
    let mut line = Vec::new();
    loop {
        line.clear();
        if source.read_until(b'\n', &mut line).with_context(|| format!("cannot read {}", path.display()))? == 0 {
            break;
        }
        let text = line.trim_ascii();
        if serde_json::from_slice::<Stamp>(text).is_ok_and(|stamp| stamp.step <= last_step) {
            target.write_all(text)?;
            target.write_all(b"\n")?;
        }
    }
    let file = target.into_inner().map_err(|error| error.into_error())?;
    file.sync_all().with_context(|| format!("cannot write {}", path.display()))
}

/// Calls `on_record` with each record. Skips a last line that has no line end and does not parse; any other line that does not parse is an
/// error.
fn each_record<T: DeserializeOwned>(path: &Path, file: File, mut on_record: impl FnMut(T) -> Result<()>) -> Result<()> {
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        reader.read_until(b'\n', &mut line).with_context(|| format!("cannot read {}", path.display()))?;
        if line.is_empty() {
            break;
        }
        let is_complete = line.last() == Some(&b'\n');
        let text = line.trim_ascii();
        let text = text.strip_prefix("\u{FEFF}".as_bytes()).unwrap_or(text);
        if text.is_empty() {
            continue;
        }
        match serde_json::from_slice(text) {
            Ok(record) => on_record(record)?,
            Err(error) if is_complete => bail!("{}, line {number}: {}", path.display(), without_line(&error)),
            Err(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
