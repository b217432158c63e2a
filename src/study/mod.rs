//! Studies: grids of runs. [`mod@file`] parses the study file, `check` checks its arms before any run starts, [`mod@progress`] determines
//! how far each run got, [`runner`] executes the runs in order, [`launch`] starts one run as a process, [`table`] summarizes the results
//! next to the paper's figures, and [`experiment`] finds these figures. [`status`] says how far the study is while its runs go on. Runs are
//! separate processes; this module only reads their records, and is independent of how they compute.

mod check;
pub mod experiment;
pub mod file;
pub mod launch;
pub mod progress;
pub mod runner;
pub mod status;
pub mod table;

pub use file::{Arm, AxisLabels, ROWS, Study};
pub use progress::{Progress, progress};
pub use runner::{Launcher, RunOutcome, StudyRunner};
pub use status::{RunStatus, StudyStatus};
pub use table::{ArmResults, Table};
