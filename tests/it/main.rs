//! Integration tests of the program and the library. All are modules of one binary, which is linked only once; their shared code is in
//! `fixture`. Tests run as threads of one process, so a test must not change the environment, working directory or signal handlers of this
//! process. It sets them for the programs that it starts.
#![allow(clippy::unwrap_used)] // an unexpected `None` or `Err` fails the test

#[path = "../../src/testing.rs"]
mod testing;

mod algorithms;
mod bad_checkpoints;
mod bad_input;
mod bad_tokenizers;
mod bench;
mod benchmarks;
mod checkpoints;
mod configs;
mod console;
mod data;
mod decoder;
mod documentation;
mod durability;
mod endpoint;
mod evaluation;
mod extending;
mod failures;
mod fixture;
mod golden;
mod golden_critic;
#[cfg(feature = "hub")]
mod hub;
mod memory;
mod metrics;
mod pi1_prompt;
mod plan;
mod ppo;
mod processes;
mod renamed;
mod replay;
mod report;
mod report_compare;
mod report_responses;
mod report_watch;
mod retention;
mod rewards;
mod runs;
mod sample;
mod settings;
mod show;
mod signals;
mod studies;
mod study_ranks;
mod tracking;
mod training;
mod truncation;
mod verify;
mod verify_fuzz;
mod verify_properties;
mod verify_shared;
