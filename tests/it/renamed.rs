//! Tests that the old names of settings and flags keep working: in files, in `--set`, on the command line, and in runs of earlier versions.

use crate::fixture::{rlvr, stderr, stdout, succeed};

/// Old names resolve to the same settings as new names, and one note lists them.
#[test]
fn renamed_settings_resolve_and_print_a_note() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("old.toml");
    let old = "[rollout]\nmax_new = 7\nresample = 2\n[eval]\nmax_new = 9\n[train]\nlanes = 1\nrecompute = \"all\"\n[compute]\nkernels = \"reference\"\n";
    std::fs::write(&config, old).unwrap();
    let new = [
        "rollout.max_new_tokens=7",
        "rollout.dynamic_sampling=2",
        "eval.max_new_tokens=9",
        "train.workers=1",
        "train.activation_checkpointing=full",
        "compute.kernels=stock",
    ];
    let sets: Vec<&str> = new.iter().flat_map(|one| ["--set", one]).collect();
    let expected = rlvr(&[&["train", "--dry-run"], sets.as_slice()].concat());
    let found = rlvr(&["train", "--dry-run", "--config", config.to_str().unwrap()]);
    assert_eq!(stdout(&found), stdout(&expected));
    assert!(stdout(&found).contains("max_new_tokens = 7"), "{}", stdout(&found));
    assert!(!stderr(&expected).contains("old names"), "{}", stderr(&expected));
    let note = "note: old names of settings still work: rollout.max_new is now rollout.max_new_tokens, rollout.resample is now \
                rollout.dynamic_sampling, eval.max_new is now eval.max_new_tokens, train.recompute is now \
                train.activation_checkpointing, train.activation_checkpointing = \"all\" is now \"full\", train.lanes is now \
                train.workers, compute.kernels = \"reference\" is now \"stock\"\n";
    assert_eq!(stderr(&found).matches(note).count(), 1, "{}", stderr(&found));
    let both = rlvr(&["train", "--dry-run", "--set", "train.lanes=1", "--set", "train.workers=2"]);
    assert!(stdout(&both).contains("workers = 2"), "the later setting wins: {}", stdout(&both));
}

/// A run whose `config.toml` has the old names resumes, bit-identical to an uninterrupted run.
#[test]
fn renamed_settings_in_config_toml_resume_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (uninterrupted, stopped) = (path("uninterrupted"), path("stopped"));
    let small = [
        "--kernels",
        "stock",
        "--set",
        "rollout.groups=1",
        "--set",
        "eval.every=0",
        "--set",
        "eval.limit=4",
        "--set",
        "optim.schedule=constant",
    ];
    succeed(&[&["train", "--steps", "2", "--out", &uninterrupted], small.as_slice()].concat());
    succeed(&[&["train", "--steps", "1", "--out", &stopped], small.as_slice()].concat());
    let config = format!("{stopped}/config.toml");
    let new = std::fs::read_to_string(&config).unwrap();
    let old = new
        .replace("max_new_tokens =", "max_new =")
        .replace("dynamic_sampling =", "resample =")
        .replace("activation_checkpointing =", "recompute =")
        .replace("workers =", "lanes =")
        .replace("kernels = \"stock\"", "kernels = \"reference\"");
    assert_eq!(old.lines().filter(|line| line.starts_with("max_new =")).count(), 2, "{old}");
    std::fs::write(&config, old).unwrap();
    let launch = format!("{stopped}/launch.json");
    let new = std::fs::read_to_string(&launch).unwrap();
    assert!(new.contains("stock kernels"), "{new}");
    std::fs::write(&launch, new.replace("stock kernels", "reference kernels")).unwrap();
    let resumed = succeed(&["train", "--resume", &stopped, "--steps", "2"]);
    assert!(stderr(&resumed).contains("train.lanes is now train.workers"), "{}", stderr(&resumed));
    assert!(!stderr(&resumed).contains("not bit-identical"), "the kernels are the same: {}", stderr(&resumed));
    let weights = |root: &str| std::fs::read(format!("{root}/checkpoints/00002/model.safetensors")).unwrap();
    assert!(weights(&uninterrupted) == weights(&stopped), "the resumed run has different weights");
}

/// `--max-new` is `--max-new-tokens`, and `--kernels reference` is `--kernels stock`.
#[test]
fn renamed_flags_still_work() {
    let sample = ["sample", "--model", "tiny", "--prompt", "What is 1+2?", "--temperature", "0", "--json"];
    let check = |new: &[&str], old: &[&str]| {
        let [new, old] = [new, old].map(|flags| stdout(&succeed(&[&sample[..], flags].concat())));
        assert_eq!(new, old);
    };
    check(&["--max-new-tokens", "5"], &["--max-new", "5"]);
    check(&["--max-new-tokens", "5", "--kernels", "stock"], &["--max-new-tokens", "5", "--kernels", "reference"]);
}
