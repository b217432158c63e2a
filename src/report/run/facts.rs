//! What the sections of a page about one run have in common: its milestones, the accuracy that the page is about, and gains between
//! milestones, paired by problem.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::outcome::Outcome;
use crate::data::benchmark::Decoding;
use crate::data::example;
use crate::eval::statistics::{self, Estimate, GainParts, GradedResponse};
use crate::report::record::graded::{self, GradedProblem, paired};
use crate::report::record::run_record::RunRecord;
use crate::train::history::{Evaluation, History, set_of};

/// The facts about one run.
#[derive(Debug)]
pub struct Facts {
    /// The run's results, without the scores of single problems.
    pub history: History,
    /// The accuracies that the page is about, the most important first; empty without evaluations.
    pub measures: Vec<Measure>,
    /// The first step at which the train accuracy is saturated.
    pub saturation: Option<u64>,
    /// Descriptions of records that cannot be read.
    pub missing: Vec<String>,
    /// The parts of the gain from the base model to the last evaluation, by pass; without passes that only one of them has.
    pub gain_parts: BTreeMap<String, GainParts>,
    /// The graded responses at the milestones, by step and pass.
    graded: BTreeMap<(u64, String), Vec<GradedProblem>>,
}

/// A way to summarize an evaluation in one accuracy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// The mean over several benchmarks with one pass each.
    Mean,
    /// The mean over the greedy passes.
    Greedy,
    /// The mean over the sampled passes.
    Sampled,
}

impl Measure {
    /// Returns the accuracy of boxed answers with its interval; `None` if the evaluation lacks it.
    pub fn estimate(self, evaluation: &Evaluation) -> Option<Estimate> {
        match self {
            Self::Mean => evaluation.mean().map(|mean| mean.accuracy),
            Self::Greedy => evaluation.estimate(true),
            Self::Sampled => evaluation.estimate(false),
        }
    }

    /// Returns the names of the passes that it averages.
    pub fn passes(self, evaluation: &Evaluation) -> Vec<&str> {
        let named = |greedy: bool| evaluation.passes(greedy).map(|(name, _)| name.as_str()).collect::<Vec<_>>();
        match self {
            Self::Mean => evaluation.scores.keys().map(String::as_str).collect(),
            Self::Greedy => named(true),
            Self::Sampled => named(false),
        }
    }

    /// Names the accuracy within a sentence.
    pub fn name(self, evaluation: &Evaluation) -> String {
        match self {
            Self::Mean => format!("mean accuracy over {} benchmarks", evaluation.scores.len()),
            Self::Greedy => "greedy accuracy".to_owned(),
            Self::Sampled => "sampled accuracy".to_owned(),
        }
    }
}

impl Facts {
    /// Collects the facts. Reads the responses of the milestones only.
    pub fn of(run: &RunRecord) -> Self {
        let history = run.history();
        let steps: Vec<u64> = run.milestones().iter().map(|evaluation| evaluation.step).collect();
        let milestones = history.evaluations.iter().filter(|evaluation| steps.contains(&evaluation.step));
        let passes: Vec<(u64, &String)> =
            milestones.flat_map(|evaluation| evaluation.scores.keys().map(|pass| (evaluation.step, pass))).collect();
        let read = |(step, pass): &(u64, &String)| graded::read(&run.folder.eval(*step).join(format!("{pass}.jsonl")));
        let found: Vec<_> = passes.par_iter().map(read).collect();
        let (mut missing, mut graded) = (Vec::new(), BTreeMap::new());
        for ((step, pass), problems) in passes.into_iter().zip(found) {
            match problems {
                Ok(problems) => drop(graded.insert((step, pass.clone()), problems)),
                Err(error) => missing.push(format!("{error:#}")),
            }
        }
        let measures = measures(&history);
        let mut facts = Self { measures, saturation: run.saturation_step(), missing, gain_parts: BTreeMap::new(), graded, history };
        let split = |pass: &&str| Some(((*pass).to_owned(), facts.split_gain(pass)?));
        facts.gain_parts = run.passes().par_iter().filter_map(split).collect();
        facts
    }

    /// Returns the evaluation of the base model.
    pub fn base(&self) -> Option<&Evaluation> {
        self.history.evaluations.first().filter(|first| first.step == 0)
    }

    /// Returns the last evaluation after a training step.
    pub fn last(&self) -> Option<&Evaluation> {
        self.history.evaluations.last().filter(|last| last.step > 0)
    }

    /// Returns the first evaluation at or after saturation.
    pub fn saturated(&self) -> Option<&Evaluation> {
        let saturation = self.saturation?;
        self.history.evaluations.iter().find(|evaluation| evaluation.step >= saturation)
    }

    /// Returns the best evaluation, if it is not the base model's.
    pub fn best(&self) -> Option<&Evaluation> {
        self.history.best().filter(|best| best.step > 0)
    }

    /// Returns the accuracy of a problem in each of two evaluations, for the problems of a pass that both have.
    pub fn problem_scores(&self, pass: &str, steps: [u64; 2]) -> (Vec<f64>, Vec<f64>) {
        let pairs = self.pairs(pass, steps);
        pairs.iter().map(|(before, after)| (before.accuracy(), after.accuracy())).unzip()
    }

    /// Returns the gain between two milestones, paired by problem; `None` unless every pass has problems in both.
    pub fn gain(&self, measure: Measure, before: &Evaluation, after: &Evaluation) -> Option<Estimate> {
        let passes = measure.passes(after);
        let of_pass = |pass: &&str| {
            let (before, after) = self.problem_scores(pass, [before.step, after.step]);
            Some(statistics::compare(&before, &after).ok()?.difference)
        };
        let differences: Vec<Estimate> = passes.iter().map(of_pass).collect::<Option<_>>()?;
        mean_difference(&differences)
    }

    /// Splits the gain of a pass from the base model to the last evaluation; `None` if one of them is missing or lacks the pass.
    fn split_gain(&self, pass: &str) -> Option<GainParts> {
        let (base, last) = (self.base()?, self.last()?);
        let pairs = self.pairs(pass, [base.step, last.step]);
        let (before, after): (Vec<_>, Vec<_>) =
            pairs.iter().map(|(before, after)| (before.responses.clone(), after.responses.clone())).unzip();
        let is_other = |name: &&String| name.as_str() != pass && set_of(name) == set_of(pass);
        let others = base.scores.keys().filter(is_other).filter_map(|name| self.graded.get(&(base.step, name.clone())));
        let elsewhere: Vec<GradedResponse> = others.flatten().flat_map(|problem| problem.responses.clone()).collect();
        statistics::gain_parts(&before, &after, &elsewhere)
    }

    /// Returns the mean over passes of the parts of the gain, without styles; `None` without passes.
    pub fn mean_gain_parts(&self) -> Option<GainParts> {
        let mean = |part: fn(&GainParts) -> Estimate| mean_difference(&self.gain_parts.values().map(part).collect::<Vec<_>>());
        Some(GainParts {
            problems: self.gain_parts.values().map(|parts| parts.problems).sum(),
            gain: mean(|parts| parts.gain)?,
            format: mean(|parts| parts.format)?,
            styles: mean(|parts| parts.styles)?,
            broken: mean(|parts| parts.broken)?,
            rest: mean(|parts| parts.rest)?,
            by_style: Vec::new(),
        })
    }

    /// Returns the numbers for the sentence about what happened.
    pub fn outcome(&self, run: &RunRecord) -> Outcome {
        let train = run.train_accuracy();
        let window = self.history.saturation_window.min(train.len());
        let mut outcome = Outcome {
            example: example::title(&run.settings.example),
            saturation: self.saturation,
            train: self.history.recent_train_accuracy().map(|accuracy| (accuracy, window)),
            ..Outcome::default()
        };
        let newest = self.history.evaluations.last();
        let (Some(measure), Some(newest)) = (self.measures.first().copied(), newest) else { return outcome };
        outcome.measure = measure.name(newest);
        outcome.problems = measure.passes(newest).iter().filter_map(|pass| newest.scores.get(*pass)).map(|score| score.problems).sum();
        outcome.base = self.base().and_then(|base| measure.estimate(base));
        outcome.last = self.last().and_then(|last| Some((last.step, measure.estimate(last)?)));
        outcome.gain = self.base().zip(self.last()).and_then(|(base, last)| self.gain(measure, base, last));
        if let Some((measure, gain)) = self.gain_after_saturation(run) {
            (outcome.gain_after, outcome.measure_after) = (Some(gain), measure.name(newest));
        }
        outcome
    }

    /// Returns the gain after saturation with what it measures. `summary.json` has the gain of greedy and of sampled passes, as defined
    /// before the runs; without one, it is the paired gain from the first evaluation at or after saturation to the last one.
    pub fn gain_after_saturation(&self, run: &RunRecord) -> Option<(Measure, Estimate)> {
        let recorded = |measure: Measure| {
            let summary = run.summary.as_ref()?;
            let gain = if measure == Measure::Greedy { summary.post_saturation_gain_greedy } else { summary.post_saturation_gain };
            Some((measure, gain.filter(|_| measure != Measure::Mean)?))
        };
        let between = |measure: Measure| {
            let (saturated, last) = (self.saturated()?, self.last()?);
            Some((measure, self.gain(measure, saturated, last).filter(|_| saturated.step < last.step)?))
        };
        let sampled_first = || self.measures.iter().rev().copied();
        sampled_first().find_map(recorded).or_else(|| sampled_first().find_map(between))
    }

    fn pairs(&self, pass: &str, [before, after]: [u64; 2]) -> Vec<(&GradedProblem, &GradedProblem)> {
        let of = |step: u64| self.graded.get(&(step, pass.to_owned()));
        of(before).zip(of(after)).map(|(before, after)| paired(before, after)).unwrap_or_default()
    }
}

/// Describes how a pass samples: `one response per problem, always the most likely token`, or temperature and number of samples.
pub fn describe_decoding(pass: &str) -> String {
    let decoding = pass.rsplit_once('-').and_then(|(_, decoding)| decoding.parse::<Decoding>().ok());
    let Some(decoding) = decoding else { return "unknown decoding".to_owned() };
    if decoding == Decoding::GREEDY {
        return "greedy: one response, always the most likely token".to_owned();
    }
    let samples = if decoding.samples == 1 { "one response".to_owned() } else { format!("mean of {} responses", decoding.samples) };
    let nucleus = if decoding.top_p < 1.0 { format!(", top-p {}", decoding.top_p) } else { String::new() };
    format!("sampled: {samples} at temperature {}{nucleus}", decoding.temperature)
}

/// Returns the measures of a run: the mean if there are several benchmarks with one pass each, otherwise greedy and sampled accuracy.
fn measures(history: &History) -> Vec<Measure> {
    let Some(last) = history.evaluations.last() else { return Vec::new() };
    if last.mean().is_some() {
        return vec![Measure::Mean];
    }
    [Measure::Greedy, Measure::Sampled].into_iter().filter(|measure| measure.estimate(last).is_some()).collect()
}

/// Returns the mean of independent differences. Its interval follows from theirs, which are treated as symmetric.
fn mean_difference(differences: &[Estimate]) -> Option<Estimate> {
    let n = (!differences.is_empty()).then_some(differences.len() as f64)?;
    let mean = differences.iter().map(|difference| difference.mean).sum::<f64>() / n;
    let half = differences.iter().map(|difference| ((difference.high - difference.low) / 2.0).powi(2)).sum::<f64>().sqrt() / n;
    Some(Estimate { mean, low: (mean - half).max(-1.0), high: (mean + half).min(1.0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn describe_decoding_reads_the_name_of_a_pass() {
        let check = |pass: &str, expected: &str| assert_eq!(describe_decoding(pass), expected, "{pass}");
        check("math500-greedy", "greedy: one response, always the most likely token");
        check("aime24-t0.6x8", "sampled: mean of 8 responses at temperature 0.6");
        check("my-set-t1p0.95x1", "sampled: one response at temperature 1, top-p 0.95");
        check("other", "unknown decoding");
    }

    #[test]
    fn mean_difference_combines_intervals() {
        let one = Estimate { mean: 0.1, low: 0.0, high: 0.2 };
        let mean = mean_difference(&[one, Estimate { mean: -0.3, low: -0.4, high: -0.2 }]).unwrap();
        assert!((mean.mean + 0.1).abs() < 1e-12 && (mean.high - mean.mean - 0.1 / 2f64.sqrt()).abs() < 1e-12, "{mean:?}");
        assert_eq!(mean_difference(&[one]).map(|one| one.mean), Some(0.1));
        assert_eq!(mean_difference(&[]), None);
    }
}
