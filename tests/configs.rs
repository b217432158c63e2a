//! The configurations that ship are complete, valid, and what the program does by default.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use std::path::Path;

use rlvr::config;
use rlvr::train::RunSettings;

fn check(file: &str, expected: &RunSettings) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs").join(file);
    let table = config::read(&path).unwrap();
    let found: RunSettings =
        toml::from_str(&toml::to_string(&table).unwrap()).unwrap_or_else(|error| panic!("{file} is not complete: {error}"));
    found.validate().unwrap();
    assert_eq!(&found, expected, "{file}");
}

#[test]
fn the_demonstration_and_the_published_run_are_the_defaults() {
    check("demo.toml", &RunSettings::demonstration());
    check("pi1.toml", &RunSettings::published());
}
