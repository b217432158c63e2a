//! Out-of-memory during updates: the run continues with smaller micro-batches and the same gradients.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rlvr::config;
use rlvr::interrupt::Interrupt;
use rlvr::kernels::{HookedKernels, OperationHooks, OutOfMemory};
use rlvr::model::import;
use rlvr::output::Progress;
use rlvr::tiny::embedded;
use rlvr::train::{self, Outcome, RunRequest};

/// Reports out-of-memory for the first `failing` backward passes of attention.
#[derive(Debug)]
struct FailingAttention {
    failing: usize,
    calls: AtomicUsize,
}

impl OperationHooks for FailingAttention {
    fn before(&self, operation: &'static str) -> candle_core::Result<()> {
        if operation == "attend_packed_backward" && self.calls.fetch_add(1, Ordering::Relaxed) < self.failing {
            return Err(OutOfMemory::new("no memory").into());
        }
        Ok(())
    }
}

fn run(root: &Path, failing: usize) -> anyhow::Result<Outcome> {
    let settings = ["train.steps=2", "train.workers=1", "train.micro_batch_tokens=2048", "eval.benchmarks="].map(String::from);
    let layers = config::layers(None, &settings)?;
    let interrupt = Interrupt::default();
    let mut loaded = train::prepare(RunRequest::new(layers, Some(root.to_owned())))?.load(&interrupt)?;
    let decoder = &mut loaded.inputs.model.decoder;
    let hooks = FailingAttention { failing, calls: AtomicUsize::new(0) };
    *decoder = decoder.on(Arc::new(HookedKernels::new(decoder.shared_kernels(), Arc::new(hooks))))?;
    loaded.start()?.run()
}

#[test]
fn run_retries_updates_that_run_out_of_memory() {
    let root = tempfile::tempdir().unwrap();
    let weights = |name: &str, failing| {
        let folder = root.path().join(name);
        assert_eq!(run(&folder, failing).unwrap(), Outcome::Done);
        let config = embedded::shape().unwrap().0;
        import::load(&folder.join("checkpoints/00002"), &config, &Progress::hidden()).unwrap()
    };
    let (expected, found) = (weights("whole", 0), weights("retried", 3));
    for ((name, expected), (_, found)) in expected.entries().into_iter().zip(found.entries()) {
        let distance = (expected - found).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
        // Two steps of Adam move a weight by up to 2e-4. Another order of sums changes some of the smallest gradients, and so these steps.
        assert!(distance < 5e-5, "{name}: {distance:.1e}");
    }
    let error = format!("{:#}", run(&root.path().join("never"), 1000).unwrap_err());
    assert!(error.contains("no memory") && error.contains("the run up to step 0 is saved"), "{error}");
}
