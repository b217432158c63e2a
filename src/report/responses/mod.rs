//! The responses in a report: held-out problems at the base, at saturation and at the end, and the rollouts of the training example by
//! step. A file includes what fits, packed; a served page asks the server for all. The page's scripts fill the elements that are written
//! here.
//!
//! Responses are foreign text. Their control characters are escaped here, and the page inserts them as text only.

mod held_out;
mod markup;
mod reason_sentence;
mod rollouts;
mod shown_text;

use serde_json::json;

use crate::report::{KnownProblems, RunRecord, Section};
use held_out::{Reader, Recorded};

pub use held_out::{index_json, problem_json};
pub use rollouts::{StepSummaries, rollouts_json, steps_json};

/// Where the responses of a page are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseSource {
    /// In the page.
    Page(ResponseLimit),
    /// On the server of the page, which has all of them.
    Server,
}

impl Default for ResponseSource {
    fn default() -> Self {
        Self::Page(ResponseLimit::default())
    }
}

/// How many responses a page includes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseLimit {
    /// As many as fit this number of bytes, compressed and in base64, as they are in the page.
    Bytes(usize),
    /// All responses of the milestones.
    All,
}

impl Default for ResponseLimit {
    fn default() -> Self {
        Self::Bytes(1_200_000)
    }
}

/// Returns the section of a served page, which includes no responses. It changes only with the evaluations, so that it stays in place while
/// the run makes steps.
pub fn served_section(run: &RunRecord) -> Section {
    Section { id: "responses".to_owned(), title: "Responses".to_owned(), body: markup::served_body(run), data: Vec::new() }
}

/// Returns the section of a run's page that includes its responses. Responses that cannot be read are left out, and the section says so.
pub fn section(run: &RunRecord, limit: ResponseLimit) -> Section {
    let mut rollouts = rollouts::pack(run, &KnownProblems::examples(run), limit);
    let used: usize = rollouts.data.iter().map(crate::report::DataBlock::size_bytes).sum();
    let left = match limit {
        ResponseLimit::Bytes(bytes) => ResponseLimit::Bytes(bytes.saturating_sub(used)),
        ResponseLimit::All => ResponseLimit::All,
    };
    let recorded = Recorded::read(run, &milestone_steps(run));
    let known = KnownProblems::held_out(run, &recorded.passes);
    let reader = Reader::new(run, &recorded, &known, limit != ResponseLimit::All);
    let order = held_out::order(&recorded, run.settings.seed);
    let packed = held_out::pack(&reader, &order, left, &index_head(run, &recorded));
    let body = markup::body(run, &recorded, &reader, &packed, &rollouts);
    let data = packed.data.into_iter().chain(std::mem::take(&mut rollouts.data)).collect();
    Section { id: "responses".to_owned(), title: "Responses".to_owned(), body, data }
}

/// Returns the steps whose responses are shown side by side.
fn milestone_steps(run: &RunRecord) -> Vec<u64> {
    run.milestones().into_iter().map(|evaluation| evaluation.step).collect()
}

/// Returns the name of each milestone: the base, saturation and the end.
fn milestone_names(run: &RunRecord, steps: &[u64]) -> Vec<&'static str> {
    let end = if run.state == crate::report::RunState::Finished { "end" } else { "latest" };
    let name = |(at, step): (usize, &u64)| match step {
        0 => "base",
        _ if at + 1 == steps.len() => end,
        _ => "saturation",
    };
    steps.iter().enumerate().map(name).collect()
}

/// Returns the start of an index of held-out problems: a JSON object without its closing brace.
fn index_head(run: &RunRecord, recorded: &Recorded) -> String {
    let names = milestone_names(run, &recorded.steps);
    let milestones: Vec<_> = recorded.steps.iter().zip(names).map(|(step, name)| json!({"step": step, "name": name})).collect();
    let head = json!({"milestones": milestones, "passes": recorded.passes, "block": held_out::BLOCK, "total": recorded.entries.len()});
    let mut text = head.to_string();
    text.pop();
    text
}
