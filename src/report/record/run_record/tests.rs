use std::fs;
use std::io::Write;

use super::*;
use crate::train::history::Evaluation;

/// Writes the folder of a run that stopped in the middle of a line, without summary, with one unreadable evaluation.
fn stopped_run(root: &Path) -> RunRecord {
    let mut settings = RunSettings::demonstration();
    (settings.train.steps, settings.eval.saturation_window) = (4, 2);
    let folder = RunFolder::create(root, &settings).unwrap();
    let lines = [1, 2, 3].map(|step| format!("{{\"step\":{step},\"train/accuracy\":{},\"actor/entropy\":null}}\n", step.min(2) - 1));
    fs::write(folder.metrics(), lines.concat() + "not json\n{\"step\":4,\"train/acc").unwrap();
    for step in [0, 3, 4] {
        let scores = BTreeMap::from([("tiny-greedy".to_owned(), Score { problems: 1, samples: 1, ..Score::default() })]);
        Evaluation { step, scores, problems: BTreeMap::new() }.record(&folder, &[]).unwrap();
    }
    fs::write(folder.eval(4).join("scores.json"), "{").unwrap();
    let rollout = serde_json::json!({"group": 1, "sample": 2, "text": "a\nb", "reward": 1.0, "correct": true, "finish": "stop"});
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writeln!(encoder, "{rollout}").unwrap();
    fs::write(folder.rollouts(3), encoder.finish().unwrap()).unwrap();
    drop(folder);
    RunRecord::read(root).unwrap()
}

#[test]
fn run_record_reads_what_a_stopped_run_left() {
    let parent = tempfile::tempdir().unwrap();
    let run = stopped_run(&parent.path().join("one"));
    assert_eq!((run.name.as_str(), &run.state, run.metrics.last_step()), ("one", &RunState::Stopped, Some(3)));
    assert_eq!(run.train_accuracy(), [(1, 0.0), (2, 1.0), (3, 1.0)]);
    assert_eq!((run.saturation_step(), run.passes()), (Some(3), vec!["tiny-greedy"]));
    assert_eq!(run.evaluations.iter().map(|one| one.step).collect::<Vec<_>>(), [0, 3]);
    assert_eq!(run.milestones().iter().map(|one| one.step).collect::<Vec<_>>(), [0, 3]);
    assert_eq!((run.rollout_steps(), run.rollouts(3).unwrap()[0].text.as_str()), (vec![3], "a\nb"));
    assert!(run.summary.is_none() && run.answers(3, "tiny-greedy").is_err() && run.rollouts(1).is_err());
    assert_eq!(run.missing.len(), 2, "{:?}", run.missing);
    assert!(run.missing[0].ends_with("are left out: 4, 5"), "{:?}", run.missing);
    assert!(run.missing[1].contains("scores.json is corrupt"), "{:?}", run.missing);
}

#[test]
fn run_record_tells_a_running_run_from_a_finished_one() {
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("one");
    let mut settings = RunSettings::demonstration();
    settings.train.steps = 1;
    let folder = RunFolder::create(&root, &settings).unwrap();
    fs::write(folder.metrics(), "{\"step\":1}\n").unwrap();
    let RunState::Running { holder: Some(holder) } = RunRecord::read(&root).unwrap().state else { panic!("the folder is locked") };
    assert_eq!(holder.pid, std::process::id());
    drop(folder);
    let run = RunRecord::read(&root).unwrap();
    assert_eq!((run.state, run.missing), (RunState::Finished, vec!["The run has no evaluation yet.".to_owned()]));
    assert!(RunRecord::read(parent.path()).unwrap_err().to_string().contains("is not a run folder"));
}

#[test]
fn metric_columns_keep_the_last_line_of_a_step() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    fs::write(&path, "{\"step\":2,\"a\":5}\n{\"step\":1,\"a\":1,\"b\":null}\n{\"step\":2,\"a\":2}\n").unwrap();
    let mut missing = Vec::new();
    let columns = MetricColumns::read(&path, &mut missing);
    assert_eq!(
        (columns.steps.as_slice(), columns.column("a"), columns.column("c")),
        ([1, 2].as_slice(), Some([1.0, 2.0].as_slice()), None)
    );
    assert!(columns.column("b").unwrap().iter().all(|number| number.is_nan()) && missing.is_empty());
    assert_eq!(columns.points("a"), [(1, 1.0), (2, 2.0)]);
}
