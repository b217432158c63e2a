//! Records and displays a run's numbers: JSON Lines (the authoritative record), TensorBoard events, the console display, and times by
//! phase. Only writes numbers that callers pass in. Independent of models and schedules, and does not affect a run.

pub mod console;
pub mod jsonl;
pub mod phases;
pub mod table;
pub mod tensorboard;
pub mod time_left;

pub use console::{Console, StepLine};
pub use jsonl::JsonLines;
pub use phases::{Phase, PhaseTimes, Stopwatch};
pub use table::{beside, percent, table, table_within};
pub use tensorboard::EventFile;
pub use time_left::{Schedule, TimeLeft};
