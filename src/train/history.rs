//! The results of a run: train accuracy, evaluations, saturation and the best step. Owns the contents of `summary.json`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::folder::RunFolder;
use crate::checkpoint::{write_file, write_folder_with_manifest};
use crate::eval::score::{Mean, per_problem};
use crate::eval::statistics::{self, Comparison, Estimate, SATURATION_LEVEL};
use crate::eval::store::write_conditions;
use crate::eval::{Answer, EvalSettings, Pass, Score};
use crate::metrics::jsonl;

/// The value of `eval.best_by` that selects the mean over benchmarks.
pub const BY_MEAN: &str = "mean";

/// One evaluation: the scores of its passes, and the score of each problem.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// The step that was evaluated; 0 is the base model.
    pub step: u64,
    /// The score of each pass, by the pass's name.
    pub scores: BTreeMap<String, Score>,
    /// The scores of all problems in order, by the pass's name: 0 or 1, or a fraction of several samples.
    pub problems: BTreeMap<String, Vec<f64>>,
}

/// The results of a run up to its last step.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// `(step, fraction of correct responses)`, in order of steps.
    pub train_accuracy: Vec<(u32, f32)>,
    /// Evaluations in order of steps, starting with the base model.
    pub evaluations: Vec<Evaluation>,
    /// The number of steps over which train accuracy is averaged to detect saturation.
    pub saturation_window: usize,
    /// The benchmark or pass that selects the best step, as in [`Evaluation::selection_score`].
    pub best_by: String,
    /// Descriptions of lost records that the run continued without.
    pub missing: Vec<String>,
}

/// The change of each pass's accuracy between two evaluations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gain {
    /// The step of the first evaluation.
    pub from: u64,
    /// The step of the second evaluation.
    pub to: u64,
    /// The second evaluation compared with the first, problem by problem, by the pass's name.
    pub by_pass: BTreeMap<String, Comparison>,
}

/// The contents of `summary.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// The evaluation of the base model; `None` if it was not evaluated.
    pub base: Option<EvaluationSummary>,
    /// The last evaluation.
    pub last: Option<EvaluationSummary>,
    /// The best evaluation by `eval.best_by`.
    pub best: Option<EvaluationSummary>,
    /// The first step at which the mean train accuracy over `eval.saturation_window` steps reaches 99%; `None` if there is none.
    pub saturation_step: Option<u32>,
    /// The gain from the base model to the first evaluation at or after saturation.
    #[serde(default)]
    pub gain_before_saturation: Option<Gain>,
    /// The gain from that evaluation to the last one.
    #[serde(default)]
    pub gain_after_saturation: Option<Gain>,
    /// The gain in sampled accuracy after saturation: the mean over the last third of the evaluations after saturation minus the mean over
    /// the first two evaluations after it; `None` if there are too few.
    pub post_saturation_gain: Option<Estimate>,
    /// `post_saturation_gain` for greedy accuracy.
    pub post_saturation_gain_greedy: Option<Estimate>,
    /// The number of completed steps.
    pub steps: u64,
    /// Seconds that the run took, without the time between an interruption and its resumption.
    pub elapsed_s: f64,
    /// Descriptions of lost records that these figures leave out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// One evaluation in `summary.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EvaluationSummary {
    /// The step that was evaluated; 0 is the base model.
    pub step: u64,
    /// Mean accuracy over the greedy passes; only boxed answers count.
    pub greedy: Option<f64>,
    /// Mean accuracy over the sampled passes; only boxed answers count.
    pub sampled: Option<f64>,
    /// Greedy accuracy by subject, or by `PASS/SUBJECT` if there are several greedy passes; empty if the benchmarks have no subjects.
    pub by_subject: BTreeMap<String, f64>,
    /// The score of each pass, by the pass's name.
    pub passes: BTreeMap<String, Score>,
}

impl Summary {
    /// Returns the steps that the summary names: those of its evaluations, saturation, and the gains before and after it.
    pub fn named_steps(&self) -> Vec<u64> {
        let evaluations = [&self.base, &self.last, &self.best].into_iter().flatten().map(|evaluation| evaluation.step);
        let gains = [&self.gain_before_saturation, &self.gain_after_saturation].into_iter().flatten().flat_map(|gain| [gain.from, gain.to]);
        evaluations.chain(gains).chain(self.saturation_step.map(u64::from)).collect()
    }
}

impl EvaluationSummary {
    /// Returns the unweighted mean over benchmarks; `None` unless there are several with one pass each.
    pub fn mean(&self) -> Option<Mean> {
        Mean::over(self.passes.iter().map(|(name, score)| (set_of(name), score)))
    }
}

impl Evaluation {
    /// Collects the scores of an evaluation's passes.
    pub fn of(step: u64, passes: &[Pass]) -> Self {
        let scores = passes.iter().map(|pass| (pass.name.clone(), pass.score.clone())).collect();
        let each = |pass: &Pass| per_problem(&pass.answers, pass.conditions.samples, |answer| answer.correct);
        Self { step, scores, problems: passes.iter().map(|pass| (pass.name.clone(), each(pass))).collect() }
    }

    /// Returns the scores of all problems of the greedy or sampled passes, concatenated in order of the passes' names.
    pub fn problem_scores(&self, greedy: bool) -> Vec<f64> {
        self.problems.iter().filter(|(name, _)| is_greedy(name) == greedy).flat_map(|(_, scores)| scores).copied().collect()
    }

    /// Returns the mean accuracy over the greedy or sampled passes; `None` if there are none.
    pub fn accuracy(&self, greedy: bool) -> Option<f64> {
        let means: Vec<f64> = self.passes(greedy).map(|(_, score)| score.mean()).collect();
        (!means.is_empty()).then(|| means.iter().sum::<f64>() / means.len() as f64)
    }

    /// Returns the mean accuracy over the greedy or sampled passes with its 95% interval; `None` if there are none.
    pub fn estimate(&self, greedy: bool) -> Option<Estimate> {
        let estimates: Vec<Estimate> = self.passes(greedy).filter_map(|(_, score)| score.accuracy).collect();
        statistics::mean_of(&estimates)
    }

    /// Returns the greedy or sampled passes with their scores, in order of their names.
    pub fn passes(&self, greedy: bool) -> impl Iterator<Item = (&String, &Score)> {
        self.scores.iter().filter(move |(name, _)| is_greedy(name) == greedy)
    }

    /// Returns the unweighted mean over benchmarks; `None` unless there are several with one pass each.
    pub fn mean(&self) -> Option<Mean> {
        Mean::over(self.scores.iter().map(|(name, score)| (set_of(name), score)))
    }

    /// Returns the score that selects the best step: the mean accuracy over the passes that `best_by` names, only the greedy ones if there
    /// are any; 0 if there are none. `best_by` is a benchmark or a pass; empty means all passes. `mean` is the unweighted mean over
    /// benchmarks with unboxed answers counted, the paper's choice.
    pub fn selection_score(&self, best_by: &str) -> f64 {
        if let (Some(mean), BY_MEAN) = (self.mean(), best_by) {
            return mean.accuracy_with_fallback.mean;
        }
        let of = |greedy: bool| {
            let chosen = self.passes(greedy).filter(|(name, _)| best_by.is_empty() || *name == best_by || set_of(name) == best_by);
            let means: Vec<f64> = chosen.map(|(_, score)| score.mean()).collect();
            (!means.is_empty()).then(|| means.iter().sum::<f64>() / means.len() as f64)
        };
        of(true).or(of(false)).unwrap_or(0.0)
    }

    fn summary(&self) -> EvaluationSummary {
        // Two benchmarks may have subjects of the same name.
        let has_several = self.passes(true).nth(1).is_some();
        let key = |pass: &str, subject: String| if has_several { format!("{pass}/{subject}") } else { subject };
        let subjects = |(pass, score): (&String, &Score)| {
            let means = score.by_subject.iter().map(|(subject, part)| (key(pass, subject.clone()), part.mean()));
            means.collect::<Vec<_>>()
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

    /// Writes the graded responses, their conditions and the scores to the run folder.
    ///
    /// # Errors
    /// If the folder or a file cannot be written.
    pub fn record(&self, folder: &RunFolder, passes: &[Pass]) -> Result<()> {
        write_folder_with_manifest(&folder.eval(self.step), |path| {
            for pass in passes {
                let mut lines = jsonl::JsonLines::create(&path.join(format!("{}.jsonl", pass.name)))?;
                pass.answers.iter().try_for_each(|answer| lines.write(answer))?;
            }
            write_conditions(path, &passes.iter().map(|pass| (pass.name.clone(), pass.conditions.clone())).collect())?;
            write_file(&path.join("scores.json"), serde_json::to_string_pretty(&self.scores)?.as_bytes())
        })
    }

    /// Reads an evaluation that [`record`](Self::record) wrote to `folder`.
    ///
    /// # Errors
    /// If a file is missing or cannot be parsed.
    pub fn read(folder: &Path, step: u64) -> Result<Self> {
        let path = folder.join("scores.json");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let scores: BTreeMap<String, Score> = serde_json::from_str(&text).with_context(|| format!("{} is corrupt", path.display()))?;
        let mut problems = BTreeMap::new();
        for (name, score) in &scores {
            let answers: Vec<Answer> = jsonl::read(&folder.join(format!("{name}.jsonl")))?;
            problems.insert(name.clone(), per_problem(&answers, score.samples, |answer| answer.correct));
        }
        Ok(Self { step, scores, problems })
    }
}

fn is_greedy(pass: &str) -> bool {
    pass.ends_with("-greedy")
}

/// Returns the benchmark of a pass: "aime24" for "aime24-t0.6x8".
pub fn set_of(pass: &str) -> &str {
    pass.rsplit_once('-').map_or(pass, |(set, _)| set)
}

impl History {
    /// Creates the history of a new run.
    pub fn new(settings: &EvalSettings) -> Self {
        Self { saturation_window: settings.saturation_window, best_by: settings.best_by.clone(), ..Self::default() }
    }

    /// Returns the first step at which the train accuracy is saturated; `None` if it is not.
    pub fn saturation_step(&self) -> Option<u32> {
        statistics::saturation_step(&self.train_accuracy, self.saturation_window, SATURATION_LEVEL)
    }

    /// Returns the mean train accuracy over the last `saturation_window` steps; `None` before the first step.
    pub fn recent_train_accuracy(&self) -> Option<f64> {
        let last = &self.train_accuracy[self.train_accuracy.len().saturating_sub(self.saturation_window)..];
        (!last.is_empty()).then(|| last.iter().map(|(_, accuracy)| f64::from(*accuracy)).sum::<f64>() / last.len() as f64)
    }

    /// Returns the evaluation with the highest [`selection_score`](Evaluation::selection_score); of equal ones, the first.
    pub fn best(&self) -> Option<&Evaluation> {
        let selection_score = |evaluation: &Evaluation| evaluation.selection_score(&self.best_by);
        self.evaluations.iter().fold(None, |best: Option<&Evaluation>, one| match best {
            Some(best) if selection_score(best) >= selection_score(one) => Some(best),
            _ => Some(one),
        })
    }

    /// Returns the gains before and after saturation. The first evaluation at or after the saturation step separates them, so changes up to
    /// that evaluation count as before saturation. A gain is `None` without two evaluations on its side.
    pub fn gains(&self) -> (Option<Gain>, Option<Gain>) {
        let saturation = self.saturation_step().map(u64::from);
        let boundary = saturation.and_then(|step| self.evaluations.iter().find(|evaluation| evaluation.step >= step));
        let until = |boundary| Gain::between(self.evaluations.first()?, boundary);
        let from = |boundary| Gain::between(boundary, self.evaluations.last()?);
        (boundary.and_then(until), boundary.and_then(from))
    }

    /// Returns the gain after saturation as defined in [`Summary::post_saturation_gain`]; `None` if there are too few evaluations.
    pub fn post_saturation_gain(&self, greedy: bool) -> Option<Estimate> {
        let saturation = u64::from(self.saturation_step()?);
        let after = self.evaluations.iter().filter(|evaluation| evaluation.step > saturation);
        let scores: Vec<Vec<f64>> = after.map(|evaluation| evaluation.problem_scores(greedy)).collect();
        statistics::post_saturation_gain(&scores)
    }

    /// Returns the contents of `summary.json` after `steps` completed steps and `elapsed_s` seconds.
    pub fn summary(&self, steps: u64, elapsed_s: f64) -> Summary {
        let (gain_before_saturation, gain_after_saturation) = self.gains();
        Summary {
            base: self.evaluations.first().filter(|evaluation| evaluation.step == 0).map(Evaluation::summary),
            last: self.evaluations.last().map(Evaluation::summary),
            best: self.best().map(Evaluation::summary),
            saturation_step: self.saturation_step(),
            gain_before_saturation,
            gain_after_saturation,
            post_saturation_gain: self.post_saturation_gain(false),
            post_saturation_gain_greedy: self.post_saturation_gain(true),
            steps,
            elapsed_s,
            missing: self.missing.clone(),
        }
    }
}

impl Gain {
    /// Returns the gain from one evaluation to a later one; `None` if the second is not later, or no pass has the same problems in both.
    fn between(first: &Evaluation, second: &Evaluation) -> Option<Self> {
        let compared = second.problems.iter().filter_map(|(name, after)| {
            let before = first.problems.get(name)?;
            Some((name.clone(), statistics::compare(before, after).ok()?))
        });
        let by_pass: BTreeMap<String, Comparison> = compared.collect();
        (first.step < second.step && !by_pass.is_empty()).then_some(Self { from: first.step, to: second.step, by_pass })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::statistics::wilson;

    fn evaluation(step: u64, right: &[(&str, usize)]) -> Evaluation {
        let score = |right: usize| Score { problems: 10, samples: 1, accuracy: wilson(right, 10), ..Score::default() };
        let problems = |right: usize| (0..10).map(|problem| f64::from(u8::from(problem < right))).collect();
        Evaluation {
            step,
            scores: right.iter().map(|(name, right)| ((*name).to_owned(), score(*right))).collect(),
            problems: right.iter().map(|(name, right)| ((*name).to_owned(), problems(*right))).collect(),
        }
    }

    /// A run that saturates at step 12 by the mean over 3 steps.
    fn history() -> History {
        let settings = EvalSettings { saturation_window: 3, best_by: "aime24".into(), ..EvalSettings::default() };
        let scores = [(0, 1, 0), (10, 4, 3), (20, 6, 2), (30, 9, 1)];
        let evaluations = scores.map(|(step, math, aime)| evaluation(step, &[("math500-greedy", math), ("aime24-t0.6x8", aime)]));
        let train_accuracy = (1..=30).map(|step| (step, if step < 10 { 0.5 } else { 1.0 })).collect();
        History { train_accuracy, evaluations: evaluations.to_vec(), ..History::new(&settings) }
    }

    #[test]
    fn gains_are_split_at_saturation() {
        let mut history = history();
        assert_eq!(history.saturation_step(), Some(12));
        let (before, after) = history.gains();
        let (before, after) = (before.unwrap(), after.unwrap());
        assert_eq!((before.from, before.to, after.from, after.to), (0, 20, 20, 30));
        let points = |gain: &Gain, pass: &str| (gain.by_pass[pass].difference.mean * 10.0).round();
        assert_eq!((points(&before, "math500-greedy"), points(&after, "math500-greedy")), (5.0, 3.0));
        assert_eq!((after.by_pass["aime24-t0.6x8"].won, after.by_pass["aime24-t0.6x8"].lost), (0, 1));
        assert_eq!(history.recent_train_accuracy(), Some(1.0));
        let mut named = history.summary(30, 1.0).named_steps();
        named.sort_unstable();
        named.dedup();
        assert_eq!(named, [0, 10, 12, 20, 30], "the base, the best, saturation, the first evaluation after it, and the last one");
        history.evaluations.truncate(3);
        assert!(history.gains().1.is_none(), "there is no later evaluation");
        history.train_accuracy.truncate(11);
        assert_eq!(history.gains(), (None, None));
    }

    #[test]
    fn best_uses_the_benchmark_in_best_by() {
        let best = |best_by: &str| History { best_by: best_by.into(), ..history() }.best().map(|evaluation| evaluation.step);
        assert_eq!(best(""), Some(30));
        assert_eq!(best("math500"), Some(30));
        assert_eq!(best("aime24"), Some(10));
        assert_eq!(best("aime24-t0.6x8"), Some(10));
    }
}
