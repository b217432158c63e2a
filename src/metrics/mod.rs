//! What a run records and shows: JSON lines (the truth), TensorBoard events, the console, and where the time went. This room writes numbers that
//! it is given; it knows no model and no schedule, and nothing it does changes a run.

pub mod console;
pub mod jsonl;
pub mod phases;
mod table;
pub mod tensorboard;

pub use console::{Console, StepLine};
pub use jsonl::JsonLines;
pub use phases::{Phase, PhaseTimes, Stopwatch};
pub use table::table;
pub use tensorboard::EventFile;
