//! Reports about runs: what a run recorded, told as a page, a listing or a selection of responses. Reads the records of runs and studies,
//! also of runs that are still going, that broke off, or that an older version wrote. Never changes a run's folder.

pub mod comparison;
pub mod figure;
pub mod packed;
pub mod page;
pub mod responses;
pub mod run_record;
pub mod study;
pub mod subject;
pub mod watch;

use anyhow::Result;

pub use figure::Figure;
pub use packed::DataBlock;
pub use page::{Page, Section};
pub use run_record::{EvaluationScores, MetricColumns, RunRecord, RunState};

/// What a report contains.
#[derive(Clone, Debug, Default)]
pub struct ReportOptions {}

/// Returns the page about one run.
///
/// # Errors
/// If the responses cannot be read.
pub fn run_page(run: &RunRecord, _options: &ReportOptions) -> Result<Page> {
    Ok(Page { title: run.name.clone(), ..Page::default() })
}
