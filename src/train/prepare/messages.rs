//! Describes a prepared run to the user.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::Result;

use super::Prepared;
use crate::eval::sets::EvalSet;
use crate::flow::Problem;
use crate::output::Level;
use crate::reward::Rewards;
use crate::text::Text;
use crate::train::prompt_format::{self, PromptFormats, requested_formats};
use crate::train::{RunSettings, algorithm};
use crate::verify::Grader;

impl Prepared<'_> {
    /// Returns a one-line description of the run: examples, rollouts per step, steps, updates and evaluation.
    pub fn headline(&self) -> String {
        let Self { settings, replay, sets, .. } = self;
        let (groups, size) = (settings.rollout.groups, settings.rollout.group_size);
        let rollouts = format!(" x {size} responses = {} rollouts per step", groups * size);
        let examples = match (&self.problems[..], replay) {
            (_, Some(replay)) => {
                format!(
                    "{} of {} on {}{rollouts}",
                    pluralized(replay.len(), "recorded step"),
                    settings.rollout.replay,
                    pluralized(groups, "group")
                )
            }
            ([problem], _) => {
                let text = format!("{}: \"{}\", {}", problem.id, excerpt(&problem.question), answer(settings, problem));
                format!("1 example x {}{rollouts} ({text})", pluralized(groups, "group"))
            }
            (several, _) if groups % several.len() == 0 => {
                let count = several.len();
                format!("{count} examples x {}{rollouts}", pluralized(groups / count, "group"))
            }
            (several, _) => format!("{} examples in turn on {}{rollouts}", several.len(), pluralized(groups, "group")),
        };
        let evaluated: Vec<String> = sets.iter().map(|set| format!("{} ({} problems)", set.name, set.problems.len())).collect();
        let evaluation = match (evaluated.is_empty(), settings.eval.every) {
            (true, _) => "no evaluation".to_owned(),
            (false, 0) => format!("evaluation of {} before and after", evaluated.join(", ")),
            (false, every) => format!("evaluation of {} before and every {every} steps", evaluated.join(", ")),
        };
        let lora = &settings.lora;
        let adapters =
            if lora.is_on() { format!(" and LoRA (rank {}, alpha {})", lora.rank, lora.effective_alpha()) } else { String::new() };
        format!(
            "{} with {}{adapters}: {examples}; {}, {} each; {evaluation}",
            settings.algo,
            settings.model,
            pluralized(settings.train.steps as usize, "step"),
            pluralized(settings.train.updates_per_rollout, "update"),
        )
    }

    /// Returns messages for the user: the opening, changed labels, and warnings, also about training problems among the held-out ones; as
    /// details, the headline, the algorithm's settings and notes.
    ///
    /// # Errors
    /// If the [opening](Self::opening) fails, or `algo` is not a known algorithm.
    pub fn messages(&self) -> Result<Vec<(Level, String)>> {
        let opening = self.opening()?.map(|line| (Level::Info, line));
        let expansion = algorithm::by_name(&self.settings.algo)?.expansion(&self.settings)?;
        let details = [self.headline(), expansion].map(|line| (Level::Detail, line));
        let labels = labels(self).map(|line| (Level::Info, line));
        let overlaps = overlaps(&self.problems, &self.sets).into_iter().map(|line| (Level::Warning, line));
        Ok(opening.into_iter().chain(details).chain(notes(&self.settings)).chain(labels).chain(overlaps).collect())
    }
}

/// Returns notes on surprising settings: that the published graders are used, and `RunSettings::warnings`.
fn notes(settings: &RunSettings) -> Vec<(Level, String)> {
    let is_graded_as_published = (settings.reward.grader, settings.eval.grader) == (Grader::Deepscaler, Grader::Qwen);
    let graders = "graded as the published run was, so that results are comparable: rewards by deepscaler, evaluations by qwen; \
                   --set reward.grader=strict --set eval.grader=strict uses our grader (docs/graders.md)"
        .to_owned();
    let warnings = settings.warnings().into_iter().map(|warning| (Level::Warning, warning));
    is_graded_as_published.then_some((Level::Detail, graders)).into_iter().chain(warnings).collect()
}

/// Returns a warning for each set that contains training problems. Compares the words of the questions.
fn overlaps(trained: &[Problem], sets: &[EvalSet]) -> Vec<String> {
    fn words(problem: &Problem) -> Vec<&str> {
        problem.question.split_whitespace().collect()
    }
    let trained: HashSet<Vec<&str>> = trained.iter().map(words).collect();
    let warning = |set: &EvalSet| {
        let shared: Vec<&str> =
            set.problems.iter().filter(|problem| trained.contains(&words(problem))).map(|problem| problem.id.as_str()).collect();
        let (count, all) = (shared.len(), set.problems.len());
        let (is, it_is, counts) =
            if count == 1 { ("is a training problem", "it is", "counts") } else { ("are training problems", "they are", "count") };
        let first = shared.into_iter().take(3).collect::<Vec<_>>().join(", ");
        let more = if count > 3 { ", ..." } else { "" };
        (count > 0).then(|| {
            format!(
                "{count} of the {} in {} {is} ({first}{more}): {it_is} not held out, but {counts} in the accuracy",
                pluralized(all, "problem"),
                set.name
            )
        })
    };
    sets.iter().filter_map(warning).collect()
}

/// Describes the answers that count as correct.
pub(super) fn answer(settings: &RunSettings, problem: &Problem) -> String {
    let any = std::iter::once(&problem.answer).chain(&problem.alternatives).map(String::as_str).collect::<Vec<_>>().join(" or ");
    match any.as_str() {
        "" => "no label".to_owned(),
        label if settings.reward.label.is_empty() => label.to_owned(),
        label => format!("label {label}"),
    }
}

/// Lists the first five labels that replace examples' own answers; `None` if there are none.
fn labels(prepared: &Prepared) -> Option<String> {
    let (reward, labels) = (&prepared.settings.reward, &prepared.labels);
    let first: Vec<String> = labels.iter().take(5).map(|one| format!("{} {} instead of {}", one.example, one.label, one.answer)).collect();
    let more = if labels.len() > first.len() { ", ..." } else { "" };
    let noise = format!("reward.label_noise {}, reward.label_seed {}", reward.label_noise, reward.label_seed);
    (!labels.is_empty()).then(|| {
        format!(
            "{} of {} changed ({}): {}{more}; all are in {}",
            labels.len(),
            pluralized(prepared.problems.len(), "label"),
            if reward.label.is_empty() { noise.as_str() } else { "reward.label" },
            first.join(", "),
            prepared.root.join("labels.jsonl").display()
        )
    })
}

/// Returns messages about prompts that request an answer format. Checks the rendered prompt if the model's template is available, or else
/// the question with its instruction.
pub(super) fn formats(prepared: &Prepared, text: Option<&Text>) -> Result<Vec<(Level, String)>> {
    let settings = &prepared.settings;
    if prepared.replay.is_some() {
        return Ok(Vec::new());
    }
    let reads_boxes = settings.loss.policy != 0.0 && Rewards::new(&settings.reward, settings.rollout.max_new_tokens)?.reads_boxes();
    let mut prompts = Vec::with_capacity(prepared.problems.len());
    for problem in &prepared.problems {
        let instruction = settings.prompt.instruction_for(&problem.question);
        let plain = || format!("{}{instruction}", problem.question);
        // A template may reject the question; that error is reported when the prompts are built.
        let rendered = text.and_then(|text| text.prompt(Arc::new(problem.clone()), instruction).ok());
        prompts.push(PromptFormats {
            id: problem.id.clone(),
            is_left_out: instruction.is_empty() && !settings.prompt.instruction.is_empty(),
            formats: requested_formats(&rendered.map_or_else(plain, |prompt| prompt.text)),
        });
    }
    Ok(prompt_format::messages(&prompts, reads_boxes))
}

/// Returns the beginning of a text, as one line of at most 60 characters.
fn excerpt(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= 60 { line } else { line.chars().take(57).chain("...".chars()).collect() }
}

/// Formats a count as `1 step` or `2 steps`.
pub(super) fn pluralized(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::KlEstimator;

    #[test]
    fn overlaps_counts_training_problems_in_a_set() {
        let problem = |id: &str, question: &str| Problem { id: id.into(), question: question.into(), ..Problem::default() };
        let set = |name: &str, questions: &[&str]| EvalSet {
            name: name.into(),
            problems: (1..).zip(questions).map(|(number, question)| Arc::new(problem(&format!("{name}/{number}"), question))).collect(),
            data_sha256: String::new(),
            decodings: Vec::new(),
            classify: None,
        };
        let sets = [set("clean", &["What is 1+3?"]), set("held-out", &["What is 2+2?", "What  is\n1+2?"])];
        let found = overlaps(&[problem("a", "What is 1+2?")], &sets);
        assert_eq!(
            found,
            ["1 of the 2 problems in held-out is a training problem (held-out/2): it is not held out, but counts in the accuracy"]
        );
    }

    #[test]
    fn notes_mention_published_graders_and_k1_in_the_loss() {
        let published = notes(&RunSettings::published());
        assert!(published.len() == 1 && published[0].1.starts_with("graded as the published run was"), "{published:?}");
        let mut settings = RunSettings::demonstration();
        assert!(notes(&settings).is_empty());
        settings.loss.kl_estimator = KlEstimator::K1;
        let warned = notes(&settings);
        assert!(warned.len() == 1 && warned[0].0 == Level::Warning && warned[0].1.starts_with("loss.kl_estimator is k1"), "{warned:?}");
        // Without the KL term, its estimator does not matter.
        settings.loss.kl = 0.0;
        assert!(notes(&settings).is_empty());
    }
}
