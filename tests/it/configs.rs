//! Tests that the shipped configurations are valid, and that complete ones equal the program's defaults.

use rlvr::config;
use rlvr::model::known_models;
use rlvr::tiny::pretrain::PretrainSettings;
use rlvr::train::RunSettings;
use rlvr::train::plan::{Plan, RunWorkload};

use crate::fixture::repository;

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
