//! The paper's figure beside a score of ours.

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
