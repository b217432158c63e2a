//! Reports about runs: what a run recorded, told as a page, a listing or a selection of responses. Reads the records of runs and studies,
//! also of runs that are still going, that broke off, or that an older version wrote. Never changes a run's folder.

pub mod evaluation_record;
pub mod known_problems;
pub mod packed;
pub mod page;
pub mod run_list;
pub mod run_record;

pub use evaluation_record::EvaluationRecord;
pub use known_problems::KnownProblems;
pub use packed::DataBlock;
pub use page::{Page, Section};
pub use run_list::{ListedRun, RunStatus, list_runs};
pub use run_record::{EvaluationScores, MetricColumns, RolloutRecord, RunRecord, RunState};
