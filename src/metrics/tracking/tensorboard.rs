//! Writes a run's events to TensorBoard event files in its folder.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use super::event::{Content, Event};
use super::queue::{Tracker, Trouble};
use super::{End, RunInfo};
use crate::metrics::tensorboard::values::SummaryValue;
use crate::metrics::tensorboard::{EventFile, now_s};

/// The event file of a run, created with the first event.
pub(super) struct TensorBoard {
    info: Arc<RunInfo>,
    file: Option<EventFile>,
}

impl TensorBoard {
    pub(super) fn new(info: Arc<RunInfo>) -> Self {
        Self { info, file: None }
    }

    fn file(&mut self) -> Result<&mut EventFile> {
        let file = match self.file.take() {
            Some(file) => file,
            None => create(&self.info)?,
        };
        Ok(self.file.insert(file))
    }

    fn write(&mut self, events: &[Arc<Event>]) -> Result<()> {
        let file = self.file()?;
        for event in events {
            let values = match &event.content {
                Content::Scalars(scalars) => scalars.iter().map(|(tag, number)| SummaryValue::scalar(tag, *number as f32)).collect(),
                Content::Histogram(tag, numbers) => vec![SummaryValue::histogram(tag, numbers)],
                Content::Text(tag, markdown) => vec![SummaryValue::text(tag, markdown)],
            };
            file.write(event.step, event.wall_time_s, &values)?;
        }
        Ok(())
    }
}

impl Tracker for TensorBoard {
    fn deliver(&mut self, events: &[Arc<Event>]) -> Result<usize, Trouble> {
        // Events that were partly written must not be written twice.
        self.write(events).map_err(Trouble::Refused)?;
        Ok(events.len())
    }

    /// Reports only success, because a run that failed or was stopped may continue, and TensorBoard shows the first end that it finds.
    fn finish(&mut self, end: End) -> Result<(), Trouble> {
        if end != End::Finished {
            return Ok(());
        }
        let step = self.info.next_step;
        self.file().and_then(|file| file.write(step, now_s(), &[SummaryValue::session_end(now_s())])).map_err(Trouble::Refused)
    }

    fn pause(&self) -> Duration {
        Duration::ZERO
    }
}

/// Creates the event file. That of a new run starts with the settings, which the HParams plugin compares between runs.
fn create(info: &RunInfo) -> Result<EventFile> {
    if info.earlier.is_some() {
        return EventFile::resume(&info.folder, info.next_step);
    }
    let mut file = EventFile::create(&info.folder)?;
    file.write(0, now_s(), &[SummaryValue::session_start(&info.params, now_s())])?;
    Ok(file)
}
