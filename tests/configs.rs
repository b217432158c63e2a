//! The configurations that ship are complete, valid, and what the program does by default.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use std::path::Path;

use rlvr::config;
use rlvr::tiny::pretrain::PretrainSettings;
use rlvr::train::RunSettings;

/// The settings of a file that leaves nothing out.
fn complete<T: serde::de::DeserializeOwned>(file: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs").join(file);
    let table = config::read(&path).unwrap();
    toml::from_str(&toml::to_string(&table).unwrap()).unwrap_or_else(|error| panic!("{file} is not complete: {error}"))
}

#[test]
fn the_demonstration_and_the_published_run_are_the_defaults() {
    for (file, expected) in [("demo.toml", RunSettings::demonstration()), ("pi1.toml", RunSettings::published())] {
        let found: RunSettings = complete(file);
        found.validate().unwrap();
        assert_eq!(found, expected, "{file}");
    }
}

#[test]
fn the_shipped_base_is_the_default_pre_training() {
    assert_eq!(complete::<PretrainSettings>("pretrain.toml"), PretrainSettings::default());
}
