//! The training loop: problem -> prompt -> group of rollouts -> rewards -> advantages -> per-token objective -> gradients -> update ->
//! record.
//!
//! `run` implements that line, and the other modules each do one arrow. `rollouts` samples and grades (`replay` supplies recorded responses
//! instead). `critic` estimates the value of each token if advantages need it. `update` scores sequences, computes the gradient and applies
//! it. `measures` names the metrics of a step, `history` collects the results of the run, and `selection` reports how each example fared.
//! `folder` knows the paths of all records, `resumption` chooses the checkpoint to resume from, and `invocation` records how the run was
//! started. `prepare` turns settings and names into a [`Run`].
//!
//! `settings` declares every setting, including `algorithm`, which names presets. `schedules` computes the scheduled settings of each step,
//! `reference` owns the model that the KL term compares with, and `dynamic_sampling` replaces groups that carry no signal. `watch` warns when a run
//! diverges or cannot learn, and `prompt_format` detects the answer format that a prompt asks for. `plan` estimates memory, disk and time
//! before a run, and `run_summary` prints the results after it.

pub mod critic;
pub mod dynamic_sampling;
mod folder;
pub mod history;
pub mod invocation;
pub mod measures;
pub mod monitor;
pub mod plan;
pub mod prepare;
pub mod prompt_format;
pub mod reference;
pub mod replay;
pub mod resumption;
pub mod rollouts;
pub mod run;
pub mod run_summary;
pub mod schedules;
pub mod selection;
pub mod settings;
pub mod update;

pub use folder::RunFolder;
pub use invocation::Invocation;
pub use prepare::{PrepareFor, Prepared, RunRequest, Start, prepare};
pub use replay::Replay;
pub use resumption::ResumePoint;
pub use run::{Outcome, Run, RunInputs};
pub use settings::{PromptSettings, RunSettings, Truncation, algorithm};
