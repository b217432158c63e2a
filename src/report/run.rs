//! The page about one run.

pub mod caveats;
pub mod curves;
pub mod facts;
pub mod outcome;
pub mod published_values;
pub mod sections;

use super::responses::{self, ResponseLimit, ResponseSource};
use super::{Page, RunRecord};
use crate::data::example;
use facts::Facts;

/// What a report contains.
#[derive(Clone, Debug, Default)]
pub struct ReportOptions {
    /// Where its responses are.
    pub responses: ResponseSource,
}

/// Returns the page about one run.
pub fn run_page(run: &RunRecord, options: &ReportOptions) -> Page {
    let facts = Facts::of(run);
    let mut sections = vec![sections::start::section(run, &facts)];
    sections.extend(sections::benchmarks::section(run, &facts));
    sections.extend(sections::gain::section(run, &facts));
    sections.extend(sections::training::section(run, &facts));
    sections.extend(sections::subjects::section(run, &facts));
    sections.extend(sections::words::section(run, &facts));
    sections.extend(sections::pass_at_k::section(run, &facts));
    sections.push(sections::configuration::section(run));
    // Both the facts and the responses need much memory in large runs.
    drop(facts);
    let mut page = Page { title: run.name.clone(), subtitle: subtitle(run), sections, watch: None };
    let responses = match options.responses {
        ResponseSource::Page(limit) => responses::section(run, fitting(limit, &page)),
        ResponseSource::Server => responses::served_section(run),
    };
    page.sections.insert(page.sections.len() - 1, responses);
    page
}

/// The size in bytes that a page has at most with the default limit for responses, unless the rest of it is larger.
const PAGE_BYTES: usize = 1_950_000;

/// Returns a smaller limit than the default one if the rest of the page leaves less room, as in a run with many steps.
fn fitting(limit: ResponseLimit, page: &Page) -> ResponseLimit {
    match limit {
        ResponseLimit::Bytes(bytes) if limit == ResponseLimit::default() => {
            ResponseLimit::Bytes(bytes.min(PAGE_BYTES.saturating_sub(page.html().len())))
        }
        _ => limit,
    }
}

/// Describes the run in one line.
fn subtitle(run: &RunRecord) -> String {
    let settings = &run.settings;
    format!(
        "{} trained with {} on {}: {} × {} responses per step, learning rate {:e}, seed {}",
        settings.model,
        settings.algo,
        example::title(&settings.example),
        settings.rollout.groups,
        settings.rollout.group_size,
        settings.optim.lr,
        settings.seed
    )
}
