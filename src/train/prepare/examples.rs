//! What a run is trained on and evaluated on: its examples and its sets, by the names that the settings have for them.

use anyhow::{Context, Result, bail, ensure};

use super::Need;
use crate::data::{Library, example, tiny};
use crate::eval::{EvalSet, sets};
use crate::flow::Problem;
use crate::reward::Rewards;
use crate::tiny::ways;
use crate::train::RunSettings;
use crate::train::history::BY_MEAN;
use crate::usage::usage;

/// Characters of the question that a plan takes in place of an example that is not here.
const USUAL_QUESTION: usize = 480;

/// The examples; for a plan, a question of the usual length where nobody named one and the default cannot be had.
pub(super) fn problems(settings: &RunSettings, library: &Library, need: Need, tell: &dyn Fn(&str)) -> Result<Vec<Problem>> {
    let is_default = settings.example == RunSettings::defaults_for(&settings.model).example;
    match examples(settings, library, tell) {
        Err(error) if is_default && need == (Need::Sizes { stand_in: true }) => {
            tell(&format!("{error:#}\nplanned with a question of {USUAL_QUESTION} characters in its place"));
            let id = settings.example.clone();
            Ok(vec![Problem { id, question: "?".repeat(USUAL_QUESTION), answer: "?".into(), ..Problem::default() }])
        }
        examples => usage(examples),
    }
}

/// The training examples; those of the embedded model by their ids, or so many of its training problems.
pub(super) fn examples(settings: &RunSettings, library: &Library, tell: &dyn Fn(&str)) -> Result<Vec<Problem>> {
    let is_rewarded_by_label = Rewards::new(&settings.reward, settings.rollout.max_new)?.needs_label();
    let needs_label = is_rewarded_by_label && settings.reward.label.is_empty();
    let mut problems = match of_tiny(settings)? {
        Some(problems) => problems,
        None if needs_label => example::resolve(&settings.example, library)?,
        None => example::resolve_questions(&settings.example, library)?,
    };
    let all = problems.len();
    // Without a policy loss there is nothing to be right about.
    if needs_label && settings.loss.policy != 0.0 {
        problems.retain(|problem| !problem.answer.trim().is_empty());
    }
    ensure!(!problems.is_empty(), "{} has no answer to learn from; give one with --label, or a reward that needs none", settings.example);
    if problems.len() < all {
        tell(&format!("{} of {all} examples have no answer and are left out", all - problems.len()));
    }
    Ok(problems)
}

/// Problems of the embedded model; none where the name is not of one.
fn of_tiny(settings: &RunSettings) -> Result<Option<Vec<Problem>>> {
    let name = &settings.example;
    if let Some(count) = name.strip_prefix("tiny/train/") {
        let count = count.parse().ok().filter(|count| *count > 0);
        let count = count.with_context(|| format!("{name} names no number of problems; 256 are tiny/train/256"))?;
        return Ok(Some(tiny::problems(tiny::Split::Train, count, settings.seed)?));
    }
    // Ids such as tiny/maximum/38,91,70 have commas of their own.
    let problems: Option<Vec<Problem>> = name.replace(",tiny/", "\ntiny/").lines().map(|id| Some(tiny::by_id(id)?.problem())).collect();
    if problems.is_none() && name.starts_with("tiny/") {
        let subjects = tiny::SUBJECTS.iter().map(|subject| subject.name).collect::<Vec<_>>().join(", ");
        bail!("{name} is no problem of the embedded model; one is tiny/addition/334+556, 256 are tiny/train/256; subjects are {subjects}")
    }
    Ok(problems)
}

/// What is evaluated; for a plan, nothing where the default cannot be had.
pub(super) fn evaluated(settings: &RunSettings, library: &Library, need: Need, tell: &dyn Fn(&str)) -> Result<Vec<EvalSet>> {
    let is_default = settings.eval.benchmarks == RunSettings::defaults_for(&settings.model).eval.benchmarks;
    let mut sets = match sets::by_name(&settings.eval.benchmarks, settings.eval.limit, library, ways::name_of) {
        Err(error) if is_default && matches!(need, Need::Sizes { .. }) => {
            tell(&format!("{error:#}\nplanned without evaluation"));
            Vec::new()
        }
        sets => usage(sets)?,
    };
    usage(decoded(settings, &mut sets))?;
    Ok(sets)
}

/// Has the sets decoded as the settings say, and refuses a best checkpoint by a pass that there is not.
pub(super) fn decoded(settings: &RunSettings, sets: &mut [EvalSet]) -> Result<()> {
    sets::decode(sets, &settings.eval.decoding)?;
    let chosen = &settings.eval.best_by;
    let passes = sets.iter().flat_map(|set| set.decodings.iter().map(|decoding| set.pass_name(*decoding)));
    let is_one_each = sets.len() > 1 && sets.iter().all(|set| set.decodings.len() == 1);
    let mean = is_one_each.then(|| BY_MEAN.to_owned());
    let known: Vec<String> = sets.iter().map(|set| set.name.clone()).chain(passes).chain(mean).collect();
    if !chosen.is_empty() && !known.contains(chosen) {
        let expected = if known.is_empty() { "eval.benchmarks is empty".to_owned() } else { format!("known are {}", known.join(", ")) };
        bail!("eval.best_by is {chosen}, which is not evaluated; {expected}");
    }
    Ok(())
}
