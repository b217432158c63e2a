//! The critic's settings.

use serde::{Deserialize, Serialize};

/// How the critic learns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CriticSettings {
    /// Learning rate; 0 is no critic.
    pub lr: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// How far a value may move from the one before the update until its loss is clipped.
    pub clip: f32,
    /// Steps in which only the critic learns.
    pub warmup_steps: u64,
}

impl Default for CriticSettings {
    /// The published configuration's, without a critic.
    fn default() -> Self {
        Self { lr: 0.0, weight_decay: 0.01, clip: 0.5, warmup_steps: 0 }
    }
}
