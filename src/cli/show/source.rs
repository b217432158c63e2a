//! What `rlvr show` reads: a run or one evaluation, with the responses of each evaluated step.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::config::nearest;
use crate::eval::{Answer, Conditions};
use crate::report::{EvaluationRecord, KnownProblems, RunRecord};
use crate::verify::Grader;

/// A run or one evaluation.
pub enum Source {
    Run(Box<RunRecord>),
    Evaluation(Box<EvaluationRecord>),
}

/// The graded responses of a pass.
pub struct GradedPass {
    /// The pass's name.
    pub name: String,
    /// The name of its set.
    pub set: String,
    /// The grader that decided.
    pub grader: Grader,
    /// The responses in order of the problems.
    pub answers: Vec<Answer>,
}

impl Source {
    /// Opens a run's folder, or one that `rlvr eval --out` wrote.
    ///
    /// # Errors
    /// If the folder is neither, or its settings or conditions cannot be read.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.display();
        if !folder.join("config.toml").exists() && EvaluationRecord::is_at(folder) {
            return Ok(Self::Evaluation(Box::new(EvaluationRecord::read(folder)?)));
        }
        if !folder.is_dir() {
            let what = if folder.exists() { "is not a folder" } else { "does not exist" };
            bail!("{path} {what}: give a run folder, or one written by rlvr eval --out; rlvr runs lists the runs in runs/");
        }
        let has_settings = folder.join("config.toml").exists();
        let other = || "give a run folder, or one written by rlvr eval --out; rlvr runs lists the runs in runs/";
        let run = RunRecord::read(folder).map_err(|error| if has_settings { error } else { anyhow!("{error:#}; {}", other()) })?;
        Ok(Self::Run(Box::new(run)))
    }

    /// Returns what is missing or cannot be read, one sentence each.
    pub fn missing(&self) -> &[String] {
        match self {
            Source::Run(run) => &run.missing,
            Source::Evaluation(_) => &[],
        }
    }

    /// Returns the problems of a pass that are on this machine.
    pub fn known_problems(&self, pass: &GradedPass) -> KnownProblems {
        match self {
            Source::Run(run) => KnownProblems::held_out(run, std::slice::from_ref(&pass.name)),
            Source::Evaluation(_) => KnownProblems::of_evaluation(&[&pass.set]),
        }
    }

    /// Returns the names of all passes, in order.
    pub fn passes(&self) -> Vec<&str> {
        match self {
            Source::Run(run) => run.passes(),
            Source::Evaluation(evaluation) => evaluation.conditions.keys().map(String::as_str).collect(),
        }
    }

    /// Returns the evaluated steps in order; a single evaluation counts as step 0.
    pub fn steps(&self) -> Vec<u64> {
        match self {
            Source::Run(run) => run.evaluations.iter().map(|evaluation| evaluation.step).collect(),
            Source::Evaluation(_) => vec![0],
        }
    }

    /// Returns the pass that was asked for, or the first one.
    ///
    /// # Errors
    /// If there is no such pass; the message suggests the nearest one and lists all.
    pub fn pass(&self, wanted: Option<&str>) -> Result<&str> {
        let passes = self.passes();
        let first = *passes.first().context("there are no held-out responses yet: the run has not finished an evaluation")?;
        let Some(wanted) = wanted else { return Ok(first) };
        let found = passes.iter().find(|pass| **pass == wanted);
        found.copied().with_context(|| {
            let near = nearest(wanted, passes.iter().copied()).map_or_else(String::new, |near| format!("did you mean {near}? "));
            format!("unknown pass {wanted:?}; {near}expected one of {}", passes.join(", "))
        })
    }

    /// Reads the responses of a pass at an evaluated step.
    ///
    /// # Errors
    /// If the file with the responses cannot be read or is corrupt.
    pub fn graded(&self, step: u64, pass: &str) -> Result<GradedPass> {
        let (answers, mut conditions) = match self {
            Source::Run(run) => (run.answers(step, pass)?, run.conditions(step).unwrap_or_default()),
            Source::Evaluation(evaluation) => (evaluation.answers(pass)?, evaluation.conditions.clone()),
        };
        let conditions: Option<Conditions> = conditions.remove(pass);
        let set = conditions.as_ref().map_or_else(|| crate::train::history::set_of(pass).to_owned(), |conditions| conditions.set.clone());
        let grader = conditions.map_or(Grader::Strict, |conditions| conditions.grader);
        Ok(GradedPass { name: pass.to_owned(), set, grader, answers })
    }

    /// Names an evaluated step.
    pub fn step_name(&self, step: u64) -> String {
        match self {
            Source::Evaluation(_) => String::new(),
            Source::Run(_) if step == 0 => "base model".to_owned(),
            Source::Run(_) => format!("step {step}"),
        }
    }
}

impl GradedPass {
    /// Returns the responses to problems of a subject; all without one.
    ///
    /// # Errors
    /// If no problem has the subject; the message suggests the nearest one and lists all.
    pub fn of_subject(&self, subject: Option<&str>) -> Result<Vec<&Answer>> {
        let Some(subject) = subject else { return Ok(self.answers.iter().collect()) };
        let found: Vec<&Answer> = self.answers.iter().filter(|answer| answer.subject == subject).collect();
        if found.is_empty() {
            let known: BTreeSet<&str> = self.answers.iter().map(|answer| answer.subject.as_str()).filter(|name| !name.is_empty()).collect();
            ensure!(!known.is_empty(), "the problems have no subjects: leave out --subject");
            let near = nearest(subject, known.iter().copied()).map_or_else(String::new, |near| format!("did you mean {near}? "));
            bail!("unknown subject {subject:?}; {near}expected one of {}", known.into_iter().collect::<Vec<_>>().join(", "));
        }
        Ok(found)
    }
}

/// Returns the recorded step nearest to `wanted`; of two, the earlier. `None` if there are none.
pub fn nearest_step(steps: &[u64], wanted: u64) -> Option<u64> {
    steps.iter().copied().min_by_key(|step| step.abs_diff(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_step_prefers_the_earlier_of_two() {
        let check = |wanted: u64, expected: Option<u64>| assert_eq!(nearest_step(&[0, 10, 20], wanted), expected);
        check(0, Some(0));
        check(5, Some(0));
        check(16, Some(20));
        check(900, Some(20));
        assert_eq!(nearest_step(&[], 3), None);
    }
}
