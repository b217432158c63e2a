//! The graded responses of an evaluation without their texts: what statistics need. Pairs the problems of two evaluations.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Result;
use serde::Deserialize;

use crate::eval::Answer;
use crate::eval::statistics::GradedResponse;
use crate::eval::text_stats::has_repeated_tail;
use crate::flow::FinishReason;
use crate::metrics::jsonl;

/// The responses to one problem in one pass.
#[derive(Clone, Debug, PartialEq)]
pub struct GradedProblem {
    /// The problem's id.
    pub id: String,
    /// The responses, in order of samples.
    pub responses: Vec<GradedResponse>,
}

impl GradedProblem {
    /// Returns the share of responses with a correct boxed answer.
    pub fn accuracy(&self) -> f64 {
        self.responses.iter().filter(|response| response.correct).count() as f64 / self.responses.len().max(1) as f64
    }
}

/// Reads the responses of a pass from its file, in order of the problems. Keeps no text.
///
/// # Errors
/// If the file is missing, cannot be read, or has a line that is not a graded response (an incomplete last line is dropped).
pub fn read(path: &Path) -> Result<Vec<GradedProblem>> {
    let mut index: HashMap<String, usize> = HashMap::new();
    let mut problems: Vec<GradedProblem> = Vec::new();
    for record in jsonl::read::<Record>(path)? {
        let at = *index.entry(record.id.clone()).or_insert(problems.len());
        if at == problems.len() {
            problems.push(GradedProblem { id: record.id, responses: Vec::new() });
        }
        problems[at].responses.push(record.response);
    }
    Ok(problems)
}

/// Returns the problems that both evaluations have, in the order of the first.
pub fn paired<'a>(before: &'a [GradedProblem], after: &'a [GradedProblem]) -> Vec<(&'a GradedProblem, &'a GradedProblem)> {
    let by_id: HashMap<&str, &GradedProblem> = after.iter().map(|problem| (problem.id.as_str(), problem)).collect();
    before.iter().filter_map(|problem| Some((problem, *by_id.get(problem.id.as_str())?))).collect()
}

/// A line of the file. Each text is dropped as soon as its line is parsed.
#[derive(Deserialize)]
#[serde(from = "Answer")]
struct Record {
    id: String,
    response: GradedResponse,
}

impl From<Answer> for Record {
    fn from(answer: Answer) -> Self {
        let response = GradedResponse {
            correct: answer.correct,
            correct_with_fallback: answer.correct_with_fallback,
            broken: answer.finish == Some(FinishReason::Length) || has_repeated_tail(&answer.response),
            style: answer.style,
        };
        Self { id: answer.id, response }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_groups_responses_by_problem() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let line = |id: &str, finish: &str, text: &str| {
            serde_json::json!({"id": id, "sample": 0, "gold": "1", "response": text, "extracted": null, "correct": id == "b",
                "correct_with_fallback": true, "tokens": 3, "finish": finish})
            .to_string()
        };
        let lines = [line("b", "stop", "1"), line("a", "length", "1"), line("b", "stop", &"again. ".repeat(20)), "{\"id\": \"c".to_owned()];
        std::fs::write(&path, lines.join("\n")).unwrap();
        let problems = read(&path).unwrap();
        let broken = |problem: &GradedProblem| problem.responses.iter().map(|one| one.broken).collect::<Vec<_>>();
        assert_eq!(problems.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!((broken(&problems[0]), broken(&problems[1])), (vec![false, true], vec![true]));
        assert_eq!((problems[0].accuracy(), problems[1].accuracy()), (1.0, 0.0));
        let pairs = paired(&problems, &problems[1..]);
        assert_eq!(pairs.iter().map(|(one, other)| (one.id.as_str(), other.id.as_str())).collect::<Vec<_>>(), [("a", "a")]);
        assert!(read(&folder.path().join("none")).is_err());
    }
}
