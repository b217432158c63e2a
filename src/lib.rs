//! Reinforcement learning with verifiable rewards from one training example, in one program without Python.
//!
//! Start here: this page shows how a training step flows through the modules, what each module owns, and which invariants hold everywhere.
//! `docs/glossary.md` defines the terms.
//!
//! # The pipeline
//!
//! ```text
//! problem -> prompt -> group of rollouts -> rewards -> advantages -> per-token objective -> gradients -> update -> record
//! ```
//!
//! [`train::run`] reads like this line. The data on each arrow is a plain record from [`flow`]: no tensors, no I/O. Tensors appear where a batch
//! is packed ([`model::Packed`]) and disappear where gradients reach the optimizer ([`optim::AdamW`]). Every run starts with
//! [`train::prepare()`], from the command line and from library code alike: `examples/one_example.rs` is a complete training on one page.
//!
//! # Modules
//!
//! Imports go down this list, never up. Files of one module do not import each other in a cycle, with two exceptions: a file and the files in
//! its folder count as one subject, and the recursive parts of `verify` call each other. `tests/layers` enforces this and lists those parts.
//!
//! | layer | module | owns |
//! |---|---|---|
//! | program | [`cli`] | one file per command: parse arguments, call the library once, print |
//! | | [`mod@bench`] | speed of rollouts, updates and steps, compared with the machine's limits, with the time of each operation |
//! | | [`study`] | grids of runs: the differences between arms, the progress and order of runs, the table next to the published rows |
//! | | [`train`] | preparing a run, the training loop and replay, the critic, settings, the plan of memory and time, the run folder, its messages |
//! | | [`report`] | plots and the published figures |
//! | | [`eval`] | answering and grading benchmark sets, scores, statistics |
//! | | [`source`] | loading a model by name (embedded, folder or hub) onto a device |
//! | | [`tiny`] | the embedded model: corpus, tokenizer, pre-training, files |
//! | records | [`checkpoint`] | models with their tokenizer, written atomically, and the state that a run resumes from |
//! | | [`metrics`] | JSON lines (the authoritative record), TensorBoard events, the console, times by phase |
//! | policy | [`rollout`] | scheduler (pure decisions), cache blocks, engine |
//! | | [`optim`] | AdamW over named tensors, with moments in f32 or 8 bits; gradient clipping, schedules |
//! | | [`model`] | one decoder for all families, its backward pass, the log-probability head, import and export of Hugging Face weights |
//! | | [`reward`] | rewards by name and their weighted sums, reward programs, labels that are wrong on purpose |
//! | | [`objective`] | advantages, token weights, per-token losses: pure functions on slices |
//! | base | [`kernels`] | one list of operations with their gradients, every loop over elements and all `unsafe`: plain, stock, fused |
//! | | [`verify`] | does an answer equal the gold answer? pure and total |
//! | | [`text`] | tokenizer and chat template |
//! | | [`data`] | examples, benchmarks, the embedded model's problems, pinned downloads, the hub |
//! | ground | [`config`], [`flow`], [`rng`], [`workers`] | layered settings, records, addressed randomness, workers |
//! | | [`input`] | files from users: size limits, encodings, and catching panics of libraries |
//! | | [`interrupt`], [`mod@output`], [`mod@usage`] | requests to stop; messages for people; usage errors |
//!
//! # Invariants
//!
//! - **One set of weights** serves sampling and training. On the CPU the trainer computes exactly the log-probability that the sampler recorded
//!   for each token (`rollout/logprob_gap_max` is 0). This requires arithmetic in which the bits of a row do not depend on its neighbors:
//!   weights stored `[in, out]`, products of at least 8 rows, attention that sums over blocks of absolute positions.
//! - **A truncated sampler records its sampling mask** ([`flow::SamplingMask`]). Under `rollout.truncated = "renormalise"` sampler and trainer both use
//!   the distribution over the kept tokens, so the first invariant holds for it. Without this setting, training refuses top-k, top-p and min-p.
//! - **Randomness is addressed** ([`rng`]): a sampled token is a function of (seed, purpose, step, prompt, sample, position). Batch size,
//!   scheduling, preemption and restarts change no token; a resumed run is bit-identical to an uninterrupted one.
//! - **Adapters are merged**: a LoRA run ([`model::lora`]) computes with the sum of base weights and adapters, so the invariants above hold.
//!   Adapter gradients are projections of each block's gradients, and the base weights serve as the KL reference.
//! - **Each distinct prompt is computed once**, in rollouts (shared cache blocks) and in training (a shared prefix that sums the gradients of
//!   its responses).
//! - **Nothing allocates `[tokens, vocabulary]`**: the head works in chunks and computes loss and gradient in one pass ([`model::head`]).
//! - **Backward passes are explicit**, block by block. candle's tensors only hold data; finite differences and candle-transformers check the
//!   results independently.
//! - **There is one list of operations** ([`kernels::Kernels`]) with a version for each kind of machine: plain loops on the CPU
//!   ([`kernels::cpu`]), candle's stock operations on any device ([`kernels::stock`]), and our kernels for NVIDIA GPUs, not yet validated on
//!   any GPU: [`kernels::fused`] launches them, and `src/kernels/cuda` has their code. [`kernels::compute`] chooses the version. Without a
//!   GPU, tests run the kernels and their host code thread by thread in an emulator (`src/kernels/cuda/emulator.h`, compiled by the system's
//!   C++ compiler). The same tests compare each operation of every version with f64, and the whole decoder with the CPU.
//! - **Operations that write to an argument say so in their name** (`_into` adds to it, `_in_place` changes it), because candle's tensors are
//!   handles and `&Tensor` hides the write.
//! - **Sampling does not wait for the device**: sampled tokens enter the next forward pass before the host has read them
//!   ([`rollout::engine`]).
//! - **Memory is planned, and exhaustion is survived**: [`train::plan`] adds up the same functions that allocate. If a device still runs out of
//!   memory ([`kernels::OutOfMemory`]), rollouts and updates continue with smaller batches.
//!
//! # Deliberate departures
//!
//! - Settings are declared next to the code that they control and combined in [`train::settings`]; [`config`] only layers and checks tables. So
//!   each flag is defined in one place, and the complete defaults are the list of known keys. One table ([`train::settings::table`]) holds the
//!   range of each setting; it checks values, words the errors and generates `docs/settings.md`.
//! - Operations are methods of a trait over tensors, not candle `CustomOp`s, which take at most three inputs and bring an autograd that explicit
//!   backward passes do not use. Nothing dispatches on a tensor's device: a decoder owns its kernels.
//! - Small models compute on [`workers`], one thread per product: a product of 64 x 48 x 144 is slower with two threads.
//! - Files are read tensor by tensor, not memory-mapped: this needs no `unsafe`, and no page stays resident.
//!
//! # Extending
//!
//! - **Reward**: an entry in [`reward::REWARDS`] (and a file next to it if it needs one).
//! - **Algorithm**: an entry in [`train::settings::algorithm::ALGORITHMS`].
//! - **Benchmark**: an entry in [`data::benchmark::BENCHMARKS`].
//! - **Subject of the embedded model**: an entry in [`data::tiny::SUBJECTS`].
//! - **Setting**: a row in [`train::settings::table`] with its range and a description (`optim.*` in [`optim::ROWS`]); a test names missing rows.
//! - **Term of the loss**: computed in [`objective::loss`], switched on by a setting.
//! - **Operation**: a method of [`kernels::Kernels`] with a plain version in [`kernels::cpu`], and one test for all versions.
//! - **Model family**: a row in [`model::config::FAMILIES`]. A new parameter needs a row in the table of [`model::parameters`], a field of
//!   [`model::weights::BlockWeights`], and its use in [`model::block`]; loading, export, random weights, optimizer states, adapters and the plan
//!   read the table.
//!
//! Help texts and the errors for unknown names are generated from these tables.
//!
//! Unit tests are at the end of the file under test, or in `x/tests.rs` next to `x.rs` if they are long. Integration tests are modules of
//! `tests/it`, one binary with one `fixture`. `src/testing.rs` provides what a test needs beyond this repository.

#![cfg_attr(not(test), deny(clippy::print_stderr, clippy::print_stdout))]

#[macro_use]
pub mod output;

pub mod bench;
pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod data;
pub mod eval;
pub mod flow;
pub mod input;
pub mod interrupt;
pub mod kernels;
pub mod metrics;
pub mod model;
pub mod objective;
pub mod optim;
pub mod report;
pub mod reward;
pub mod rng;
pub mod rollout;
pub mod source;
pub mod study;
pub mod text;
pub mod tiny;
pub mod train;
pub mod usage;
pub mod verify;
pub mod workers;

#[cfg(test)]
pub(crate) mod testing;
