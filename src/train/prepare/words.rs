//! What is about to happen, in words.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;

use super::Prepared;
use crate::data::example;
use crate::eval::EvalSet;
use crate::flow::Problem;
use crate::reward::Rewards;
use crate::text::Text;
use crate::train::prompt_format::{self, Asking, asked};
use crate::train::{Replay, RunSettings};
use crate::verify::Grader;

/// What is about to happen, in words and in every unit that people count in.
pub fn plan(settings: &RunSettings, problems: &[Problem], replay: Option<&Replay>, sets: &[EvalSet]) -> String {
    let (rows, size) = (settings.rollout.groups, settings.rollout.group_size);
    let rollouts = format!(" = {} rollouts a step, {rows} groups of {size}", rows * size);
    let examples = match (problems, replay) {
        (_, Some(replay)) => {
            format!("{} of {} on {rows} rows x {size}{rollouts}", counted(replay.len(), "recorded step"), settings.rollout.replay)
        }
        ([problem], _) => {
            let text = format!("{}: \"{}\", {}", problem.id, shortened(&problem.question), answer(settings, problem));
            format!("1 example x {rows} rows x {size}{rollouts} ({text})")
        }
        (several, _) if rows % several.len() == 0 => {
            let count = several.len();
            format!("{count} examples x {} x {size}{rollouts}", counted(rows / count, "row"))
        }
        (several, _) => format!("{} examples in turns on {rows} rows x {size}{rollouts}", several.len()),
    };
    let evaluated: Vec<String> = sets.iter().map(|set| format!("{} ({} problems)", set.name, set.problems.len())).collect();
    let evaluation = match (evaluated.is_empty(), settings.eval.every) {
        (true, _) => "no evaluation".to_owned(),
        (false, 0) => format!("evaluation of {} before and after", evaluated.join(", ")),
        (false, every) => format!("evaluation of {} before and every {every} steps", evaluated.join(", ")),
    };
    let lora = &settings.lora;
    let adapters = if lora.is_on() { format!(" and LoRA (rank {}, alpha {})", lora.rank, lora.effective_alpha()) } else { String::new() };
    format!(
        "{} with {}{adapters}: {examples}; {}, {} each; {evaluation}",
        settings.algo,
        settings.model,
        counted(settings.train.steps as usize, "step"),
        counted(settings.train.updates_per_rollout, "update"),
    )
}

/// What somebody might not expect of these settings: whose graders judge, where they are not ours, and what `RunSettings::warnings` has.
pub fn notes(settings: &RunSettings) -> Vec<String> {
    let is_graded_as_published = (settings.reward.grader, settings.eval.grader) == (Grader::Deepscaler, Grader::Qwen);
    let graders = "graded as the published run was, so that figures compare: rewards by deepscaler, evaluations by qwen; \
                   --set reward.grader=strict --set eval.grader=strict takes ours (docs/graders.md)"
        .to_owned();
    let warnings = settings.warnings().into_iter().map(|warning| format!("warning: {warning}"));
    is_graded_as_published.then_some(graders).into_iter().chain(warnings).collect()
}

/// What the example's answer is taken to be.
fn answer(settings: &RunSettings, problem: &Problem) -> String {
    let any = std::iter::once(&problem.answer).chain(&problem.alternatives).map(String::as_str).collect::<Vec<_>>().join(" or ");
    match any.as_str() {
        "" => "no label".to_owned(),
        label if settings.reward.label.is_empty() => label.to_owned(),
        label => format!("label {label}"),
    }
}

/// The labels that are not the examples' own, the first of them by name.
pub fn tell_labels(prepared: &Prepared) {
    let (reward, labels) = (&prepared.settings.reward, &prepared.labels);
    if labels.is_empty() {
        return;
    }
    let first: Vec<String> = labels.iter().take(5).map(|one| format!("{} {} instead of {}", one.example, one.label, one.answer)).collect();
    let more = if labels.len() > first.len() { ", ..." } else { "" };
    let noise = format!("reward.label_noise {}, reward.label_seed {}", reward.label_noise, reward.label_seed);
    tell!(
        "{} of {} changed ({}): {}{more}; all are in {}",
        labels.len(),
        counted(prepared.problems.len(), "label"),
        if reward.label.is_empty() { noise.as_str() } else { "reward.label" },
        first.join(", "),
        prepared.root.join("labels.jsonl").display()
    );
}

/// Which questions ask for their answer in a format of their own, and what that means: as the model reads them where its template is at hand.
pub fn tell_formats(prepared: &Prepared, text: Option<&Text>) -> Result<()> {
    let settings = &prepared.settings;
    if prepared.replay.is_some() {
        return Ok(());
    }
    let reads_boxes = settings.loss.policy != 0.0 && Rewards::new(&settings.reward, settings.rollout.max_new)?.reads_boxes();
    let mut prompts = Vec::with_capacity(prepared.problems.len());
    for problem in &prepared.problems {
        let instruction = settings.prompt.instruction_for(&problem.question);
        let plain = || format!("{}{instruction}", problem.question);
        // A template may refuse the question; that error is reported where the prompts are made.
        let rendered = text.and_then(|text| text.prompt(Arc::new(problem.clone()), instruction).ok());
        prompts.push(Asking {
            id: problem.id.clone(),
            is_left_out: instruction.is_empty() && !settings.prompt.instruction.is_empty(),
            formats: asked(&rendered.map_or_else(plain, |prompt| prompt.text)),
        });
    }
    prompt_format::lines(&prompts, reads_boxes).iter().for_each(|line| tell!("{line}"));
    Ok(())
}

/// The beginning of a text, in one line.
fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= 60 { line } else { line.chars().take(57).chain("...".chars()).collect() }
}

/// `1 step`, `2 steps`.
fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// `runs/MODEL-EXAMPLE`, numbered where that is taken.
pub fn free_folder(settings: &RunSettings) -> PathBuf {
    let model = Path::new(&settings.model).file_name().map_or_else(|| settings.model.clone(), |name| name.to_string_lossy().into_owned());
    let example = example::title(&settings.example);
    let example = Path::new(&example).file_stem().map_or_else(|| example.clone(), |name| name.to_string_lossy().into_owned());
    let name: String =
        format!("{model}-{example}").chars().map(|c| if c.is_ascii_alphanumeric() || "+-._".contains(c) { c } else { '-' }).collect();
    let numbered = (2..).map(|n| Path::new("runs").join(format!("{name}-{n}")));
    std::iter::once(Path::new("runs").join(&name)).chain(numbered).find(|path| !path.exists()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::KlEstimator;

    #[test]
    fn notes_tell_published_graders_and_k1_in_the_loss() {
        let published = notes(&RunSettings::published());
        assert!(published.len() == 1 && published[0].starts_with("graded as the published run was"), "{published:?}");
        let mut settings = RunSettings::demonstration();
        assert!(notes(&settings).is_empty());
        settings.loss.kl_estimator = KlEstimator::K1;
        let warned = notes(&settings);
        assert!(warned.len() == 1 && warned[0].starts_with("warning: loss.kl_estimator is k1"), "{warned:?}");
        // Without the term there is nothing to warn about.
        settings.loss.kl = 0.0;
        assert!(notes(&settings).is_empty());
    }
}
