//! Studies: grids of runs. [`mod@file`] parses the study file, `check` checks its arms before any run starts, `planned` lists the runs, and
//! [`mod@progress`] determines how far each one got. [`runner`] executes the runs in order, over all ranks: `queue` deals them, `slots` holds
//! those in progress on one rank, [`devices`] chooses their GPUs, and [`launch`] starts one as a process. [`status`] says how far the study
//! is meanwhile. [`table`] summarizes the results next to the paper's figures, which [`experiment`] finds. Runs are separate processes; this
//! module only reads their records, and is independent of how they compute.

mod check;
pub mod devices;
pub mod experiment;
pub mod file;
pub mod launch;
mod planned;
pub mod progress;
mod queue;
pub mod runner;
mod slots;
pub mod status;
pub mod table;

pub use devices::SlotGpus;
pub use file::{Arm, AxisLabels, ROWS, Study};
pub use planned::read_summary;
pub use progress::{Progress, progress};
pub use runner::{Launcher, RunOutcome, StudyRunner};
pub use status::{RunStatus, StudyStatus};
pub use table::{ArmResults, Table};
