//! Reports about runs: what a run recorded, told as a page, a listing or a selection of responses. Reads the records of runs and studies,
//! also of runs that are still going, that broke off, or that an older version wrote. Never changes a run's folder.

pub mod packed;
pub mod page;
pub mod responses;
pub mod run_record;

pub use packed::DataBlock;
pub use page::{Page, Section};
pub use run_record::{EvaluationScores, MetricColumns, RunRecord, RunState};
