//! Finds the problems that records name by id, without downloading anything: problems of the embedded model are built from their ids,
//! others come from files that are on this machine. A problem that cannot be found is not an error.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::run_record::RunRecord;
use crate::data::{DataStore, example, tiny};
use crate::eval::{Answer, sets};
use crate::flow::Problem;
use crate::metrics::jsonl;
use crate::reward::label::Relabeled;

/// The problems of a run or an evaluation that are on this machine.
pub struct KnownProblems {
    store: Option<DataStore>,
    /// The folder that relative paths refer to.
    directory: PathBuf,
    /// The names and files of the benchmarks.
    benchmarks: Vec<String>,
}

impl KnownProblems {
    /// Looks in the run's data folder, or in the user's if that is gone.
    pub fn of_run(run: &RunRecord) -> Self {
        let invocation = run.invocation.as_ref();
        let store = DataStore::open(invocation.and_then(|invocation| invocation.data_dir.as_deref())).or_else(|_| DataStore::open(None));
        Self {
            store: store.ok().map(DataStore::without_downloads),
            directory: invocation.map(|invocation| invocation.directory.clone()).unwrap_or_default(),
            benchmarks: run.settings.eval.benchmarks.split(',').map(|name| name.trim().to_owned()).collect(),
        }
    }

    /// Looks in the user's data folder.
    pub fn of_evaluation() -> Self {
        let store = DataStore::open(None).ok().map(DataStore::without_downloads);
        Self { store, directory: PathBuf::new(), benchmarks: Vec::new() }
    }

    /// Returns the problem of a graded response of the set `set`; `None` if it is not at hand or has another gold answer than the record.
    pub fn held_out(&self, set: &str, answer: &Answer) -> Option<Arc<Problem>> {
        let tiny = || tiny::by_id(&answer.id).map(|exercise| Arc::new(exercise.problem()));
        let problem = if set.starts_with("tiny") { tiny() } else { self.of_set(set).remove(&answer.id) };
        problem.filter(|problem| problem.answer == answer.gold)
    }

    /// Returns the problems of a set by id; empty if the set is not at hand.
    fn of_set(&self, set: &str) -> HashMap<String, Arc<Problem>> {
        let is_file = |name: &&String| name.ends_with(".jsonl") && Path::new(name).file_stem().is_some_and(|stem| stem == set);
        let name = self.benchmarks.iter().find(is_file).map_or_else(|| set.to_owned(), |file| self.resolved(file));
        let found = self.store.as_ref().and_then(|store| sets::by_name(&name, 0, store, |_| "").ok());
        let problems = found.into_iter().flatten().flat_map(|set| set.problems);
        problems.map(|problem| (problem.id.clone(), problem)).collect()
    }

    /// Returns a training example of a run by the id that rollouts record, with the label that replaces its answer, if any. Old rollouts
    /// record no id, which is enough if there is only one example.
    pub fn example(&self, run: &RunRecord, id: &str) -> Option<Problem> {
        let specification = &run.settings.example;
        let tiny = [id, specification].into_iter().find_map(tiny::by_id).map(|exercise| exercise.problem());
        let of_file = || {
            let all = example::resolve_unlabeled(&self.resolved(specification), self.store.as_ref()?).ok()?;
            let is_only = all.len() == 1;
            all.into_iter().find(|problem| problem.id == id || (id.is_empty() && is_only))
        };
        let mut problem = tiny.or_else(of_file)?;
        let labels: Vec<Relabeled> = jsonl::read(&run.folder.labels()).unwrap_or_default();
        if let Some(relabeled) = labels.into_iter().find(|relabeled| relabeled.example == problem.id) {
            (problem.answer, problem.unit, problem.tolerance) = (relabeled.label, String::new(), None);
            problem.alternatives.clear();
        }
        Some(problem)
    }

    /// Resolves a relative path against the folder in which the run was started, if there is such a file; returns other names unchanged.
    fn resolved(&self, name: &str) -> String {
        let path = self.directory.join(name);
        if path.is_file() { path.to_string_lossy().into_owned() } else { name.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_out_returns_a_problem_with_the_recorded_gold_answer() {
        let known = KnownProblems::of_evaluation();
        let answer = |id: &str, gold: &str| Answer { id: id.into(), gold: gold.into(), ..Answer::default() };
        let found = known.held_out("tiny", &answer("tiny/addition/583+634", "1217"));
        assert!(found.is_some_and(|problem| problem.question.contains("583+634")));
        assert!(known.held_out("tiny", &answer("tiny/addition/583+634", "7")).is_none());
        assert!(known.held_out("no-such-set", &answer("0", "7")).is_none());
    }
}
