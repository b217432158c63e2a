//! The responses to the training examples at one step: right and wrong ones, equal texts together.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use console::Style;

use super::ShowArgs;
use super::page::Page;
use super::source::nearest_step;
use super::verdict::Graded;
use crate::flow::Problem;
use crate::output::escape_controls;
use crate::report::{KnownProblems, RolloutRecord, RunRecord};
use crate::usage::usage;
use crate::verify::{Mode, Settings};

/// Number of different responses of each verdict without `-n`.
const DEFAULT_COUNT: usize = 3;

/// Shows the rollouts of a step, or of the nearest one with records.
///
/// # Errors
/// If no step has rollouts, or those of the step cannot be read.
pub fn show(page: &mut Page, run: &RunRecord, wanted: u64, args: &ShowArgs) -> Result<()> {
    let steps = run.rollout_steps();
    let none = || format!("{} has no recorded rollouts: none of its steps is finished", run.folder.root().display());
    let step = usage(nearest_step(&steps, wanted).with_context(none))?;
    if step != wanted {
        page.line(format!("step {wanted} has no recorded rollouts; the nearest step with some is {step}"));
    }
    let rollouts = run.rollouts(step)?;
    let mut examples: Vec<&str> = rollouts.iter().map(|rollout| rollout.example.as_str()).collect();
    examples.sort_unstable();
    examples.dedup();
    let right = rollouts.iter().filter(|rollout| rollout.correct).count();
    let of = match &*examples {
        [""] => String::new(),
        [one] => format!(" to {}", escape_controls(one)),
        several => format!(" to {} examples", several.len()),
    };
    page.line(Style::new().bold().apply_to(format!("step {step}: {} responses{of}, {right} right", rollouts.len())));
    let known = KnownProblems::examples(run);
    let problems: BTreeMap<&str, Problem> = examples
        .iter()
        .map(|id| (*id, known.example_as_graded(id).unwrap_or_else(|| Problem { id: (*id).to_owned(), ..Problem::default() })))
        .collect();
    if let [only] = &*examples {
        let problem = &problems[only];
        page.wrapped(2, &Style::new(), &problem.question);
        page.wrapped(2, &Style::new().dim(), &format!("gold {}", problem.answer));
    }
    let settings = Settings { mode: Mode::Reward, grader: run.settings.reward.grader, after_think: run.settings.reward.after_think };
    for correct in [true, false].into_iter().filter(|correct| args.wants(*correct)) {
        let part: Vec<&RolloutRecord> = rollouts.iter().filter(|rollout| rollout.correct == correct).collect();
        if part.is_empty() {
            continue;
        }
        let distinct = by_text(&part);
        let shown = args.n.unwrap_or(DEFAULT_COUNT).min(distinct.len());
        page.space();
        let word = if correct { "right" } else { "wrong" };
        page.line(Style::new().bold().apply_to(format!("{word}: {} responses, {} different; {shown} shown", part.len(), distinct.len())));
        for (rollout, count) in distinct.iter().take(shown) {
            let mut graded = Graded::of_rollout(rollout);
            graded.facts.extend((*count > 1).then(|| format!("{count} times")));
            let title = if examples.len() > 1 { escape_controls(&rollout.example).into_owned() } else { String::new() };
            graded.show(page, &title, &problems[rollout.example.as_str()], &settings);
        }
    }
    Ok(())
}

/// Groups responses with the same example and text: the first of each with their number, the most frequent first.
fn by_text<'a>(rollouts: &[&'a RolloutRecord]) -> Vec<(&'a RolloutRecord, usize)> {
    let mut groups: Vec<(&RolloutRecord, usize)> = Vec::new();
    let mut index_of: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for rollout in rollouts {
        let index = *index_of.entry((&rollout.example, &rollout.text)).or_insert_with(|| {
            groups.push((rollout, 0));
            groups.len() - 1
        });
        groups[index].1 += 1;
    }
    groups.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_text_counts_equal_responses() {
        let rollout = |example: &str, text: &str| RolloutRecord { example: example.into(), text: text.into(), ..RolloutRecord::default() };
        let all = [rollout("a", "1"), rollout("a", "2"), rollout("b", "2"), rollout("a", "2")];
        let found: Vec<(&str, &str, usize)> =
            by_text(&all.iter().collect::<Vec<_>>()).iter().map(|(one, count)| (&*one.example, &*one.text, *count)).collect();
        assert_eq!(found, [("a", "2", 2), ("a", "1", 1), ("b", "2", 1)]);
    }
}
