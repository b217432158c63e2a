//! The paper's figure beside a score of ours.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::eval::conditions::Conditions;
use crate::report::published::{Figure, Subject, accuracy_of, published};
use crate::study::subject::trained;
use crate::train::RunFolder;

/// What a model is to the paper: a checkpoint of a run is what its run trained, anything else a base.
pub fn subject(model: &str) -> Subject {
    match RunFolder::of_checkpoint(Path::new(model)) {
        Some((_, settings)) => trained(&settings),
        None => Subject::base(model),
    }
}

/// The paper's accuracy for a pass, where it has one.
pub fn figure(subject: &Subject, conditions: &Conditions) -> Option<Figure> {
    accuracy_of(subject, &conditions.set, conditions.max_new)
}

/// The paper's mean, where its sets are those that were evaluated.
pub fn mean(subject: &Subject, sets: &BTreeSet<&str>, max_new: usize) -> Option<Figure> {
    let figure = accuracy_of(subject, "mean", max_new)?;
    let of_paper: BTreeSet<&str> = figure.table.columns.iter().map(String::as_str).filter(|column| *column != "mean").collect();
    (of_paper == *sets).then_some(figure)
}

/// The figure in a line of results; accuracies between 0 and 1.
pub fn record(figure: &Figure) -> Value {
    let (table, row) = (figure.table, figure.row);
    json!({"accuracy": figure.value / 100.0, "table": table.id, "about": table.about, "example": row.on, "step": row.step, "source": published().source})
}

/// "36.0% (T8)"
pub fn cell(figure: &Figure) -> String {
    format!("{:.1}% ({})", figure.value, figure.table.id)
}

/// What the paper's figures are of.
pub fn note() -> String {
    format!("paper: {}, unboxed answers counted, at most 3072 new tokens unless its table says otherwise", published().source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_papers_mean_stands_beside_its_own_sets_only() {
        let base = Subject::base("Qwen2.5-Math-1.5B");
        let of_sets = |sets: &[&str]| mean(&base, &sets.iter().copied().collect(), 3072).map(|figure| figure.value);
        let six = ["aime24", "aime25", "amc23", "math500", "minerva_math", "olympiadbench"];
        assert_eq!((of_sets(&six), of_sets(&six[..5])), (Some(17.6), None));
    }
}
