//! What can be shown: the steps with rollouts, the evaluations and their passes, and the commands to type next.

use std::path::Path;

use console::Style;

use super::page::Page;
use crate::metrics::{percent, table};
use crate::output::escape_controls;
use crate::report::{EvaluationRecord, EvaluationScores, RunRecord, RunState};

/// Number of steps listed at either end of a long list.
const LISTED: usize = 4;

/// Adds an overview of a run.
pub fn of_run(page: &mut Page, run: &RunRecord) {
    let (settings, step) = (&run.settings, run.metrics.last_step().unwrap_or(0));
    let state = match &run.state {
        RunState::Running { holder: Some(holder) } => format!("running (process {})", holder.pid),
        RunState::Running { holder: None } => "running".to_owned(),
        RunState::Finished => "finished".to_owned(),
        RunState::Stopped => "stopped".to_owned(),
    };
    let headline = format!(
        "{}: {} on {}, {}; step {step} of {}, {state}",
        run.name, settings.model, settings.example, settings.algo, settings.train.steps
    );
    page.wrapped(0, &Style::new().bold(), &headline);
    page.line(format!("  rollouts     {}", steps(&run.rollout_steps())));
    let evaluated: Vec<u64> = run.evaluations.iter().map(|evaluation| evaluation.step).collect();
    page.line(format!("  evaluations  {}", steps(&evaluated)));
    if let Some(step) = run.saturation_step() {
        page.line(format!("  saturation   step {step}"));
    }
    page.space();
    let milestones = run.milestones();
    let name = |one: &&EvaluationScores| if one.step == 0 { "base model".to_owned() } else { format!("step {}", one.step) };
    let header: Vec<String> = std::iter::once("pass".to_owned()).chain(milestones.iter().map(name)).collect();
    let row = |pass: &str| {
        let cell = |one: &&EvaluationScores| one.scores.get(pass).map(|score| percent(score.mean())).unwrap_or_default();
        std::iter::once(pass.to_owned()).chain(milestones.iter().map(cell)).collect()
    };
    let rows: Vec<Vec<String>> = run.passes().into_iter().map(row).collect();
    if !rows.is_empty() {
        page.line(escape_controls(&table(&header.iter().map(String::as_str).collect::<Vec<_>>(), &rows)));
        page.space();
    }
}

/// Adds an overview of one evaluation.
pub fn of_evaluation(page: &mut Page, evaluation: &EvaluationRecord, folder: &Path) {
    let model = evaluation.conditions.values().next().map_or("", |conditions| conditions.identity.model.as_str());
    page.wrapped(0, &Style::new().bold(), &format!("{}: an evaluation of {model}", folder.display()));
    for (pass, conditions) in &evaluation.conditions {
        let score = evaluation.scores.get(pass).map_or_else(|| "not finished".to_owned(), |score| percent(score.mean()));
        page.line(format!("  {}  {score} of {} problems", escape_controls(pass), conditions.problems));
    }
    page.space();
}

/// Adds the commands that show more.
pub fn next_commands(page: &mut Page, run: &RunRecord, folder: &Path) {
    let command = format!("rlvr show {}", folder.display());
    page.space();
    let mut next = Vec::new();
    next.extend(run.rollout_steps().first().map(|step| format!("{command} --step {step}")));
    if run.evaluations.len() > 1 {
        next.push(format!("{command} --changed"));
    }
    if !run.evaluations.is_empty() {
        next.push(format!("{command} --wrong"));
    }
    for one in next {
        page.wrapped(0, &Style::new().dim(), &one);
    }
}

/// Lists steps: `6: 0, 15, 30, 45, ..., 300`.
fn steps(steps: &[u64]) -> String {
    let text = |steps: &[u64]| steps.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    match steps {
        [] => "none".to_owned(),
        few if few.len() <= 2 * LISTED => format!("{}: {}", few.len(), text(few)),
        many => format!("{}: {}, ..., {}", many.len(), text(&many[..LISTED]), text(&many[many.len() - LISTED..])),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn steps_are_shortened_in_the_middle() {
        let check = |steps: &[u64], expected: &str| assert_eq!(super::steps(steps), expected);
        check(&[], "none");
        check(&[0, 4], "2: 0, 4");
        check(&(0..9).collect::<Vec<_>>(), "9: 0, 1, 2, 3, ..., 5, 6, 7, 8");
    }
}
