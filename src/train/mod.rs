//! The loop: problem -> prompt -> group of rollouts -> rewards -> advantages -> per-token objective -> gradients -> update -> record.
//!
//! `run` reads as that line. The parts beside it each do one arrow: `rollouts` samples and scores (`replay` takes what was recorded instead),
//! `advantages` says what each token was worth, by a `critic` where there is one, `update` computes and applies the gradient, `history` remembers
//! what the run has shown so far, `selection` how each example fared, `folder` knows where records lie.

pub mod advantages;
pub mod critic;
mod folder;
pub mod history;
pub mod plan;
pub mod replay;
pub mod rollouts;
pub mod run;
pub mod selection;
pub mod settings;
pub mod story;
pub mod update;

pub use folder::RunFolder;
pub use replay::Replay;
pub use run::{Outcome, Run, RunInputs};
pub use settings::{PromptSettings, RunSettings};
