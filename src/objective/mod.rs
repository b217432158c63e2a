//! The mathematics of policy optimisation as pure functions on slices: advantages, token weights, per-token losses with their derivatives.
//! Knows no tensor, no model and no file.

pub mod advantage;
pub mod aggregation;
pub mod gae;
pub mod loss;

pub use advantage::{AdvantageSettings, Baseline, Scale, group_advantages};
pub use aggregation::Aggregation;
pub use gae::Estimate;
pub use loss::{LossSettings, Terms, TokenLoss, Tokens};
