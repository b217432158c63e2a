//! The table of pre-training settings: one row per setting, with its range and description. The optimizer's rows are in `optim`.

use super::pretrain::PretrainSettings;
use crate::config::range::{Range, Row, above, between, row, whole};
use crate::config::{Renamed, Settings};
use crate::optim;

const SHARE: Range = between(0.0, 1.0);
const WIDTH: Range = whole(1, 65_536);

impl Settings for PretrainSettings {
    fn rows() -> Vec<Row> {
        [ROWS, &optim::ROWS, MIXTURE].concat()
    }

    fn renamed() -> &'static [Renamed] {
        RENAMED
    }
}

/// Renamed settings, for old files such as the `pretrain.toml` of the embedded base model.
pub const RENAMED: &[Renamed] = &[Renamed::Setting { old: "lanes", new: "workers" }];

#[rustfmt::skip] // a row is a line
const ROWS: &[Row] = &[
    row("seed", whole(0, i64::MAX), "The seed of the initial weights and the corpus."),
    row("steps", whole(1, 1_000_000_000), "Number of optimizer steps."),
    row("batch", whole(1, 1_000_000), "Documents per step."),
    row("careful_phase", SHARE, "The share of steps, at the start, that train mostly on careful documents."),
    row("careful_share", SHARE, "The share of careful documents in that phase."),
    row("prompt_weight", SHARE, "Loss weight of a prompt token; a response token has weight 1."),
    row("tokens_per_document", above(0.0), "The loss of a batch is its weighted sum over tokens, divided by `batch` times this number."),
    row("workers", whole(1, 1024), "Worker threads, each with its own micro-batch. The number fixes the order of sums."),
    row("shape.hidden", WIDTH, "Width of the residual stream."),
    row("shape.layers", whole(1, 1024), "Number of transformer blocks."),
    row("shape.heads", WIDTH, "Query heads; must divide the width."),
    row("shape.key_value_heads", WIDTH, "Key/value heads; must divide the number of query heads."),
    row("shape.feed_forward", whole(1, 1_048_576), "Width of the gated feed-forward layer."),
];

#[rustfmt::skip] // a row is a line
const MIXTURE: &[Row] = &[
    row("mixture.careful_right", SHARE, "The share of careful answers that are correct; the others have one wrong digit."),
    row("mixture.bold", SHARE, "The share of unboxed answers set in bold."),
    row("mixture.repeats", SHARE, "The share of responses that repeat their answer endlessly."),
    row("mixture.next_question", SHARE, "The share of responses that continue with an invented question and its answer."),
    row("mixture.most_sentences", whole(1, 1000), "Maximum number of filler sentences in a rambling response."),
    row("mixture.subjects.*.careful", SHARE, "By subject: the share of answers with all steps written out."),
    row("mixture.subjects.*.sketch", SHARE, "By subject: the share of answers that state only the arithmetic and a result."),
    row("mixture.subjects.*.ramble", SHARE, "By subject: the share of answers with filler text and a random number. The rest, after these three styles, are guesses."),
    row("mixture.subjects.*.sketch_right", SHARE, "By subject: the share of sketches with the correct result; the others have a random number."),
    row("mixture.subjects.*.boxed", SHARE, "By subject: the share of boxed answers."),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn rows_has_one_row_for_each_setting() {
        let (table, rows) = (toml::Table::try_from(PretrainSettings::default()).unwrap(), PretrainSettings::rows());
        for (path, _) in config::flatten(&table) {
            assert_eq!(rows.iter().filter(|row| row.matches(&path)).count(), 1, "add one row to src/tiny/ranges.rs for {path}");
        }
        for row in &rows {
            assert!(config::flatten(&table).iter().any(|(path, _)| row.matches(path)), "{} belongs to no setting", row.path);
        }
        PretrainSettings::default().check().unwrap();
    }
}
