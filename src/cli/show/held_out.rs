//! Responses to held-out problems: a list, or one problem over time.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use console::Style;

use super::ShowArgs;
use super::changed;
use super::page::Page;
use super::source::{Source, nearest_step};
use super::verdict::{Graded, grading, problem_of, share};
use crate::config::nearest;
use crate::eval::Answer;
use crate::flow::Problem;
use crate::report::KnownProblems;
use crate::usage::usage;

/// Number of responses of each verdict in a list without `-n`.
const LISTED: usize = 3;
/// Number of responses to one problem at each step without `-n`.
const SAMPLES: usize = 1;

/// Shows what the arguments ask for.
///
/// # Errors
/// If a pass, subject or problem is unknown, or a file cannot be read.
pub fn show(page: &mut Page, source: &Source, args: &ShowArgs) -> Result<()> {
    let steps = source.steps();
    let last = usage(steps.last().copied().context("the run has no evaluation yet: --step N shows rollouts"))?;
    let step = args.step.map_or(Some(last), |wanted| nearest_step(&steps, wanted)).unwrap_or(last);
    if let Some(wanted) = args.step.filter(|wanted| *wanted != step) {
        page.line(format!("step {wanted} was not evaluated; the nearest evaluated step is {step}"));
    }
    match &args.problem {
        Some(id) => problem(page, source, args, id, step),
        None if args.changed => changed::show(page, source, args, step),
        None => list(page, source, args, step),
    }
}

/// Lists the responses of a pass at a step that the arguments select.
fn list(page: &mut Page, source: &Source, args: &ShowArgs, step: u64) -> Result<()> {
    let pass = source.graded(step, usage(source.pass(args.pass.as_deref()))?)?;
    let of_subject: Vec<&Answer> = usage(pass.of_subject(args.subject.as_deref()))?;
    let right = of_subject.iter().filter(|answer| answer.correct).count();
    let place = [pass.name.clone(), source.step_name(step), args.subject.clone().unwrap_or_default()];
    let place: Vec<&str> = place.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    let heading = format!("{}: {right} of {} responses right", place.join(", "), of_subject.len());
    page.wrapped(0, &Style::new().bold(), &heading);
    let known = source.known_problems(&pass);
    for correct in [true, false].into_iter().filter(|correct| args.wants(*correct)) {
        let chosen = || of_subject.iter().filter(move |answer| answer.correct == correct);
        let (count, word) = (chosen().count(), if correct { "right" } else { "wrong" });
        let shown = args.n.unwrap_or(LISTED).min(count);
        if count == 0 && !args.right && !args.wrong {
            continue;
        }
        page.space();
        page.line(Style::new().bold().apply_to(format!("{word}: {count} responses; {shown} shown")));
        for answer in chosen().take(shown) {
            page.space();
            let problem = question(page, &known, answer);
            Graded::of_answer(answer).show(page, "", &problem, &grading(pass.grader));
        }
    }
    Ok(())
}

/// Shows one problem at the base model, at the first evaluation after saturation, and at `step`.
fn problem(page: &mut Page, source: &Source, args: &ShowArgs, wanted: &str, step: u64) -> Result<()> {
    let passes = match args.pass.as_deref() {
        Some(pass) => vec![usage(source.pass(Some(pass)))?],
        None => source.passes(),
    };
    let mut ids = BTreeSet::new();
    let mut found = None;
    for pass in passes {
        let graded = source.graded(step, pass)?;
        if let Some(id) = matching(&graded.answers, wanted) {
            found = Some((graded, id));
            break;
        }
        ids.extend(graded.answers.into_iter().map(|answer| answer.id));
    }
    let Some((graded, id)) = found else { return usage(Err(unknown_problem(wanted, &ids))) };
    let answers: Vec<&Answer> = graded.answers.iter().filter(|answer| answer.id == id).collect();
    let problem = question(page, &source.known_problems(&graded), answers[0]);
    let mut before: Option<String> = None;
    for one in milestones(source, step) {
        let earlier;
        let pass = if one == step {
            &graded
        } else {
            earlier = source.graded(one, &graded.name);
            match &earlier {
                Ok(pass) => pass,
                Err(error) => {
                    message!("{}: {error:#}", source.step_name(one));
                    continue;
                }
            }
        };
        let answers: Vec<&Answer> = pass.answers.iter().filter(|answer| answer.id == id && args.wants(answer.correct)).collect();
        if answers.is_empty() {
            continue;
        }
        page.space();
        let verdict = share(&answers);
        let changed = before.as_ref().filter(|before| **before != verdict).map_or_else(String::new, |before| format!(", was {before}"));
        let title = source.step_name(one);
        let heading = [title, format!("{verdict}{changed}")].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ");
        page.line(Style::new().bold().apply_to(heading));
        for answer in answers.iter().take(args.n.unwrap_or(SAMPLES)) {
            let title = if answers.len() > 1 { format!("sample {}", answer.sample) } else { String::new() };
            Graded::of_answer(answer).show(page, &title, &problem, &grading(pass.grader));
        }
        before = Some(verdict);
    }
    Ok(())
}

/// Adds a problem's id, subject, level and question. Returns the problem, or one that has only the recorded gold answer.
fn question(page: &mut Page, known: &KnownProblems, answer: &Answer) -> Problem {
    let level = if answer.level.is_empty() { String::new() } else { format!("level {}", answer.level) };
    let facts: Vec<&str> = [answer.subject.as_str(), &level].into_iter().filter(|fact| !fact.is_empty()).collect();
    let facts = if facts.is_empty() { String::new() } else { format!(" ({})", facts.join(", ")) };
    page.wrapped(0, &Style::new().bold().underlined(), &format!("{}{facts}", answer.id));
    match known.of_answer(answer) {
        Some(problem) => {
            page.wrapped(2, &Style::new(), &problem.question);
            Problem::clone(&problem)
        }
        None => problem_of(answer),
    }
}

/// Returns the steps to show: the base model, the first evaluation at or after saturation, and `last`; only those up to `last`.
fn milestones(source: &Source, last: u64) -> Vec<u64> {
    let Source::Run(run) = source else { return vec![last] };
    let mut steps: Vec<u64> = run.milestones().iter().map(|one| one.step).filter(|step| *step < last).collect();
    steps.push(last);
    steps
}

/// Returns the id that equals `wanted`, or the only one that contains it.
fn matching(answers: &[Answer], wanted: &str) -> Option<String> {
    if answers.iter().any(|answer| answer.id == wanted) {
        return Some(wanted.to_owned());
    }
    let mut containing: Vec<&str> = answers.iter().map(|answer| answer.id.as_str()).filter(|id| id.contains(wanted)).collect();
    containing.dedup();
    match &*containing {
        [only] => Some((*only).to_owned()),
        _ => None,
    }
}

fn unknown_problem(wanted: &str, ids: &BTreeSet<String>) -> anyhow::Error {
    let containing: Vec<&str> = ids.iter().map(String::as_str).filter(|id| id.contains(wanted)).collect();
    let few = |ids: &[&str]| ids.iter().take(3).copied().collect::<Vec<_>>().join(", ");
    if containing.len() > 1 {
        let count = containing.len();
        return anyhow::anyhow!("{count} problems have {wanted:?} in their id, such as {}: give more of the id", few(&containing));
    }
    // A person may give only the last part of an id.
    let last = |id: &str| id.rsplit('/').next().unwrap_or_default().to_owned();
    let lasts: Vec<String> = ids.iter().map(|id| last(id)).collect();
    let near = nearest(wanted, ids.iter().map(String::as_str)).or_else(|| nearest(wanted, lasts.iter().map(String::as_str)));
    let hint = match near {
        Some(near) => format!("did you mean {near}?"),
        None => format!("ids look like {}", few(&ids.iter().map(String::as_str).collect::<Vec<_>>())),
    };
    anyhow::anyhow!("no held-out problem has the id {wanted:?}; {hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matching_accepts_a_part_that_one_id_has() {
        let answers = ["tiny/a/12", "tiny/a/123", "tiny/b/9"].map(|id| Answer { id: id.into(), ..Answer::default() });
        let check = |wanted: &str, expected: Option<&str>| assert_eq!(matching(&answers, wanted).as_deref(), expected, "{wanted}");
        check("tiny/a/12", Some("tiny/a/12"));
        check("123", Some("tiny/a/123"));
        check("b/", Some("tiny/b/9"));
        check("12", None);
        check("x", None);
        let ids = answers.iter().map(|answer| answer.id.clone()).collect();
        let error = |wanted: &str| unknown_problem(wanted, &ids).to_string();
        assert_eq!(error("tiny/b/8"), "no held-out problem has the id \"tiny/b/8\"; did you mean tiny/b/9?");
        assert_eq!(error("a/1"), "2 problems have \"a/1\" in their id, such as tiny/a/12, tiny/a/123: give more of the id");
        assert_eq!(error("124"), "no held-out problem has the id \"124\"; did you mean 12?");
        assert_eq!(error("equation"), "no held-out problem has the id \"equation\"; ids look like tiny/a/12, tiny/a/123, tiny/b/9");
    }
}
