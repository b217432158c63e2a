//! Records and displays a run's numbers: their names, JSON Lines (the authoritative record), trackers such as TensorBoard and MLflow, the
//! console display, and times by phase. Only writes numbers that callers pass in. Independent of models and schedules, and does not affect
//! a run.

pub mod catalog;
pub mod console;
pub mod jsonl;
pub mod phases;
mod renamed;
pub mod table;
pub mod tensorboard;
pub mod time_left;
pub mod tracking;

pub use console::{Console, StepLine};
pub use jsonl::JsonLines;
pub use phases::{Phase, PhaseTimes, Stopwatch};
pub use renamed::{RENAMED, with_current_names};
pub use table::{beside, percent, table, table_within};
pub use tensorboard::EventFile;
pub use time_left::{Schedule, TimeLeft};
pub use tracking::{Tracking, TrackingSettings};
