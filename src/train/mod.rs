//! The loop: problem -> prompt -> group of rollouts -> rewards -> advantages -> per-token objective -> gradients -> update -> record.
//!
//! `run` reads as that line. The parts beside it each do one arrow: `rollouts` samples and grades (`replay` takes recorded responses instead),
//! `critic` estimates what each token was worth where advantages need that, `update` scores sequences and computes and applies the gradient,
//! `measures` names what a step measured, `history` remembers what the run has shown so far, `selection` how each example fared, `folder` knows
//! where records lie, `resumption` says from which checkpoint a run can go on, `launch` how it was started.
//! `prepare` is the way into a run: from what is asked, in settings and names, to a [`Run`].
//!
//! `settings` are all that a run can be told, among them `algorithm`, which names sets of them. `course` says what they are at each step,
//! `reference` is what a KL term holds to, `resample` draws groups again that taught nothing. `watch` warns of a run that goes wrong or cannot learn,
//! and `prompt_format` tells which format a prompt asks its answer in. `plan` says before a run what it needs, and `story` after it what it showed.

pub mod course;
pub mod critic;
mod folder;
pub mod history;
pub mod launch;
pub mod measures;
pub mod plan;
pub mod prepare;
pub mod prompt_format;
pub mod reference;
pub mod replay;
pub mod resample;
pub mod resumption;
pub mod rollouts;
pub mod run;
pub mod selection;
pub mod settings;
pub mod story;
pub mod update;
pub mod watch;

pub use folder::RunFolder;
pub use launch::Launch;
pub use prepare::{Need, Prepared, Request, Start, prepare};
pub use replay::Replay;
pub use resumption::Resumption;
pub use run::{Outcome, Run, RunInputs};
pub use settings::{PromptSettings, RunSettings, Truncation, algorithm};
