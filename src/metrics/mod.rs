//! What a run records and shows: JSON lines (the truth), TensorBoard events, and the console. This room writes numbers that it is given; it
//! knows no model and no schedule, and nothing it does changes a run.

pub mod console;
pub mod jsonl;
pub mod tensorboard;

pub use console::{Console, StepLine, table};
pub use jsonl::JsonLines;
pub use tensorboard::EventFile;
