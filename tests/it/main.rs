//! The program and the library from outside. All integration tests are in one binary, so that linking happens once: each subject is a
//! module, and `fixture` has what they share. Tests run as threads of one process, so no test changes environment variables, the working
//! folder or signal handlers of its own process; it sets them for the program it starts.
#![allow(clippy::unwrap_used)] // a test that cannot continue has failed

#[path = "../../src/testing.rs"]
mod testing;

mod algorithms;
mod bad_checkpoints;
mod bench;
mod benchmarks;
mod checkpoints;
mod configs;
mod data;
mod decoder;
mod durability;
mod endpoint;
mod evaluation;
mod failures;
mod fixture;
mod golden;
mod golden_critic;
mod hub;
mod memory;
mod pi1_prompt;
mod plan;
mod ppo;
mod replay;
mod rewards;
mod sample;
mod settings;
mod signals;
mod studies;
mod training;
mod truncation;
mod verify;
mod verify_fuzz;
mod verify_properties;
mod verify_shared;
