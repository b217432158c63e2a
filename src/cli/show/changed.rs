//! The held-out problems whose verdict changed, in two tables.

use std::collections::BTreeMap;

use anyhow::Result;
use console::Style;

use super::ShowArgs;
use super::page::Page;
use super::source::{GradedPass, Source};
use super::verdict::share;
use crate::eval::Answer;
use crate::metrics::table;
use crate::output::escape_controls;
use crate::usage::usage;

/// Number of problems in each table without `-n`.
const LISTED: usize = 20;

/// Lists the problems whose share of right responses differs between the base model and `step`.
///
/// # Errors
/// If the pass or the subject is unknown, or a file cannot be read.
pub fn show(page: &mut Page, source: &Source, args: &ShowArgs, step: u64) -> Result<()> {
    let name = usage(source.pass(args.pass.as_deref()))?;
    let first = source.steps().first().copied().unwrap_or(0);
    let (before, after) = (source.graded(first, name)?, source.graded(step, name)?);
    let of_subject = |pass| usage(GradedPass::of_subject(pass, args.subject.as_deref()));
    let (before, after) = (by_problem(&of_subject(&before)?), by_problem(&of_subject(&after)?));
    let (gains, losses) = changes(&before, &after);
    let (from, to) = (source.step_name(first), source.step_name(step));
    let unchanged = after.len() - gains.len() - losses.len();
    page.line(Style::new().bold().apply_to(format!("{name}, {from} to {to}: {} problems, {unchanged} unchanged", after.len())));
    let mut part = |title: &str, style: Style, changes: Vec<Change>| {
        if changes.is_empty() {
            return;
        }
        let (count, shown) = (changes.len(), args.n.unwrap_or(LISTED).min(changes.len()));
        let rows: Vec<Vec<String>> = changes.into_iter().take(shown).map(|change| change.row).collect();
        page.space();
        page.line(style.bold().apply_to(format!("{title}: {count} problems, {shown} shown")));
        page.line(escape_controls(&table(&["problem", "subject", &from, &to, "gold"], &rows)));
    };
    if !args.wrong {
        part("wrong → right", Style::new().green(), gains);
    }
    if !args.right {
        part("right → wrong", Style::new().red(), losses);
    }
    Ok(())
}

/// A problem whose share of right responses changed.
struct Change {
    /// The change of the share, without its sign.
    size: f64,
    /// Its row in a table.
    row: Vec<String>,
}

/// Returns the problems with a gain and those with a loss, the largest changes first.
fn changes(before: &BTreeMap<&str, Vec<&Answer>>, after: &BTreeMap<&str, Vec<&Answer>>) -> (Vec<Change>, Vec<Change>) {
    let rate = |answers: &[&Answer]| answers.iter().filter(|answer| answer.correct).count() as f64 / answers.len().max(1) as f64;
    let cell = |answers: &[&Answer]| match answers {
        [one] => one.extracted.as_deref().map_or_else(|| "no box".to_owned(), short),
        several => share(several),
    };
    let (mut gains, mut losses) = (Vec::new(), Vec::new());
    for (id, after) in after {
        let Some(before) = before.get(id) else { continue };
        let row = vec![short(id), after[0].subject.clone(), cell(before), cell(after), short(&after[0].gold)];
        match rate(after) - rate(before) {
            gain if gain > 0.0 => gains.push(Change { size: gain, row }),
            loss if loss < 0.0 => losses.push(Change { size: -loss, row }),
            _ => {}
        }
    }
    for changes in [&mut gains, &mut losses] {
        changes.sort_by(|one, other| other.size.total_cmp(&one.size));
    }
    (gains, losses)
}

/// Groups responses by problem, in order of the ids.
fn by_problem<'a>(answers: &[&'a Answer]) -> BTreeMap<&'a str, Vec<&'a Answer>> {
    let mut groups: BTreeMap<&str, Vec<&Answer>> = BTreeMap::new();
    answers.iter().for_each(|answer| groups.entry(&answer.id).or_default().push(answer));
    groups
}

/// Shortens a text for a cell.
fn short(text: &str) -> String {
    const LONGEST: usize = 40;
    let line = text.replace('\n', " ");
    if line.chars().count() <= LONGEST { line } else { line.chars().take(LONGEST - 1).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_sorted_by_size() {
        let answer = |id: &str, sample: usize, correct: bool| Answer { id: id.into(), sample, correct, ..Answer::default() };
        let before = [("a", 0, false), ("b", 0, true), ("c", 0, false), ("c", 1, false), ("d", 0, true), ("e", 0, true)];
        let after = [("a", 0, true), ("b", 0, false), ("c", 0, false), ("c", 1, true), ("d", 0, true), ("f", 0, true)];
        let [before, after] = [before, after].map(|all| all.map(|(id, sample, correct)| answer(id, sample, correct)));
        let (before, after): (Vec<&Answer>, Vec<&Answer>) = (before.iter().collect(), after.iter().collect());
        let (gains, losses) = changes(&by_problem(&before), &by_problem(&after));
        let ids = |changes: &[Change]| changes.iter().map(|change| change.row[0].clone()).collect::<Vec<_>>();
        assert_eq!((ids(&gains), ids(&losses)), (vec!["a".to_owned(), "c".to_owned()], vec!["b".to_owned()]));
        assert_eq!(gains[1].row[2..4], ["0 of 2 right", "1 of 2 right"]);
    }
}
