//! A device's memory that is used up in an update makes micro-batches smaller; the run goes on with the same gradients.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rlvr::data::tiny;
use rlvr::interrupt::Interrupt;
use rlvr::kernels::{Watch, Watched};
use rlvr::model::folder;
use rlvr::tiny::embedded;
use rlvr::train::{Outcome, Run, RunInputs, RunSettings};

/// Has no memory for the first backward passes of attention.
#[derive(Debug)]
struct Short {
    failing: usize,
    calls: AtomicUsize,
}

impl Watch for Short {
    fn before(&self, operation: &'static str) -> candle_core::Result<()> {
        if operation == "attend_packed_backward" && self.calls.fetch_add(1, Ordering::Relaxed) < self.failing {
            candle_core::bail!("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")");
        }
        Ok(())
    }
}

fn run(root: &Path, failing: usize) -> anyhow::Result<Outcome> {
    let mut settings = RunSettings::demonstration();
    (settings.train.steps, settings.train.lanes, settings.train.micro_batch_tokens) = (2, 1, 2048);
    let mut model = embedded::load_with(&Default::default()).unwrap();
    let short = Short { failing, calls: AtomicUsize::new(0) };
    model.decoder = model.decoder.on(Arc::new(Watched::new(model.decoder.shared_kernels(), Arc::new(short)))).unwrap();
    let problem = tiny::by_id(&settings.example).unwrap().problem();
    let prompts = vec![model.text.prompt(Arc::new(problem), "").unwrap()];
    let interrupt = Interrupt::default();
    let inputs = RunInputs {
        model,
        reference: None,
        prompts,
        labels: Vec::new(),
        replay: None,
        dump_gradients: None,
        sets: Vec::new(),
        revision: String::new(),
        interrupt: &interrupt,
        guard: None,
    };
    Run::start(settings, root, inputs)?.run()
}

#[test]
fn a_run_outlives_updates_that_do_not_fit() {
    let root = tempfile::tempdir().unwrap();
    let weights = |name: &str, failing| {
        let folder = root.path().join(name);
        assert_eq!(run(&folder, failing).unwrap(), Outcome::Done);
        let config = embedded::shape().unwrap().0;
        folder::load(&folder.join("checkpoints/00002"), &config).unwrap()
    };
    let (expected, found) = (weights("whole", 0), weights("short", 3));
    for ((name, expected), (_, found)) in expected.entries().into_iter().zip(found.entries()) {
        let far = (expected - found).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
        // Two steps of Adam move an element by 2e-4; sums in another order change some of the smallest gradients.
        assert!(far < 5e-5, "{name}: {far:.1e}");
    }
    let error = format!("{:#}", run(&root.path().join("never"), 1000).unwrap_err());
    assert!(error.contains("OUT_OF_MEMORY") && error.contains("the run up to step 0 is saved"), "{error}");
}
