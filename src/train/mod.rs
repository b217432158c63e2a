//! The training loop: problem -> prompt -> group of rollouts -> rewards -> advantages -> per-token objective -> gradients -> update ->
//! record.
//!
//! [`run`] implements this pipeline; each of the other modules owns one part of it:
//!
//! - **Before a run**: [`settings`] declares every setting, including the presets in [`algorithm`]. [`prepare`](mod@prepare) turns settings
//!   and names into a [`Run`], and [`plan`] estimates its memory, disk and time. [`prompt_format`] detects which answer format a prompt
//!   requests.
//! - **During a step**: [`schedules`] computes the step's settings, [`rollouts`] samples and grades responses ([`replay`] reads recorded
//!   ones instead), and [`dynamic_sampling`] replaces groups without signal. [`mod@reference`] owns the model that the KL term compares the
//!   policy with, [`critic`] estimates the value of each token, and [`update`] computes and applies the policy's gradient.
//! - **After a step**: [`measures`] computes its metrics, [`history`] collects the results of the run, and [`monitor`] warns if the run
//!   diverges or cannot learn.
//! - **On disk**: [`RunFolder`] knows the paths of all records, [`invocation`] records how the run was started, and [`resumption`] chooses
//!   the checkpoint to resume from.
//! - **After a run**: `ending` prints the results, which [`run_summary`] describes, and [`selection`] reads the accuracy of each example at each step.

pub mod critic;
pub mod dynamic_sampling;
mod ending;
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
pub mod retention;
pub mod rollouts;
pub mod run;
pub mod run_summary;
pub mod schedules;
pub mod selection;
pub mod settings;
pub mod shards;
pub mod update;

pub use folder::RunFolder;
pub use invocation::Invocation;
pub use prepare::{PrepareFor, Prepared, RunRequest, Start, prepare};
pub use replay::Replay;
pub use resumption::ResumePoint;
pub use run::{Outcome, Run, RunInputs};
pub use settings::{PromptSettings, RunSettings, Truncation, algorithm};
