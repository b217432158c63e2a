//! Turns the records of runs and studies into pages, lists and selections of responses. Also reads runs that are in progress, that were
//! killed, or that an older version wrote. Never changes their records.
//!
//! | module | owns |
//! |---|---|
//! | [`subject`] | what a report is about: one run, several runs, or a study |
//! | [`run`] | the page about one run, section by section |
//! | [`comparison`] | the page about several runs |
//! | [`study`] | the page about a study |
//! | [`responses`] | the browser for responses inside the page about a run |
//! | [`watch`] | the server of a page that follows a run |
//! | [`record`] | reading the records of runs and evaluations, and listing runs |
//! | [`page`] | how any page is made: its HTML, figures, charts, numbers and data; its scripts and styles are in `assets` |

pub mod comparison;
pub mod page;
pub mod record;
pub mod responses;
pub mod run;
pub mod study;
pub mod subject;
pub mod watch;

pub use page::figure::Figure;
pub use page::packed::DataBlock;
pub use page::{Page, Section};
pub use record::evaluation_record::EvaluationRecord;
pub use record::known_problems::KnownProblems;
pub use record::run_list::{ListedRun, RunStatus, list_runs};
pub use record::run_record::{EvaluationScores, MetricColumns, RolloutRecord, RunRecord, RunState};
pub use responses::{ResponseLimit, ResponseSource};
pub use run::facts::Facts;
pub use run::{ReportOptions, run_page};
