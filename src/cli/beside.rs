//! The paper's figure beside a score of ours.

use std::path::Path;

use serde_json::{Value, json};

use crate::eval::conditions::Conditions;
use crate::report::published::{Figure, Subject, accuracy_of, published};
use crate::train::{RunFolder, RunSettings};

/// What a model is to the paper: a checkpoint of a run is what its run trained, anything else a base.
pub fn subject(model: &str) -> Subject {
    match RunFolder::of_checkpoint(Path::new(model)) {
        Some((_, settings)) => trained(&settings),
        None => Subject::base(model),
    }
}

/// What a run trains.
pub fn trained(settings: &RunSettings) -> Subject {
    let (model, example, algorithm) = (settings.model.clone(), settings.example.clone(), settings.algo.clone());
    Subject { model, example, algorithm, variant: variant(settings) }
}

/// What sets a run apart from the headline's experiment, in the words of the tables.
fn variant(settings: &RunSettings) -> String {
    let (decays, holds, explores) = (settings.optim.weight_decay > 0.0, settings.loss.kl > 0.0, settings.loss.entropy > 0.0);
    let terms = match (decays, holds, explores) {
        (true, true, true) => "",
        (true, true, false) => "no entropy",
        (false, false, false) => "policy loss alone",
        (true, false, false) => "policy loss, weight decay",
        (false, false, true) => "policy loss, entropy",
        _ => "other terms",
    };
    let (label, noise) = (&settings.reward.label, settings.reward.label_noise);
    let reward = match settings.reward.name.as_str() {
        "outcome" if noise > 0.0 => format!("{:.0}% wrong labels", noise * 100.0),
        "outcome" if label.is_empty() => String::new(),
        "outcome" => format!("label {label}"),
        name => format!("{name} reward"),
    };
    [reward.as_str(), terms].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_looked_up_by_what_it_differs_in() {
        let mut settings = RunSettings::published();
        let value = |settings: &RunSettings| accuracy_of(&trained(settings), "math500", 3072).map(|figure| figure.value);
        assert_eq!(value(&settings), Some(72.8));
        settings.loss.entropy = 0.0;
        assert_eq!(value(&settings), Some(68.2));
        (settings.loss.kl, settings.optim.weight_decay) = (0.0, 0.0);
        assert_eq!(value(&settings), Some(71.8));
        settings = RunSettings::published();
        settings.reward.label = "12.7".into();
        assert_eq!(value(&settings), Some(73.4));
        settings = RunSettings::published();
        (settings.reward.name, settings.example) = ("format".into(), "dsr-sub".into());
        assert_eq!(value(&settings), Some(65.0));
        assert_eq!(value(&RunSettings::demonstration()), None);
    }
}
