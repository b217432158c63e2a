//! A watch that notes how long each operation takes. The device is waited for after each operation, so the whole takes
//! longer than without: for breakdowns and traces, never for a measurement itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Instant;

use candle_core::Result;

use super::{DeviceMemory, Kernels, Watch, Watched};

/// One operation, as it ran.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// The method of [`Kernels`].
    pub operation: &'static str,
    /// The part of the work that it was for, as the caller has named it.
    pub part: &'static str,
    /// The thread that called it, numbered from 0 in the order of first calls.
    pub thread: usize,
    /// Seconds since the recorder was made.
    pub begin_s: f64,
    /// The same for its end.
    pub end_s: f64,
}

/// Where spans are collected, from all threads.
#[derive(Debug)]
pub struct Recorder {
    began: Instant,
    notes: Mutex<Notes>,
}

#[derive(Debug, Default)]
struct Notes {
    part: &'static str,
    threads: Vec<ThreadId>,
    spans: Vec<Span>,
    used_bytes: Option<u64>,
}

/// What was recorded.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Operations, in the order of their ends.
    pub spans: Vec<Span>,
    /// Most bytes that tensors have taken of the device's memory, where the kernels say.
    pub used_bytes: Option<u64>,
}

impl Recorder {
    /// An empty one, whose clock starts now.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { began: Instant::now(), notes: Mutex::default() })
    }

    /// Names the part of the work that follows.
    pub fn enter(&self, part: &'static str) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).part = part;
    }

    /// All that has been recorded since the last time.
    pub fn take(&self) -> Record {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        Record { spans: std::mem::take(&mut notes.spans), used_bytes: notes.used_bytes.take() }
    }

    fn note(&self, operation: &'static str, part: Option<&'static str>, begin: Instant, memory: Option<DeviceMemory>) {
        let seconds = |instant: Instant| instant.duration_since(self.began).as_secs_f64();
        let (begin_s, end_s, id) = (seconds(begin), seconds(Instant::now()), thread::current().id());
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let known = notes.threads.iter().position(|known| *known == id);
        let thread = known.unwrap_or_else(|| {
            notes.threads.push(id);
            notes.threads.len() - 1
        });
        let part = part.unwrap_or(notes.part);
        notes.spans.push(Span { operation, part, thread, begin_s, end_s });
        notes.used_bytes = notes.used_bytes.max(memory.map(|memory| memory.peak));
    }
}

/// A watch that times into a recorder.
#[derive(Debug)]
pub struct Timed {
    recorder: Arc<Recorder>,
    part: Option<&'static str>,
}

impl Timed {
    /// Times `kernels`. Where `part` is given, all that they do is for that part, whatever the recorder was told.
    pub fn around(kernels: Arc<dyn Kernels>, recorder: Arc<Recorder>, part: Option<&'static str>) -> Watched {
        Watched::new(kernels, Arc::new(Self { recorder, part }))
    }
}

impl Watch for Timed {
    fn after(&self, operation: &'static str, begin: Instant, kernels: &dyn Kernels) -> Result<()> {
        kernels.device().synchronize()?;
        self.recorder.note(operation, self.part, begin, kernels.memory());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::testing::random;
    use crate::kernels::{Cpu, Kernels};

    #[test]
    fn operations_give_the_same_and_leave_a_span_each() -> Result<()> {
        let recorder = Recorder::new();
        let timed = Timed::around(Arc::new(Cpu), recorder.clone(), None);
        let (x, weight) = (random((3, 8), 1), random((8, 5), 2));
        recorder.enter("first");
        let product = timed.product(&x, &weight, None)?;
        assert_eq!(product.to_vec2::<f32>()?, Cpu.product(&x, &weight, None)?.to_vec2::<f32>()?);
        recorder.enter("second");
        timed.add_into(&x, &x.copy()?)?;
        Timed::around(Arc::new(timed.clone()), recorder.clone(), Some("own")).clear(&x)?;
        let spans = recorder.take().spans;
        let names: Vec<_> = spans.iter().map(|span| (span.part, span.operation, span.thread)).collect();
        assert_eq!(names, [("first", "product", 0), ("second", "add_into", 0), ("second", "clear", 0), ("own", "clear", 0)]);
        assert!(spans.iter().all(|span| span.begin_s <= span.end_s));
        assert!(recorder.take().spans.is_empty());
        Ok(())
    }
}
