//! Tests preparation as library users see it: which requests are refused, and what a prepared run contains.

use std::path::Path;

use super::*;
use crate::config;
use crate::interrupt::Interrupt;
use crate::train::Outcome;
use crate::usage::Usage;

fn layers(settings: &[&str]) -> Vec<Table> {
    settings.iter().map(|one| config::parse_override(one).unwrap()).collect()
}

/// A run of the embedded model that takes seconds.
fn small(out: &Path) -> RunRequest<'static> {
    RunRequest::new(layers(&["train.steps=2", "rollout.groups=2", "rollout.group_size=4", "eval.benchmarks="]), Some(out.to_owned()))
}

fn refused(request: RunRequest<'_>) -> String {
    let error = prepare(request).err().expect("the request should be refused");
    assert!(error.is::<Usage>(), "{error:#}");
    format!("{error:#}")
}

#[test]
fn prepare_marks_mistakes_in_the_request_as_usage() {
    let folder = tempfile::tempdir().unwrap();
    let new = |settings: &[&str]| RunRequest::new(layers(settings), Some(folder.path().join("run")));
    let check = |request: RunRequest<'_>, expected: &str| {
        let error = refused(request);
        assert!(error.contains(expected), "{error}");
    };
    check(new(&["loss.entropi=0"]), "unknown setting loss.entropi");
    check(new(&["model=nobody"]), "unknown model \"nobody\"");
    check(new(&["example=tiny/chess/1"]), "subjects are addition");
    check(new(&["eval.best_by=math500"]), "eval.best_by is math500, which is not evaluated; expected one of tiny");
    check(RunRequest::new(Vec::new(), Some(folder.path().to_owned())), "already exists and is never overwritten");
    let resume = |root: &Path, changes: &str| RunRequest {
        start: Start::Resume { root: root.to_owned(), at: None, changes: config::parse_override(changes).unwrap() },
        ..small(root)
    };
    check(resume(&folder.path().join("absent"), "train.steps=3"), "there is no such folder");
    let run = folder.path().join("recorded");
    RunFolder::create(&run, &RunSettings::demonstration()).unwrap();
    check(resume(&run, "loss.kl=0"), "loss.kl stays as");
    assert!(!folder.path().join("run").exists());
}

#[test]
fn load_refuses_a_dry_run_or_a_plan() {
    let folder = tempfile::tempdir().unwrap();
    let (out, interrupt) = (folder.path().join("run"), Interrupt::default());
    for need in [PrepareFor::DryRun, PrepareFor::Plan { stand_in: false }] {
        let prepared = prepare(RunRequest { need, ..small(&out) }).unwrap();
        assert!(prepared.load(&interrupt).err().unwrap().to_string().contains("cannot be loaded"));
    }
    assert!(!out.exists());
}

/// The same call resumes a run with more steps.
#[test]
fn prepare_starts_and_resumes_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let (out, interrupt) = (folder.path().join("run"), Interrupt::default());
    let prepared = prepare(small(&out)).unwrap();
    assert!(
        prepared.headline().starts_with("grpo with tiny: 1 example x 2 groups x 4 responses = 8 rollouts per step"),
        "{}",
        prepared.headline()
    );
    assert_eq!((prepared.problems.len(), prepared.sets.len(), prepared.root.clone()), (1, 0, out.clone()));
    assert_eq!(prepared.load(&interrupt).unwrap().start().unwrap().run().unwrap(), Outcome::Done);
    let messages = std::sync::Mutex::new(Vec::new());
    let print = |_: Level, line: &str| messages.lock().unwrap().push(line.to_owned());
    let start = || Start::Resume { root: out.clone(), at: None, changes: config::parse_override("train.steps=3").unwrap() };
    let prepared = prepare(RunRequest { start: start(), print: &print, ..small(&out) }).unwrap();
    assert_eq!((prepared.resumed.as_ref().map(|resumed| resumed.from), prepared.settings.train.steps), (Some(2), 3));
    assert_eq!(prepared.load(&interrupt).unwrap().start().unwrap().run().unwrap(), Outcome::Done);
    let messages = messages.into_inner().unwrap();
    assert!(messages[0].starts_with("with 3 steps instead of 2, the learning-rate schedule ends at another step"), "{messages:?}");
    let (folder, settings) = RunFolder::open(&out).unwrap();
    assert_eq!((folder.resumable_steps().unwrap(), settings.train.steps), (vec![2, 3], 3));
}
