//! Resuming a run after a crash, or after a file in its folder was corrupted, deleted or truncated: the messages are right, and the result
//! is bit-identical. Every case makes one change to a copy of the same small run.

mod case;
mod damage;

use std::path::Path;
use std::process::Output;

use case::Case;
use damage::{cut, flip, remove, remove_new_files, shorten};
use serde_json::Value;

use crate::fixture::{self, files, json, result, rlvr, stderr, succeed};

const NEWEST: &str = "skipped the checkpoint of step 4: ";

#[test]
fn resume_skips_and_replaces_a_corrupt_newest_checkpoint() {
    let case = Case::new(&[]);
    let newest = case.root.path().join("whole/checkpoints/00004");
    let names: Vec<String> = files(&newest).into_keys().collect();
    assert!(names.len() > 9, "{names:?}");
    for name in &names {
        let corrupt = |what: fn(&Path)| move |run: &Path| what(&run.join("checkpoints/00004").join(name));
        // A flipped bit in a manifest is reported for the file whose hash it changes.
        let reported = if name.ends_with("manifest.json") { "checkpoints/00004/" } else { name };
        case.recovers(&format!("{name}, one bit"), corrupt(flip), &[], &[NEWEST, reported, "resumed after step 3"]);
        if ["model.safetensors", "state/first_moments.safetensors", "state/progress.json", "state/manifest.json"].contains(&name.as_str()) {
            case.recovers(&format!("{name}, cut"), corrupt(cut), &[], &[NEWEST, name, "resumed after step 3"]);
        }
        if !name.ends_with("manifest.json") {
            case.recovers(&format!("{name}, removed"), corrupt(remove), &[], &[NEWEST, name, "resumed after step 3"]);
        }
    }
    let state = "checkpoints/00004/state";
    case.recovers("the state, removed", |run| remove(&run.join(state)), &[], &[NEWEST, "state is missing"]);
    let both = |run: &Path| ["00003", "00004"].iter().for_each(|step| cut(&run.join("checkpoints").join(step).join("model.safetensors")));
    case.recovers("two checkpoints", both, &[], &[NEWEST, "skipped the checkpoint of step 3: ", "resumed after step 2"]);
    // Without the manifest, only the step number shows that the progress is of another step.
    let other = |run: &Path| {
        std::fs::copy(run.join("checkpoints/00003/state/progress.json"), run.join(state).join("progress.json")).unwrap();
        remove(&run.join(state).join("manifest.json"));
    };
    case.recovers("progress of another step", other, &[], &[NEWEST, "progress.json is of step 3, expected step 4"]);
}

#[test]
fn resume_repeats_lost_evaluations_or_skips_the_checkpoint() {
    let case = Case::new(&[]);
    let shortened = |run: &Path| shorten(&run.join("metrics.jsonl"), 3);
    case.recovers("metrics, three lines", shortened, &[], &[NEWEST, "metrics.jsonl ends after step 3, expected 4 steps"]);
    let flipped = |run: &Path| {
        let path = run.join("metrics.jsonl");
        let text = std::fs::read_to_string(&path).unwrap();
        let last = text.trim_end().rfind("\"actor/entropy\":0.").unwrap() + "\"actor/entropy\":0.".len();
        let mut bytes = text.into_bytes();
        bytes[last] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    };
    case.recovers("metrics, one bit", flipped, &[], &[NEWEST, "metrics.jsonl up to step 4 have changed"]);
    let again = "the evaluation of the base model is repeated";
    case.recovers("base, removed", |run| remove(&run.join("eval/00000")), &[], &["eval/00000 is missing", again]);
    case.recovers("base, one bit", |run| flip(&run.join("eval/00000/tiny-greedy.jsonl")), &[], &["has changed since", again]);
    let emptied = |run: &Path| {
        let folder = run.join("eval/00002");
        files(&folder).into_keys().for_each(|name| remove(&folder.join(name)));
    };
    case.recovers("an evaluation, emptied", emptied, &[], &["eval/00002 is missing", "the evaluation of step 2 is repeated"]);
    let fewer = |run: &Path| shorten(&run.join("eval/00004/tiny-greedy.jsonl"), 2);
    case.recovers("an evaluation, fewer lines", fewer, &[], &["tiny-greedy.jsonl has ", "the evaluation of step 4 is repeated"]);
    let with_its_model = |run: &Path| ["eval/00003", "checkpoints/00003"].iter().for_each(|part| remove(&run.join(part)));
    case.recovers("an evaluation and its model", with_its_model, &[], &[NEWEST, "eval/00003 is missing", "resumed after step 2"]);

    // If no checkpoint is intact with its records, nothing changes.
    let one_line = |run: &Path| shorten(&run.join("metrics.jsonl"), 1);
    let listed = ["no checkpoint of ", "step 4: ", "step 2: ", "Nothing was changed", "--at 4", "--at 0"];
    case.refuses(one_line, &[], 1, &listed);
    let (run, code, messages) = case.resume(one_line, &["--at", "4"]);
    assert_eq!(code, Some(0), "{messages}");
    let summary: Value = json(&run.join("summary.json"));
    let missing = summary["missing"][0].as_str().unwrap();
    assert!(missing.ends_with("metrics.jsonl ends after step 1, expected 4 steps"), "{summary}");
    assert!(messages.contains("leave out a lost record"), "{messages}");
    case.recovers("from step 0", one_line, &["--at", "0"], &["going back to step 0 deletes", "resumed after step 0"]);
}

#[test]
fn resume_checks_run_folders_of_older_versions() {
    let case = Case::new(&[]);
    let old = |change: fn(&Path)| {
        move |run: &Path| {
            remove_new_files(run);
            change(run);
        }
    };
    let (_, code, messages) = case.resume(old(|_| ()), &[]);
    assert_eq!(code, Some(2), "{messages}");
    assert!(messages.contains("has done all of its 4 steps: add --steps N"), "{messages}");
    // Without manifests, existing files stay unchanged, and only new ones get a manifest.
    let check = |change: fn(&Path), expected: &[&str]| {
        let (run, code, messages) = case.resume(old(change), &[]);
        assert_eq!(code, Some(0), "{messages}");
        expected.iter().for_each(|part| assert!(messages.contains(part), "expected \"{part}\" in {messages}"));
        let found = result(&run);
        assert!(["checkpoints/00004/model.safetensors", "summary.json"].iter().all(|name| found[*name] == case.expected[*name]));
    };
    check(|run| shorten(&run.join("metrics.jsonl"), 3), &[NEWEST, "metrics.jsonl ends after step 3"]);
    check(|run| remove(&run.join("eval/00000")), &["the evaluation of the base model is repeated"]);
    check(
        |run| shorten(&run.join("eval/00002/tiny-greedy.jsonl"), 3),
        &["has 3 lines, expected 4", "the evaluation of step 2 is repeated"],
    );
    check(|run| remove(&run.join("checkpoints/00004/state/progress.json")), &[NEWEST, "cannot read", "progress.json"]);
}

#[test]
fn resume_works_before_the_first_checkpoint_and_after_the_last() {
    let case = Case::new(&[]);
    let killed_early = |run: &Path| {
        ["00001", "00002", "00003", "00004"].iter().for_each(|step| {
            remove(&run.join("checkpoints").join(step));
            remove(&run.join("eval").join(step));
        });
        shorten(&run.join("metrics.jsonl"), 1);
        let _ = std::fs::remove_dir_all(run.join("checkpoints/best"));
        std::fs::create_dir(run.join("checkpoints/00001.partial")).unwrap();
        std::fs::write(run.join("checkpoints/00001.partial/config.json"), "{").unwrap();
    };
    let lines = ["deleted checkpoints/00001.partial", "has no checkpoint yet: the run starts over at step 0"];
    case.recovers("killed before the first checkpoint", killed_early, &[], &lines);
    let in_base = |run: &Path| {
        killed_early(run);
        remove(&run.join("eval/00000"));
        remove(&run.join("metrics.jsonl"));
    };
    case.recovers("killed in the first evaluation", in_base, &[], &lines);
    case.recovers("killed before the summary", |run| remove(&run.join("summary.json")), &[], &["resumed after step 4"]);
    case.refuses(|_| (), &[], 2, &["has done all of its 4 steps: add --steps N"]);
    let between_names = |run: &Path| std::fs::rename(run.join("checkpoints/00004"), run.join("checkpoints/00004.old")).unwrap();
    let (run, _, text) = case.resume(between_names, &[]);
    assert!(text.contains("restored checkpoints/00004") && run.join("checkpoints/00004/state").exists(), "{text}");
    // Some or all checkpoints were deleted.
    case.refuses(
        |run| remove(&run.join("checkpoints/00004")),
        &["--at", "4"],
        2,
        &["the state of step 4", "expected one of: 2 (intact), 3 (intact), 0"],
    );
    let all_removed = |run: &Path| ["00001", "00002", "00003", "00004"].iter().for_each(|step| remove(&run.join("checkpoints").join(step)));
    case.refuses(all_removed, &[], 1, &["has records of 4 steps but no checkpoint with a state", "--at 0"]);

    let empty_skeleton = case.root.path().join("skeleton");
    ["rollouts", "eval", "checkpoints"].iter().for_each(|part| std::fs::create_dir_all(empty_skeleton.join(part)).unwrap());
    let output = rlvr(&["train", "--resume", empty_skeleton.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(prints(&output, "killed before it had written config.toml, so nothing is lost"), "{}", stderr(&output));
}

fn prints(output: &Output, part: &str) -> bool {
    stderr(output).contains(part)
}

#[test]
fn resume_at_goes_back_to_a_step_and_lists_the_deleted_records() {
    let case = Case::new(&[]);
    let deleted = "going back to step 2 deletes metrics and rollouts of steps 3 to 4; evaluations of 3, 4; checkpoints of 3, 4";
    case.recovers("--at 2", |_| (), &["--at", "2"], &[deleted, "resumed after step 2"]);
    case.refuses(
        |_| (),
        &["--at", "1"],
        2,
        &["the state of step 1", "does not exist; expected one of: 2 (intact), 3 (intact), 4 (intact), 0"],
    );
    let corrupt = |run: &Path| flip(&run.join("checkpoints/00003/state/second_moments.safetensors"));
    case.refuses(corrupt, &["--at", "3"], 2, &["the state of step 3", "is corrupt", "has changed since it was written", "4 (intact)"]);
    let output = rlvr(&["train", "--at", "2"]);
    assert!(output.status.code() == Some(2) && prints(&output, "--resume"), "{}", stderr(&output));
}

#[test]
fn resume_refuses_a_rounded_model_without_exact_weights() {
    let case = Case::new(&["--export-dtype", "bf16"]);
    let lost = |run: &Path| {
        let state = run.join("checkpoints/00004/state");
        remove(&state.join("weights.safetensors"));
        remove(&state.join("manifest.json"));
    };
    case.recovers("exact weights, removed", lost, &[], &[NEWEST, "weights.safetensors is missing, and the model next to it is rounded"]);
    let old = |run: &Path| {
        remove_new_files(run);
        let progress = run.join("checkpoints/00004/state/progress.json");
        let mut value: Value = json(&progress);
        value.as_object_mut().unwrap().remove("exact_weights");
        std::fs::write(&progress, value.to_string()).unwrap();
        remove(&run.join("checkpoints/00004/state/weights.safetensors"));
    };
    let (_, code, messages) = case.resume(old, &[]);
    assert!(code == Some(0) && messages.contains("weights.safetensors is missing, and the model next to it is rounded"), "{messages}");
    let zeroed = |run: &Path| {
        let path = run.join("checkpoints/00004/state/weights.safetensors");
        let mut bytes = std::fs::read(&path).unwrap();
        let half = bytes.len() / 2;
        bytes[half..].fill(0);
        std::fs::write(&path, bytes).unwrap();
    };
    case.recovers("exact weights, half of them zero", zeroed, &[], &[NEWEST, "weights.safetensors has changed since it was written"]);
}

#[test]
fn commands_refuse_corrupt_models_and_evaluations() {
    let case = Case::new(&[]);
    let run = case.root.path().join("whole");
    let (model, out) = (run.join("checkpoints/00001"), case.root.path().join("scores"));
    let (model, out) = (model.to_str().unwrap(), out.to_str().unwrap());
    let evaluate = ["eval", "--model", model, "--benchmarks", "tiny", "--limit", "4", "--out", out];
    succeed(&evaluate);
    let again = [&evaluate[..], &["--resume"]].concat();
    succeed(&again);
    assert!(Path::new(out).join("manifest.json").exists());
    flip(&Path::new(out).join("tiny-greedy.jsonl"));
    for arguments in [&again[..], &["compare", out, out]] {
        let output = rlvr(arguments);
        assert!(
            output.status.code() != Some(0) && prints(&output, "tiny-greedy.jsonl has changed since it was written"),
            "{}",
            stderr(&output)
        );
    }
    flip(&Path::new(model).join("model.safetensors"));
    let commands: [&[&str]; 3] = [
        &["eval", "--model", model, "--benchmarks", "tiny", "--limit", "4"],
        &["sample", "--model", model, "--prompt", "1+1="],
        &["train", "--model", model, "--example", "tiny/addition/334+556", "--set", "eval.benchmarks=", "--out", "never"],
    ];
    for arguments in commands {
        let output = rlvr(arguments);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(prints(&output, "model.safetensors has changed since it was written: its blake3 is "), "{}", stderr(&output));
        assert!(prints(&output, "remove ") && prints(&output, "manifest.json if the change was intended"), "{}", stderr(&output));
    }
}

#[test]
fn resume_remembers_the_data_folder_and_the_device() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name).display().to_string();
    std::fs::create_dir(path("data")).unwrap();
    std::fs::create_dir(path("other")).unwrap();
    let command = |arguments: &[&str]| fixture::command(arguments).current_dir(root.path()).output().unwrap();
    std::fs::write(path("mine.jsonl"), "{\"question\": \"Compute 1+2.\", \"answer\": \"3\"}\n").unwrap();
    let start = ["train", "--model", "tiny", "--example", "mine.jsonl", "--data-dir", "data", "--device", "cpu", "--out", "run"];
    let settings = ["--steps", "1", "--set", "eval.benchmarks=", "--set", "rollout.groups=1", "--set", "optim.schedule=constant"];
    let output = command(&[&start[..], &settings].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let recorded = || json(Path::new(&path("run/launch.json")));
    assert_eq!(recorded()["data_dir"].as_str(), Some(path("data").as_str()));

    // Resume from another folder, in which the example's relative path does not exist.
    let output = rlvr(&["train", "--resume", &path("run"), "--steps", "2"]);
    assert!(output.status.success() && prints(&output, "mine.jsonl is read from "), "{}", stderr(&output));
    assert_eq!(recorded()["data_dir"].as_str(), Some(path("data").as_str()));
    let output = command(&["train", "--resume", "run", "--steps", "3", "--data-dir", "other", "--device", "auto"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        prints(&output, "other; the run started with ") && prints(&output, "compute.device is now auto; the run started with cpu"),
        "{}",
        stderr(&output)
    );
    // The run uses the recorded data folder, and reports if it is missing.
    std::fs::remove_dir(path("other")).unwrap();
    let output = command(&["train", "--resume", "run", "--steps", "4"]);
    assert!(output.status.code() == Some(2) && prints(&output, "the data folder"), "{}", stderr(&output));
}
