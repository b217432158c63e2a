//! What a run is given: examples, their prompts, the reference, the date.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use crate::checkpoint::Model;
use crate::cli::source;
use crate::data::{Library, example, tiny};
use crate::flow::{Problem, Prompt};
use crate::kernels::Kernels;
use crate::model::{Decoder, parameters};
use crate::reward::Rewards;
use crate::text::{self, ChatSettings};
use crate::train::{PromptSettings, Replay, RunSettings};

/// The model that the KL term holds to, where it is not the policy itself.
pub fn reference(settings: &RunSettings, policy: &Model, kernels: &Arc<dyn Kernels>) -> Result<Option<Decoder>> {
    if settings.reference.is_empty() {
        return Ok(None);
    }
    if !settings.has_reference() {
        tell!("loss.kl and reward.kl are 0, so the reference {} is not used", settings.reference);
        return Ok(None);
    }
    let reference = source::load(&settings.reference, kernels)?.decoder;
    let (found, expected) = (reference.config.vocabulary, policy.decoder.config.vocabulary);
    ensure!(
        found == expected,
        "the reference {} has {found} rows of vocabulary, the policy {expected}: they do not compare",
        settings.reference
    );
    let (window, needed) = (reference.config.window, policy.decoder.config.window);
    ensure!(
        window >= needed,
        "the reference {} has a window of {window} tokens, the policy one of {needed}: it cannot score all",
        settings.reference
    );
    ensure!(
        !settings.reference_moves() || parameters::shapes(&reference.config) == parameters::shapes(&policy.decoder.config),
        "the reference {} has another shape than the policy, so it cannot follow it: set train.reference_every and reference_decay to 0",
        settings.reference
    );
    Ok(Some(reference))
}

/// The day on which a run begins is its day, however often it is resumed. Recorded rollouts need no template, unless sets are evaluated.
pub fn chat(prompt: &PromptSettings, renders: bool) -> Result<ChatSettings> {
    let template = Some(Path::new(&prompt.chat_template)).filter(|path| !path.as_os_str().is_empty());
    let date = if prompt.date.is_empty() { text::today() } else { prompt.date.clone() };
    source::chat_settings(template, Some(date), renders)
}

/// The training examples; those of the embedded model by their ids, or so many of its training problems.
pub fn examples(settings: &RunSettings, library: &Library) -> Result<Vec<Problem>> {
    let is_rewarded_by_label = Rewards::new(&settings.reward, settings.rollout.max_new)?.needs_label();
    let needs_label = is_rewarded_by_label && settings.reward.label.is_empty();
    let of_tiny = match settings.example.strip_prefix("tiny/train/") {
        Some(count) => {
            let count = count.parse().ok().filter(|count| *count > 0);
            let count = count.with_context(|| format!("{} names no number of problems; 256 are tiny/train/256", settings.example))?;
            Some(tiny::problems(tiny::Split::Train, count, settings.seed)?)
        }
        // Ids such as tiny/maximum/38,91,70 have commas of their own.
        None => settings.example.replace(",tiny/", "\ntiny/").lines().map(|id| Some(tiny::by_id(id)?.problem())).collect(),
    };
    let mut problems = match of_tiny {
        Some(problems) => problems,
        None if settings.example.starts_with("tiny/") => {
            let subjects = tiny::SUBJECTS.map(|subject| subject.name).join(", ");
            bail!(
                "{} is no problem of the embedded model; one is tiny/addition/334+556, 256 are tiny/train/256; subjects are {subjects}",
                settings.example
            )
        }
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
        tell!("{} of {all} examples have no answer and are left out", all - problems.len());
    }
    Ok(problems)
}

/// The examples as the model reads them.
pub fn prompts(settings: &RunSettings, model: &Model, problems: Vec<Problem>) -> Result<Vec<Prompt>> {
    let window = model.decoder.config.window;
    let prompt = |problem: Problem| {
        let instruction = settings.prompt.instruction_for(&problem.question).to_owned();
        let prompt = model.text.prompt(Arc::new(problem), &instruction)?;
        let (tokens, max_new) = (prompt.ids.len(), settings.rollout.max_new);
        ensure!(tokens > 0, "{} is an empty prompt", prompt.problem.id);
        model.check_tokens(prompt.ids.iter()).with_context(|| format!("the prompt of {}", prompt.problem.id))?;
        ensure!(
            tokens + max_new <= window,
            "{} is a prompt of {tokens} tokens; with rollout.max_new = {max_new} it exceeds the model's window of {window}: set rollout.max_new to at most {}",
            prompt.problem.id,
            window.saturating_sub(tokens)
        );
        Ok(prompt)
    };
    problems.into_iter().map(prompt).collect()
}

/// A recording as the policy can learn from it: its padding cut, and, before the first step, its log-probabilities held against the policy's.
pub fn fitting(mut replay: Replay, settings: &RunSettings, policy: &Model, is_new: bool) -> Result<Replay> {
    let path = &settings.rollout.replay;
    let cut = replay.cut_padding(&policy.end_tokens)?;
    if cut > 0 {
        tell!("{path}: {cut} responses are padded after their first end token and were cut there");
    }
    replay.check(policy.decoder.config.vocabulary, policy.decoder.config.window)?;
    if is_new {
        let temperature = replay.temperature(1).unwrap_or(settings.rollout.temperature);
        let gap = replay.gap(&policy.decoder, temperature, settings.train.micro_batch_tokens)?;
        replay.judge(gap, settings.rollout.replay_gap, temperature)?.iter().for_each(|told| tell!("{path}: {told}"));
    }
    Ok(replay)
}
