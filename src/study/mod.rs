//! Studies: a file that names what changes between runs ([`file`]), where each of its runs stands ([`progress`]), one run as a
//! process ([`launch`]), and the table that they come to
//! ([`table`]), with the paper's row beside it ([`subject`]). This room reads what runs record; it must never know how a run is made.

pub mod file;
pub mod launch;
pub mod progress;
pub mod subject;
pub mod table;

pub use file::{Arm, ROWS, Study};
pub use progress::{Progress, progress};
pub use table::{ArmRuns, Table};
