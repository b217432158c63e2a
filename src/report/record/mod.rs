//! What reports read from the folders of runs and evaluations. Reads what there is, and says what is missing.

pub mod evaluation_record;
pub mod graded;
pub mod known_problems;
pub mod run_list;
pub mod run_record;
