//! TensorBoard event files with a run's scalars, histograms, texts and hyperparameters. The authoritative record is the JSON Lines file.
//!
//! A file is a sequence of TFRecords, `length u64 | masked crc of length u32 | data | masked crc of data u32`, little-endian. Each contains
//! one `Event` message of `tensorboard/compat/proto/event.proto`. A run needs few of its fields, so this module encodes them itself;
//! `values` has the values of an event.

mod message;
pub mod values;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use message::Message;
use values::SummaryValue;

/// An open event file.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Creates an event file in a run folder, with the name that TensorBoard expects: `events.out.tfevents.SECONDS.rlvr.NUMBER`. A folder
    /// may have several; TensorBoard reads them in the order of their names.
    ///
    /// # Errors
    /// If the folder cannot be read, or the file cannot be created or written.
    pub fn create(folder: &Path) -> Result<Self> {
        let name = |entry: std::io::Result<fs::DirEntry>| Some(entry.ok()?.file_name());
        let before = fs::read_dir(folder)
            .with_context(|| format!("cannot read {}", folder.display()))?
            .filter_map(name)
            .filter(|name| name.to_string_lossy().contains("tfevents"))
            .count();
        let seconds = now_s() as u64;
        // The number orders files created in the same second.
        let path = folder.join(format!("events.out.tfevents.{seconds:010}.rlvr.{before:04}"));
        let file =
            OpenOptions::new().append(true).create_new(true).open(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let mut events = Self { path, file };
        let mut event = Message::default();
        event.double(1, now_s());
        event.bytes(3, b"brain.Event:2");
        events.append(&event)?;
        Ok(events)
    }

    /// Creates an event file for a run that resumes at `next_step`. It starts with a session-start event, which makes TensorBoard drop the
    /// values of this and later steps from earlier files, since the run repeats these steps.
    ///
    /// # Errors
    /// In the same cases as [`EventFile::create`].
    pub fn resume(folder: &Path, next_step: u64) -> Result<Self> {
        let mut events = Self::create(folder)?;
        let mut session_log = Message::default();
        session_log.varint(1, 1); // status: START
        let mut event = Message::default();
        event.double(1, now_s());
        event.varint(2, next_step);
        event.bytes(7, &session_log.0);
        events.append(&event)?;
        Ok(events)
    }

    /// Writes the values of a step as one event, with the time `wall_time_s` in seconds since 1970. TensorBoard groups tags by the part before
    /// a slash, as in `actor/entropy`.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&mut self, step: u64, wall_time_s: f64, values: &[SummaryValue]) -> Result<()> {
        let mut summary = Message::default();
        values.iter().for_each(|value| summary.bytes(1, value.encoded()));
        let mut event = Message::default();
        event.double(1, wall_time_s);
        event.varint(2, step);
        event.bytes(5, &summary.0);
        self.append(&event)
    }

    /// Appends one record with a single write, so that TensorBoard reads only whole records.
    fn append(&mut self, event: &Message) -> Result<()> {
        let length = (event.0.len() as u64).to_le_bytes();
        let mut record = Vec::with_capacity(event.0.len() + 16);
        record.extend(length);
        record.extend(masked_crc32c(&length).to_le_bytes());
        record.extend(&event.0);
        record.extend(masked_crc32c(&event.0).to_le_bytes());
        self.file.write_all(&record).with_context(|| format!("cannot write to {}", self.path.display()))
    }
}

/// Computes the checksum of TFRecord files: CRC-32C, masked as `((crc >> 15) | (crc << 17)) + 0xa282ead8`, so that data which contains its
/// own checksum is safe (`tensorflow/core/lib/hash/crc32c.h`).
fn masked_crc32c(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Returns the seconds since 1970; 0 if the clock is earlier, which only affects labels.
pub(crate) fn now_s() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests;
