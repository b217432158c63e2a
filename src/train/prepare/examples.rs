//! Resolves names in the settings to training examples and benchmarks.

use anyhow::{Context, Result, bail, ensure};

use super::PrepareFor;
use crate::data::{DataStore, example, tiny};
use crate::eval::{EvalSet, sets};
use crate::flow::Problem;
use crate::reward::Rewards;
use crate::tiny::answer_style;
use crate::train::RunSettings;
use crate::train::history::BY_MEAN;
use crate::usage::usage;

/// The length in characters of the question that replaces an unavailable example in a plan.
const TYPICAL_QUESTION: usize = 480;

/// Returns the training examples. For a plan with `stand_in`, a question of typical length replaces an unavailable default example.
pub(super) fn problems(settings: &RunSettings, store: &DataStore, need: PrepareFor, print: &dyn Fn(&str)) -> Result<Vec<Problem>> {
    let is_default = settings.example == RunSettings::defaults_for(&settings.model).example;
    match examples(settings, store, print) {
        Err(error) if is_default && need == (PrepareFor::Plan { stand_in: true }) => {
            print(&format!("{error:#}\nplanned with a question of {TYPICAL_QUESTION} characters instead"));
            let id = settings.example.clone();
            Ok(vec![Problem { id, question: "?".repeat(TYPICAL_QUESTION), answer: "?".into(), ..Problem::default() }])
        }
        examples => usage(examples),
    }
}

/// Returns the training examples: problems of the embedded model, or examples by name or file. Leaves out examples without an answer if
/// rewards need one.
pub(super) fn examples(settings: &RunSettings, store: &DataStore, print: &dyn Fn(&str)) -> Result<Vec<Problem>> {
    let reward_needs_label = Rewards::new(&settings.reward, settings.rollout.max_new_tokens)?.needs_label();
    let needs_label = reward_needs_label && settings.reward.label.is_empty();
    let mut problems = match tiny_problems(settings)? {
        Some(problems) => problems,
        None if needs_label => example::resolve(&settings.example, store)?,
        None => example::resolve_unlabeled(&settings.example, store)?,
    };
    let all = problems.len();
    // Without a policy loss, no reward needs an answer.
    if needs_label && settings.loss.policy != 0.0 {
        problems.retain(|problem| !problem.answer.trim().is_empty());
    }
    ensure!(
        !problems.is_empty(),
        "{} has no answer to learn from; set one with --label, or choose a reward that needs none",
        settings.example
    );
    if problems.len() < all {
        print(&format!("{} of {all} examples have no answer and are left out", all - problems.len()));
    }
    Ok(problems)
}

/// Returns the problems of the embedded model that `example` names; `None` if it names something else.
fn tiny_problems(settings: &RunSettings) -> Result<Option<Vec<Problem>>> {
    let name = &settings.example;
    if let Some(count) = name.strip_prefix("tiny/train/") {
        let count = count.parse().ok().filter(|count| *count > 0);
        let count =
            count.with_context(|| format!("{name} does not end with a number of problems: for 256 problems, write tiny/train/256"))?;
        return Ok(Some(tiny::problems(tiny::Split::Train, count, settings.seed)?));
    }
    // Ids such as tiny/maximum/38,91,70 contain commas.
    let problems: Option<Vec<Problem>> = name.replace(",tiny/", "\ntiny/").lines().map(|id| Some(tiny::by_id(id)?.problem())).collect();
    if problems.is_none() && name.starts_with("tiny/") {
        let subjects = tiny::SUBJECTS.iter().map(|subject| subject.name).collect::<Vec<_>>().join(", ");
        bail!(
            "{name} is not a problem of the embedded model: write tiny/addition/334+556 for one problem, or tiny/train/256 for 256; subjects are {subjects}"
        )
    }
    Ok(problems)
}

/// Returns the benchmarks to evaluate on. For a plan, unavailable default benchmarks are left out.
pub(super) fn evaluated(settings: &RunSettings, store: &DataStore, need: PrepareFor, print: &dyn Fn(&str)) -> Result<Vec<EvalSet>> {
    let is_default = settings.eval.benchmarks == RunSettings::defaults_for(&settings.model).eval.benchmarks;
    let mut sets = match sets::by_name(&settings.eval.benchmarks, settings.eval.limit, store, answer_style::style_name) {
        Err(error) if is_default && matches!(need, PrepareFor::Plan { .. }) => {
            print(&format!("{error:#}\nplanned without evaluation"));
            Vec::new()
        }
        sets => usage(sets)?,
    };
    usage(decoded(settings, &mut sets))?;
    Ok(sets)
}

/// Applies `eval.decoding` to each benchmark, and checks `eval.best_by`.
///
/// # Errors
/// If the decoding is invalid, or `eval.best_by` names a benchmark or pass that is not evaluated.
pub(super) fn decoded(settings: &RunSettings, sets: &mut [EvalSet]) -> Result<()> {
    sets::decode(sets, &settings.eval.decoding)?;
    let chosen = &settings.eval.best_by;
    let passes = sets.iter().flat_map(|set| set.decodings.iter().map(|decoding| set.pass_name(*decoding)));
    let has_one_pass_each = sets.len() > 1 && sets.iter().all(|set| set.decodings.len() == 1);
    let mean = has_one_pass_each.then(|| BY_MEAN.to_owned());
    let known: Vec<String> = sets.iter().map(|set| set.name.clone()).chain(passes).chain(mean).collect();
    if !chosen.is_empty() && !known.contains(chosen) {
        let expected =
            if known.is_empty() { "eval.benchmarks is empty".to_owned() } else { format!("expected one of {}", known.join(", ")) };
        bail!("eval.best_by is {chosen}, which is not evaluated; {expected}");
    }
    Ok(())
}
