//! Reinforcement learning with verifiable rewards from one training example, as one program that needs no Python.
//!
//! Start here: this page shows how data flows through a training step, what each module owns, and which rules hold everywhere in the code.
//! `docs/glossary.md` defines the terms.
//!
//! # The pipeline
//!
//! ```text
//! problem -> prompt -> group of rollouts -> rewards -> advantages -> per-token objective -> gradients -> update -> record
//! ```
//!
//! [`train::run`] performs these steps in this order. The data passed from step to step are plain structs from [`flow`], without tensors or
//! I/O. Tensors appear where sequences are packed into a batch ([`model::Packed`]) and end where the optimizer applies the gradients
//! ([`optim::AdamW`]). The command line and library code start a run in the same way, with [`train::prepare()`]; `examples/one_example.rs`
//! is a complete training on one page.
//!
//! # Modules
//!
//! A module may import modules from the rows below its own, and never from those above. The files inside a module do not import each other
//! in a cycle. There are two exceptions: a file and the files in the folder of the same name may import each other, and so may the files of
//! `verify` that call each other because expressions are nested. `tests/layers` enforces the rule and lists the exceptions.
//!
//! | layer | module | owns |
//! |---|---|---|
//! | commands | [`cli`] | one file per command: parses arguments, calls the library once, prints the result |
//! | | [`report`] | pages, lists and responses from the records of runs and studies |
//! | | [`mod@bench`] | the speed of rollouts, updates and steps, with the time of each operation, compared with the machine's limits |
//! | | [`study`] | grids of runs: their arms, the order and progress of runs, the table next to the published rows |
//! | | [`train`] | preparing, running and resuming a training run, with its settings, folder and messages; replay, the critic, the plan |
//! | | [`plot`] | SVG pictures of numbers: the learning curve of a run, and charts of lines, bars and areas for pages |
//! | | [`eval`] | answering and grading benchmarks, scores, statistics; the figures published in the paper |
//! | | [`source`] | loading a model onto a device by its name: embedded, a folder, or from the hub |
//! | | [`tiny`] | the embedded model: corpus, tokenizer, pre-training, files |
//! | run records | [`checkpoint`] | models with their tokenizer, written atomically, and the state that a run resumes from |
//! | | [`metrics`] | a run's numbers: their names, JSON Lines (authoritative), trackers (TensorBoard, MLflow), the console, times by phase |
//! | policy | [`rollout`] | sampling: the scheduler (pure decisions), the cache blocks, the engine |
//! | | [`optim`] | AdamW over named tensors, with moments in f32 or 8 bits, divided among processes; gradient clipping, learning-rate schedules |
//! | | [`model`] | one decoder for all model families, its backward pass, the log-probability head, import and export of weights |
//! | | [`reward`] | rewards by name and their weighted sums, reward programs, intentionally wrong labels |
//! | | [`objective`] | advantages, token weights, per-token losses: pure functions on slices |
//! | building blocks | [`kernels`] | the tensor operations with their gradients: every loop over elements, and the `unsafe` code that it needs |
//! | | [`verify`] | decides whether an answer equals the gold answer: a pure function that returns a verdict for any input |
//! | | [`text`] | tokenizers and chat templates |
//! | | [`data`] | examples, benchmarks, the embedded model's problems, pinned downloads, the hub |
//! | foundation | [`config`] | reading settings from layers of tables |
//! | | [`flow`] | the plain structs that the pipeline's steps exchange |
//! | | [`dist`] | the processes of one run: who they are, how bytes travel between them (`unsafe` calls of C libraries), and how they agree |
//! | | [`rng`] | random numbers that are pure functions of a seed and an address |
//! | | [`workers`] | threads that compute independent sequences and micro-batches |
//! | | [`input`] | reading users' files safely: size limits, encodings, panics in libraries |
//! | | [`interrupt`], [`mod@output`], [`mod@usage`], [`version`] | stop requests; messages for people; usage errors; what this build is |
//!
//! # Invariants
//!
//! - **One set of weights** serves sampling and training. On the CPU the trainer computes exactly the log-probability that the sampler
//!   recorded for each token (`rollout/logprob_gap_max` is 0). For this, the bits of a row of a result must not depend on the other rows of
//!   the batch: weights are stored `[in, out]`, products are padded to at least 8 rows, and attention sums over blocks of absolute
//!   positions.
//! - **A truncated sampler records its sampling mask** ([`flow::SamplingMask`]). With `rollout.truncated = "renormalise"`, sampler and
//!   trainer both use the distribution over the tokens in the mask, so their log-probabilities are equal here too. By default, training
//!   refuses top-k, top-p and min-p.
//! - **Random numbers are addressed** ([`rng`]): a sampled token is a function of (seed, purpose, step, prompt, sample, position). Batch
//!   size, scheduling, preemption and restarts do not change any token, and a resumed run is bit-identical to an uninterrupted one.
//! - **LoRA adapters are merged** into the base weights before anything is computed ([`model::lora`]), so sampling and training use one set
//!   of weights here too. The gradients of an adapter are projections of the gradient of the weight matrix that it adapts. The base weights
//!   serve as the KL reference.
//! - **The forward pass of a distinct prompt is computed once** per worker in rollouts (shared cache blocks) and once per micro-batch in
//!   training (a shared prefix that sums the gradients of its responses).
//! - **No tensor has the shape `[tokens, vocabulary]`**: the log-probability head computes loss and gradient chunk by chunk, in one pass
//!   ([`model::head`]).
//! - **Backward passes are written out**, block by block, without autograd. candle's tensors only hold data. Finite differences and
//!   candle-transformers check the results independently.
//! - **The trait [`kernels::Kernels`] is the only list of tensor operations.** It has three implementations: plain loops on the CPU
//!   ([`kernels::cpu`]), candle's stock operations on any device ([`kernels::stock`]), and our fused kernels for NVIDIA GPUs
//!   ([`kernels::fused`], with their code in `src/kernels/cuda`), which have not run on a GPU yet. [`kernels::compute`] selects one. On
//!   machines without a GPU, tests compile the fused kernels with the system's C++ compiler and run them in an emulator, thread by thread
//!   (`src/kernels/cuda/emulator.h`). The same tests compare each operation of each implementation with f64, and the whole decoder with the
//!   CPU.
//! - **The name of an operation says whether it writes to an argument** (`_into` adds to it, `_in_place` changes it), because candle's
//!   tensors are handles, and `&Tensor` does not show the write.
//! - **Sampling does not wait for the device**: the next forward pass starts with the sampled tokens before the host has read them
//!   ([`rollout::engine`]).
//! - **Processes do not change bits**: with `train.shards`, a mini-batch is divided into shards, whose gradients are summed by a fixed binary
//!   tree; ranks and workers compute subtrees ([`train::shards::Shards`]). Whole tensors have owners, which hold the optimizer's states and
//!   send the updated weights to the other ranks ([`optim::Owners`]). Ranks deal rollouts, rewards and evaluations among themselves and share
//!   the results, so the host code after them runs on every rank unchanged; rank 0 alone writes files.
//! - **Memory is planned**: [`train::plan`] adds up the sizes returned by functions next to the code that allocates. If a device still runs
//!   out of memory ([`kernels::OutOfMemory`]), rollouts and updates retry with smaller batches.
//!
//! # Unusual decisions
//!
//! - Each setting is declared once, next to the code that uses it. [`train::settings`] combines them; [`config`] only merges and checks
//!   tables, and finds unknown settings by comparing with the table of all defaults. One table ([`train::settings::table`]) holds each
//!   setting's range, meaning and the reason for its default. It checks values, and error messages and `docs/settings.md` are generated from
//!   it.
//! - Operations are methods of a trait, not candle `CustomOp`s: those take at most three inputs, and bring an autograd that explicit
//!   backward passes do not need. No code dispatches on a tensor's device: a decoder owns its kernels.
//! - Small models use several [`workers`] with one thread per matrix product: a product of 64 x 48 x 144 is slower with two threads.
//! - Weight files are read tensor by tensor, not memory-mapped. This needs no `unsafe`, and the file's pages do not stay in memory.
//!
//! # Extending
//!
//! - **Reward**: an entry in [`reward::REWARDS`], and a file next to it if it needs one.
//! - **Algorithm**: an entry in [`train::settings::algorithm::ALGORITHMS`].
//! - **Benchmark**: an entry in [`data::benchmark::BENCHMARKS`].
//! - **Subject of the embedded model**: an entry in [`data::tiny::SUBJECTS`].
//! - **Setting**: a row in [`train::settings::table`] with its range, unit, meaning and the reason for its default (`optim.*`: in
//!   [`optim::ROWS`]); tests list missing rows and reasons.
//! - **Loss term**: computed in [`objective::loss`], with a setting for its coefficient.
//! - **Operation**: a method of [`kernels::Kernels`], a plain implementation in [`kernels::cpu`], and one test for all implementations.
//! - **Model family**: a row in [`model::config::FAMILIES`]. A new parameter needs a row in the table of [`model::parameters`], a field of
//!   [`model::weights::BlockWeights`], and its use in [`model::block`]. Loading, export, random weights, optimizer states, adapters and the
//!   plan read the table.
//!
//! Help texts and the errors for unknown names are generated from these tables.
//!
//! Unit tests are at the end of the file under test, or in `x/tests.rs` next to `x.rs` if they are long. Integration tests are modules of
//! `tests/it`, one binary with one `fixture`. `src/testing.rs` finds what some tests need from outside the repository, such as a C++
//! compiler.

#![cfg_attr(not(test), deny(clippy::print_stderr, clippy::print_stdout))]

#[macro_use]
pub mod output;

pub mod bench;
pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod data;
pub mod dist;
pub mod eval;
pub mod flow;
pub mod input;
pub mod interrupt;
pub mod kernels;
pub mod metrics;
pub mod model;
pub mod objective;
pub mod optim;
pub mod plot;
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
pub mod version;
pub mod workers;

#[cfg(test)]
pub(crate) mod testing;
