//! Studies: grids of runs. [`mod@file`] parses the study file, `check` checks its arms before any run starts, [`mod@progress`] finds out how far
//! each run got, [`runner`] runs them in order, [`launch`] starts one run as a process, and [`table`] summarizes the results next to the paper's
//! figures, which [`experiment`] looks up. Runs are separate processes; this room only reads their records and does not depend on how they compute.

mod check;
pub mod experiment;
pub mod file;
pub mod launch;
pub mod progress;
pub mod runner;
pub mod table;

pub use file::{Arm, ROWS, Study};
pub use progress::{Progress, progress};
pub use runner::{Launcher, RunOutcome, StudyRunner};
pub use table::{ArmResults, Table};
