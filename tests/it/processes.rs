//! A run has the same bits for every number of processes that divides its shards: metrics, rollouts, evaluations and checkpoints. The
//! processes are threads here, which exchange the same bytes in the same order.

use std::path::{Path, PathBuf};

use rlvr::config;
use rlvr::dist::{World, threads};
use rlvr::interrupt::Interrupt;
use rlvr::train::{self, RunFolder, RunRequest, Start};

use super::fixture::{self, result, weights};

/// Three steps with an evaluation and a checkpoint after the second and the third.
const SMALL: [&str; 10] = [
    "train.shards=8",
    "train.steps=3",
    "rollout.groups=4",
    "rollout.group_size=4",
    "rollout.max_new_tokens=40",
    "reward.name=format",
    "eval.every=2",
    "eval.limit=6",
    "eval.max_new_tokens=40",
    "checkpoint.every=2",
];

fn layers(settings: &[&str]) -> Vec<toml::Table> {
    settings.iter().map(|setting| config::parse_override(setting).unwrap()).collect()
}

/// Runs one rank of a run in this thread.
fn run_rank(world: World, start: Start) {
    let request = RunRequest { world, start, ..RunRequest::new(Vec::new(), None) };
    let interrupt = Interrupt::default();
    train::prepare(request).unwrap().load(&interrupt).unwrap().start().unwrap().run().unwrap();
}

/// Starts a run of `ranks` processes in `root`.
fn run(ranks: usize, settings: &[&str], root: &Path) {
    threads::run(ranks, |world| run_rank(world, Start::New { layers: layers(settings), out: Some(root.to_owned()) }));
}

fn resume(ranks: usize, root: &Path, at: u64, steps: i64) {
    let changes = || config::parse_override(&format!("train.steps={steps}")).unwrap();
    threads::run(ranks, |world| run_rank(world, Start::Resume { root: root.to_owned(), at: Some(at), changes: changes() }));
}

fn assert_same(found: &Path, expected: &Path, case: &str) {
    let (found, expected) = (result(found), result(expected));
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{case}");
    let differing: Vec<&String> = found.iter().filter(|(name, bytes)| expected[*name] != **bytes).map(|(name, _)| name).collect();
    assert!(differing.is_empty(), "{case}: {differing:?} differ");
}

/// Runs `settings` with one process and with each of `ranks` processes, and compares all records.
fn check(name: &str, settings: &[&str], ranks: &[usize]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let settings: Vec<&str> = SMALL.iter().chain(settings).copied().collect();
    let alone = folder.path().join("1");
    run(1, &settings, &alone);
    for ranks in ranks {
        let together = folder.path().join(ranks.to_string());
        run(*ranks, &settings, &together);
        assert_same(&together, &alone, &format!("{name}, {ranks} processes"));
    }
    (folder, alone)
}

#[test]
fn a_run_has_the_same_bits_for_every_number_of_processes() {
    let (folder, alone) = check("grpo", &[], &[2, 4, 8]);
    // The bits depend on the order of the sum: with another tree, they differ.
    let other = folder.path().join("other");
    run(1, &[&SMALL[1..], &["train.shards=4"]].concat(), &other);
    assert_ne!(weights(&other, 3), weights(&alone, 3));
    // A run of eight processes continues with two, and the other way round.
    for (before, after) in [(8, 2), (1, 8)] {
        let root = folder.path().join(before.to_string());
        resume(after, &root, 2, 3);
        assert_same(&root, &alone, &format!("resumed with {after} instead of {before} processes"));
    }
}

#[test]
fn ppo_with_several_updates_has_the_same_bits() {
    check("ppo", &["algo=ppo", "train.updates_per_rollout=2", "reward.kl=0.01"], &[2, 8]);
}

#[test]
fn adapters_and_quantized_moments_have_the_same_bits() {
    check("lora", &["lora.rank=4"], &[4]);
    check("8-bit", &["optim.states=8bit", "train.reference_decay=0.9", "loss.kl=0.01"], &[4]);
}

#[test]
fn several_examples_and_replaced_groups_have_the_same_bits() {
    check("several examples", &["example=tiny/train/6", "rollout.dynamic_sampling=2", "reward.name=format + probability"], &[2]);
}

#[test]
fn replayed_rollouts_have_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let recorded = folder.path().join("recorded");
    run(1, &SMALL, &recorded);
    let recording = RunFolder::of_other(&recorded).rollouts(2);
    assert!(recording.exists());
    check("replay", &["train.steps=2", &format!("rollout.replay={}", recording.display())], &[2]);
}

#[test]
fn processes_that_cannot_share_a_run_are_refused() {
    let refusal = |ranks: usize, settings: &[&str]| {
        let errors = threads::run(ranks, |world| {
            let request = RunRequest { world, ..RunRequest::new(layers(settings), Some("unused".into())) };
            format!("{:#}", train::prepare(request).err().unwrap())
        });
        assert!(errors.iter().all(|error| *error == errors[0]), "{errors:?}");
        errors[0].clone()
    };
    assert!(refusal(3, &["train.shards=8"]).contains("train.shards is 8, which 3 processes cannot share equally"));
    assert!(refusal(2, &[]).contains("add --set train.shards=2"));
    assert!(refusal(1, &["train.shards=6"]).contains("train.shards is 6; it must be 0 or a power of two, such as 8"));
    assert!(refusal(1, &["train.shards=2", "train.workers=2"]).contains("set one of them to 0"));
    let differing = threads::run(2, |world| {
        let kl = ["loss.kl=0.001", "loss.kl=0.25"][world.rank()];
        let request = RunRequest { world, ..RunRequest::new(layers(&["train.shards=2", kl]), Some("unused".into())) };
        let interrupt = Interrupt::default();
        format!("{:#}", train::prepare(request).unwrap().load(&interrupt).err().unwrap())
    });
    assert!(
        differing.iter().all(|error| error.starts_with("rank 1 has the setting loss.kl 0.25, but rank 0 has 0.001: ")),
        "{differing:?}"
    );
}

/// `--processes` hands the command to the launcher, without the flag, and returns the launcher's exit code.
#[cfg(unix)]
#[test]
fn the_flag_starts_the_command_under_mpirun() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let check = |arguments: &[&str], code: i32, expected: &str| {
        let output = fixture::command(arguments).env("PATH", folder.path()).output().unwrap();
        let text = fixture::stdout(&output) + &fixture::stderr(&output);
        assert!(output.status.code() == Some(code) && text.contains(expected), "{arguments:?}: {output:?}");
    };
    let eval = ["eval", "--model", "tiny", "--benchmarks", "tiny"];
    check(&[&eval[..], &["--processes", "2"]].concat(), 1, "--processes needs MPI");
    let launcher = folder.path().join("mpirun");
    std::fs::write(&launcher, "#!/bin/sh\n[ \"$1\" = --version ] && exit\necho \"$*\"\nexit 7\n").unwrap();
    std::fs::set_permissions(&launcher, std::fs::Permissions::from_mode(0o755)).unwrap();
    check(&[&eval[..1], &["--processes=3"], &eval[1..]].concat(), 7, "rlvr eval --model tiny --benchmarks tiny\n");
    check(&["train", "--steps", "2", "--processes", "3"], 7, "rlvr train --steps 2\n");
    let endpoint = ["--endpoint", "http://localhost:1", "--processes", "2"];
    check(&[&eval[..], &endpoint].concat(), 2, "'--endpoint <URL>' cannot be used with '--processes <N>'");
    check(&["train", "--dry-run", "--processes", "2"], 2, "'--dry-run' cannot be used with '--processes <N>'");
}
