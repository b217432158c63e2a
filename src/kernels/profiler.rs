//! Hooks that record how long each operation takes. They wait for the device after each operation, which makes everything slower: use them
//! for breakdowns and traces, never to measure speed.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Instant;

use candle_core::Result;

use super::{DeviceMemory, HookedKernels, Kernels, OperationHooks};

/// One timed operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// The name of the method of [`Kernels`].
    pub operation: &'static str,
    /// The part of the work that the operation belongs to: the profiler's own part if it has one, otherwise the last one
    /// passed to [`Recorder::enter`].
    pub part: &'static str,
    /// The calling thread. Threads are numbered from 0 in the order of their first operations.
    pub thread: usize,
    /// Start, in seconds since the recorder was created.
    pub begin_s: f64,
    /// End, in the same unit.
    pub end_s: f64,
}

/// Collects spans from all threads.
#[derive(Debug)]
pub struct Recorder {
    began: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    part: &'static str,
    threads: Vec<ThreadId>,
    spans: Vec<Span>,
    used_bytes: Option<u64>,
}

/// The recorded spans and memory use.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Operations, in the order in which they ended.
    pub spans: Vec<Span>,
    /// Peak bytes of tensors in the device's memory; `None` if the kernels do not report it.
    pub used_bytes: Option<u64>,
}

impl Recorder {
    /// Creates an empty recorder and starts its clock.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { began: Instant::now(), state: Mutex::default() })
    }

    /// Sets the part of the work that the following operations belong to.
    pub fn enter(&self, part: &'static str) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).part = part;
    }

    /// Returns everything recorded since the last call, and empties the recorder.
    pub fn take(&self) -> Record {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Record { spans: std::mem::take(&mut state.spans), used_bytes: state.used_bytes.take() }
    }

    fn record(&self, operation: &'static str, part: Option<&'static str>, begin: Instant, memory: Option<DeviceMemory>) {
        let seconds = |instant: Instant| instant.duration_since(self.began).as_secs_f64();
        let (begin_s, end_s, id) = (seconds(begin), seconds(Instant::now()), thread::current().id());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let known = state.threads.iter().position(|known| *known == id);
        let thread = known.unwrap_or_else(|| {
            state.threads.push(id);
            state.threads.len() - 1
        });
        let part = part.unwrap_or(state.part);
        state.spans.push(Span { operation, part, thread, begin_s, end_s });
        state.used_bytes = state.used_bytes.max(memory.map(|memory| memory.peak));
    }
}

/// Hooks that record the time of each operation in a [`Recorder`].
#[derive(Debug)]
pub struct Profiler {
    recorder: Arc<Recorder>,
    part: Option<&'static str>,
}

impl Profiler {
    /// Wraps `kernels` with hooks that record times. A `part` overrides the one set by [`Recorder::enter`].
    pub fn around(kernels: Arc<dyn Kernels>, recorder: Arc<Recorder>, part: Option<&'static str>) -> HookedKernels {
        HookedKernels::new(kernels, Arc::new(Self { recorder, part }))
    }
}

impl OperationHooks for Profiler {
    fn after(&self, operation: &'static str, begin: Instant, kernels: &dyn Kernels) -> Result<()> {
        kernels.device().synchronize()?;
        self.recorder.record(operation, self.part, begin, kernels.memory());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::testing::random;
    use crate::kernels::{Cpu, Kernels};

    #[test]
    fn profiler_changes_no_result_and_records_one_span_per_operation() -> Result<()> {
        let recorder = Recorder::new();
        let profiled = Profiler::around(Arc::new(Cpu), recorder.clone(), None);
        let (x, weight) = (random((3, 8), 1), random((8, 5), 2));
        recorder.enter("first");
        let product = profiled.product(&x, &weight, None)?;
        assert_eq!(product.to_vec2::<f32>()?, Cpu.product(&x, &weight, None)?.to_vec2::<f32>()?);
        recorder.enter("second");
        profiled.add_into(&x, &x.copy()?)?;
        Profiler::around(Arc::new(profiled.clone()), recorder.clone(), Some("own")).clear(&x)?;
        let spans = recorder.take().spans;
        let names: Vec<_> = spans.iter().map(|span| (span.part, span.operation, span.thread)).collect();
        assert_eq!(names, [("first", "product", 0), ("second", "add_into", 0), ("second", "clear", 0), ("own", "clear", 0)]);
        assert!(spans.iter().all(|span| span.begin_s <= span.end_s));
        assert!(recorder.take().spans.is_empty());
        Ok(())
    }
}
