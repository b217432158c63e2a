//! Reinforcement learning with verifiable rewards from one training example, in one program without Python.
//!
//! # The line that the program is
//!
//! ```text
//! problem -> prompt -> group of rollouts -> rewards -> advantages -> per-token objective -> gradients -> update -> record
//! ```
//!
//! [`train::run`] reads as that line. Every arrow is a plain record of [`flow`]: no tensors, no I/O. Tensors begin where a batch is packed
//! ([`model::Packed`]) and end where gradients meet the optimizer ([`optim::AdamW`]). The way into a run is [`train::prepare()`], for the program
//! and for whoever trains from the library: `examples/one_example.rs` is a whole training on one page.
//!
//! # Rooms
//!
//! Imports go down this list, never up. Within a room no files import each other in a circle. Two exceptions: a file and those in its own folder
//! are one subject, and the recursive parts of `verify` call each other. `tests/layers` holds this, and lists those parts.
//!
//! | layer | room | owns |
//! |---|---|---|
//! | program | [`cli`] | one file a command: arguments in, one library call, output out |
//! | | [`mod@bench`] | rollouts, updates and steps measured beside the machine's ceilings, with their time by operation |
//! | | [`study`] | grids of runs: what changes between them, where each stands, their order, their table beside the published rows |
//! | | [`train`] | the way into a run, the loop or its replay, the critic, settings, the plan of memory and time, the run's folder, and its story |
//! | | [`report`] | pictures, the published figures |
//! | | [`eval`] | sets answered and graded, scores, statistics |
//! | | [`source`] | a model by its name: the embedded base, a folder, the hub; and what computes it here |
//! | | [`tiny`] | the embedded base: its corpus, its tokenizer, its pre-training, its files |
//! | records | [`checkpoint`] | a model with its text, atomically written, and the state that a run resumes from |
//! | | [`metrics`] | JSON lines (the truth), TensorBoard events, the console, times by phase |
//! | policy | [`rollout`] | scheduler (pure decisions), pages, engine |
//! | | [`optim`] | AdamW over named tensors, its states in f32 or in 8 bits; clipping, schedules |
//! | | [`model`] | one decoder for all families, its backward pass, the log-probability head, Hugging Face weights in and out |
//! | | [`reward`] | rewards by name and their sums, the program that may give them, labels that are wrong on purpose |
//! | | [`objective`] | advantages, token weights, per-token losses: pure functions on slices |
//! | base | [`kernels`] | one list of operations with their gradients, every loop over elements and all `unsafe`: plain, stock, fused |
//! | | [`verify`] | is this answer the reference answer? pure and total |
//! | | [`text`] | tokenizer and chat template |
//! | | [`data`] | examples, benchmarks, the embedded model's problems, pinned downloads, the hub |
//! | ground | [`config`], [`flow`], [`draw`], [`lanes`] | settings in layers, records, randomness by address, workers side by side |
//! | | [`input`] | files that people give: size limits, encodings, and the shield around libraries that panic |
//! | | [`interrupt`], [`mod@output`], [`mod@usage`] | requests to stop; lines for people; requests that are wrong |
//!
//! # What always holds
//!
//! - **One set of weights** serves sampling and training; on the CPU the trainer gives each sampled token the very log-probability that the
//!   sampler recorded (`rollout/logprob_gap_max` is 0). That needs arithmetic in which a row's bits do not depend on its neighbours:
//!   weights stored `[in, out]`, products of at least 8 rows, attention that sums in blocks of absolute positions.
//! - **A truncated sampler records what it kept** ([`flow::Kept`]): under `rollout.truncated = "renormalise"` sampler and trainer use the
//!   distribution among those tokens, and the line above holds for it; without that setting training refuses top-k, top-p and min-p.
//! - **Randomness is addressed** ([`draw`]): a token's draw is a function of (seed, purpose, step, prompt, sample, position). Batch size,
//!   scheduling, preemption and restart change no token; a resumed run ends in the same bits.
//! - **Adapters are merged**: a run of LoRA ([`model::lora`]) computes with base and adapters written together, so that the lines above hold;
//!   its gradients are projections of each block's, and the base serves as reference.
//! - **A prompt is computed once** per distinct prompt, in rollouts (shared cache blocks) and in training (a shared prefix whose gradients sum).
//! - **Nothing holds `[tokens, vocabulary]`**: the head sweeps over chunks, loss and gradient in one pass ([`model::head`]).
//! - **Gradients are written out**, block by block; candle's tensors hold the data, and finite differences and candle-transformers are the
//!   second opinion.
//! - **One list of operations** ([`kernels::Kernels`]), and a version for each kind of machine: plain loops on the CPU ([`kernels::cpu`]), candle's
//!   stock operations anywhere ([`kernels::stock`]), and our kernels for NVIDIA GPUs, which no GPU has confirmed yet: [`kernels::fused`] launches
//!   them, and `src/kernels/cuda` has their code. [`kernels::compute`] chooses a version. Without a GPU the tests run the kernels thread by thread
//!   in an emulator (`src/kernels/cuda/emulator.h`, compiled by the system's C++ compiler), host code included. One test body holds every version
//!   to f64, operation by operation, and to the CPU for the whole decoder.
//! - **Operations that write to an argument are named so** (`_into` adds to it, `_in_place` changes it): candle's tensors are handles, and `&Tensor`
//!   does not say it.
//! - **A device is not waited for** while it samples: its tokens go into the next pass before the host has read them ([`rollout::engine`]).
//! - **Memory is counted before and survived after**: [`train::plan`] adds up the very functions that allocate; where a device's memory is used up
//!   all the same ([`kernels::OutOfMemory`]), rollouts and updates go on with less at once.
//!
//! # Where this departs from the obvious, and why
//!
//! - Settings are declared beside the code that they steer and composed in [`train::settings`]; [`config`] only layers and checks tables. One
//!   flag then lives in one place, and the complete defaults are the list of known keys. What each may be is one row of one table
//!   ([`train::settings::table`]), which checks it, words the error and makes `docs/settings.md`.
//! - Operations are methods of a trait over tensors instead of candle's `CustomOp` traits: those take three inputs at most and bring an autograd
//!   that explicit backward passes do not use. Nothing dispatches on a tensor's device: a decoder holds its kernels.
//! - Small models compute in [`lanes`], one thread per product: a product of 64 x 48 x 144 loses with two threads.
//! - Files are read tensor by tensor instead of being memory-mapped: no `unsafe`, and no page stays resident.
//!
//! # Adding things
//!
//! A reward is one entry in [`reward::REWARDS`] (and a file beside it where there is more to say), an algorithm one in
//! [`train::settings::algorithm::ALGORITHMS`], a benchmark one in [`data::benchmark::BENCHMARKS`], a subject of the embedded model one in
//! [`data::tiny::SUBJECTS`]. The help texts that list them and the errors for unknown names are made from these tables.
//! A setting needs a row in [`train::settings::table`] with its range and a sentence (`optim.*` in [`optim::ROWS`]); a test names the row that is
//! missing. A term of the loss is computed in [`objective::loss`], behind a setting. An operation is a method of [`kernels::Kernels`] with a plain
//! version in [`kernels::cpu`], and one test body for all versions.
//!
//! A model family is a row in [`model::config::FAMILIES`]. A parameter that it brings is a row in the table of [`model::parameters`], a field of
//! [`model::weights::BlockWeights`], and its use in [`model::block`]; loading, export, random weights, optimizer states, adapters and the plan
//! read the table.
//!
//! Unit tests stand at the end of the file that they test, or in `x/tests.rs` beside `x.rs` when they are long. Integration tests are the modules of
//! `tests/it`, one binary with one `fixture`. A test that needs more than the repository holds gets it from `src/testing.rs`.

#![cfg_attr(not(test), deny(clippy::print_stderr, clippy::print_stdout))]

#[macro_use]
pub mod output;

pub mod bench;
pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod data;
pub mod draw;
pub mod eval;
pub mod flow;
pub mod input;
pub mod interrupt;
pub mod kernels;
pub mod lanes;
pub mod metrics;
pub mod model;
pub mod objective;
pub mod optim;
pub mod report;
pub mod reward;
pub mod rollout;
pub mod source;
pub mod study;
pub mod text;
pub mod tiny;
pub mod train;
pub mod usage;
pub mod verify;

#[cfg(test)]
pub(crate) mod testing;
