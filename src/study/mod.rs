//! Studies: a file that names what changes between runs ([`mod@file`]), its arms checked before any is run (`check`), where each run stands
//! ([`mod@progress`]), their order ([`schedule`]), one run as a process ([`launch`]), and the table that they come to ([`table`]), with the paper's row
//! beside it ([`subject`]). This room starts runs as processes and reads what they record; it must never know how a run computes.

mod check;
pub mod file;
pub mod launch;
pub mod progress;
pub mod schedule;
pub mod subject;
pub mod table;

pub use file::{Arm, ROWS, Study};
pub use progress::{Progress, progress};
pub use schedule::{Ending, Launcher, Schedule};
pub use table::{ArmRuns, Table};
