//! Tests that the shipped configurations are valid, and that complete ones equal the program's defaults.

use rlvr::config;
use rlvr::model::known_models;
use rlvr::tiny::pretrain::PretrainSettings;
use rlvr::train::RunSettings;
use rlvr::train::plan::{Plan, RunWorkload};

use crate::fixture::{repository, rlvr, shared, stderr};

/// Parses a settings file that must be complete.
fn complete<T: serde::de::DeserializeOwned>(file: &str) -> T {
    let path = repository("configs").join(file);
    let table = config::read(&path).unwrap();
    toml::from_str(&toml::to_string(&table).unwrap()).unwrap_or_else(|error| panic!("{file} is not complete: {error}"))
}

#[test]
fn run_settings_defaults_equal_demo_toml_and_pi1_toml() {
    for (file, expected) in [("demo.toml", RunSettings::demonstration()), ("pi1.toml", RunSettings::published())] {
        let found: RunSettings = complete(file);
        found.validate().unwrap();
        assert_eq!(found, expected, "{file}");
    }
}

/// The configurations for smaller GPUs and larger models fit in the memory of their GPU.
#[test]
fn plan_fits_the_configurations_for_gpus() {
    // Free memory of an RTX 4090 and an H200 after CUDA has started.
    for (file, gib) in [("pi1-24gb.toml", 23.5), ("pi1-7b.toml", 139.0)] {
        let table = config::read(&repository("configs").join(file)).unwrap();
        let fits = |layers: &[toml::Table]| {
            let settings: RunSettings = config::resolve(&RunSettings::published(), layers).unwrap();
            settings.validate().unwrap();
            let shape = known_models::by_name(table["model"].as_str().unwrap()).unwrap().read().unwrap();
            let work = RunWorkload { prompts: vec![200], vocabulary: shape.vocabulary, exact: true, ..RunWorkload::default() };
            let free = Some((gib * f64::from(1 << 30)) as u64);
            let target = settings.compute.on(Some(0)).unwrap().target(free);
            Plan::of(&shape, &settings, &work, target).unwrap().check(free, None).is_ok()
        };
        assert!(fits(std::slice::from_ref(&table)), "{file}");
        let model = toml::Table::from_iter([("model".to_owned(), table["model"].clone())]);
        assert!(!fits(&[model]), "{file} would fit without its settings");
    }
}

#[test]
fn pretrain_settings_default_equals_pretrain_toml() {
    assert_eq!(complete::<PretrainSettings>("pretrain.toml"), PretrainSettings::default());
}

/// Runs the scripts with launchers that plan the runs for their number of processes instead.
#[cfg(unix)]
#[test]
fn cluster_scripts_have_valid_arguments() {
    use std::os::unix::fs::PermissionsExt;

    let Some(data) = shared("data") else { return };
    let launchers = tempfile::tempdir().unwrap();
    let script = format!(
        r#"#!/bin/sh
while [ "$1" != rlvr ]; do shift; done
command=$2
shift 2
case $command in
    train) exec {0} plan "$@" --processes 16 --gpu h200 --data-dir {1} ;;
    study) exec {0} study "$@" --dry-run ;;
esac
exit 9
"#,
        env!("CARGO_BIN_EXE_rlvr"),
        data.display()
    );
    for launcher in ["srun", "torchrun"] {
        let path = launchers.path().join(launcher);
        std::fs::write(&path, &script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", launchers.path().display(), std::env::var("PATH").unwrap());
    for file in ["slurm.sh", "slurm-study.sh", "torchrun.sh"] {
        let mut command = std::process::Command::new("bash");
        command.arg(repository("examples/cluster").join(file)).args(["node0", "2", "8"]);
        let output = command.current_dir(repository("")).env("PATH", &path).output().unwrap();
        assert!(output.status.success(), "{file}: {}", stderr(&output));
    }
}

#[test]
fn the_kubernetes_job_has_valid_arguments() {
    let Some(data) = shared("data") else { return };
    let text = std::fs::read_to_string(repository("examples/cluster/kubernetes.yaml")).unwrap();
    let (_, arguments) = text.split_once("args:\n").unwrap();
    let (arguments, _) = arguments.split_once("          env:").unwrap();
    let words: Vec<&str> = arguments.lines().filter_map(|line| line.trim().strip_prefix("- ")).collect();
    assert_eq!(words[0], "train");
    let planned = ["--processes", "8", "--gpu", "h200", "--data-dir", data.to_str().unwrap()];
    let output = rlvr(&[&["plan"], &words[1..], &planned].concat());
    assert!(output.status.success(), "{}", stderr(&output));
}
