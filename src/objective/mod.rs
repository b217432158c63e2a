//! The mathematics of policy optimization as pure functions on slices: advantages, token weights, and per-token losses with their
//! derivatives. Knows nothing about tensors, models or files.

pub mod advantage;
pub mod aggregation;
pub mod gae;
pub mod kl;
pub mod loss;

pub use advantage::{AdvantageSettings, Baseline, ResponseRewards, Scale, advantages, has_signal};
pub use aggregation::Aggregation;
pub use gae::Estimate;
pub use kl::KlEstimator;
pub use loss::{LossSettings, Ratio, Surrogate, Terms, TokenLoss, Tokens};
