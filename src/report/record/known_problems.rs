//! Finds the problems that records name by id, without downloading anything: problems of the embedded model are built from their ids,
//! others come from files that are on this machine. A problem that cannot be found is not an error.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::run_record::RunRecord;
use crate::data::{DataStore, example, tiny};
use crate::eval::{Answer, EvalSet, sets};
use crate::flow::Problem;
use crate::metrics::jsonl;
use crate::reward::label::Relabeled;
use crate::train::history::set_of;

/// The problems of a run or an evaluation that are at hand.
#[derive(Default)]
pub struct KnownProblems {
    /// The held-out problems by id.
    held_out: HashMap<String, Arc<Problem>>,
    /// The training examples by id.
    examples: HashMap<String, Problem>,
    /// The labels that replace the examples' answers, by the example's id.
    labels: HashMap<String, String>,
    /// The id of the only training example.
    only_example: Option<String>,
}

impl KnownProblems {
    /// Loads the problems of the given passes. What cannot be loaded is not at hand.
    pub fn held_out(run: &RunRecord, passes: &[String]) -> Self {
        let mut sets: Vec<&str> = passes.iter().map(|pass| set_of(pass)).filter(|set| !set.starts_with("tiny")).collect();
        sets.dedup();
        let recorded = recorded_hashes(run);
        let store = if sets.is_empty() { None } else { store(run) };
        let found = sets.into_iter().filter_map(|set| load(run, store.as_ref()?, set));
        // A file that changed since the evaluation may have other problems under the same ids.
        let unchanged = found.filter(|set| match recorded.get(&set.name) {
            Some(hash) => hash.is_empty() || set.data_sha256.is_empty() || *hash == set.data_sha256,
            None => true,
        });
        let held_out = unchanged.flat_map(|set| set.problems).map(|problem| (problem.id.clone(), problem)).collect();
        Self { held_out, ..Self::default() }
    }

    /// Loads the problems of sets that a user's data folder has, for an evaluation that names no files.
    pub fn of_evaluation(sets: &[&str]) -> Self {
        let store = DataStore::open(None).ok().map(DataStore::without_downloads);
        let load = |set: &&str| sets::by_name(set, 0, store.as_ref()?, |_| "").ok()?.pop();
        let found = sets.iter().filter(|set| !set.starts_with("tiny")).filter_map(load).flat_map(|set| set.problems);
        Self { held_out: found.map(|problem| (problem.id.clone(), problem)).collect(), ..Self::default() }
    }

    /// Loads the training examples with their labels.
    pub fn examples(run: &RunRecord) -> Self {
        let specification = &run.settings.example;
        let names = if Path::new(specification).extension().is_some() || !specification.contains(',') {
            vec![resolved(run, specification)]
        } else {
            specification.split(',').map(|name| resolved(run, name.trim())).collect()
        };
        let is_tiny = specification.starts_with("tiny/");
        let store = if is_tiny { None } else { store(run) };
        let resolve = |name: &String| store.as_ref().and_then(|store| example::resolve_unlabeled(name, store).ok()).unwrap_or_default();
        let examples: HashMap<String, Problem> = names.iter().flat_map(resolve).map(|problem| (problem.id.clone(), problem)).collect();
        let only_example = match examples.len() {
            1 => examples.keys().next().cloned(),
            _ => tiny::by_id(specification).map(|_| specification.clone()),
        };
        let labels: Vec<Relabeled> = jsonl::read(&run.folder.labels()).unwrap_or_default();
        let labels = labels.into_iter().map(|relabeled| (relabeled.example, relabeled.label)).collect();
        Self { held_out: HashMap::new(), examples, labels, only_example }
    }

    /// Returns the held-out problem of a recorded response; `None` if it is not at hand, or has another gold answer than the record.
    pub fn of_answer(&self, answer: &Answer) -> Option<Arc<Problem>> {
        let known = self.held_out.get(&answer.id).cloned();
        let problem = known.or_else(|| tiny::by_id(&answer.id).map(|exercise| Arc::new(exercise.problem())));
        problem.filter(|problem| problem.answer == answer.gold)
    }

    /// Returns a training example by the id that a rollout records. Old rollouts record none, which is enough if there is only one.
    pub fn example(&self, id: &str) -> Option<Problem> {
        let id = if id.is_empty() { self.only_example.as_deref()? } else { id };
        self.examples.get(id).cloned().or_else(|| tiny::by_id(id).map(|exercise| exercise.problem()))
    }

    /// Returns a training example as its responses are graded: with the label that replaces its answer, if any.
    pub fn example_as_graded(&self, id: &str) -> Option<Problem> {
        let problem = self.example(id)?;
        Some(match self.label(id) {
            Some(label) => Problem { answer: label.to_owned(), alternatives: Vec::new(), unit: String::new(), tolerance: None, ..problem },
            None => problem,
        })
    }

    /// Returns the label that replaces an example's answer; `None` if none does.
    pub fn label(&self, id: &str) -> Option<&str> {
        let id = if id.is_empty() { self.only_example.as_deref()? } else { id };
        self.labels.get(id).map(String::as_str)
    }
}

/// Loads a set by the name that its passes have; `None` if it is not on this machine.
fn load(run: &RunRecord, store: &DataStore, set: &str) -> Option<EvalSet> {
    let benchmarks = run.settings.eval.benchmarks.split(',').map(str::trim);
    let file = benchmarks.filter(|name| name.ends_with(".jsonl")).find(|name| Path::new(name).file_stem().is_some_and(|stem| stem == set));
    let name = file.map_or_else(|| set.to_owned(), |file| resolved(run, file));
    sets::by_name(&name, 0, store, |_| "").ok()?.pop()
}

/// Returns the hashes of the files that the run's sets came from, by the set's name; empty for sets that are not from a file.
fn recorded_hashes(run: &RunRecord) -> BTreeMap<String, String> {
    let last = run.evaluations.last().and_then(|last| run.conditions(last.step).ok()).unwrap_or_default();
    last.into_values().map(|conditions| (conditions.set, conditions.data_sha256)).collect()
}

/// Opens the run's data folder, or the user's if that is gone; `None` if neither can be opened.
fn store(run: &RunRecord) -> Option<DataStore> {
    let folder = run.invocation.as_ref().and_then(|invocation| invocation.data_dir.as_deref());
    DataStore::open(folder).or_else(|_| DataStore::open(None)).ok().map(DataStore::without_downloads)
}

/// Resolves a relative path against the folder in which the run was started, if there is such a file; returns other names unchanged.
fn resolved(run: &RunRecord, name: &str) -> String {
    let directory = run.invocation.as_ref().map_or(Path::new(""), |invocation| &invocation.directory);
    let path: PathBuf = directory.join(name);
    if path.is_file() { path.to_string_lossy().into_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_answer_returns_a_problem_with_the_recorded_gold_answer() {
        let known = KnownProblems::of_evaluation(&["tiny", "no-such-set"]);
        let answer = |id: &str, gold: &str| Answer { id: id.into(), gold: gold.into(), ..Answer::default() };
        let found = known.of_answer(&answer("tiny/addition/583+634", "1217"));
        assert!(found.is_some_and(|problem| problem.question.contains("583+634")));
        assert!(known.of_answer(&answer("tiny/addition/583+634", "7")).is_none());
        assert!(known.of_answer(&answer("0", "7")).is_none());
    }

    #[test]
    fn example_as_graded_has_the_label() {
        let known = KnownProblems {
            labels: HashMap::from([("tiny/addition/334+556".to_owned(), "7".to_owned())]),
            only_example: Some("tiny/addition/334+556".to_owned()),
            ..KnownProblems::default()
        };
        let answers =
            ["", "tiny/addition/334+556", "tiny/addition/1+2"].map(|id| known.example_as_graded(id).map(|problem| problem.answer));
        assert_eq!(answers[..2], [Some("7".to_owned()), Some("7".to_owned())]);
        assert_ne!(answers[2], Some("7".to_owned()));
    }
}
