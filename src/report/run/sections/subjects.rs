//! The section about subjects and levels: the base model against the last evaluation.

use std::collections::BTreeMap;

use maud::html;

use crate::eval::Score;
use crate::eval::score::Part;
use crate::plot::chart::{BarChart, BarSeries, Size, Value};
use crate::report::page::Section;
use crate::report::page::charts::{bar, element_id, share_axis};
use crate::report::page::figure::{Figure, data_of, grid};
use crate::report::page::numbers::{count, percent};
use crate::report::record::run_record::RunRecord;
use crate::report::run::facts::Facts;
use crate::train::history::Evaluation;

/// A way to divide the problems of a benchmark.
struct Division {
    name: &'static str,
    of: fn(&Score) -> &BTreeMap<String, Part>,
}

const DIVISIONS: [Division; 2] =
    [Division { name: "subject", of: |score| &score.by_subject }, Division { name: "level", of: |score| &score.by_level }];

/// The most parts in a picture, the largest first.
const MOST_PARTS: usize = 30;

/// Writes the section; `None` if no benchmark has subjects or levels.
pub fn section(run: &RunRecord, facts: &Facts) -> Option<Section> {
    let newest = facts.history.evaluations.last()?;
    let trained = trained_subject(&run.settings.example);
    let figure = |pass: &&String| DIVISIONS.iter().filter_map(|division| chart(facts, newest, pass, division, trained)).collect::<Vec<_>>();
    let figures: Vec<Figure> = newest.scores.keys().collect::<Vec<_>>().iter().flat_map(figure).collect();
    let has_subject = |subject: &&str| newest.scores.values().any(|score| score.by_subject.contains_key(*subject));
    if figures.is_empty() {
        return None;
    }
    let body = html! {
        p {
            "Accuracy of boxed answers, with 95% intervals over the problems of each part."
            @if let Some(subject) = trained.filter(has_subject) {
                " The training example belongs to " strong { (subject) } ", marked with an arrow. The model was not trained on any problem of the other subjects."
            }
        }
        (grid(&figures))
    };
    Some(Section { id: "subjects".to_owned(), title: "By subject and level".to_owned(), body, data: data_of(&figures) })
}

/// Returns the subject of the training example if its name says it, as the problems of the embedded model do: `tiny/SUBJECT/PROBLEM`.
fn trained_subject(example: &str) -> Option<&str> {
    let mut parts = example.split('/');
    let (model, subject, problem) = (parts.next()?, parts.next()?, parts.next()?);
    (model == "tiny" && subject != "train" && !problem.contains(',')).then_some(subject)
}

fn chart(facts: &Facts, newest: &Evaluation, pass: &str, division: &Division, trained: Option<&str>) -> Option<Figure> {
    let parts = newest.scores.get(pass).map(division.of).filter(|parts| !parts.is_empty())?;
    let mut names: Vec<&String> = parts.keys().collect();
    if names.len() > MOST_PARTS {
        names.sort_by_key(|name| std::cmp::Reverse(parts[*name].problems));
        names.truncate(MOST_PARTS);
    }
    let values = |evaluation: &Evaluation| -> Vec<Value> {
        let of = evaluation.scores.get(pass).map(division.of);
        names.iter().map(|name| bar(of.and_then(|parts| parts.get(*name)).and_then(|part| part.accuracy))).collect()
    };
    let series = |name: String, evaluation: &Evaluation| BarSeries { name, values: values(evaluation) };
    let base = facts.base().filter(|base| base.step != newest.step).map(|base| series("base model".to_owned(), base));
    let label = |name: &&String| {
        let arrow = if trained == Some(name.as_str()) { "→ " } else { "" };
        format!("{arrow}{name}")
    };
    let chart = BarChart {
        title: format!("Accuracy on {pass} by {}", division.name),
        description: names.iter().map(|name| format!("{name}: {}. ", percent(parts[*name].mean()))).collect(),
        value: share_axis("accuracy"),
        categories: names.iter().map(label).collect(),
        series: base.into_iter().chain([series(format!("step {}", newest.step), newest)]).collect(),
        size: Size::Small,
    };
    let (few, most) = (names.iter().map(|name| parts[*name].problems).min()?, names.iter().map(|name| parts[*name].problems).max()?);
    let problems = if few == most { count(few) } else { format!("{} to {}", count(few), count(most)) };
    let shown = if names.len() < parts.len() { format!(" The {} largest of {}.", names.len(), parts.len()) } else { String::new() };
    Some(Figure {
        id: element_id(division.name, pass),
        title: format!("{pass} by {}", division.name),
        caption: html! { (problems) " problems for each " (division.name) "." (shown) },
        svg: chart.svg(),
        csv: chart.csv(),
        ..Figure::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trained_subject_is_known_for_single_problems_of_the_embedded_model() {
        assert_eq!(trained_subject("tiny/addition/334+556"), Some("addition"));
        for other in ["pi1", "tiny/train/256", "tiny/addition/1+2,tiny/bags/3", "folder/addition/1.jsonl"] {
            assert_eq!(trained_subject(other), None, "{other}");
        }
    }
}
