//! Studies over several ranks, which are threads here. The runs are real processes.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use rlvr::data::DataStore;
use rlvr::dist::{World, threads};
use rlvr::interrupt::Interrupt;
use rlvr::study::{Launcher, RunOutcome, SlotGpus, Study, StudyRunner};
use rlvr::train::RunSettings;

use super::fixture::{command, small_study, succeed, text, weights, write_file};

const ARMS: &str = "[[arm]]\nlabel = \"outcome\"\n\n[[arm]]\nlabel = \"format\"\nset = { reward.name = \"format\" }";

/// Executes a study on one of its ranks with this program. Returns the outcome and the printed lines.
fn run_rank(world: World, study: &Study, out: &Path, program: &Path, jobs: usize, interrupt: &Interrupt) -> (RunOutcome, Vec<String>) {
    let store = DataStore::open(None).unwrap();
    let settings: Vec<RunSettings> = study.arms.iter().map(|arm| study.check(arm, &store).unwrap()).collect();
    let lines = RefCell::new(Vec::new());
    let print = |line: &str| lines.borrow_mut().push(line.to_owned());
    let gpus = SlotGpus::new(None, || 4, world.rank(), world.size());
    let program = program.to_owned();
    let launcher = Launcher { program, data_dir: None, jobs, gpus, print: &print, print_start: &print, show: &|_| () };
    let is_first = world.is_first();
    let mut runner = StudyRunner::open(world, study, &settings, out, launcher).unwrap();
    let outcome = runner.run(interrupt).unwrap();
    if is_first {
        runner.table().unwrap();
    }
    drop(runner);
    (outcome, lines.into_inner())
}

#[test]
fn study_over_ranks_has_the_table_and_the_weights_of_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let file = write_file(folder.path(), "study.toml", &small_study("Two rewards", ARMS));
    let study = Study::read(Path::new(&file)).unwrap();
    let (alone, together) = (folder.path().join("alone"), folder.path().join("together"));
    succeed(&["study", &file, "--out", alone.to_str().unwrap(), "--jobs", "2"]);
    let program = Path::new(command(&[]).get_program()).to_owned();

    // A signal to one rank stops both before a run starts, and a later study does the rest.
    let stopped = threads::run(2, |world| {
        let interrupt = Interrupt::default();
        if world.rank() == 1 {
            interrupt.request_stop_now(10);
        }
        run_rank(world, &study, &together, &program, 1, &interrupt)
    });
    assert_eq!(stopped, vec![(RunOutcome::Interrupted(10), Vec::new()); 2]);

    let found = threads::run(2, |world| run_rank(world, &study, &together, &program, 1, &Interrupt::default()));
    assert_eq!(found[1], (RunOutcome::Done, Vec::new()), "only rank 0 prints");
    let (outcome, lines) = &found[0];
    assert_eq!(*outcome, RunOutcome::Done);
    assert_eq!(lines.iter().filter(|line| line.ends_with(": started")).count(), 4, "{lines:?}");
    assert!(lines[..2].iter().all(|line| line.ends_with(", seed 0: started")), "both ranks start a run at once: {lines:?}");
    assert!(lines[lines.len() - 1].starts_with("[4/4] "), "{lines:?}");
    for table in ["study.md", "study.json"] {
        assert_eq!(text(&together.join(table)), text(&alone.join(table)));
    }
    for run in ["outcome/seed-0", "outcome/seed-1", "format/seed-0", "format/seed-1"] {
        assert!(weights(&together.join(run), 2) == weights(&alone.join(run), 2), "{run}");
    }
}

/// A stand-in for the program writes which GPU it sees, and fails.
#[cfg(unix)]
#[test]
fn study_gives_each_run_a_gpu() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("stand-in");
    std::fs::write(&program, "#!/bin/sh\necho \"GPU $CUDA_VISIBLE_DEVICES\"\nexit 3\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let study = |device: &str, out: &str| {
        let arms = format!("{ARMS}\n\n[base.compute]\ndevice = \"{device}\"\n");
        let file = write_file(folder.path(), "study.toml", &small_study("GPUs", &arms));
        let (study, out) = (Study::read(Path::new(&file)).unwrap(), folder.path().join(out));
        let found = threads::run(2, |world| run_rank(world, &study, &out, &program, 2, &Interrupt::default()));
        assert!(found.iter().all(|(outcome, _)| *outcome == RunOutcome::Failed(4)), "{found:?}");
        assert!(found[0].1.iter().any(|line| line.contains("failed (exit status: 3); ")), "{found:?}");
        let logs = ["outcome/seed-0", "outcome/seed-1", "format/seed-0", "format/seed-1"].map(|run| text(&out.join(format!("{run}.log"))));
        BTreeSet::from(logs)
    };
    // Two slots on each of two ranks: four runs, four GPUs.
    assert_eq!(study("cuda", "cuda"), ["GPU 0\n", "GPU 1\n", "GPU 2\n", "GPU 3\n"].map(String::from).into());
    let unchanged = format!("GPU {}\n", std::env::var("CUDA_VISIBLE_DEVICES").unwrap_or_default());
    assert_eq!(study("cpu", "cpu"), [unchanged].into());
}
