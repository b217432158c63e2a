//! The program and the library from outside. All integration tests are one binary, so that they are linked once: a subject is a module, and what
//! the modules share stands in `fixture`. They run as threads of one process: a test changes no environment variable, no working folder and no
//! signal handler of its own process; it starts the program with them.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

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
