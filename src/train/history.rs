//! What a run has shown so far: train accuracy by step, evaluations, saturation, the best step; and `summary.json` made of it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::folder::RunFolder;
use crate::checkpoint::{write_file, write_folder};
use crate::eval::score::per_problem;
use crate::eval::statistics::{self, Estimate, SATURATION_LEVEL, SATURATION_WINDOW};
use crate::eval::{Answer, Pass, Score};
use crate::metrics::jsonl;

/// One evaluation: the scores of its passes, by name, and each problem's score in the greedy and the sampled passes.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// After which step.
    pub step: u64,
    /// Scores by pass.
    pub scores: BTreeMap<String, Score>,
    /// Score of every problem of the greedy passes, in order.
    pub greedy: Vec<f64>,
    /// Score of every problem of the sampled passes, in order.
    pub sampled: Vec<f64>,
}

/// The run so far.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// `(step, share of right responses)`
    pub train_accuracy: Vec<(u32, f32)>,
    /// In order of steps, the base first.
    pub evaluations: Vec<Evaluation>,
}

/// `summary.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// Before training.
    pub base: Option<EvaluationSummary>,
    /// After the last step.
    pub last: Option<EvaluationSummary>,
    /// The best by greedy accuracy (sampled where there is no greedy pass).
    pub best: Option<EvaluationSummary>,
    /// First step at which the 5-step mean of train accuracy reaches 99%.
    pub saturation_step: Option<u32>,
    /// Sampled accuracy: last third of the evaluations after saturation minus the first two after it.
    pub post_saturation_gain: Option<Estimate>,
    /// The same for greedy accuracy.
    pub post_saturation_gain_greedy: Option<Estimate>,
    /// Steps done.
    pub steps: u64,
    /// Seconds since the run started.
    pub elapsed_s: f64,
}

/// One evaluation in `summary.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EvaluationSummary {
    /// After which step.
    pub step: u64,
    /// Mean greedy accuracy in the box over the sets decoded greedily.
    pub greedy: Option<f64>,
    /// Mean sampled accuracy in the box over the sets decoded by sampling.
    pub sampled: Option<f64>,
    /// Greedy accuracy by subject, where the sets have subjects.
    pub by_subject: BTreeMap<String, f64>,
    /// Everything, by pass.
    pub passes: BTreeMap<String, Score>,
}

impl Evaluation {
    /// From the passes of an evaluation.
    pub fn of(step: u64, passes: &[Pass]) -> Self {
        let scores = passes.iter().map(|pass| (pass.name(), pass.score.clone())).collect();
        // By name, as `read` finds them: evaluations are compared problem by problem.
        let mut passes: Vec<&Pass> = passes.iter().collect();
        passes.sort_by_key(|pass| pass.name());
        let each = |greedy: bool| {
            let own = passes.iter().filter(|pass| pass.is_greedy() == greedy);
            own.flat_map(|pass| per_problem(&pass.answers, pass.decoding.samples, |answer| answer.correct)).collect()
        };
        Self { step, scores, greedy: each(true), sampled: each(false) }
    }

    /// Mean accuracy over the passes that are (or are not) greedy.
    pub fn accuracy(&self, greedy: bool) -> Option<f64> {
        let means: Vec<f64> = self.passes(greedy).map(|(_, score)| score.mean()).collect();
        (!means.is_empty()).then(|| means.iter().sum::<f64>() / means.len() as f64)
    }

    /// The mean of the passes' accuracies, with its interval.
    pub fn estimate(&self, greedy: bool) -> Option<Estimate> {
        let estimates: Vec<Estimate> = self.passes(greedy).filter_map(|(_, score)| score.accuracy).collect();
        statistics::mean_of(&estimates)
    }

    /// The passes that are (or are not) greedy, by name.
    pub fn passes(&self, greedy: bool) -> impl Iterator<Item = (&String, &Score)> {
        self.scores.iter().filter(move |(name, _)| name.ends_with("-greedy") == greedy)
    }

    /// What the best step is chosen by.
    pub fn merit(&self) -> f64 {
        self.accuracy(true).or(self.accuracy(false)).unwrap_or(0.0)
    }

    fn summary(&self) -> EvaluationSummary {
        // Two sets may have a subject of the same name.
        let several = self.passes(true).nth(1).is_some();
        let place = |pass: &str, subject: String| if several { format!("{pass}/{subject}") } else { subject };
        let subjects = |(pass, score): (&String, &Score)| {
            let named = score.by_subject.clone().into_iter().map(|(subject, share)| (place(pass, subject), share));
            named.collect::<Vec<_>>()
        };
        let by_subject = self.passes(true).flat_map(subjects).collect();
        EvaluationSummary {
            step: self.step,
            greedy: self.accuracy(true),
            sampled: self.accuracy(false),
            by_subject,
            passes: self.scores.clone(),
        }
    }

    /// Writes the graded responses and the scores.
    pub fn record(&self, folder: &RunFolder, passes: &[Pass]) -> Result<()> {
        write_folder(&folder.eval(self.step), |path| {
            for pass in passes {
                let mut lines = jsonl::JsonLines::create(&path.join(format!("{}.jsonl", pass.name())))?;
                pass.answers.iter().try_for_each(|answer| lines.write(answer))?;
            }
            write_file(&path.join("scores.json"), serde_json::to_string_pretty(&self.scores)?.as_bytes())
        })
    }

    /// Reads what `record` wrote.
    pub fn read(folder: &Path, step: u64) -> Result<Self> {
        let path = folder.join("scores.json");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let scores: BTreeMap<String, Score> = serde_json::from_str(&text).with_context(|| format!("{} is broken", path.display()))?;
        let mut evaluation = Self { step, scores, greedy: Vec::new(), sampled: Vec::new() };
        for (name, score) in &evaluation.scores {
            let answers: Vec<Answer> = jsonl::read(&folder.join(format!("{name}.jsonl")))?;
            let scores = per_problem(&answers, score.samples, |answer| answer.correct);
            if name.ends_with("-greedy") { evaluation.greedy.extend(scores) } else { evaluation.sampled.extend(scores) }
        }
        Ok(evaluation)
    }
}

impl History {
    /// First step at which the train accuracy is saturated.
    pub fn saturation_step(&self) -> Option<u32> {
        statistics::saturation_step(&self.train_accuracy, SATURATION_WINDOW, SATURATION_LEVEL)
    }

    /// The evaluation with the greatest merit, the first of equals.
    pub fn best(&self) -> Option<&Evaluation> {
        self.evaluations.iter().fold(None, |best: Option<&Evaluation>, one| match best {
            Some(best) if best.merit() >= one.merit() => Some(best),
            _ => Some(one),
        })
    }

    /// The gain after saturation, by the measure fixed beforehand; none before there are enough evaluations.
    pub fn post_saturation_gain(&self, greedy: bool) -> Option<Estimate> {
        let saturation = u64::from(self.saturation_step()?);
        let after = self.evaluations.iter().filter(|evaluation| evaluation.step > saturation);
        let scores: Vec<Vec<f64>> =
            after.map(|evaluation| if greedy { evaluation.greedy.clone() } else { evaluation.sampled.clone() }).collect();
        statistics::post_saturation_gain(&scores)
    }

    /// The result so far.
    pub fn summary(&self, steps: u64, elapsed_s: f64) -> Summary {
        Summary {
            base: self.evaluations.first().filter(|evaluation| evaluation.step == 0).map(Evaluation::summary),
            last: self.evaluations.last().map(Evaluation::summary),
            best: self.best().map(Evaluation::summary),
            saturation_step: self.saturation_step(),
            post_saturation_gain: self.post_saturation_gain(false),
            post_saturation_gain_greedy: self.post_saturation_gain(true),
            steps,
            elapsed_s,
        }
    }
}
