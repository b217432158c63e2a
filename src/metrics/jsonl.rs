//! JSON lines: one record a line, only ever appended, so that a run that is killed loses at most the line being written. Resuming cuts the
//! file back to the step of the checkpoint, because the steps after it will be made, and written, again.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use crate::input::{self, Lines};

/// An open JSONL file to append to.
#[derive(Debug)]
pub struct JsonLines {
    path: PathBuf,
    file: File,
    line: Vec<u8>,
}

impl JsonLines {
    /// A new, empty file.
    ///
    /// # Errors
    /// When the file exists (a record is never overwritten) or cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        let file =
            OpenOptions::new().append(true).create_new(true).open(path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self::over(path, file))
    }

    /// Goes on at the end of a file that is whole.
    ///
    /// # Errors
    /// When it is not there or cannot be opened.
    pub fn append(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().append(true).open(path).with_context(|| format!("cannot open {}", path.display()))?;
        Ok(Self::over(path, file))
    }

    /// Goes on with a file after `last_step`: keeps the lines whose `step` is at most that, in their order and byte for byte, and drops the
    /// rest and lines that are no records with a step. The kept lines are written beside the file, which is then replaced. A file that is
    /// missing starts empty: the run was stopped before its first line. Whether a step is missing is for the caller to see beforehand.
    ///
    /// # Errors
    /// On failing I/O; the file is then as it was.
    pub fn resume(path: &Path, last_step: u64) -> Result<Self> {
        let source = match File::open(path) {
            Ok(source) => source,
            Err(error) if error.kind() == ErrorKind::NotFound => return Self::create(path),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot open {}", path.display()));
            }
        };
        let beside = path.with_added_extension("partial");
        let kept = File::create(&beside)
            .with_context(|| format!("cannot create {}", beside.display()))
            .and_then(|target| copy_until(path, source, target, last_step))
            .and_then(|()| fs::rename(&beside, path).with_context(|| format!("cannot replace {}", path.display())));
        if let Err(error) = kept {
            // The first error is the one to tell; a file left beside harms nobody.
            let _ = fs::remove_file(&beside);
            return Err(error);
        }
        Self::append(path)
    }

    /// Appends one record and hands it to the operating system. Numbers that are not finite become `null`; see [`null_as_nan`].
    ///
    /// # Errors
    /// When the record is no JSON (a map with keys that are not text) or the file cannot be written.
    pub fn write(&mut self, record: &impl Serialize) -> Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, record).with_context(|| format!("cannot write a record to {}", self.path.display()))?;
        self.line.push(b'\n');
        // One write a line: a reader, or a crash, sees whole lines or a torn last one, never a mixture.
        self.file.write_all(&self.line).with_context(|| format!("cannot write to {}", self.path.display()))
    }

    fn over(path: &Path, file: File) -> Self {
        Self { path: path.to_owned(), file, line: Vec::new() }
    }
}

/// All records of a file. Empty lines are skipped. A last line without its end that does not parse is a record being written, and is left
/// out: the file of a running, or killed, run can be read.
///
/// # Errors
/// Names the file and the line that cannot be read as a `T`.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut records = Vec::new();
    each_record(path, file, |record| {
        records.push(record);
        Ok(())
    })?;
    Ok(records)
}

/// All records of a file that a user gives, each with where it stands, for messages; `.gz` is unpacked. Unlike a run's own records, whose last
/// line may be half written, every line counts; empty ones are passed over.
///
/// # Errors
/// Names the file, the line and the field that cannot be read as a `T`; a file without lines is one too.
pub fn read_input<T: DeserializeOwned>(path: &Path) -> Result<Vec<(String, T)>> {
    let lines = Lines::open(path)?.map(|line| {
        let line = line?;
        let record = record(&line.text).map_err(|error| anyhow!("{}: {error}", line.place))?;
        Ok((line.place, record))
    });
    let records: Vec<(String, T)> = lines.collect::<Result<_>>()?;
    ensure!(!records.is_empty(), "{} has no lines", path.display());
    Ok(records)
}

/// A record from the text of its line.
///
/// # Errors
/// Names the field that cannot be read.
pub fn record<T: DeserializeOwned>(line: &str) -> Result<T> {
    let line = input::json(line);
    let mut json = serde_json::Deserializer::from_str(&line);
    let record = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let (field, error) = (error.path().to_string(), without_line(error.inner()));
        // The whole record, or a place before the first field: the error says it all.
        if field == "." || field.contains('?') { anyhow!("{error}") } else { anyhow!("`{field}`: {error}") }
    })?;
    json.end().map_err(|error| anyhow!("{}", without_line(&error)))?;
    Ok(record)
}

/// serde_json counts lines too, and would call each one line 1.
fn without_line(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column", " at column")
}

/// For `#[serde(deserialize_with = "...")]`: reads `null`, which JSON has for a number that is not finite, as NaN.
///
/// # Errors
/// When the value is neither a number nor `null`.
pub fn null_as_nan<'de, D: Deserializer<'de>>(value: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(value)?.unwrap_or(f64::NAN))
}

/// Copies the lines up to and including `last_step`, and makes them durable before the caller renames.
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

/// Calls `take` with each record. A last line that has no end and does not parse is passed over; any
/// other that does not parse is an error with file and line.
fn each_record<T: DeserializeOwned>(path: &Path, file: File, mut take: impl FnMut(T) -> Result<()>) -> Result<()> {
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        reader.read_until(b'\n', &mut line).with_context(|| format!("cannot read {}", path.display()))?;
        if line.is_empty() {
            break;
        }
        let finished = line.last() == Some(&b'\n');
        let text = line.trim_ascii();
        let text = text.strip_prefix("\u{FEFF}".as_bytes()).unwrap_or(text);
        if text.is_empty() {
            continue;
        }
        match serde_json::from_slice(text) {
            Ok(record) => take(record)?,
            Err(error) if finished => bail!("{}, line {number}: {}", path.display(), without_line(&error)),
            Err(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
