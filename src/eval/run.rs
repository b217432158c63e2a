//! An evaluation run: prompts, responses, verdicts.

use std::sync::Arc;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::record::Answer;
use super::score::Score;
use crate::checkpoint::Model;
use crate::data::benchmark::Decoding;
use crate::draw::Purpose;
use crate::flow::{Completion, Problem};
use crate::kernels::Filter;
use crate::lanes::Lanes;
use crate::rollout::engine::EngineSettings;
use crate::rollout::{Engine, Event, Request, SamplingSettings};
use crate::verify::{self, Extraction, Grader, Mode, Reference};

/// How a run evaluates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvalSettings {
    /// Steps between evaluations; 0 evaluates the base and the last step only.
    pub every: u64,
    /// The sets, by name, with commas between; empty evaluates nothing.
    pub benchmarks: String,
    /// At most this many problems of each set; 0 takes all.
    pub limit: usize,
    /// Most tokens in a response.
    pub max_new: usize,
    /// Seed of sampled responses: the same draws at every step, so that two evaluations differ by the weights alone.
    pub seed: u64,
    /// Whose notion of equality decides what is right.
    pub grader: Grader,
}

impl Default for EvalSettings {
    fn default() -> Self {
        Self { every: 20, benchmarks: "math500".into(), limit: 0, max_new: 3072, seed: 0, grader: Grader::Strict }
    }
}

/// A set of problems with the ways in which it is decoded.
#[derive(Clone)]
pub struct EvalSet {
    /// Its name.
    pub name: String,
    /// The problems.
    pub problems: Vec<Arc<Problem>>,
    /// One pass each.
    pub decodings: Vec<Decoding>,
    /// Tells the way of answering from a response.
    pub classify: Option<fn(&str) -> &'static str>,
}

/// One pass over one set.
#[derive(Clone, Debug)]
pub struct Pass {
    /// The set's name.
    pub set: String,
    /// How it was decoded.
    pub decoding: Decoding,
    /// The graded responses, all samples of a problem together.
    pub answers: Vec<Answer>,
    /// What they add up to.
    pub score: Score,
}

impl Pass {
    /// Whether the likeliest tokens were taken.
    pub fn is_greedy(&self) -> bool {
        self.decoding.temperature == 0.0
    }

    /// "math500-greedy", "aime24-t0.6x8": names files and metrics.
    pub fn name(&self) -> String {
        if self.is_greedy() {
            format!("{}-greedy", self.set)
        } else {
            format!("{}-t{}x{}", self.set, self.decoding.temperature, self.decoding.samples)
        }
    }
}

/// Answers sets of problems with a model.
pub struct Evaluator<'a> {
    /// The model.
    pub model: &'a Model,
    /// Where sequences are dealt to.
    pub lanes: &'a Lanes,
    /// Limits of the engine.
    pub engine: &'a EngineSettings,
    /// The settings.
    pub settings: &'a EvalSettings,
}

impl Evaluator<'_> {
    /// All passes over all sets; `on_answer` is called for every finished response.
    pub fn evaluate(&self, sets: &[EvalSet], on_answer: &(dyn Fn() + Sync)) -> Result<Vec<Pass>> {
        let mut passes = Vec::new();
        for set in sets {
            for decoding in &set.decodings {
                passes.push(self.pass(set, *decoding, on_answer)?);
            }
        }
        Ok(passes)
    }

    fn pass(&self, set: &EvalSet, decoding: Decoding, on_answer: &(dyn Fn() + Sync)) -> Result<Pass> {
        let _span = tracing::info_span!("evaluate", set = set.name, temperature = decoding.temperature).entered();
        let room = self.model.decoder.config.window.saturating_sub(self.settings.max_new);
        let mut requests = Vec::new();
        let mut places = Vec::new();
        for (number, problem) in set.problems.iter().enumerate() {
            let prompt = self.model.text.prompt(problem.clone(), "")?;
            for sample in (0..decoding.samples).filter(|_| prompt.ids.len() <= room) {
                let (ids, prompt) = (prompt.ids.clone(), number as u32);
                requests.push(Request {
                    ids,
                    max_new: self.settings.max_new,
                    purpose: Purpose::Evaluation,
                    step: 0,
                    prompt,
                    sample: sample as u32,
                });
                places.push(number * decoding.samples + sample);
            }
        }
        let sampling = SamplingSettings { temperature: decoding.temperature as f32, filter: Filter::default(), seed: self.settings.seed };
        let engine = Engine {
            decoder: &self.model.decoder,
            lanes: self.lanes,
            settings: self.engine,
            end_tokens: &self.model.end_tokens,
            vocabulary: self.model.text.vocabulary(),
        };
        let observe = |event: Event| {
            if matches!(event, Event::Finished { .. }) {
                on_answer();
            }
        };
        let completions = engine.generate(&requests, &sampling, &observe)?;
        let mut by_place: Vec<Option<Completion>> = vec![None; set.problems.len() * decoding.samples];
        places.into_iter().zip(completions).for_each(|(place, completion)| by_place[place] = Some(completion));
        let answers = by_place.into_iter().enumerate().map(|(place, completion)| {
            let problem = &set.problems[place / decoding.samples];
            self.grade(set, problem, place % decoding.samples, completion)
        });
        let answers = answers.collect::<Result<Vec<_>>>()?;
        let score = Score::of(&answers, decoding.samples);
        if score.too_long > 0 {
            tracing::warn!(set = set.name, problems = score.too_long, "prompts that do not fit the model's window count as wrong");
        }
        Ok(Pass { set: set.name.clone(), decoding, answers, score })
    }

    fn grade(&self, set: &EvalSet, problem: &Problem, sample: usize, completion: Option<Completion>) -> Result<Answer> {
        let response = completion.as_ref().map_or(Ok(String::new()), |completion| self.model.text.decode(&completion.ids))?;
        let settings = verify::Settings { mode: Mode::Eval, grader: self.settings.grader, after_think: false };
        let reference = Reference { answer: &problem.answer, unit: &problem.unit, tolerance: problem.tolerance };
        let verdict = verify::verify_reference(&reference, &response, &settings);
        // The fallback is taken only where there is no box, so one verdict holds both figures.
        let boxed = verdict.extraction == Extraction::Boxed;
        Ok(Answer {
            id: problem.id.clone(),
            subject: problem.subject.clone(),
            sample,
            gold: problem.answer.clone(),
            extracted: verdict.extracted.filter(|_| boxed),
            correct: verdict.correct && boxed,
            correct_with_fallback: verdict.correct,
            tokens: completion.as_ref().map_or(0, |completion| completion.ids.len()),
            finish: completion.map(|completion| completion.finish),
            way: set.classify.map(|classify| classify(&response).to_owned()),
            response,
        })
    }
}
