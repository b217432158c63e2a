//! Runs an evaluation: requests responses, grades and records them, and computes scores.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::conditions::Conditions;
use super::generator::{EvalRequest, FailedRequests, GenerationConfig, Generator, Response};
use super::record::Answer;
use super::score::Score;
use super::sets::EvalSet;
use super::settings::EvalSettings;
use super::store::{RecordedAnswers, Store};
use super::text_stats;
use crate::data::benchmark::Decoding;
use crate::dist::World;
use crate::interrupt::Interrupted;
use crate::metrics::JsonLines;
use crate::output;
use crate::verify::{self, Extraction, Grader, Mode};

/// The result of one pass over one set.
#[derive(Clone, Debug)]
pub struct Pass {
    /// The name, such as `math500-greedy` or `aime24-t0.6x8`.
    pub name: String,
    /// The measurement conditions.
    pub conditions: Conditions,
    /// The graded responses, with all samples of a problem together.
    pub answers: Vec<Answer>,
    /// The score of these responses.
    pub score: Score,
    /// The time that this process spent on the pass.
    pub times: Times,
}

/// The time that this process spent on a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// The number of responses generated in this process.
    pub answered: usize,
    /// Seconds from the start to the score.
    pub elapsed_s: f64,
    /// Seconds spent on grading and scoring, summed over threads.
    pub grading_s: f64,
}

impl Pass {
    /// True if the pass used greedy decoding.
    pub fn is_greedy(&self) -> bool {
        self.conditions.temperature == 0.0
    }
}

/// Evaluates sets of problems: generates responses and grades them.
pub struct Evaluator<'a> {
    /// Generates the responses.
    pub generator: &'a dyn Generator,
    /// The evaluation settings.
    pub settings: &'a EvalSettings,
    /// Stores graded responses as they arrive, and returns those of earlier processes. `None` keeps responses in memory only. With several
    /// ranks, only rank 0 may have one; it gets the responses of the others when all are complete or interrupted.
    pub store: Option<&'a Store>,
    /// The ranks, which deal the requests among themselves. Each gets all answers.
    pub world: &'a World,
}

/// A pass in progress.
struct Progress {
    /// The graded responses, by index in the pass; `None` for missing ones. All samples of a problem are adjacent.
    answers: Vec<Option<Answer>>,
    journal: Option<JsonLines>,
}

impl Evaluator<'_> {
    /// Returns the conditions of each pass, by the pass's name.
    pub fn conditions(&self, sets: &[EvalSet]) -> BTreeMap<String, Conditions> {
        let identity = self.generator.identity();
        let passes = sets.iter().flat_map(|set| set.decodings.iter().map(move |decoding| (set, *decoding)));
        passes.map(|(set, decoding)| (set.pass_name(decoding), Conditions::of(&identity, set, decoding, self.settings))).collect()
    }

    /// Runs all passes over all sets. Reports every response to `progress`, including stored ones.
    ///
    /// # Errors
    /// [`FailedRequests`] if some requests failed permanently; the remaining passes run first if the generator can still send requests.
    /// Also if the store or the generator fails, two problems of a set share an id, or responses are missing.
    pub fn evaluate(&self, sets: &[EvalSet], progress: &output::Progress) -> Result<Vec<Pass>> {
        let mut passes = Vec::new();
        let mut failed: Option<FailedRequests> = None;
        for (set, decoding) in sets.iter().flat_map(|set| set.decodings.iter().map(move |decoding| (set, *decoding))) {
            if failed.as_ref().is_some_and(|failed| failed.ended.is_some()) {
                break;
            }
            match self.pass(set, decoding, progress) {
                Ok(pass) => passes.push(pass),
                Err(error) => {
                    let later = error.downcast::<FailedRequests>()?;
                    failed = Some(match failed {
                        Some(earlier) => earlier.and(later),
                        None => later,
                    });
                }
            }
        }
        failed.map_or(Ok(passes), |failed| Err(failed.into()))
    }

    fn pass(&self, set: &EvalSet, decoding: Decoding, shown: &output::Progress) -> Result<Pass> {
        let _span = tracing::info_span!("evaluate", set = set.name, temperature = decoding.temperature).entered();
        let (start, name) = (Instant::now(), set.pass_name(decoding));
        let earlier = self.store.map_or_else(|| Ok(RecordedAnswers::new()), |store| store.recorded(&name))?;
        let known = self.world.from_first(known(set, decoding.samples, earlier)?)?;
        shown.begin(format!("evaluating {name}"));
        shown.expect(known.len().div_ceil(self.world.size()));
        shown.add_parts(known.iter().flatten().count());
        let missing: Vec<usize> = (0..known.len()).filter(|index| known[*index].is_none()).collect();
        let is_complete = missing.is_empty() && self.store.is_some_and(|store| store.is_complete(&name));
        let store = self.store.filter(|_| !is_complete);
        let journal = store.map(|store| store.journal(&name, known.iter().flatten())).transpose()?;
        let progress = Mutex::new(Progress { answers: known, journal });
        let grading_ns = AtomicU64::new(0);
        let own: Vec<usize> = self.world.share(missing.len()).map(|number| missing[number]).collect();
        let requests: Vec<EvalRequest> = own.iter().map(|index| request(set, decoding.samples, *index)).collect();
        let on_response = |request: usize, answered: Response| {
            let started = Instant::now();
            let answer = self.grade(set, &requests[request], answered);
            grading_ns.fetch_add(started.elapsed().as_nanos() as u64, Ordering::Relaxed);
            let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
            progress.journal.as_mut().map_or(Ok(()), |journal| journal.write(&answer))?;
            progress.answers[own[request]] = Some(answer);
            shown.add();
            Ok(())
        };
        let generated =
            if requests.is_empty() { Ok(()) } else { self.generator.generate(&requests, &self.generation(decoding), &on_response) };
        let generated = self.world.agree(generated);
        let Progress { mut answers, journal } = progress.into_inner().unwrap_or_else(PoisonError::into_inner);
        if generated.as_ref().err().is_none_or(|error| error.is::<Interrupted>()) {
            self.gather(&own, &mut answers, journal)?;
        }
        generated?;
        let answers: Vec<Answer> = answers.into_iter().flatten().collect();
        let expected = set.problems.len() * decoding.samples;
        ensure!(answers.len() == expected, "{name}: {} of {expected} responses are missing", expected - answers.len());
        shown.begin(format!("scoring {name}"));
        store.map_or(Ok(()), |store| store.finish(&name, &answers))?;
        let scoring = Instant::now();
        let score = Score::of(&answers, decoding.samples, self.settings.grader, &text_stats::words(&self.settings.reflection_words));
        let grading = Duration::from_nanos(grading_ns.into_inner()) + scoring.elapsed();
        if score.too_long > 0 {
            tracing::warn!(
                set = set.name,
                problems = score.too_long,
                "problems whose prompt does not fit the context length count as wrong"
            );
        }
        let conditions = Conditions::of(&self.generator.identity(), set, decoding, self.settings);
        let times = Times { answered: missing.len(), elapsed_s: start.elapsed().as_secs_f64(), grading_s: grading.as_secs_f64() };
        Ok(Pass { name, conditions, answers, score, times })
    }

    /// Gives every rank the answers of all ranks, and records those of the others. `own` has the indices of this rank's answers, some of
    /// which may be missing.
    fn gather(&self, own: &[usize], answers: &mut [Option<Answer>], mut journal: Option<JsonLines>) -> Result<()> {
        let generated = own.iter().filter_map(|index| Some((*index, answers[*index].clone()?))).collect::<Vec<(usize, Answer)>>();
        let gathered = self.world.gather(generated)?.into_iter().enumerate();
        for (index, answer) in gathered.filter(|(rank, _)| *rank != self.world.rank()).flat_map(|(_, answers)| answers) {
            journal.as_mut().map_or(Ok(()), |journal| journal.write(&answer))?;
            answers[index] = Some(answer);
        }
        Ok(())
    }

    fn generation(&self, decoding: Decoding) -> GenerationConfig {
        GenerationConfig {
            temperature: decoding.temperature,
            top_p: decoding.top_p,
            max_new_tokens: self.settings.max_new_tokens,
            seed: self.settings.seed,
        }
    }

    fn grade(&self, set: &EvalSet, request: &EvalRequest, answered: Response) -> Answer {
        let (problem, response) = (&request.problem, format!("{}{}", request.problem.prefill, answered.text));
        let settings = verify::Settings { mode: Mode::Eval, grader: self.settings.grader, after_think: false };
        let verdict = verify::verify_problem(problem, &response, &settings);
        // The fallback applies only without a box, so one verdict yields both accuracies.
        let boxed = verdict.extraction == Extraction::Boxed;
        let correct_strict = (self.settings.grader != Grader::Strict).then(|| {
            let ours = verify::verify_problem(problem, &response, &verify::Settings { grader: Grader::Strict, ..settings });
            ours.correct && ours.extraction == Extraction::Boxed
        });
        Answer {
            id: problem.id.clone(),
            subject: problem.subject.clone(),
            level: problem.level.clone(),
            sample: request.sample as usize,
            gold: problem.answer.clone(),
            extracted: verdict.extracted.filter(|_| boxed),
            correct: verdict.correct && boxed,
            correct_strict,
            correct_with_fallback: verdict.correct,
            tokens: answered.tokens,
            finish: answered.finish,
            style: set.classify.map(|classify| classify(&response).to_owned()),
            response,
        }
    }
}

/// Returns the request with index `index` in a pass.
fn request(set: &EvalSet, samples: usize, index: usize) -> EvalRequest {
    let (number, sample) = (index / samples, index % samples);
    EvalRequest { problem: set.problems[number].clone(), number: number as u32, sample: sample as u32 }
}

/// Returns the stored answers by index in the pass; `None` for missing ones.
///
/// # Errors
/// If two problems share an id.
fn known(set: &EvalSet, samples: usize, mut earlier: RecordedAnswers) -> Result<Vec<Option<Answer>>> {
    let mut ids = HashSet::new();
    let duplicate = set.problems.iter().find(|problem| !ids.insert(&problem.id));
    ensure!(
        duplicate.is_none(),
        "{}: two problems have the id {}; ids must be unique",
        set.name,
        duplicate.map_or("", |problem| &problem.id)
    );
    let keys = set.problems.iter().flat_map(|problem| (0..samples).map(move |sample| (problem.id.clone(), sample)));
    Ok(keys.map(|key| earlier.remove(&key)).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use anyhow::bail;

    use super::super::generator::{Identity, OnResponse};
    use super::*;
    use crate::dist::threads;
    use crate::flow::{FinishReason, Problem};

    /// Answers every problem correctly, last request first, but fails on the problem with the number `failing`.
    struct Oracle {
        failing: Option<u32>,
    }

    impl Generator for Oracle {
        fn identity(&self) -> Identity {
            Identity { model: "oracle".into(), ..Identity::default() }
        }

        fn generate(&self, requests: &[EvalRequest], generation: &GenerationConfig, on_response: OnResponse) -> Result<()> {
            for (index, request) in requests.iter().enumerate().rev().filter(|(_, request)| Some(request.number) != self.failing) {
                let text = format!("After {} thoughts: \\boxed{{{}}}", generation.max_new_tokens, request.problem.answer);
                on_response(index, Response { text, tokens: 5, finish: Some(FinishReason::Stop) })?;
            }
            match self.failing {
                Some(number) if requests.iter().any(|request| request.number == number) => bail!("no answer to problem {number}"),
                _ => Ok(()),
            }
        }
    }

    fn set() -> EvalSet {
        let problem =
            |number: usize| Problem { id: format!("p{number}"), question: "?".into(), answer: number.to_string(), ..Problem::default() };
        let problems = (0..6).map(|number| Arc::new(problem(number))).collect();
        EvalSet {
            name: "six".into(),
            problems,
            data_sha256: String::new(),
            decodings: vec![Decoding { samples: 2, ..Decoding::AVG_AT_8 }],
            classify: None,
        }
    }

    fn evaluate(failing: Option<u32>, store: &Store) -> Result<Pass> {
        let (generator, settings) = (Oracle { failing }, EvalSettings::default());
        let evaluator = Evaluator { generator: &generator, settings: &settings, store: Some(store), world: World::solo() };
        Ok(evaluator.evaluate(&[set()], &output::Progress::hidden())?.remove(0))
    }

    #[test]
    fn evaluate_keeps_all_other_answers_when_one_fails() {
        let folder = tempfile::tempdir().unwrap();
        let (generator, settings) = (Oracle { failing: None }, EvalSettings::default());
        let conditions = Evaluator { generator: &generator, settings: &settings, store: None, world: World::solo() }.conditions(&[set()]);
        let files = |name: &str| {
            let path = folder.path().join(name);
            (Store::create(&path, &conditions).unwrap(), path.join("six-t0.6x2.jsonl"))
        };
        let ((whole, expected), (partial, found)) = (files("whole"), files("partial"));
        assert_eq!(evaluate(None, &whole).unwrap().score.mean(), 1.0);
        assert_eq!(evaluate(Some(3), &partial).unwrap_err().to_string(), "no answer to problem 3");
        assert!(!found.exists());
        assert_eq!(partial.recorded("six-t0.6x2").unwrap().len(), 10);
        drop(partial);
        let pass = evaluate(None, &Store::resume(&folder.path().join("partial"), &conditions).unwrap()).unwrap();
        assert_eq!((pass.times.answered, pass.score.mean(), pass.answers[7].sample), (2, 1.0, 1));
        assert_eq!(std::fs::read(expected).unwrap(), std::fs::read(found).unwrap(), "in the order of the problems");
    }

    #[test]
    fn evaluate_on_several_ranks_records_what_one_would() {
        let folder = tempfile::tempdir().unwrap();
        let settings = EvalSettings::default();
        let evaluate = |name: &str, ranks: usize| {
            let path = folder.path().join(name);
            let results = threads::run(ranks, |world| {
                let generator = Oracle { failing: None };
                let evaluator = Evaluator { generator: &generator, settings: &settings, store: None, world: &world };
                let conditions = evaluator.conditions(&[set()]);
                let store = world.is_first().then(|| Store::create(&path, &conditions).unwrap());
                let passes = Evaluator { store: store.as_ref(), ..evaluator }.evaluate(&[set()], &output::Progress::hidden());
                passes.map(|mut passes| passes.remove(0).answers)
            });
            (results, path.join("six-t0.6x2.jsonl"))
        };
        let (alone, expected) = evaluate("alone", 1);
        let (together, found) = evaluate("together", 4);
        assert!(together.iter().all(|answers| answers.as_ref().unwrap() == alone[0].as_ref().unwrap()));
        assert_eq!(std::fs::read(expected).unwrap(), std::fs::read(found).unwrap());
    }

    /// Older versions recorded the CPU kernels as `fused`. Their evaluations can be resumed, because the kernels are the same.
    #[test]
    fn store_resumes_under_renamed_kernels() {
        let folder = tempfile::tempdir().unwrap();
        let conditions = |device: &str, kernels: &str| {
            let (generator, settings) = (Oracle { failing: None }, EvalSettings::default());
            let mut conditions =
                Evaluator { generator: &generator, settings: &settings, store: None, world: World::solo() }.conditions(&[set()]);
            for pass in conditions.values_mut() {
                (pass.identity.device, pass.identity.kernels) = (device.to_owned(), kernels.to_owned());
            }
            conditions
        };
        let resumes = |name: &str, device: &str, kernels: [&str; 2]| {
            let path = folder.path().join(name);
            drop(Store::create(&path, &conditions(device, kernels[0])).unwrap());
            Store::resume(&path, &conditions(device, kernels[1])).is_ok()
        };
        assert!(resumes("same", "cpu", ["plain", "plain"]));
        assert!(resumes("older", "cpu", ["fused", "plain"]));
        assert!(resumes("stock", "cpu", ["reference", "stock"]));
        assert!(!resumes("other", "cpu", ["reference", "plain"]));
        assert!(!resumes("gpu", "NVIDIA H200", ["fused", "stock"]));
    }

    /// The Qwen grader accepts a relative difference of 1e-4; ours does not.
    #[test]
    fn grade_also_records_the_strict_verdict() {
        let settings = EvalSettings { grader: Grader::Qwen, ..EvalSettings::default() };
        let evaluator = Evaluator { generator: &Oracle { failing: None }, settings: &settings, store: None, world: World::solo() };
        let graded = |answer: &str, response: &str| {
            let problem = Arc::new(Problem { answer: answer.into(), ..Problem::default() });
            let answered = Response { text: response.into(), tokens: 1, finish: Some(FinishReason::Stop) };
            let answer = evaluator.grade(&set(), &EvalRequest { problem, number: 0, sample: 0 }, answered);
            (answer.correct, answer.correct_strict)
        };
        assert_eq!(graded("7", r"\boxed{7}"), (true, Some(true)));
        assert_eq!(graded("7", r"\boxed{8}"), (false, Some(false)));
        assert_eq!(graded("12.8", r"\boxed{12.8001}"), (true, Some(false)));
    }

    #[test]
    fn known_rejects_duplicate_ids() {
        let mut twice = set();
        twice.problems.push(twice.problems[2].clone());
        assert!(known(&twice, 1, RecordedAnswers::new()).unwrap_err().to_string().contains("two problems have the id p2"));
    }
}
